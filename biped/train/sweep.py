"""A search over many trainings: an Optuna study; each trial is a training in its own process."""

import argparse
import contextlib
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import optuna
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState

from biped.base.command_line import as_word
from biped.base.errors import ConfigError, MachineError, UsageError
from biped.base.files import REPOSITORY
from biped.base.interrupts import Interrupted, Interrupts
from biped.config.run import Config
from biped.config.settings import parse_setting, with_settings
from biped.runs.directory import RunDirectory, run_path
from biped.train.studies import Place, failure_of_storage, open_study

POLL_S = 1.0
"""Time between two reads of a trial's metrics (s)."""
STOP_S = 60.0
"""Time for an interrupted training to save and end (s)."""
TOLERATED_IN_A_ROW = 3
"""Number of consecutive trials without a score that end the search."""
SCORE = "gate/score"
"""The metric that is maximised, and by which trials are pruned."""
DONE = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Range:
    """The range of a searched setting."""

    path: str
    """Field of the configuration, such as ppo.learning_rate."""
    low: float
    """Smallest value."""
    high: float
    """Largest value."""
    is_log: bool = False
    """Whether the logarithm is drawn uniformly."""
    is_whole: bool = False
    """Whether only whole numbers are drawn."""

    @classmethod
    def parse(cls, text: str) -> "Range":
        """Read PATH=LOW:HIGH or PATH=LOW:HIGH:log; only whole numbers are drawn if both bounds are whole.

        Raises:
            argparse.ArgumentTypeError: the text cannot be read.
        """
        path, _, bounds = text.partition("=")
        low, _, rest = bounds.partition(":")
        high, _, kind = rest.partition(":")
        try:
            numbers = float(low), float(high)
        except ValueError:
            numbers = 1.0, 0.0
        if not path or kind not in ("", "log") or not numbers[0] < numbers[1] or (kind == "log" and numbers[0] <= 0):
            raise argparse.ArgumentTypeError(f"{text!r} is not PATH=LOW:HIGH or PATH=LOW:HIGH:log, the smaller first")
        is_whole = all(part.lstrip("+-").isdigit() for part in (low, high))
        return cls(path, *numbers, kind == "log", is_whole)

    def suggest(self, trial: optuna.Trial) -> float:
        """Draw a value."""
        if self.is_whole:
            return trial.suggest_int(self.path, int(self.low), int(self.high), log=self.is_log)
        return trial.suggest_float(self.path, self.low, self.high, log=self.is_log)


SPACE = (
    Range("ppo.max_learning_rate", 1.5e-3, 4e-3, is_log=True),
    Range("ppo.desired_kl", 0.01, 0.08, is_log=True),
    Range("ppo.n_epochs", 3, 8, is_whole=True),
    Range("ppo.ent_coef", 0.001, 0.02, is_log=True),
    Range("env.reward.weights.tracking_ang_vel", 2.0, 8.0),
    Range("env.reward.weights.tracking_lin_vel_y", 1.0, 4.0),
    Range("env.reward.weights.contact_schedule", 1.0, 4.0),
)
"""Default search space, without `--search`."""


@dataclass(frozen=True)
class SweepRequest:
    """A request for a search."""

    logs: Path
    """The folder of all runs and of the studies."""
    study: str
    """Name of the study."""
    trials: int
    """Total number of trials that the study is to have."""
    preset: str
    """Name of the preset that every trial starts from."""
    config: Config
    """The configuration of that preset."""
    space: tuple[Range, ...] = SPACE
    """The settings to search."""
    settings: tuple[str, ...] = ()
    """Fixed settings of every trial, as PATH=VALUE."""
    total_timesteps: int | None = None
    """Environment steps per trial; None: the preset's."""
    seed: int | None = None
    """Seed of the search; None: different draws each time."""

    storage: str | None = None
    """A database that several machines share; None: a SQLite file in the folder of the runs."""

    @property
    def place(self) -> Place:
        """Where the study is.

        Raises:
            UsageError: the storage is of no kind that there is.
        """
        if self.storage is None:
            return Place(file=self.logs / "sweeps" / f"{self.study}.db")
        return Place.parse(self.storage)


def check(request: SweepRequest) -> None:
    """Check that every setting exists and accepts both of its bounds, before anything is started.

    Raises:
        UsageError: a setting is invalid; the message names it.
    """
    try:
        with_settings(request.config, [parse_setting(text) for text in request.settings])
    except ConfigError as error:
        raise UsageError(f"--set: {error}") from error
    for bound in ("low", "high"):
        for item in request.space:
            value = getattr(item, bound)
            try:
                with_settings(request.config, [(item.path, int(value) if item.is_whole else value)])
            except ConfigError as error:
                raise UsageError(f"--search: {error}") from error


