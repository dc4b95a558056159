"""Copies of models and pictures, and warnings, for others to see."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from stable_baselines3.common.logger import Logger

from biped.runs.loggers import TensorBoardWriter


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


class Pictures:
    """Shows pictures and films beside the numbers: in TensorBoard and wherever models are published."""

    def __init__(self, logger: Logger, publisher: Publisher | None) -> None:
        """Show them in a logger's TensorBoard, and to the publisher where there is one."""
        self._boards = [sink for sink in logger.output_formats if isinstance(sink, TensorBoardWriter)]
        self._publisher = publisher

    def show(self, name: str, file: Path, steps: int) -> None:
        """Show a picture, as of so many environment steps.

        Raises:
            OSError: it cannot be read, or the disk does not let us.
        """
        for board in self._boards:
            board.add_picture(name, file, steps)
        if self._publisher is not None:
            self._publisher.publish_picture(name, file, steps)
