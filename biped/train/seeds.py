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
from biped.train.claims import Claims
from biped.train.space import check_space
from biped.train.trial_process import POLL_S, ProcessFailed, finish, is_begun, judge, set_flags, steps_of, training

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
    first_pass_steps: float
    """Environment steps at the first evaluation in training that passed; infinite if none did."""
    first_pass_s: float
    """The same in seconds of training."""
    steps: tuple[int, ...]
    """Environment steps of the evaluations in training."""
    scores: tuple[float, ...]
    """Their scores."""
    passes: tuple[bool, ...]
    """Whether they passed."""

    @property
    def verdict(self) -> str:
        """What to say of it: passed, or the first lines of the gate that it fails."""
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
    """Interquartile mean of the last scores in training."""
    score_interval: tuple[float, float]
    """Its interval, by a percentile bootstrap over seeds."""


def train_seeds(request: SeedsRequest, draw: Callable[[Path], Path]) -> None:
    """Train and judge seeds, or what of them is left to do and no other process does; then report them.

    Args:
        request: what is asked for.
        draw: draws the results in a file, and returns the picture.

    Raises:
        UsageError: the request cannot be carried out.
        MachineError: this machine or its disk prevents it, or a seed cannot be trained.
        Interrupted: a signal stopped it.
    """
    config = check_space(request.config, request.settings, ())
    if not config.train.eval_every_steps:
        raise UsageError("--seeds judges trainings by their evaluations: leave out train.eval_every_steps=0")
    path = run_path(request.logs, request.name)
    claims = Claims(path / "claims")
    if not (path / "claims").is_dir():
        RunDirectory.check_new(request.logs, request.name, may_exist=False)
    left = set(range(1, request.seeds + 1))
    with Interrupts() as interrupts:
        while left:
            done = {seed for seed in sorted(left) if _do(request, config, seed, claims, interrupts)}
            left -= done
            if interrupts.received:
                raise Interrupted(interrupts.received)
            if left and not done:
                time.sleep(POLL_S)
    results = [_read(_result(path, seed)) for seed in range(1, request.seeds + 1)]
    out = path / "seeds.json"
    summary = summarise(results)
    try:
        content = {"summary": asdict(summary), "seeds": [asdict(result) for result in results]}
        write_whole(out, json.dumps(_finite(content), indent=1).encode())
        picture = draw(out)
    except OSError as error:
        raise disk_error(path, error) from error
    print(as_table(results, summary))
    print(f"picture: {picture}")


def _result(path: Path, seed: int) -> Path:
    return path / f"seed_{seed}.json"


def _do(request: SeedsRequest, config: Config, seed: int, claims: Claims, interrupts: Interrupts) -> bool:
    """Train and judge a seed, unless another process does; return whether it is done."""
    path = run_path(request.logs, request.name)
    if _result(path, seed).is_file():
        return True
    with claims.claimed(f"seed-{seed}") as is_ours:
        if not is_ours or _result(path, seed).is_file():
            return is_ours
        run = RunDirectory(run_path(request.logs, f"{request.name}-{seed}"))
        try:
            if not _is_trained(run):
                print(f"seed {seed}: training {run.path}", flush=True)
                _train(request, seed, run, interrupts)
            judged = _judge(config, run, path / "claims" / f"judged-{seed}.json", interrupts)
        except ProcessFailed as failed:
            raise MachineError(f"seed {seed}: {failed}") from failed
        result = _result_of(seed, run, judged)
        try:
            write_whole(_result(path, seed), json.dumps(_finite(asdict(result))).encode())
        except OSError as error:
            raise disk_error(path, error) from error
        print(f"seed {seed}: {result.verdict}", flush=True)
    return True


def _train(request: SeedsRequest, seed: int, run: RunDirectory, interrupts: Interrupts) -> None:
    steps = [] if request.total_timesteps is None else ["--total_timesteps", str(request.total_timesteps)]
    ours = set_flags([f"wandb.group={request.name}", *request.settings, f"train.seed={seed}"])

    def command() -> list[str] | None:
        if _is_trained(run):
            return None
        flags = ["--continue_training"] if is_begun(run) else ["--preset", request.preset, *steps, *ours]
        return training(request.logs, run.path.name, *flags)

    finish(command, interrupts)


def _is_trained(run: RunDirectory) -> bool:
    """Return whether a run is at its end, even if it was killed there."""
    if run.final_model.is_file() or not is_begun(run):
        return run.final_model.is_file()
    train = run.read_config().train
    return steps_of(run) >= (train.goal_timesteps or train.total_timesteps)


def _judge(config: Config, run: RunDirectory, out: Path, interrupts: Interrupts) -> dict[str, Any]:
    """Return the eval.json of a run's model with the most steps."""
    found = find_furthest(run, run.read_config(), "train it again")
    assert found is not None  # it has been trained
    return judge(found[0], out, sim=config.train.sim, seed=EVAL_SEED, episodes=EPISODES, interrupts=interrupts)


def _result_of(seed: int, run: RunDirectory, judged: dict[str, Any]) -> SeedResult:
    curves = run.read_metrics()
    passes, scores, elapsed = curves["gate/passed"], curves["gate/score"], curves["time/time_elapsed"]
    when = [int(step) for step, value in zip(passes.steps, passes.values, strict=True) if value]
    first = min(when, default=None)
    first_s = math.inf if first is None else float(trained_s(elapsed)[np.searchsorted(elapsed.steps, first)])
    return SeedResult(
        seed,
        bool(judged["passed"]),
        tuple(name for name, line in judged["lines"].items() if not line["passed"]),
        math.inf if first is None else first,
        first_s,
        tuple(scores.steps.tolist()),
        tuple(scores.values.tolist()),
        tuple(bool(value) for value in passes.values),
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
    last = np.array([[result.scores[-1]] for result in results], np.float64)
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
            f"interquartile mean of the last score in training: {summary.score:.3f} "
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
        for name in ("failed", "steps", "scores", "passes"):
            found[name] = tuple(found[name])
        return SeedResult(**found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} is damaged ({error}): remove it, and the seed is judged again") from error
