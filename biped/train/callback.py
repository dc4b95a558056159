"""The work of a training besides learning, as Stable-Baselines3 callbacks that can be combined.

Stable-Baselines3 has no hook after an update: it writes its log between a rollout and the next update, so that an
update's metrics come one rollout late, and the last ones never. `BipedCallback` adds that hook. Each of its parts is a
callback with `after_update` and adds its metrics to one row, in the order of the list:

    BipedCallback([Rollouts(...), Gate(...), Doctor(...), Log(), Checkpoints(...)])

Any other callback may be placed between them. Train with `log_interval=None`: `Log` writes after the update.
"""

import signal
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
from biped.ppo.distributed import Team
from biped.runs.publishing import Publisher
from biped.train.metrics import summary_metrics
from biped.train.reward_doctor import examine

Row = dict[str, float]
"""Metrics of one iteration, by their canonical names."""
_EPISODES, _ITERATIONS = "episodes", "iterations"
"""Names in a checkpoint's notes."""


class Part(BaseCallback):
    """A callback that also acts after an update; every method is optional."""

    @property
    def should_stop(self) -> bool:
        """Whether training may end."""
        return False

    def before_training(self, row: Row) -> None:
        """Add metrics that are due before the first rollout; an empty row is not logged."""

    def after_update(self, row: Row, *, last: bool) -> None:
        """Add metrics of the last rollout and update, or use those of earlier parts.

        Args:
            row: metrics that earlier parts have added.
            last: whether training ends with this update.
        """

    def keep(self) -> None:
        """Save what would be lost, because the training ends here."""

    def _on_step(self) -> bool:
        return True

    @property
    def _model(self) -> OnPolicyAlgorithm:
        return cast("OnPolicyAlgorithm", self.model)


