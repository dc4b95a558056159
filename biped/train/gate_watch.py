"""The walking gate during training: evaluations at intervals, the best model so far, and when to stop."""

import itertools
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from torch import Tensor

from biped.base.files import set_aside
from biped.base.interrupts import Interrupts
from biped.base.watchdog import Watchdog
from biped.env.groups import Observations
from biped.eval.bench import Evaluation, EvaluationBench
from biped.eval.gate import as_json
from biped.ppo.acting import DeterministicActor
from biped.ppo.recurrent_ppo import DeviceRecurrentPPO
from biped.runs.directory import RunDirectory

_LAST_STEPS, _PASSES = "last_evaluation_steps", "passes_in_a_row"
"""Names in a checkpoint's notes."""
_NONE = -math.inf, -math.inf
"""Rank without a best model."""


class Evaluator(Protocol):
    """Evaluates a policy; see `PolicyEvaluator`."""

    def evaluate(self) -> Evaluation | None:
        """Evaluate the current policy; return None if the evaluation was aborted."""
        ...


class Saver(Protocol):
    """Saves a policy; see `biped.train.state.TrainingState`."""

    def save_weights(self, path: Path) -> None:
        """Write the current policy."""
        ...


class _BrokenOff(Exception):  # noqa: N818 - not an error
    """A signal leaves no time for the current evaluation."""


class _Watched:
    """An actor that gives a sign of life at each step, and aborts on an urgent signal."""

    def __init__(
        self, actor: DeterministicActor, watchdog: Watchdog, interrupts: Interrupts, tell: Callable[[], None]
    ) -> None:
        self._actor, self._watchdog, self._interrupts, self._tell = actor, watchdog, interrupts, tell

    @property
    def estimates(self) -> Tensor | None:
        return self._actor.estimates

    def __call__(self, observations: Observations, starts: Tensor) -> Tensor:
        self._watchdog.sign_of_life()
        if self._interrupts.is_urgent:
            raise _BrokenOff
        self._tell()
        return self._actor(observations, starts)


class PolicyEvaluator:
    """Evaluates the policy during training; an urgent signal aborts the evaluation."""

    def __init__(
        self,
        model: DeviceRecurrentPPO,
        bench: EvaluationBench,
        watchdog: Watchdog,
        interrupts: Interrupts,
        tell: Callable[[float], None] | None = None,
    ) -> None:
        """Connect the evaluator.

        Args:
            model: the learner.
            bench: the robots for the evaluation.
            watchdog: gets a sign of life at each step.
            interrupts: the signals.
            tell: told at each step which share of the evaluation is done.
        """
        self._model, self._bench, self._watchdog, self._interrupts = model, bench, watchdog, interrupts
        self._tell = tell or (lambda _: None)

    def evaluate(self) -> Evaluation | None:
        """Evaluate the current policy; return None if the evaluation was aborted."""
        actor = DeterministicActor(self._model.policy, self._bench.num_envs, self._model.runs_in)
        steps = itertools.count()

        def tell() -> None:
            self._tell(next(steps) / self._bench.num_steps)

        try:
            return self._bench.run(_Watched(actor, self._watchdog, self._interrupts, tell))
        except _BrokenOff:
            return None


class GateWatch:
    """Evaluates at intervals, saves the best model, and decides when the policy has passed often enough."""

    def __init__(
        self,
        run: RunDirectory,
        evaluator: Evaluator,
        saver: Saver,
        *,
        every_steps: int,
        stop_after_passes: int,
    ) -> None:
        """Connect the watch.

        Args:
            run: stores the result of the best model, so that a resumed run does not replace it with a worse one.
            evaluator: evaluates the current policy.
            saver: writes the current policy to the best model's path.
            every_steps: environment steps between two evaluations; at least 1.
            stop_after_passes: training may stop after this many consecutive passes of the gate; 0: never.
        """
        self._run, self._evaluator, self._saver = run, evaluator, saver
        self._every_steps, self._stop_after = every_steps, stop_after_passes
        self._passes_in_a_row = 0
        self._last_steps = 0
        self._is_restored = False
        self._best = _recorded_rank(run)
        self._started_s = time.monotonic()

    @property
    def should_stop(self) -> bool:
        """Whether the gate has passed often enough."""
        return 0 < self._stop_after <= self._passes_in_a_row

    def start(self, steps: int) -> None:
        """Start measuring time; `steps` environment steps were done before."""
        if not self._is_restored:
            self._last_steps = steps
        self._started_s = time.monotonic()

    def notes(self) -> dict[str, float]:
        """Return the counters with which a resumed run evaluates and stops at the same steps."""
        return {_LAST_STEPS: self._last_steps, _PASSES: self._passes_in_a_row}

    def restore(self, notes: Mapping[str, float]) -> None:
        """Restore the counters from `notes`."""
        self._is_restored = _LAST_STEPS in notes
        self._last_steps = int(notes.get(_LAST_STEPS, 0))
        self._passes_in_a_row = int(notes.get(_PASSES, 0))
        if self.should_stop:  # a resumed run that had already stopped shall continue
            self._passes_in_a_row = 0

    def look(self, steps: int, *, last: bool = False) -> Mapping[str, float]:
        """Evaluate if it is due, or at the end of training; return the metrics, empty if nothing was evaluated.

        An evaluation is due at the first call after each multiple of the interval, also across a resume. A last
        evaluation between multiples does not count for stopping: an uninterrupted run would not have had it.

        Args:
            steps: environment steps so far.
            last: whether training ends with this call.
        """
        is_due = steps // self._every_steps > self._last_steps // self._every_steps
        if not is_due and (not last or steps == self._last_steps):
            return {}
        evaluation = self._evaluator.evaluate()
        if evaluation is None:  # aborted: repeated after a resume
            return {}
        self._last_steps = steps
        passed = evaluation.verdict.passed
        if is_due:
            self._passes_in_a_row = self._passes_in_a_row + 1 if passed else 0
        if evaluation.rank > self._best:
            if self._best == _NONE and self._run.best_model.is_file():  # an existing best model of unknown score
                print(f"{self._run.best_model} has no figures: it is kept as {set_aside(self._run.best_model).name}")
            self._best = evaluation.rank
            self._saver.save_weights(self._run.best_model)
            self._run.write_best(json.dumps(_as_record(evaluation, steps), indent=2))
        after = f"after {steps:,} steps and {time.monotonic() - self._started_s:.0f} s"
        failed = [judged.line.name for judged in evaluation.verdict.lines if not judged.passed]
        print(f"walking gate {after}: {'passed' if passed else 'failed in ' + ', '.join(failed)}", flush=True)
        score, rate = self._best
        return {**evaluation.metrics(), "gate/best_score": score, "eval/best_success_rate": rate}


def _as_record(evaluation: Evaluation, steps: int) -> dict[str, object]:
    score, rate = evaluation.rank
    return {"steps": steps, "score": score, "success_rate": rate, **as_json(evaluation.verdict)}


def _recorded_rank(run: RunDirectory) -> tuple[float, float]:
    """Return the rank of the best model so far; below every other if the model or its result is missing."""
    if not run.best_model.is_file():
        return _NONE
    try:
        record = json.loads(run.read_best())
        return float(record["score"]), float(record["success_rate"])
    except (OSError, ValueError, KeyError, TypeError):
        return _NONE
