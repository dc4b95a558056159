"""Checkpoints of a training: when they are written, kept and published."""

from typing import Any

from biped.config.run import TrainConfig
from biped.runs.directory import RunDirectory
from biped.runs.publishing import Publisher
from biped.train.callback import Part, Row
from biped.train.state import TrainingState

PUBLISHED = 10
"""Number of checkpoints per training that are published."""


class Keeping(Part):
    """Keeps the training's state at intervals and at the end; every process of a training does so at the same steps.

    It must be the last part, so that all metrics up to a checkpoint's steps are logged before it is written.
    """

    def __init__(self, every_steps: int) -> None:
        """Keep it after each multiple of a number of environment steps."""
        super().__init__()
        self._every_steps = every_steps
        self._saved_steps: int | None = None
        self._last_save_steps = 0

    def _on_training_start(self) -> None:
        self._last_save_steps = self.num_timesteps

    def after_update(self, row: Row, *, last: bool) -> None:
        """Keep the state if that is due."""
        del row, last
        if self.num_timesteps // self._every_steps > self._last_save_steps // self._every_steps:
            self.keep()

    def _on_training_end(self) -> None:
        self.keep()

    def keep(self) -> None:
        """Keep the current state, unless that was done at these steps."""
        steps = self.model.num_timesteps
        if steps != self._saved_steps:
            self._write(steps)
        self._saved_steps = self._last_save_steps = steps

    def _write(self, steps: int) -> None:
        """Keep the state of these steps."""
        raise NotImplementedError


class HandsIn(Keeping):
    """Hands this process's part of each checkpoint to the process that writes it."""

    def __init__(self, state: TrainingState, every_steps: int) -> None:
        """Connect the part; see `Checkpoints`."""
        super().__init__(every_steps)
        self._state = state

    def _write(self, steps: int) -> None:
        del steps
        self._state.hand_in()


class Checkpoints(Keeping):
    """Writes checkpoints at intervals and at the end, and publishes copies of models."""

    def __init__(
        self,
        run: RunDirectory,
        state: TrainingState,
        cfg: TrainConfig,
        *,
        publisher: Publisher | None = None,
        steps: int = 0,
    ) -> None:
        """Connect the part.

        Args:
            run: directory of the checkpoints.
            state: writes the checkpoints.
            cfg: interval, and number of checkpoints to keep.
            publisher: gets copies of checkpoints, and of the best and the final model.
            steps: environment steps of this training; `PUBLISHED` checkpoints are published in that time.
        """
        super().__init__(cfg.checkpoint_every_steps)
        self._run, self._state, self._cfg = run, state, cfg
        self._publisher, self._publish_every_steps = publisher, steps // PUBLISHED
        self._last_published_steps = 0
        self._gate_score: float | None = None
        self._best: tuple[float, float] | None = None

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self._last_published_steps = self.num_timesteps

    def before_training(self, row: Row) -> None:
        """Publish the best model, if an evaluation just found it."""
        self._publish_best(row)

    def after_update(self, row: Row, *, last: bool) -> None:
        """Publish the best model if it is new, and write a checkpoint if it is due."""
        self._publish_best(row)
        super().after_update(row, last=last)

    def _write(self, steps: int) -> None:
        self._state.save(self._run.checkpoint(steps))
        if steps - self._last_published_steps >= self._publish_every_steps:
            self._last_published_steps = steps
            self._publish("checkpoint")
        self._run.prune_checkpoints(self._cfg.keep_checkpoints, steps)

    def save_final(self) -> None:
        """Write the current model to the final model's path."""
        self._state.save_weights(self._run.final_model)
        self._publish("final")

    def _publish_best(self, row: Row) -> None:
        if "gate/score" not in row:
            return
        self._gate_score = row["gate/score"]
        best = row["gate/best_score"], row["eval/best_success_rate"]
        is_this_one = best == (row["gate/score"], row["eval/success_rate"])
        if is_this_one and best != self._best:
            self._best = best
            self._publish("best")

    def _publish(self, kind: str) -> None:
        if self._publisher is None:
            return
        model = self._model
        files = {"best": self._run.best_model, "final": self._run.final_model}
        metadata: dict[str, Any] = {
            "steps": model.num_timesteps,
            "epochs": model._n_updates,
            "gate_score": self._gate_score,
        }
        self._publisher.publish_model(files.get(kind, self._run.checkpoint(model.num_timesteps)), kind, metadata)
