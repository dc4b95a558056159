"""The interface for publishing models, pictures and warnings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from stable_baselines3.common.logger import Logger

from biped.runs.loggers import TensorBoardWriter


class Publisher(Protocol):
    """Publishes copies of models and pictures, and alerts, to a tracking service."""

    def publish_model(self, file: Path, kind: str, metadata: Mapping[str, Any]) -> None:
        """Publish a copy of a model; `kind` is checkpoint, best or final."""
        ...

    def publish_picture(self, name: str, file: Path, step: int) -> None:
        """Publish a copy of a picture, for this number of environment steps."""
        ...

    def alert(self, title: str, text: str) -> None:
        """Send an alert to the users who watch the run."""
        ...


class Pictures:
    """Shows pictures and videos beside the metrics: in TensorBoard and with the publisher."""

    def __init__(self, logger: Logger, publisher: Publisher | None) -> None:
        """Use a logger's TensorBoard, and the publisher if there is one."""
        self._boards = [sink for sink in logger.output_formats if isinstance(sink, TensorBoardWriter)]
        self._publisher = publisher

    def show(self, name: str, file: Path, steps: int) -> None:
        """Show a picture, for this number of environment steps.

        Raises:
            OSError: the picture cannot be read, or the disk refuses the write.
        """
        for board in self._boards:
            board.add_picture(name, file, steps)
        if self._publisher is not None:
            self._publisher.publish_picture(name, file, steps)
