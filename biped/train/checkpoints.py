"""Checkpoints of a training: when they are written, which stay, and which are sent to others."""

from typing import Any

from biped.config.run import TrainConfig
from biped.runs.directory import RunDirectory
from biped.runs.publishing import Publisher
from biped.train.callback import Part, Row
from biped.train.state import TrainingState

PUBLISHED = 10
"""Checkpoints of a training that are sent to others."""


class Checkpoints(Part):
    """Writes checkpoints at intervals and at the end, and has copies of models published.

    It comes last of all parts: all that belongs to a checkpoint's steps is in the logs before it is written.
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
            run: where checkpoints belong.
            state: writes them.
            cfg: how often, and how many stay.
            publisher: takes copies of checkpoints, of the best and of the final model.
            steps: environment steps that are to be trained for; `PUBLISHED` checkpoints of them are published.
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
        """Publish the best model, if it was found only now."""
        self._publish_best(row)

    def after_update(self, row: Row, *, last: bool) -> None:
        """Publish the best model where it is a new one, and write a checkpoint where one is due."""
        del last
        self._publish_best(row)
        every = self._cfg.checkpoint_every_steps
        if self.num_timesteps // every > self._last_save_steps // every:
            self.keep()

    def _on_training_end(self) -> None:
        self.keep()

    def keep(self) -> None:
        """Write a checkpoint of the training as it is, unless one of these steps was written already."""
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
        """Write the model as it is to the final model's place."""
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
