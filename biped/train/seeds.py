"""A recipe's reliability: the same training with many seeds, judged alike, as one table and one picture."""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biped.base.errors import MachineError, UsageError, disk_error
from biped.base.files import write_whole
from biped.base.interrupts import Interrupted, Interrupts
from biped.config.run import Config
from biped.eval.reliability import interquartile_interval, interquartile_mean, share_interval
from biped.runs.directory import RunDirectory, run_path
from biped.runs.metrics_log import Curve
from biped.runs.models import find_furthest
from biped.train.claims import Claim, Claims
from biped.train.space import check_space
from biped.train.trial_process import (
    POLL_S,
    SCORE,
    ProcessFailed,
    can_go_on,
    check_names,
    finish,
    judge,
    set_flags,
    steps_of,
    training,
)

NAMED = 3
"""Failed lines of the gate that are named."""
EPISODES, EVAL_SEED = 256, 0
"""Episodes that each trained policy is judged by, and the seed of their starts: those of `biped_eval.py`."""


@dataclass(frozen=True)
class SeedsRequest:
    """A request for many seeds of one training."""

    logs: Path
    """The folder of all runs."""
    name: str
    """Name of the study; seed 3 is the run <name>-3."""
    seeds: int
    """Number of seeds, from 1."""
    preset: str
    """Name of the preset."""
    config: Config
    """The configuration of that preset."""
    settings: tuple[str, ...] = ()
    """Settings of every training, as PATH=VALUE."""
    total_timesteps: int | None = None
    """Environment steps of a training; None: the preset's."""


@dataclass(frozen=True)
class SeedResult:
    """How one seed trained, and how it was judged at its end."""

    seed: int
    """The seed."""
    passed: bool
    """Whether the trained policy passes every line of the gate."""
    failed: tuple[str, ...]
    """Lines of the gate that it fails."""
    score: float
    """Its score in the gate; 0 if its training broke down."""
    first_pass_steps: float
    """Environment steps at the first evaluation in training that passed; infinite if none did."""
    first_pass_s: float
    """The same in seconds of training."""
    steps: tuple[int, ...] = ()
    """Environment steps of the evaluations in training."""
    scores: tuple[float, ...] = ()
    """Their scores."""
    failure: str | None = None
    """What its training said when it broke down."""

    @property
    def verdict(self) -> str:
        """What to say of it: passed, or the first lines of the gate that it fails."""
        if self.failure is not None:
            return f"broke down: {self.failure}"
        if self.passed:
            return "passed"
        named = ", ".join(self.failed[:NAMED])
        more = len(self.failed) - NAMED
        return f"failed in {named}{f' and {more} more' if more > 0 else ''}"


@dataclass(frozen=True)
class Summary:
    """What many seeds say about a recipe; intervals of 95%."""

    share: float
    """Share of the seeds that pass at the end."""
    share_interval: tuple[float, float]
    """Its interval (Wilson 1927)."""
    median_steps: float
    """Median of the environment steps to the first pass in training; infinite if half of the seeds never pass."""
    median_s: float
    """The same in seconds."""
    score: float
    """Interquartile mean of the scores at the end."""
    score_interval: tuple[float, float]
    """Its interval, by a percentile bootstrap over seeds."""


def train_seeds(request: SeedsRequest, draw: Callable[[Path], Path]) -> None:
    """Train and judge seeds, or what of them is left to do and no other process does; then report them.

    Args:
        request: what is asked for.
        draw: draws the results in a file, and returns the picture.

    Raises:
        UsageError: the request cannot be carried out.
        MachineError: this machine or its disk prevents it, or no seed could be trained.
        Interrupted: a signal stopped it.
    """
    config = check_space(request.config, request.settings, ())
    if not config.train.eval_every_steps:
        raise UsageError("--seeds judges trainings by their evaluations: leave out train.eval_every_steps=0")
    series = _Series(request, config)
    series.open()
    left = set(range(1, request.seeds + 1))
    with Interrupts() as interrupts:
        while left:
            done = {seed for seed in sorted(left) if series.do(seed, interrupts)}
            left -= done
            if interrupts.received:
                raise Interrupted(interrupts.received)
            if left and not done:
                time.sleep(POLL_S)
    series.report(draw)


