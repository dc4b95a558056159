"""Where the numbers go: a table on the console and TensorBoard's event files, behind one Stable-Baselines3 logger."""

import sys
import time
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import HumanOutputFormat, KVWriter, Logger, TensorBoardOutputFormat

from biped.errors import MachineError, disk_error


def require_tensorboard() -> Any:
    """Return TensorBoard's `SummaryWriter` class.

    Raises:
        MachineError: TensorBoard is not installed, or broken.
    """
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        raise MachineError(f"TensorBoard cannot be imported ({error}): run ./install_genesis.sh") from error
    return SummaryWriter


class ConsoleTable(HumanOutputFormat):
    """Stable-Baselines3's table, printed at most once in `every_s` seconds."""

    def __init__(self, every_s: float) -> None:
        """Print to standard output; the first table is printed at once."""
        # Longer than any of our names: SB3 refuses two names that are cut to the same text.
        super().__init__(sys.stdout, max_length=60)
        self._every_s = every_s
        self._last_s = -float("inf")

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Print the values, unless the last table is younger than `every_s`."""
        if time.monotonic() - self._last_s >= self._every_s:
            super().write(key_values, key_excluded, step)
            self._last_s = time.monotonic()


class TensorBoardWriter(TensorBoardOutputFormat):
    """Stable-Baselines3's TensorBoard writer that can go on in the folder of an earlier run."""

    def __init__(self, folder: Path, resume_after_step: int | None) -> None:
        """Open an event file.

        Args:
            folder: the run's TensorBoard folder.
            resume_after_step: the steps of the checkpoint that training goes on from; what the folder holds of later
                steps is hidden, so that the curve does not overlap itself. None for a new run.

        Raises:
            MachineError: TensorBoard is not installed, or the disk does not let us.
        """
        purge_step = None if resume_after_step is None else resume_after_step + 1
        try:
            self.writer = require_tensorboard()(str(folder), purge_step=purge_step)
        except OSError as error:
            raise disk_error(folder, error) from error
        self._is_closed = False


def make_logger(
    tensorboard: Path, *, resume_after_step: int | None, console_every_s: float, more: list[KVWriter]
) -> Logger:
    """Return a logger that writes to the console, to TensorBoard and to `more`.

    Raises:
        MachineError: TensorBoard is not installed, or the disk does not let us.
    """
    return Logger(
        str(tensorboard), [ConsoleTable(console_every_s), TensorBoardWriter(tensorboard, resume_after_step), *more]
    )
