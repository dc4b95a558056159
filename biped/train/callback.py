"""What a training does besides learning, as Stable-Baselines3 callbacks that compose.

Stable-Baselines3 has no hook after an update: it writes its log between a rollout and the update that follows, so that
an update's numbers come one rollout late, and the last ones never. `BipedCallback` adds that hook. A part of it is a
callback with `after_update`; each adds what it knows to one row of metrics, in the order of the list:

    BipedCallback([Rollouts(...), Gate(...), Doctor(...), Log(), Checkpoints(...)])

Any other callback may stand between them. Train with `log_interval=None`: `Log` writes after the update.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from biped.base.errors import warn
from biped.base.interrupts import Interrupts
from biped.base.watchdog import Watchdog
from biped.config.task import RewardWeights
from biped.env.env import BipedEnv
from biped.runs.publishing import Publisher
from biped.train.metrics import summary_metrics
from biped.train.reward_doctor import examine

Row = dict[str, float]
"""Metrics of one iteration, by their canonical names."""
_EPISODES, _ITERATIONS = "episodes", "iterations"
"""Names in a checkpoint's notes."""


class Part(BaseCallback):
    """A callback that also acts after an update; all of its methods may stay as they are."""

    @property
    def should_stop(self) -> bool:
        """Training may end."""
        return False

    def before_training(self, row: Row) -> None:
        """Add metrics that were due before the first rollout; a row that stays empty is not logged."""

    def after_update(self, row: Row, *, last: bool) -> None:
        """Add metrics of the rollout and the update that were done, or use what others have added.

        Args:
            row: what the parts before this one have added.
            last: training ends with this update.
        """

    def keep(self) -> None:
        """Keep what would be lost, for the training ends here."""

    def _on_step(self) -> bool:
        return True

    @property
    def _model(self) -> OnPolicyAlgorithm:
        return cast("OnPolicyAlgorithm", self.model)


class BipedCallback(CallbackList):
    """Runs its parts around each rollout and after each update, and ends the training when asked to."""

    def __init__(
        self,
        callbacks: Sequence[BaseCallback],
        interrupts: Interrupts | None = None,
        watchdog: Watchdog | None = None,
    ) -> None:
        """Connect the callback.

        Args:
            callbacks: parts, and stock callbacks, in the order in which they act.
            interrupts: asked whether to end: after the update that is under way or, where that takes too long, after
                the step.
            watchdog: told of every step.
        """
        super().__init__(list(callbacks))
        self._interrupts = interrupts or Interrupts()
        self._watchdog = watchdog
        self._is_over = self._has_rollout = False
        self.was_interrupted = False
        """A signal ended the training."""

    @property
    def _parts(self) -> list[Part]:
        return [part for part in self.callbacks if isinstance(part, Part)]

    def _on_training_start(self) -> None:
        super()._on_training_start()
        row: Row = {}
        for part in self._parts:
            part.before_training(row)

    def _on_rollout_start(self) -> None:
        self._after_update(last=False)
        self.was_interrupted = self.was_interrupted or self._interrupts.received is not None
        self._is_over = self.was_interrupted or any(part.should_stop for part in self._parts)
        if self._is_over:
            self.keep()  # now, before another step is taken
        super()._on_rollout_start()

    def _on_step(self) -> bool:
        if self._watchdog is not None:
            self._watchdog.sign_of_life()
        if self._is_over:
            # Stable-Baselines3 asks only after a step: nothing is learned from that one, so it does not count.
            self.model.num_timesteps -= self.training_env.num_envs
            return False
        goes_on = super()._on_step()
        self.was_interrupted = self._interrupts.is_urgent
        return goes_on and not self.was_interrupted

    def _on_rollout_end(self) -> None:
        self._has_rollout = True
        super()._on_rollout_end()

    def _on_training_end(self) -> None:
        self._after_update(last=True)
        super()._on_training_end()

    def keep(self) -> None:
        """Let every part keep what would be lost."""
        for part in self._parts:
            part.keep()

    def _after_update(self, *, last: bool) -> None:
        """Let the parts act; nothing to do before the first rollout, or twice after one."""
        if not self._has_rollout:
            return
        self._has_rollout = False
        row: Row = {}
        try:
            for part in self._parts:
                part.after_update(row, last=last)
        except BaseException:
            self.keep()
            raise


