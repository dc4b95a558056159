"""Checkpoints of a training: when they are written, kept and published."""

from typing import Any

from biped.config.run import TrainConfig
from biped.runs.directory import RunDirectory
from biped.runs.publishing import Publisher
from biped.train.callback import Part, Row
from biped.train.state import TrainingState

PUBLISHED = 10
"""Number of checkpoints per training that are published."""


class Checkpoints(Part):
    """Writes checkpoints at intervals and at the end, and publishes copies of models.

    It must be the last part, so that all metrics up to a checkpoint's steps are logged before it is written.
    """

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
        super().__init__()
        self._run, self._state, self._cfg = run, state, cfg
        self._publisher, self._publish_every_steps = publisher, steps // PUBLISHED
        self._saved_steps: int | None = None
        self._last_save_steps = self._last_published_steps = 0
        self._gate_score: float | None = None
        self._best: tuple[float, float] | None = None

    def _on_training_start(self) -> None:
        self._last_save_steps = self._last_published_steps = self.num_timesteps

    def before_training(self, row: Row) -> None:
        """Publish the best model, if an evaluation just found it."""
        self._publish_best(row)

    def after_update(self, row: Row, *, last: bool) -> None:
        """Publish the best model if it is new, and write a checkpoint if it is due."""
        del last
        self._publish_best(row)
        every = self._cfg.checkpoint_every_steps
        if self.num_timesteps // every > self._last_save_steps // every:
            self.keep()

    def _on_training_end(self) -> None:
        self.keep()

    def keep(self) -> None:
        """Write a checkpoint of the current state, unless these steps already have one."""
        steps = self.model.num_timesteps
        if steps != self._saved_steps:
            file = self._run.checkpoint(steps)
            self._state.save(file)
            if steps - self._last_published_steps >= self._publish_every_steps:
                self._last_published_steps = steps
                self._publish("checkpoint")
            self._run.prune_checkpoints(self._cfg.keep_checkpoints, steps)
        self._saved_steps = self._last_save_steps = steps

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
