"""The Stable-Baselines3 callback of a training run, and the writer that streams its metrics to Weights & Biases.

`BipedCallback` adds the reward breakdown, episodes, timings and checkpoints to what Stable-Baselines3 logs.
`WandbWriter` stands beside TensorBoard's writer and gives every number the name that `biped.metrics` has for W&B.
wandb is imported only by `start_wandb`. Whatever goes wrong with it is said once; training goes on, and is not held up.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from biped.background import Background
from biped.errors import warn
from biped.interrupts import Interrupts
from biped.metrics import METRICS, RUN_NAME, STEP_METRIC
from biped.reward_doctor import Finding
from biped.runs import RunDirectory
from biped.wandb_names import alert_title, artifact_name, cause, with_variables
from biped.wandb_service import as_media, end_service, finish_time, init_run, is_installed, link_or_copy, what_is_left
from biped_config import WandbConfig

INIT_S = 30.0
"""How long W&B's server may take to begin a run (s). Training does not wait for it."""
FINISH_S = 20.0
"""How long the end of a training waits for W&B (s)."""
_CAPACITY = 10_000
_EPISODES, _ITERATIONS = "episodes", "iterations"
"""Names in a checkpoint's notes."""


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


class Publisher(Protocol):
    """Takes copies of models and pictures, and warnings, to where others see them."""

    def publish_model(self, file: Path, kind: str, metadata: Mapping[str, Any]) -> None:
        """Take a copy of a model: `kind` is checkpoint, best or final."""
        ...

    def publish_picture(self, name: str, file: Path, step: int) -> None:
        """Take a copy of a picture, as of so many environment steps."""
        ...

    def alert(self, title: str, text: str) -> None:
        """Tell whoever watches the run."""
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
        save_weights: Callable[[Path], None] | None = None,
        keep_checkpoints: int = 0,
        watch: Watch | None = None,
        interrupts: Interrupts | None = None,
        publisher: Publisher | None = None,
        publish_every_steps: int = 0,
        examine: Callable[[Sequence[Mapping[str, float]], Mapping[str, float]], Sequence[Finding]] | None = None,
        sign_of_life: Callable[[], None] = lambda: None,
    ) -> None:
        """Connect the callback.

        Args:
            run: where checkpoints belong.
            drain: returns the environment's metrics since the call before, by their canonical names; called once a
                rollout, after the update.
            save: writes a checkpoint of the training to a path.
            checkpoint_every_steps: environment steps between two checkpoints.
            keep_checkpoints: checkpoints that stay, the newest; 0 keeps all.
            save_weights: writes the model alone; the same as `save` where it is not given.
            watch: evaluates the policy now and then, and may end the training.
            interrupts: asked whether to end: after the update that is under way or, where that takes too long, after
                the step.
            publisher: takes copies of checkpoints, of the best and of the final model.
            publish_every_steps: environment steps between two checkpoints that it takes a copy of.
            examine: returns what looks wrong, from the metrics of the rollouts since the evaluation before and the
                figures of an evaluation; each finding is said once, until it is gone.
            sign_of_life: called at every step.
        """
        super().__init__()
        self._run, self._drain, self._save, self._watch = run, drain, save, watch
        self._save_weights, self._keep = save_weights or save, keep_checkpoints
        self._interrupts = interrupts or Interrupts()
        self._every_steps = checkpoint_every_steps
        self._is_over = self.was_interrupted = False
        """A signal ended the training."""
        self._publisher, self._publish_every_steps = publisher, publish_every_steps
        self._saved_steps: int | None = None
        self._last_save_steps = self._last_published_steps = 0
        self._iterations = self._finished_iterations = self._episodes = 0
        self._collection_started_s = self._learning_started_s = self._collection_s = 0.0
        self._buffer: dict[str, float] = {}
        self._gate_score: float | None = None
        self._best: tuple[float, float] | None = None
        self._examine, self._sign_of_life = examine, sign_of_life
        self._window: list[Mapping[str, float]] = []
        self._known_findings: set[str] = set()

    def _on_training_start(self) -> None:
        self._last_save_steps = self._last_published_steps = self.num_timesteps
        if self._watch is not None:
            self._watch.start(self.num_timesteps)
            if figures := self._look(self._watch, last=False):  # one that a signal broke off
                self._record(figures)
                self.logger.dump(self.num_timesteps)

    def _on_rollout_start(self) -> None:
        self._finish_iteration()
        if self._interrupts.received:
            self.was_interrupted = True
        self._is_over = self.was_interrupted or (self._watch is not None and self._watch.should_stop)
        if self._is_over:
            self.save_checkpoint()  # now, before another step is taken
        self._collection_started_s = time.perf_counter()

    def _on_step(self) -> bool:
        self._sign_of_life()
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
        self._buffer = self._measure_buffer()  # the next rollout empties it

    def _on_training_end(self) -> None:
        self._finish_iteration(last=True)
        self.save_checkpoint()

    def notes(self) -> dict[str, float]:
        """Return what a resumed run needs to count on."""
        return {_EPISODES: self._episodes, _ITERATIONS: self._iterations}

    def restore(self, notes: Mapping[str, float]) -> None:
        """Take over what `notes` returned."""
        self._episodes = int(notes.get(_EPISODES, 0))
        self._iterations = self._finished_iterations = int(notes.get(_ITERATIONS, 0))

    def save_checkpoint(self) -> None:
        """Write a checkpoint of the model as it is, unless this process wrote one of these steps already."""
        steps = self.model.num_timesteps
        if steps != self._saved_steps:
            file = self._run.checkpoint(steps)
            self._save(file)
            if steps - self._last_published_steps >= self._publish_every_steps:
                self._last_published_steps = steps
                self._publish(file, "checkpoint")
            self._run.prune_checkpoints(self._keep, steps)
        self._saved_steps = self._last_save_steps = steps

    def save_final(self) -> None:
        """Write the model as it is to the final model's place."""
        self._save_weights(self._run.final_model)
        self._publish(self._run.final_model, "final")

    def _publish(self, file: Path, kind: str) -> None:
        if self._publisher is None:
            return
        model = cast("OnPolicyAlgorithm", self.model)
        metadata = {"steps": model.num_timesteps, "epochs": model._n_updates, "gate_score": self._gate_score}
        self._publisher.publish_model(file, kind, metadata)

    def _finish_iteration(self, *, last: bool = False) -> None:
        """Log the rollout before and its update; nothing to do before the first."""
        if self._iterations == self._finished_iterations:
            return
        self._finished_iterations = self._iterations
        learning_s = time.perf_counter() - self._learning_started_s
        self.logger.record("time/collection_time", self._collection_s)
        self.logger.record("time/learning_time", learning_s)
        figures = {**self._drain(), **self._buffer}
        if self._examine is not None and self._watch is not None:
            self._window.append(dict(figures))
        self._episodes += int(figures.get("episode/count", 0))
        figures["episode/count"] = self._episodes
        try:
            if self._watch is not None and not self._interrupts.received:
                figures |= self._look(self._watch, last=last)
        except BaseException:
            self.save_checkpoint()
            raise
        self._record(figures)
        cast("OnPolicyAlgorithm", self.model).dump_logs(self._iterations)
        # Last of all: whoever goes on from the checkpoint finds all that belongs to its steps in the logs.
        if self.model.num_timesteps // self._every_steps > self._last_save_steps // self._every_steps:
            self.save_checkpoint()

    def _record(self, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            # A rollout in which no episode ends has no mean return: no point on the curve.
            if np.isfinite(value):
                self.logger.record(name, value)

    def _look(self, watch: Watch, *, last: bool) -> Mapping[str, float]:
        figures = watch.look(self.model.num_timesteps, last=last)
        if figures:
            self._gate_score = figures["gate/score"]
            best = figures["gate/best_score"], figures["eval/best_success_rate"]
            is_this_one = best == (figures["gate/score"], figures["eval/success_rate"])
            if is_this_one and best != self._best:
                self._best = best
                self._publish(self._run.best_model, "best")
            self._tell_findings(figures)
        return figures

    def _tell_findings(self, figures: Mapping[str, float]) -> None:
        findings = [] if self._examine is None else self._examine(self._window, figures)
        self._window = []
        for finding in findings:
            if finding.key not in self._known_findings:
                warn(f"reward doctor: {finding.text}")
                if self._publisher is not None:
                    self._publisher.alert(f"{self._run.path.name}: {finding.key}", finding.text)
        self._known_findings = {finding.key for finding in findings}

    def _measure_buffer(self) -> dict[str, float]:
        buffer: Any = cast("OnPolicyAlgorithm", self.model).rollout_buffer
        capacity = buffer.buffer_size * buffer.n_envs
        size = capacity if buffer.full else buffer.pos * buffer.n_envs
        return {
            "buffer/size": size,
            "buffer/capacity": capacity,
            "buffer/utilisation": size / capacity,
            "buffer/memory": buffer.n_bytes / 2**20,
        }


class WandbWriter(KVWriter):
    """Writes a logger's numbers to a W&B run under their W&B names, on a thread of its own.

    The first failure is said in one line and ends the writing.
    """

    def __init__(self, start: Callable[[], Any], exp_name: str, finish_s: float = FINISH_S) -> None:
        """Begin to start the run.

        Args:
            start: returns the `wandb.Run`; called on the thread.
            exp_name: the name that evaluations are logged under, and that models are called by.
            finish_s: how long `close` waits (s).
        """
        self._names = {name: metric.wandb_name.replace(RUN_NAME, exp_name) for name, metric in METRICS.items()}
        self._exp_name, self.finish_s = exp_name, finish_s
        self._run: Any = None
        self._copies: list[Path] = []
        self._is_closed = self._has_complained = self._has_given_up = self._has_failed = False
        self._work = Background(self._failed, _CAPACITY)
        self._work.do(lambda: self._start(start))

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
        self._work.do(lambda: self._run.log(row))

    def publish_model(self, file: Path, kind: str, metadata: Mapping[str, Any]) -> None:
        """Log a model as an artifact: <exp_name>-checkpoint, -best or -final, with what is known about it."""
        # A name of its own: the file may be replaced, or deleted, before it is sent.
        copy = file.with_name(f".{file.name}.{metadata['steps']}.upload")
        try:
            link_or_copy(file, copy)
        except OSError as error:
            copy.unlink(missing_ok=True)
            warn(f"{file} is not sent to W&B ({cause(error)})")
            return
        self._copies.append(copy)

        def log() -> None:
            self._log_artifact(copy, file.name, kind, dict(metadata))
            copy.unlink(missing_ok=True)

        if not self._work.do(lambda: self._extra(log)):
            copy.unlink(missing_ok=True)

    def publish_picture(self, name: str, file: Path, step: int) -> None:
        """Log a picture, or a film."""
        self._work.do(lambda: self._extra(lambda: self._run.log({name: as_media(file), STEP_METRIC: step})))

    def alert(self, title: str, text: str) -> None:
        """Send an alert."""
        self._work.do(lambda: self._extra(lambda: self._run.alert(title=alert_title(title), text=text)))

    def close(self) -> None:
        """Finish the run, waiting for the upload for a bounded time."""
        if self._is_closed:
            return
        self._is_closed = True
        self._work.do(lambda: self._run.finish())
        if not self._work.finish(self.finish_s):
            self._has_given_up = True
            if not self._has_complained:
                warn(f"W&B did not finish within {self.finish_s:.0f} s; {what_is_left(self._run)}")
        if self._has_given_up or self._has_failed:
            end_service()
        for copy in self._copies:
            copy.unlink(missing_ok=True)

    def _start(self, start: Callable[[], Any]) -> None:
        self._run = start()
        self._run.define_metric(STEP_METRIC)
        self._run.define_metric("*", step_metric=STEP_METRIC)

    def _extra(self, call: Callable[[], object]) -> None:
        """Do what rows can do without: if it fails, that is said once, and rows go on."""
        try:
            call()
        except Exception as error:  # W&B fails in many ways
            if not self._has_complained and not self._has_given_up:
                warn(f"W&B did not take a model, a picture or an alert ({cause(error)}); training goes on")
            self._has_complained = True

    def _log_artifact(self, file: Path, name: str, kind: str, metadata: dict[str, Any]) -> None:
        import wandb

        artifact = wandb.Artifact(artifact_name(self._exp_name, kind), type="model", metadata=metadata)
        artifact.add_file(str(file), name=name)  # wandb makes a copy of its own
        self._run.log_artifact(artifact, aliases=[kind, f"steps-{metadata['steps']}"])

    def _failed(self, error: BaseException) -> None:
        self._has_failed = True
        if not self._has_given_up:
            warn(f"W&B stopped ({cause(error)}); training goes on without it")


def start_wandb(
    run: RunDirectory,
    cfg: WandbConfig,
    config: Mapping[str, Any],
    init_s: float = INIT_S,
    finish_s: float = FINISH_S,
) -> WandbWriter | None:
    """Start or resume the W&B run of a run directory; returns at once.

    What `cfg` leaves open is what W&B's variables say. Without an account, or when the server does not answer, the run
    is recorded offline.

    Args:
        run: keeps the run's id, so that a resumed run is the same run.
        cfg: project, names, mode.
        config: hyperparameters, nested.
        init_s: how long the server may take to begin the run, in the background (s).
        finish_s: how long the writer's `close` waits (s).

    Returns:
        The writer, or None where wandb cannot be imported.

    Raises:
        UsageError: W&B would refuse a name, or a variable.
    """
    if not is_installed():
        return None
    named, wait_s = with_variables(cfg), finish_time(finish_s)
    return WandbWriter(lambda: init_run(run, named, config, init_s, wait_s), run.path.name, wait_s)