class Objective:
    """Runs one training per trial and returns its best score."""

    def __init__(self, request: SweepRequest, interrupts: Interrupts) -> None:
        """Keep the request and the signals, which all trials share."""
        self._request, self._interrupts = request, interrupts
        self._failed_in_a_row = 0

    def __call__(self, trial: optuna.Trial) -> float:
        """Train with the trial's settings.

        Raises:
            optuna.TrialPruned: the trial is worse than half of the earlier ones.
            Interrupted: a signal stopped the search; the trial's settings are queued to be tried again.
        """
        request = self._request
        values = {item.path: item.suggest(trial) for item in request.space}
        name = f"{request.study}-{trial.number}"
        run = RunDirectory(run_path(request.logs, name))
        trial.set_user_attr("run", str(run.path))
        trial.set_user_attr("host", platform.node())
        command = _command(request, name, values)
        print(f"trial {trial.number}: {', '.join(f'{path}={value:.4g}' for path, value in values.items())}", flush=True)
        before = run.read_launches()[-1:]  # an older run of this name is renamed only when training begins
        # A W&B run id belongs to one run; with a shared id all trials would be one run in W&B.
        environment = {name: text for name, text in os.environ.items() if name != "WANDB_RUN_ID"}
        # Use a separate session: the terminal sends Ctrl-C to its whole session, and our signal would be a second one.
        with (
            tempfile.TemporaryFile("w+", errors="replace") as said,
            subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
            ) as process,
        ):
            try:
                scores = _watch(trial, process, run, before, self._interrupts)
            except BaseException as ended:
                _stop(process)
                if isinstance(ended, Interrupted):
                    trial.study.enqueue_trial(trial.params)
                raise
            said.seek(0)
            complaint = said.read().strip().splitlines()
        if process.returncode or not scores:
            self._fail(trial, complaint[-1] if complaint else f"exit code {process.returncode}, no evaluation")
        self._failed_in_a_row = 0
        return max(scores.values())

    def _fail(self, trial: optuna.Trial, complaint: str) -> NoReturn:
        """Report why a trial has no score.

        Raises:
            TrialFailed: so that the search continues with the next trial.
            MachineError: several trials in a row have failed.
        """
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= TOLERATED_IN_A_ROW:
            raise MachineError(f"{self._failed_in_a_row} trials in a row gave no score; the last one said: {complaint}")
        print(f"trial {trial.number}: no score: {complaint}", flush=True)
        raise TrialFailed(complaint)


def _command(request: SweepRequest, name: str, values: dict[str, float]) -> list[str]:
    command = [sys.executable, str(REPOSITORY / "biped_train.py")]
    command += ["--preset", request.preset, "-e", name, "--new_run", "--log_dir", as_word(request.logs)]
    command += [] if request.total_timesteps is None else ["--total_timesteps", str(request.total_timesteps)]
    settings = [*request.settings, *(f"{path}={value!r}" for path, value in values.items())]
    return command + [word for setting in settings for word in ("--set", setting)]


class TrialFailed(Exception):  # noqa: N818
    """A training ended without a score."""


def _watch(
    trial: optuna.Trial,
    process: subprocess.Popen[bytes],
    run: RunDirectory,
    before: list[dict[str, Any]],
    interrupts: Interrupts,
) -> dict[int, float]:
    """Report the scores of a training as they appear, until it ends; return them by steps."""
    reported: dict[int, float] = {}
    while True:
        if interrupts.received:
            raise Interrupted(interrupts.received)
        is_over = process.poll() is not None
        scores = _scores(run) if run.read_launches()[-1:] != before else {}
        for step, score in scores.items():
            if step not in reported:
                reported[step] = score
                trial.report(score, step)
                if trial.should_prune() and not is_over:
                    raise optuna.TrialPruned
        if is_over:
            return reported
        time.sleep(POLL_S)


def _scores(run: RunDirectory) -> dict[int, float]:
    with contextlib.suppress(UsageError):
        curve = run.read_metrics().get(SCORE)
        if curve is not None:
            return dict(zip(curve.steps.tolist(), curve.values.tolist(), strict=True))
    return {}


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Let a training save and end; kill it if it does not end in time."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()


def sweep(request: SweepRequest) -> None:
    """Search as requested.

    Raises:
        UsageError: the request cannot be carried out.
        MachineError: this machine or its disk prevents it, or no trial has a score.
        Interrupted: a signal stopped it.
    """
    check(request)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    place = request.place
    study = open_study(place, request.study, request.seed)
    before = _done(study)
    if len(before) < request.trials:
        callbacks = [MaxTrialsCallback(request.trials, DONE), _tell]
        with Interrupts() as interrupts:
            try:
                study.optimize(Objective(request, interrupts), callbacks=callbacks, catch=(TrialFailed,))
            except Exception as error:
                if (failure := failure_of_storage(error)) is None:
                    raise
                raise place.failure(failure) from error
    if not any(trial.state is TrialState.COMPLETE for trial in _done(study)):
        raise MachineError("no trial gave a score: run biped_train.py with the tried settings to see why")
    best = study.best_trial
    host = best.user_attrs.get("host", platform.node())
    where = best.user_attrs["run"] + ("" if host == platform.node() else f" on {host}")
    print(f"best of {len(_done(study))}: {best.value:.3f} in {where}")
    for path, value in best.params.items():
        print(f"  --set {path}={value!r}")


def how_to_watch(request: SweepRequest) -> str:
    """Return the lines that open a study in optuna-dashboard.

    Raises:
        UsageError: the storage is of no kind that there is.
    """
    return f"pip install optuna-dashboard\noptuna-dashboard {shlex.quote(request.place.dashboard)}"


def _done(study: optuna.Study) -> list[Any]:
    return study.get_trials(deepcopy=False, states=DONE)


def _tell(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    value = "no score" if trial.value is None else f"{trial.value:.3f}"
    print(f"trial {trial.number}: {trial.state.name.lower()}, {value}; {len(_done(study))} done", flush=True)