class Rollouts(Part):
    """Measures each rollout: its episodes and rewards, its buffer, and the time that it and its update took."""

    def __init__(self, env: BipedEnv, max_error_share: float) -> None:
        """Connect the part.

        Args:
            env: the environments, whose statistics are drained after each update.
            max_error_share: of the environments, in which the physics may fail within a rollout.
        """
        super().__init__()
        self._env, self._max_error_share = env, max_error_share
        self._episodes = self._iterations = 0
        self._started_s = self._ended_s = 0.0
        self._buffer: Row = {}

    def notes(self) -> dict[str, float]:
        """Return what a resumed run needs to count on."""
        return {_EPISODES: self._episodes, _ITERATIONS: self._iterations}

    def restore(self, notes: Mapping[str, float]) -> None:
        """Take over what `notes` returned."""
        self._episodes = int(notes.get(_EPISODES, 0))
        self._iterations = int(notes.get(_ITERATIONS, 0))

    @property
    def iterations(self) -> int:
        """Rollouts so far, those before a resume included."""
        return self._iterations

    def _on_rollout_start(self) -> None:
        self._started_s = time.perf_counter()

    def _on_rollout_end(self) -> None:
        self._ended_s = time.perf_counter()
        self._iterations += 1
        self._buffer = _measure_buffer(self._model)  # the next rollout empties it

    def after_update(self, row: Row, *, last: bool) -> None:
        """Add timings, the environment's metrics and the buffer's.

        Raises:
            FloatingPointError: the physics failed too often.
        """
        del last
        learning_s = time.perf_counter() - self._ended_s
        self.logger.record("time/collection_time", self._ended_s - self._started_s)
        self.logger.record("time/learning_time", learning_s)
        row |= summary_metrics(self._env.end_rollout(self._max_error_share))
        row["curriculum/command_share"] = self._env.command_share
        row |= self._buffer
        self._episodes += int(row.get("episode/count", 0))
        row["episode/count"] = self._episodes


class Log(Part):
    """Writes the row of each iteration to the logger's sinks."""

    def __init__(self, rollouts: Rollouts) -> None:
        """Connect the part; `rollouts` counts the iterations."""
        super().__init__()
        self._rollouts = rollouts

    def before_training(self, row: Row) -> None:
        """Write what was due before the first rollout."""
        if row:
            self._record(row)
            self.logger.dump(self.num_timesteps)

    def after_update(self, row: Row, *, last: bool) -> None:
        """Write the row, and what Stable-Baselines3 itself has recorded."""
        del last
        self._record(row)
        self._model.dump_logs(self._rollouts.iterations)

    def _record(self, row: Mapping[str, float]) -> None:
        for name, value in row.items():
            # A rollout in which no episode ends has no mean return: no point on the curve.
            if np.isfinite(value):
                self.logger.record(name, value)


class Watch(Protocol):
    """Looks at the policy while it is trained; see `biped.train.gate_watch.GateWatch`."""

    @property
    def should_stop(self) -> bool:
        """Training may end."""
        ...

    def start(self, steps: int) -> None:
        """Training begins after so many environment steps."""
        ...

    def look(self, steps: int, *, last: bool = False) -> Mapping[str, float]:
        """Return metrics by their canonical names, or none where it is not time to look."""
        ...


class Gate(Part):
    """Puts the policy through the walking gate at intervals, and may end the training."""

    def __init__(self, watch: Watch, interrupts: Interrupts | None = None) -> None:
        """Connect the part.

        Args:
            watch: evaluates, keeps the best model, and says when to stop.
            interrupts: once a signal came, nothing more is evaluated.
        """
        super().__init__()
        self._watch, self._interrupts = watch, interrupts or Interrupts()

    @property
    def should_stop(self) -> bool:
        """The gate has passed often enough."""
        return self._watch.should_stop

    def before_training(self, row: Row) -> None:
        """Make up for an evaluation that a signal broke off."""
        self._watch.start(self.num_timesteps)
        row |= self._watch.look(self.num_timesteps)

    def after_update(self, row: Row, *, last: bool) -> None:
        """Evaluate where it is time, or at the end."""
        if not self._interrupts.received:
            row |= self._watch.look(self.num_timesteps, last=last)


class Doctor(Part):
    """Says what looks wrong with the rewards, after each evaluation; each finding once, until it is gone."""

    def __init__(self, weights: RewardWeights, run_name: str, publisher: Publisher | None = None) -> None:
        """Connect the part.

        Args:
            weights: the prices of the terms.
            run_name: the run, for alerts.
            publisher: takes each finding as an alert.
        """
        super().__init__()
        self._weights, self._run_name, self._publisher = weights, run_name, publisher
        self._window: list[Row] = []
        self._known: set[str] = set()

    def after_update(self, row: Row, *, last: bool) -> None:
        """Keep the row; after an evaluation look at all since the one before."""
        del last
        self._window.append(dict(row))
        if "gate/score" not in row:
            return
        findings = examine(self._window, row, self._weights)
        self._window = []
        for finding in findings:
            if finding.key not in self._known:
                warn(f"reward doctor: {finding.text}")
                if self._publisher is not None:
                    self._publisher.alert(f"{self._run_name}: {finding.key}", finding.text)
        self._known = {finding.key for finding in findings}


def _measure_buffer(model: OnPolicyAlgorithm) -> Row:
    buffer: Any = model.rollout_buffer
    capacity = buffer.buffer_size * buffer.n_envs
    size = capacity if buffer.full else buffer.pos * buffer.n_envs
    return {
        "buffer/size": size,
        "buffer/capacity": capacity,
        "buffer/utilisation": size / capacity,
        "buffer/memory": buffer.n_bytes / 2**20,
    }
