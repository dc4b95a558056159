"""A search over many trainings: an Optuna study; each trial is a training in its own process."""

import contextlib
import platform
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import optuna
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState

from biped.base.errors import MachineError, UsageError
from biped.base.interrupts import Interrupted, Interrupts
from biped.config.run import Config
from biped.runs.directory import RunDirectory, run_path
from biped.train.space import SPACE, Range, check_space
from biped.train.studies import Place, failure_of_storage, open_study
from biped.train.trial_process import SCORE, ProcessFailed, run_to_end, set_flags, training

TOLERATED_IN_A_ROW = 3
"""Number of consecutive trials without a score that end the search."""
DONE = (TrialState.COMPLETE, TrialState.PRUNED)


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
        print(f"trial {trial.number}: {', '.join(f'{path}={value:.4g}' for path, value in values.items())}", flush=True)
        scores = _Scores(trial, run)
        try:
            run_to_end(_command(request, name, values), self._interrupts, scores.report)
        except ProcessFailed as error:
            self._fail(trial, str(error))
        except Interrupted:
            trial.study.enqueue_trial(trial.params)
            raise
        if not scores.found:
            self._fail(trial, "no evaluation")
        self._failed_in_a_row = 0
        return max(scores.found.values())

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
    steps = [] if request.total_timesteps is None else ["--total_timesteps", str(request.total_timesteps)]
    settings = [*request.settings, *(f"{path}={value!r}" for path, value in values.items())]
    return training(request.logs, name, "--new_run", "--preset", request.preset, *steps, *set_flags(settings))


class TrialFailed(Exception):  # noqa: N818
    """A training ended without a score."""


class _Scores:
    """The scores of a trial's training, reported to the study as they appear."""

    def __init__(self, trial: optuna.Trial, run: RunDirectory) -> None:
        self._trial, self._run = trial, run
        self._before = run.read_launches()[-1:]  # an older run of this name is renamed only when training begins
        self.found: dict[int, float] = {}
        """Score by environment steps."""

    def report(self, is_over: bool) -> None:
        """Report what is new.

        Raises:
            optuna.TrialPruned: the trial is worse than half of the earlier ones.
        """
        for step, score in self._read().items():
            if step not in self.found:
                self.found[step] = score
                self._trial.report(score, step)
                if self._trial.should_prune() and not is_over:
                    raise optuna.TrialPruned

    def _read(self) -> dict[int, float]:
        if self._run.read_launches()[-1:] == self._before:
            return {}
        with contextlib.suppress(UsageError):
            curve = self._run.read_metrics().get(SCORE)
            if curve is not None:
                return dict(zip(curve.steps.tolist(), curve.values.tolist(), strict=True))
        return {}


def sweep(request: SweepRequest) -> None:
    """Search as requested.

    Raises:
        UsageError: the request cannot be carried out.
        MachineError: this machine or its disk prevents it, or no trial has a score.
        Interrupted: a signal stopped it.
    """
    check_space(request.config, request.settings, request.space)
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