class _Series:
    """The folder of many seeds of one training."""

    def __init__(self, request: SeedsRequest, config: Config) -> None:
        self._request, self._config = request, config
        self._path = run_path(request.logs, request.name)
        self._claims = Claims(self._path / "claims")

    def open(self) -> None:
        """Begin the series, or find that there is one of the same training.

        Raises:
            UsageError: there is another one of this name, or a run.
            MachineError: the disk refuses the write.
        """
        request, file = self._request, self._path / "asked.json"
        if not self._claims.is_used:
            self._check_names(1)
        asked = {"preset": request.preset, "set": list(request.settings), "total_timesteps": request.total_timesteps}
        with self._claims.alone("begin"):
            begun = _read_asked(file)
            if begun is None:
                self._check_names(1)
            elif {name: begun.get(name) for name in asked} != asked:
                raise UsageError(
                    f"the seeds in {self._path} were begun with another --preset, --set, --wandb or "
                    "--total_timesteps: ask for the same, or use another --study"
                )
            elif begun["seeds"] < request.seeds:
                self._check_names(begun["seeds"] + 1)
            count = max(request.seeds, 0 if begun is None else begun["seeds"])
            _write(file, json.dumps({**asked, "seeds": count}))

    def _check_names(self, first: int) -> None:
        check_names(self._path, range(first, self._request.seeds + 1), is_begun=self._claims.is_used)

    def do(self, seed: int, interrupts: Interrupts) -> bool:
        """Train and judge a seed, unless another process does; return whether it is done.

        Raises:
            MachineError: no seed could be trained yet, so that it may be the machine.
        """
        if self._result(seed).is_file():
            return True
        with self._claims.claimed(f"seed-{seed}") as claim:
            if claim is None or self._result(seed).is_file():
                return claim is not None
            run = RunDirectory(run_path(self._request.logs, f"{self._request.name}-{seed}"))
            try:
                self._train(seed, run, interrupts, claim)
                result = self._judged(seed, run, interrupts)
            except ProcessFailed as failed:
                if not any(_read(file).failure is None for file in self._path.glob("seed_*.json")):
                    raise MachineError(f"seed {seed}: {failed}") from failed
                result = SeedResult(seed, False, (), 0.0, math.inf, math.inf, failure=str(failed))
            _write(self._result(seed), json.dumps(_finite(asdict(result))))
            print(f"seed {seed}: {result.verdict}", flush=True)
        return True

    def _result(self, seed: int) -> Path:
        return self._path / f"seed_{seed}.json"

    def _train(self, seed: int, run: RunDirectory, interrupts: Interrupts, claim: Claim) -> None:
        request = self._request
        steps = [] if request.total_timesteps is None else ["--total_timesteps", str(request.total_timesteps)]
        ours = set_flags([f"wandb.group={request.name}", *request.settings, f"train.seed={seed}"])

        def command() -> list[str] | None:
            if _is_trained(run):
                return None
            begin = ["--new_run", "--preset", request.preset, *steps, *ours]
            return training(request.logs, run.path.name, *(["--continue_training"] if can_go_on(run) else begin))

        if not _is_trained(run):
            print(f"seed {seed}: training {run.path}", flush=True)
        finish(command, interrupts, handles=claim.handles)

    def _judged(self, seed: int, run: RunDirectory, interrupts: Interrupts) -> SeedResult:
        """Judge a run's model with the most steps."""
        found = find_furthest(run, run.read_config(), "train it again")
        assert found is not None  # it has been trained
        out, sim = self._path / "claims" / f"judged-{seed}.json", self._config.train.sim
        judged = judge(found[0], out, sim=sim, seed=EVAL_SEED, episodes=EPISODES, interrupts=interrupts)
        return _result_of(seed, run, judged)

    def report(self, draw: Callable[[Path], Path]) -> None:
        """Write, draw and print all results."""
        results = [_read(self._result(seed)) for seed in range(1, self._request.seeds + 1)]
        summary, out = summarise(results), self._path / "seeds.json"
        content = {"summary": asdict(summary), "seeds": [asdict(result) for result in results]}
        with self._claims.alone("report"):
            _write(out, json.dumps(_finite(content), indent=1))
            try:
                picture = draw(out)
            except OSError as error:
                raise disk_error(self._path, error) from error
        print(as_table(results, summary))
        print(f"picture: {picture}")


