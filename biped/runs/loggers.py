"""Where the numbers go: the console, TensorBoard's event files and JSON lines, behind one Stable-Baselines3 logger."""

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image
from stable_baselines3.common.logger import HumanOutputFormat, KVWriter, Logger, TensorBoardOutputFormat

from biped.base.errors import MachineError, disk_error

LAYOUT = {
    "training overview": {
        "return": ["Multiline", ["rollout/ep_rew_mean"]],
        "episode length": ["Multiline", ["rollout/ep_len_mean"]],
        "walking gate": ["Multiline", ["gate/score", "gate/passed", "eval/success_rate"]],
        "errors in the gate": ["Multiline", ["gate/.*error_.*"]],
        "why episodes end": ["Multiline", ["terminations/.*"]],
        "curriculum": ["Multiline", ["curriculum/.*"]],
    },
    "reward breakdown": {
        "tracking": ["Multiline", ["rewards/tracking_.*"]],
        "gait": [
            "Multiline",
            ["rewards/sinusoidal_gait", "rewards/foot_.*", "rewards/contact_schedule", "rewards/standing_still"],
        ],
        "all terms": ["Multiline", ["rewards/.*"]],
    },
    "PPO health": {
        "KL divergence": ["Multiline", ["train/approx_kl", "train/kl"]],
        "learning rate": ["Multiline", ["train/learning_rate"]],
        "losses": ["Multiline", ["train/policy_gradient_loss", "train/value_loss", "train/entropy_loss"]],
        "explained variance": ["Multiline", ["train/explained_variance"]],
        "clipped": ["Multiline", ["train/clip_fraction"]],
        "standard deviation of actions": ["Multiline", ["train/std"]],
        "skipped steps": ["Multiline", ["train/skipped_steps"]],
    },
    "performance": {
        "steps a second": ["Multiline", ["time/fps"]],
        "seconds a rollout": ["Multiline", ["time/collection_time", "time/learning_time"]],
        "buffer memory": ["Multiline", ["buffer/memory"]],
    },
}
"""TensorBoard's custom scalars: curves that belong together, in one diagram each. Names are regular expressions."""
HYPERPARAMETERS = ("preset", "env.", "policy.", "ppo.", "train.seed", "train.sim")
"""Fields of the configuration, or beginnings of them, that TensorBoard shows as hyperparameters: a run keeps them."""
JUDGED_BY = ("gate/score", "gate/best_score", "eval/success_rate", "rollout/ep_rew_mean", "rollout/ep_len_mean")
"""The metrics that TensorBoard shows beside hyperparameters."""


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


def _quiet_about_the_disk(hook: Callable[[threading.ExceptHookArgs], object]) -> Callable[..., object]:
    """Let TensorBoard's own thread fail without a traceback: our next write fails too, and says so in a line."""

    def quiet(args: threading.ExceptHookArgs) -> None:
        is_tensorboards = type(args.thread).__module__.startswith("tensorboard")
        if not (is_tensorboards and issubclass(args.exc_type, OSError)):
            hook(args)

    return quiet


class TensorBoardWriter(TensorBoardOutputFormat):
    """Stable-Baselines3's TensorBoard writer that can go on in the folder of an earlier run."""

    def __init__(
        self, folder: Path, resume_after_step: int | None, settings: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        """Open an event file.

        Args:
            folder: the run's TensorBoard folder.
            resume_after_step: the steps of the checkpoint that training goes on from; what the folder holds of later
                steps is hidden, so that the curve does not overlap itself. None for a new run.
            settings: the configuration by dotted paths; `HYPERPARAMETERS` says what of it is shown.

        Raises:
            MachineError: TensorBoard is not installed, or the disk does not let us.
        """
        purge_step = None if resume_after_step is None else resume_after_step + 1
        try:
            self.writer = require_tensorboard()(str(folder), purge_step=purge_step)
        except OSError as error:
            raise disk_error(folder, error) from error
        self._is_closed = False
        threading.excepthook = _quiet_about_the_disk(threading.__excepthook__)
        if resume_after_step is None:
            self.writer.add_custom_scalars(LAYOUT)
        self._add_hyperparameters(settings)

    def _add_hyperparameters(self, settings: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard.summary import hparams

        shown = {name: _as_shown(value) for name, value in settings.items() if name.startswith(HYPERPARAMETERS)}
        if not shown:
            return
        # Not add_hparams: it makes a run of its own. And not the third part, which says that the run has ended well.
        # A run that goes on says the same once more, so that one begun without gets them; TensorBoard keeps the first.
        for summary in hparams(shown, dict.fromkeys(JUDGED_BY, 0.0))[:2]:
            self.writer._get_file_writer().add_summary(summary)

    def add_picture(self, name: str, file: Path, step: int) -> None:
        """Add a PNG, or a GIF that TensorBoard plays."""
        if file.suffix == ".gif":
            self._add_gif(name, file, step)
            return
        with Image.open(file) as picture:
            self.writer.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")
        self.writer.flush()

    def _add_gif(self, name: str, file: Path, step: int) -> None:
        # Its own add_video writes nothing, without a word, where moviepy is 2 or newer.
        from tensorboard.compat.proto import summary_pb2

        proto: Any = summary_pb2  # generated at run time

        with Image.open(file) as picture:
            width, height = picture.size
        image = proto.Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=file.read_bytes())
        self.writer._get_file_writer().add_summary(
            proto.Summary(value=[proto.Summary.Value(tag=name, image=image)]), step
        )
        self.writer.flush()


def _as_shown(value: Any) -> float | str:
    """Return a number or a text as it is, anything else as JSON has it: TensorBoard would take true for 1."""
    return value if isinstance(value, int | float | str) and not isinstance(value, bool) else json.dumps(value)


def make_logger(
    tensorboard: Path,
    *,
    resume_after_step: int | None,
    console_every_s: float,
    more: list[KVWriter],
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> Logger:
    """Return a logger that writes to the console, to TensorBoard (with `settings`) and to `more`.

    Raises:
        MachineError: TensorBoard is not installed, or the disk does not let us.
    """
    events = TensorBoardWriter(tensorboard, resume_after_step, settings)
    return Logger(str(tensorboard), [ConsoleTable(console_every_s), events, *more])
