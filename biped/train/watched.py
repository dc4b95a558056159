"""A training that a person watches: clips of one robot and the newest numbers, for a page that the door hands in.

While nobody watches, a control step costs one question. While somebody does, it gathers one robot's state on the
device, which the host reads once per rollout, after the update. Nothing is drawn and nothing is changed: the training
has the same bits.
"""

from collections.abc import Mapping
from typing import Protocol

from biped.env.env import BipedEnv
from biped.eval.clip import Clip, ClipRecorder
from biped.train.callback import Part, Row


class Page(Protocol):
    """A display of the training; see `biped.view.training_page.TrainingPage`. No method waits or raises."""

    @property
    def is_watched(self) -> bool:
        """Whether a person looks at it."""
        ...

    @property
    def robot(self) -> int:
        """Index of the robot that the person wants to see."""
        ...

    def update(self, steps: int, row: Mapping[str, float], clip: Clip | None) -> None:
        """Take the metrics after an update, at this number of environment steps, and what the robot did before it."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Watched(Part):
    """Shows the training on a page."""

    def __init__(self, env: BipedEnv, page: Page) -> None:
        """Connect the part.

        Args:
            env: the environments.
            page: shows them.
        """
        super().__init__()
        self._page, self._recorder = page, ClipRecorder(env)

    def _on_step(self) -> bool:
        if self._page.is_watched:
            self._recorder.add(self._page.robot)
        return True

    def before_training(self, row: Row) -> None:
        """Show metrics that were due before the first rollout."""
        self._page.update(self.num_timesteps, row, None)

    def after_update(self, row: Row, *, last: bool) -> None:
        """Show the rollout and its metrics."""
        del last
        self._page.update(self.num_timesteps, row, self._recorder.take())
