"""The Stable-Baselines3 callback of a training run, and the writer that streams its metrics to Weights & Biases.

`BipedCallback` adds the reward breakdown, episodes, timings and checkpoints to what Stable-Baselines3 logs.
`WandbWriter` stands beside TensorBoard's writer and gives every number the name that `biped.metrics` has for W&B.
wandb is imported only by `start_wandb`. Whatever goes wrong with it is said once; training goes on.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from biped.errors import first_line
from biped.interrupts import Interrupts
from biped.metrics import METRICS, RUN_NAME, STEP_METRIC
from biped.runs import RunDirectory


class Watch(Protocol):
    """Looks at the policy while it is trained; see `biped.gate_watch.GateWatch`."""

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


class BipedCallback(BaseCallback):
    """Logs each rollout together with its update, keeps checkpoints, evaluates now and then, and may end the training.

    Stable-Baselines3 writes its log between a rollout and the update that follows, so an update's numbers come one
    rollout late and the last ones never. Train with `log_interval=None`: this callback writes after the update.
    """

    def __init__(
        self,
        run: RunDirectory,
        drain: Callable[[], Mapping[str, float]],
        save: Callable[[Path], None],
        checkpoint_every_steps: int,
        watch: Watch | None = None,
        interrupts: Interrupts | None = None,
    ) -> None:
        """Connect the callback.

        Args:
            run: where checkpoints belong.
            drain: returns the environment's metrics since the call before, by their canonical names; called once a
                rollout, after the update.
            save: writes a checkpoint of the model to a path.
            checkpoint_every_steps: environment steps between two checkpoints.
            watch: evaluates the policy now and then, and may end the training.
            interrupts: asked whether to end: after the update that is under way or, where that takes too long, after
                the step.
        """
        super().__init__()
        self._run, self._drain, self._save, self._watch = run, drain, save, watch
        self._interrupts = interrupts or Interrupts()
        self._every_steps = checkpoint_every_steps
        self._is_over = False
        self.was_interrupted = False
        """A signal ended the training."""
        self._saved_steps: int | None = None
        self._last_save_steps = 0
        self._iterations = self._finished_iterations = 0
        self._episodes = 0
        self._collection_started_s = self._learning_started_s = 0.0
        self._collection_s = 0.0

    def _on_training_start(self) -> None:
        self._last_save_steps = self.num_timesteps
        if self._watch is not None:
            self._watch.start(self.num_timesteps)

    def _on_rollout_start(self) -> None:
        self._finish_iteration()
        if self._interrupts.received:
            self.was_interrupted = True
            self.save_checkpoint()
        self._is_over = self.was_interrupted or (self._watch is not None and self._watch.should_stop)
        self._collection_started_s = time.perf_counter()

    def _on_step(self) -> bool:
        if self._is_over:
            # Stable-Baselines3 asks only after a step: nothing is learned from that one, so it does not count.
            self.model.num_timesteps -= self.training_env.num_envs
            return False
        self.was_interrupted = self._interrupts.is_urgent
        return not self.was_interrupted

    def _on_rollout_end(self) -> None:
        self._learning_started_s = time.perf_counter()
        self._collection_s = self._learning_started_s - self._collection_started_s
        self._iterations += 1

    def _on_training_end(self) -> None:
        self._finish_iteration(last=True)
        self.save_checkpoint()

    def save_checkpoint(self) -> None:
        """Write a checkpoint of the model as it is, unless this process wrote one of these steps already."""
        steps = self.model.num_timesteps
        if steps != self._saved_steps:
            self._save(self._run.checkpoint(steps))
        self._saved_steps = self._last_save_steps = steps

    def _finish_iteration(self, *, last: bool = False) -> None:
        """Log the rollout before and its update; nothing to do before the first."""
        if self._iterations == self._finished_iterations:
            return
        self._finished_iterations = self._iterations
        learning_s = time.perf_counter() - self._learning_started_s
        self.logger.record("time/collection_time", self._collection_s)
        self.logger.record("time/learning_time", learning_s)
        figures = dict(self._drain())
        # After the commands were widened, which a checkpoint keeps; before the evaluation, which may fail.
        if self.model.num_timesteps - self._last_save_steps >= self._every_steps:
            self.save_checkpoint()
        self._episodes += int(figures.get("episode/count", 0))
        figures["episode/count"] = self._episodes
        if self._watch is not None and not self._interrupts.received:
            figures |= self._watch.look(self.model.num_timesteps, last=last)
        for name, value in figures.items():
            # A rollout in which no episode ends has no mean return: no point on the curve.
            if np.isfinite(value):
                self.logger.record(name, value)
        cast("OnPolicyAlgorithm", self.model).dump_logs(self._iterations)


class WandbWriter(KVWriter):
    """Writes a logger's numbers to a W&B run under their W&B names; the first failure is said and ends the writing."""

    def __init__(self, run: Any, exp_name: str) -> None:
        """Write to `run`, a `wandb.Run`; `exp_name` is the name that evaluations are logged under."""
        self._run: Any = run
        self._names = {name: metric.wandb_name.replace(RUN_NAME, exp_name) for name, metric in METRICS.items()}
        self._call("define_metric", STEP_METRIC)
        self._call("define_metric", "*", step_metric=STEP_METRIC)

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Log one row; `step` is the number of environment steps so far."""
        del key_excluded
        row: dict[str, Any] = {}
        for name, value in key_values.items():
            if isinstance(value, int | float | np.number):
                metric = METRICS.get(name)
                row[self._names.get(name, name)] = value * metric.wandb_factor if metric else value
        row[STEP_METRIC] = step
        # Never log(step=...): W&B drops rows whose step is behind its own.
        self._call("log", row)

    def close(self) -> None:
        """Finish the run, waiting for the upload for a bounded time."""
        self._call("finish")

    def _call(self, method: str, *args: Any, **kwargs: Any) -> None:
        if self._run is None:
            return
        try:
            getattr(self._run, method)(*args, **kwargs)
        except Exception as error:  # W&B fails in many ways; none of them may end a training run.
            _warn(f"W&B stopped ({first_line(error)}); training goes on without it")
            self._run = None


def start_wandb(
    run: RunDirectory, *, project: str, entity: str | None, run_name: str, config: Mapping[str, Any]
) -> WandbWriter | None:
    """Start or resume the W&B run of a run directory.

    `WANDB_MODE` is respected. Without an account, or when the server does not answer, the run is recorded offline.

    Args:
        run: keeps the run's id, so that a resumed run is the same run.
        project: W&B project.
        entity: W&B user or team; None for the account's default.
        run_name: name shown in W&B.
        config: hyperparameters, nested.

    Returns:
        The writer, or None where wandb is missing or cannot even record offline.
    """
    try:
        import wandb
    except ImportError as error:
        _warn(f"wandb cannot be imported ({error}): run ./install_genesis.sh; training goes on without it")
        return None
    settings: dict[str, Any] = {
        "project": project,
        "entity": entity,
        "name": run_name,
        "id": run.wandb_id(),
        "resume": "allow",
        "dir": str(run.path),
        "config": dict(config),
        "settings": wandb.Settings(init_timeout=20, finish_timeout=20, console="off"),
    }
    sync = f"wandb sync {run.path / 'wandb' / 'offline-run-*'}"
    try:
        # `mode` is passed only when it has to be: otherwise WANDB_MODE would have no effect.
        if "WANDB_MODE" not in os.environ and not wandb.login(prompt=False):
            settings["mode"] = "offline"
            _warn(f"W&B has no account on this machine: recording offline; send it later with: {sync}")
        return WandbWriter(wandb.init(**settings), run.path.name)
    except Exception as error:  # W&B fails in many ways; none of them may end a training run.
        _warn(f"W&B cannot start ({first_line(error)}): recording offline; send it later with: {sync}")
    try:
        wandb.teardown()
        return WandbWriter(wandb.init(**{**settings, "mode": "offline"}), run.path.name)
    except Exception as error:
        _warn(f"W&B cannot record offline either ({first_line(error)}); training goes on without it")
        return None


def _warn(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
