"""The walking gate during training: evaluations at intervals, the best model so far, and when to stop."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from biped.eval.gate import Verdict, as_json, judge
from biped.eval.record import Recording
from biped.eval.trials import Trials, count_trials
from biped.evaluation import Agent, record_episodes, trial_commands
from biped.files import set_aside
from biped.runs import RunDirectory
from biped_config import Config, RandomizationConfig, ServoConfig
from biped_env import make_env

TRIAL_SEED = 10_000
"""Of the evaluations' commands and starts: the same in every evaluation of every run."""


_LAST_STEPS, _PASSES = "last_evaluation_steps", "passes_in_a_row"
"""Names in a checkpoint's notes."""
_NONE = -math.inf, -math.inf
"""Rank of a best model that there is not."""


@dataclass(frozen=True)
class Trial:
    """What one evaluation found."""

    verdict: Verdict
    """The gate."""
    trials: Trials
    """Episodes counted as trials."""

    @classmethod
    def of(cls, record: Recording, servo: ServoConfig) -> "Trial":
        """Judge and count the episodes of a recording."""
        return cls(judge(record, servo), count_trials(record))

    @property
    def rank(self) -> tuple[float, float]:
        """The larger, the better: the gate's score, then the share of successful trials."""
        return self.verdict.score, self.trials.success_rate

    def metrics(self) -> dict[str, float]:
        """Return the figures by the canonical names of `biped.metrics`; NaN where there was nothing to measure."""
        trials = self.trials
        return {
            "eval/success_rate": trials.success_rate,
            "eval/success_precision": trials.success_precision,
            "eval/num_trials": trials.num_trials,
            "eval/success_trials": trials.success_trials,
            "eval/fail_trials": trials.fail_trials,
            "gate/score": self.verdict.score,
            "gate/passed": float(self.verdict.passed),
            **{f"gate/{name}": value for name, value in self.verdict.figures().items()},
        }


class TrialBench:
    """A small batch of environments of its own, to evaluate the policy that is being trained."""

    def __init__(self, config: Config, device: str) -> None:
        """Build `config.train.eval_episodes` robots."""
        # The judge is the model as it is, whatever the policy is trained with.
        cfg = replace(config.env, num_envs=config.train.eval_episodes, randomization=RandomizationConfig())
        self._env = make_env(cfg, device, sim=config.train.sim)
        self._commands = trial_commands(cfg.num_envs, cfg.command, TRIAL_SEED)
        self.last_record: Recording | None = None
        """The episodes of the last evaluation."""

    def run(self, agent: Agent) -> Trial:
        """Evaluate a policy."""
        self.last_record = None  # two of them at once would be twice the memory
        self.last_record = record_episodes(self._env, agent, self._commands, TRIAL_SEED)
        return Trial.of(self.last_record, self._env.cfg.robot.servo)

    def close(self) -> None:
        """Free the simulator."""
        self._env.close()


class GateWatch:
    """Evaluates at intervals, keeps the best model, and says when the policy has walked often enough."""

    def __init__(
        self,
        run: RunDirectory,
        evaluate: Callable[[], Trial | None],
        save_best: Callable[[], None],
        *,
        every_steps: int,
        stop_after_passes: int,
    ) -> None:
        """Connect the watch.

        Args:
            run: where the record of the best model is kept, so that a resumed run does not replace it by a worse one.
            evaluate: evaluates the policy as it is; None where it was broken off.
            save_best: writes the policy as it is to the best model's place.
            every_steps: environment steps between two evaluations; at least 1.
            stop_after_passes: training may stop once the gate has passed so often in a row; 0 for never.
        """
        self._run, self._evaluate, self._save_best = run, evaluate, save_best
        self._every_steps, self._stop_after = every_steps, stop_after_passes
        self._passes_in_a_row = 0
        self._last_steps = 0
        self._is_restored = False
        self._best = _recorded_rank(run)
        self._started_s = time.monotonic()

    @property
    def should_stop(self) -> bool:
        """The gate has passed often enough."""
        return 0 < self._stop_after <= self._passes_in_a_row

    def start(self, steps: int) -> None:
        """Count time from here; `steps` environment steps were done before."""
        if not self._is_restored:
            self._last_steps = steps
        self._started_s = time.monotonic()

    def notes(self) -> dict[str, float]:
        """Return what a resumed run needs to evaluate and to stop when this one would have."""
        return {_LAST_STEPS: self._last_steps, _PASSES: self._passes_in_a_row}

    def restore(self, notes: Mapping[str, float]) -> None:
        """Take over what `notes` returned."""
        self._is_restored = _LAST_STEPS in notes
        self._last_steps = int(notes.get(_LAST_STEPS, 0))
        self._passes_in_a_row = int(notes.get(_PASSES, 0))
        if self.should_stop:  # whoever goes on with a run that had ended wants it to go on
            self._passes_in_a_row = 0

    def look(self, steps: int, *, last: bool = False) -> Mapping[str, float]:
        """Evaluate if it is time, or if it is the last chance; return the metrics, none where it is not time.

        It is time at the first call after each multiple of the interval, whoever trained until then. A last chance in
        between does not count for stopping: a run that is continued would have had none there.

        Args:
            steps: environment steps so far.
            last: training ends with this call.
        """
        is_due = steps // self._every_steps > self._last_steps // self._every_steps
        if not is_due and (not last or steps == self._last_steps):
            return {}
        trial = self._evaluate()
        if trial is None:  # broken off: to be made up for
            return {}
        self._last_steps = steps
        passed = trial.verdict.passed
        if is_due:
            self._passes_in_a_row = self._passes_in_a_row + 1 if passed else 0
        if trial.rank > self._best:
            if self._best == _NONE and self._run.best_model.is_file():  # nothing says how good it is
                print(f"{self._run.best_model} has no figures: it is kept as {set_aside(self._run.best_model).name}")
            self._best = trial.rank
            self._save_best()
            self._run.write_best(json.dumps(_as_record(trial, steps), indent=2))
        after = f"after {steps:,} steps and {time.monotonic() - self._started_s:.0f} s"
        failed = [judged.line.name for judged in trial.verdict.lines if not judged.passed]
        print(f"walking gate {after}: {'passed' if passed else 'failed in ' + ', '.join(failed)}", flush=True)
        score, rate = self._best
        return {**trial.metrics(), "gate/best_score": score, "eval/best_success_rate": rate}


def _as_record(trial: Trial, steps: int) -> dict[str, object]:
    score, rate = trial.rank
    return {"steps": steps, "score": score, "success_rate": rate, **as_json(trial.verdict)}


def _recorded_rank(run: RunDirectory) -> tuple[float, float]:
    """Return the rank of the best model so far; below every other where it or its figures are gone."""
    if not run.best_model.is_file():
        return _NONE
    try:
        record = json.loads(run.read_best())
        return float(record["score"]), float(record["success_rate"])
    except (OSError, ValueError, KeyError, TypeError):
        return _NONE