def _write(file: Path, text: str) -> None:
    try:
        write_whole(file, text.encode())
    except OSError as error:
        raise disk_error(file, error) from error


def _read_asked(file: Path) -> dict[str, Any] | None:
    """Return what a series was begun with; None if it was not."""
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} is damaged ({error}): use another --study") from error


def _is_trained(run: RunDirectory) -> bool:
    """Return whether a run is at its end, even if it was killed there."""
    if run.final_model.is_file() or not can_go_on(run):
        return run.final_model.is_file()
    train = run.read_config().train
    return steps_of(run) >= (train.goal_timesteps or train.total_timesteps)


def _result_of(seed: int, run: RunDirectory, judged: dict[str, Any]) -> SeedResult:
    curves = run.read_metrics()
    passes, scores = curves.get("gate/passed"), curves.get(SCORE)
    first = first_s = math.inf
    if passes is not None and passes.values.any():
        elapsed = curves["time/time_elapsed"]
        first = float(passes.steps[np.argmax(passes.values > 0)])
        first_s = float(trained_s(elapsed)[np.searchsorted(elapsed.steps, first)])
    return SeedResult(
        seed,
        bool(judged["passed"]),
        tuple(name for name, line in judged["lines"].items() if not line["passed"]),
        float(judged["score"]),
        first,
        first_s,
        () if scores is None else tuple(scores.steps.tolist()),
        () if scores is None else tuple(scores.values.tolist()),
    )


def trained_s(elapsed: Curve) -> NDArray[np.float64]:
    """Return the seconds of training behind each point of a run whose processes each count theirs from 0.

    Args:
        elapsed: time since the process started to train (s), (points,).

    Returns:
        (points,), s.
    """
    before = np.concatenate([[0.0], elapsed.values[:-1]])
    return elapsed.values + np.cumsum(np.where(elapsed.values < before, before, 0.0))


def summarise(results: Sequence[SeedResult]) -> Summary:
    """Return what some seeds say about their recipe.

    Raises:
        ValueError: there are none.
    """
    if not results:
        raise ValueError("there are no seeds")
    passed = sum(result.passed for result in results)
    last = np.array([[result.score] for result in results], np.float64)
    low, high = interquartile_interval(last)
    return Summary(
        passed / len(results),
        share_interval(passed, len(results)),
        float(median(result.first_pass_steps for result in results)),
        float(median(result.first_pass_s for result in results)),
        float(interquartile_mean(last)[0]),
        (float(low[0]), float(high[0])),
    )


def as_table(results: Sequence[SeedResult], summary: Summary) -> str:
    """Return the seeds as lines of text, and below them what they say together."""
    lines = [f"{'seed':>4}  {'first pass':>12}  {'after':>8}  at the end"]
    for result in results:
        steps, seconds = _steps(result.first_pass_steps), _time(result.first_pass_s)
        lines.append(f"{result.seed:>4}  {steps:>12}  {seconds:>8}  {result.verdict}")
    low, high = summary.share_interval
    count = round(summary.share * len(results))
    return "\n".join(
        [
            *lines,
            f"passed: {count} of {len(results)}, {summary.share:.0%} (95% interval {low:.0%} to {high:.0%})",
            f"median first pass: {_steps(summary.median_steps)} steps, {_time(summary.median_s)}"
            if math.isfinite(summary.median_steps)
            else "median first pass: never, because at least half of the seeds have not passed",
            f"interquartile mean of the score at the end: {summary.score:.3f} "
            f"(95% interval {summary.score_interval[0]:.3f} to {summary.score_interval[1]:.3f})",
        ]
    )


def _steps(count: float) -> str:
    return f"{count:,.0f}" if math.isfinite(count) else "never"


def _time(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if math.isfinite(seconds) else "never"


def _finite(value: Any) -> Any:
    """Return a value for strict JSON: null for infinity."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read(file: Path) -> SeedResult:
    """Read the result of a seed.

    Raises:
        UsageError: it is damaged.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        for name in ("first_pass_steps", "first_pass_s"):
            found[name] = math.inf if found[name] is None else float(found[name])
        for name in ("failed", "steps", "scores"):
            found[name] = tuple(found[name])
        return SeedResult(**found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} is damaged ({error}): remove it, and the seed is judged again") from error