class BipedCallback(CallbackList):
    """Runs its parts around each rollout and after each update, and ends the training on request."""

    def __init__(
        self,
        callbacks: Sequence[BaseCallback],
        interrupts: Interrupts | None = None,
        watchdog: Watchdog | None = None,
        team: Team | None = None,
    ) -> None:
        """Connect the callbacks.

        Args:
            callbacks: parts, and stock callbacks, in the order in which they run.
            interrupts: signals that end the training: after the current update or, if that takes too long, after the
                current step.
            watchdog: gets a sign of life at every step.
            team: the processes that train together: they end after the same update, when a signal reaches one.
        """
        super().__init__(list(callbacks))
        self._team = team
        self._interrupts = interrupts or Interrupts()
        self._watchdog = watchdog
        self._is_over = self._has_rollout = False
        self.was_interrupted = False
        """Whether a signal ended the training."""

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
        should_stop = any(part.should_stop for part in self._parts)
        if self._team is not None:
            should_stop = self._agree(self._team, should_stop)
        self.was_interrupted = self.was_interrupted or self._interrupts.received is not None
        self._is_over = self.was_interrupted or should_stop
        if self._is_over:
            self.keep()  # before another step is taken
        super()._on_rollout_start()

    def _on_step(self) -> bool:
        if self._watchdog is not None:
            self._watchdog.sign_of_life()
        if self._is_over:
            # Stable-Baselines3 asks only after a step. Nothing is learned from that step, so it does not count.
            self.model.num_timesteps -= getattr(self.model, "steps_at_once", self.training_env.num_envs)
            return False
        goes_on = super()._on_step()
        # Processes that train together end after the same update, never within one.
        self.was_interrupted = self._team is None and self._interrupts.is_urgent
        return goes_on and not self.was_interrupted

    def _agree(self, team: Team, should_stop: bool) -> bool:
        """Return whether to end for a reason that one process knows, and take over a signal that one has received."""
        received = self._interrupts.received
        agreed = team.agree(2 * (received or 0) + should_stop)
        if agreed > 1:
            self._interrupts.receive(signal.Signals(agreed // 2))
        return agreed % 2 == 1

    def _on_rollout_end(self) -> None:
        self._has_rollout = True
        super()._on_rollout_end()

    def _on_training_end(self) -> None:
        self._after_update(last=True)
        super()._on_training_end()

    def keep(self) -> None:
        """Let every part save what would be lost."""
        for part in self._parts:
            part.keep()

    def _after_update(self, *, last: bool) -> None:
        """Run the parts, once after each rollout."""
        if not self._has_rollout:
            return
        self._has_rollout = False
        row: Row = {}
        try:
            for part in self._parts:
                part.after_update(row, last=last)
        except BaseException:
            if self._team is not None:
                self._team.part()
            self.keep()
            raise


class Rollouts(Part):
    """Measures each rollout: its episodes and rewards, its buffer, and the duration of rollout and update."""

    def __init__(self, env: BipedEnv, max_error_share: float) -> None:
        """Connect the part.

        Args:
            env: the environments; their statistics are drained after each update.
            max_error_share: share of the environments in which the physics may fail within a rollout.
        """
        super().__init__()
        self._env, self._max_error_share = env, max_error_share
        self._episodes = self._iterations = 0
        self._started_s = self._ended_s = 0.0
        self._buffer: Row = {}

    def notes(self) -> dict[str, float]:
        """Return the counters, for a resumed run."""
        return {_EPISODES: self._episodes, _ITERATIONS: self._iterations}

    def restore(self, notes: Mapping[str, float]) -> None:
        """Restore the counters from `notes`."""
        self._episodes = int(notes.get(_EPISODES, 0))
        self._iterations = int(notes.get(_ITERATIONS, 0))

    @property
    def iterations(self) -> int:
        """Number of rollouts so far, including those before a resume."""
        return self._iterations

    def _on_rollout_start(self) -> None:
        self._started_s = time.perf_counter()

    def _on_rollout_end(self) -> None:
        self._ended_s = time.perf_counter()
        self._iterations += 1
        self._buffer = _measure_buffer(self._model)  # before the next rollout empties it

    def after_update(self, row: Row, *, last: bool) -> None:
        """Add timings, and metrics of the environment and of the buffer.

        Raises:
            FloatingPointError: the physics failed too often.
        """
        del last
        learning_s = time.perf_counter() - self._ended_s
        self.logger.record("time/collection_time", self._ended_s - self._started_s)
        self.logger.record("time/learning_time", learning_s)
        self.logger.record("train/rate_scale", getattr(self.model, "rate_scale", 1.0))
        if (team := getattr(self.model, "team", None)) is not None:
            self.logger.record("time/waiting_time", team.drain_s())
        row |= summary_metrics(self._env.end_rollout(self._max_error_share))
        row["curriculum/command_share"] = self._env.command_share
        row |= self._buffer
        self._episodes += int(row.get("episode/count", 0))
        row["episode/count"] = self._episodes


class Log(Part):
    """Writes the row of each iteration to the logger's outputs."""

    def __init__(self, rollouts: Rollouts) -> None:
        """Connect the part; `rollouts` counts the iterations."""
        super().__init__()
        self._rollouts = rollouts

    def before_training(self, row: Row) -> None:
        """Write metrics that were due before the first rollout."""
        if row:
            self._record(row)
            self.logger.dump(self.num_timesteps)

    def after_update(self, row: Row, *, last: bool) -> None:
        """Write the row, and the values that Stable-Baselines3 itself has recorded."""
        del last
        self._record(row)
        self._model.dump_logs(self._rollouts.iterations)

    def _record(self, row: Mapping[str, float]) -> None:
        for name, value in row.items():
            # A rollout in which no episode ends has no mean return, so it gets no point on the curve.
            if np.isfinite(value):
                self.logger.record(name, value)


class Watch(Protocol):
    """Evaluates the policy during training; see `biped.train.gate_watch.GateWatch`."""

    @property
    def should_stop(self) -> bool:
        """Whether training may end."""
        ...

    def start(self, steps: int) -> None:
        """Note that training begins after this number of environment steps."""
        ...

    def look(self, steps: int, *, last: bool = False) -> Mapping[str, float]:
        """Evaluate if it is due; return metrics by canonical name, empty if it is not due."""
        ...


class Gate(Part):
    """Evaluates the policy with the walking gate at intervals, and may end the training."""

    def __init__(self, watch: Watch, interrupts: Interrupts | None = None) -> None:
        """Connect the part.

        Args:
            watch: evaluates, saves the best model, and decides when to stop.
            interrupts: after a signal, nothing more is evaluated.
        """
        super().__init__()
        self._watch, self._interrupts = watch, interrupts or Interrupts()

    @property
    def should_stop(self) -> bool:
        """Whether the gate has passed often enough."""
        return self._watch.should_stop

    def before_training(self, row: Row) -> None:
        """Repeat an evaluation that a signal aborted."""
        self._watch.start(self.num_timesteps)
        row |= self._watch.look(self.num_timesteps)

    def after_update(self, row: Row, *, last: bool) -> None:
        """Evaluate if it is due, or at the end."""
        if not self._interrupts.received:
            row |= self._watch.look(self.num_timesteps, last=last)


class Doctor(Part):
    """Reports suspicious rewards after each evaluation; a finding is repeated only after it was gone."""

    def __init__(self, weights: RewardWeights, run_name: str, publisher: Publisher | None = None) -> None:
        """Connect the part.

        Args:
            weights: weights of the reward terms.
            run_name: name of the run, for alerts.
            publisher: gets each finding as an alert.
        """
        super().__init__()
        self._weights, self._run_name, self._publisher = weights, run_name, publisher
        self._window: list[Row] = []
        self._known: set[str] = set()

    def after_update(self, row: Row, *, last: bool) -> None:
        """Store the row; after an evaluation examine all rows since the previous one."""
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
