"""A training that a person watches: clips of one robot and the newest numbers, for a page that the door hands in.

While nobody watches, a control step costs one question. While somebody does, it gathers one robot's state on the
device, which the host reads once per rollout, after the update. Nothing is drawn and nothing is changed: the training
has the same bits.
"""

from collections.abc import Mapping
from typing import Protocol

from biped.base.errors import UsageError
from biped.env.env import BipedEnv
from biped.eval.clip import Clip, ClipRecorder
from biped.runs.directory import RunDirectory
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

    def judge(self, share: float) -> None:
        """Take notice that the policy is being evaluated, and which share of that is done, 0 to 1."""
        ...

    def close(self) -> None:
        """End it."""
        ...


def last_evaluation(run: RunDirectory) -> tuple[int, Row]:
    """Return the environment steps and the figures of a run's last evaluation; 0 and none if there was none."""
    try:
        curves = {name: curve for name, curve in run.read_metrics().items() if name.startswith("gate/")}
    except UsageError:  # it has no metrics
        curves = {}
    steps = max((int(curve.steps[-1]) for curve in curves.values()), default=0)
    return steps, {name: float(curve.values[-1]) for name, curve in curves.items() if curve.steps[-1] == steps}


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
