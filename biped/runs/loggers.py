"""The outputs of metrics: console, TensorBoard's event files and JSON lines, behind one Stable-Baselines3 logger."""

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
from biped.base.packages import how_to_install

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
        "steps per second": ["Multiline", ["time/fps"]],
        "seconds per rollout": ["Multiline", ["time/collection_time", "time/learning_time"]],
        "buffer memory": ["Multiline", ["buffer/memory"]],
    },
}
"""TensorBoard's custom scalars: one diagram per group of related curves. Names are regular expressions."""
HYPERPARAMETERS = ("preset", "env.", "policy.", "ppo.", "train.seed", "train.sim")
"""Fields of the configuration, or their prefixes, that TensorBoard shows as hyperparameters; fixed during a run."""
JUDGED_BY = ("gate/score", "gate/best_score", "eval/success_rate", "rollout/ep_rew_mean", "rollout/ep_len_mean")
"""Metrics that TensorBoard shows beside the hyperparameters."""


def require_tensorboard() -> Any:
    """Return TensorBoard's `SummaryWriter` class.

    Raises:
        MachineError: TensorBoard is not installed or is broken.
    """
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        raise MachineError(f"TensorBoard cannot be imported ({error}): {how_to_install('tensorboard')}") from error
    return SummaryWriter


class ConsoleTable(HumanOutputFormat):
    """Stable-Baselines3's table, printed at most once every `every_s` seconds."""

    def __init__(self, every_s: float) -> None:
        """Print to standard output; the first table is printed immediately."""
        # Longer than all names here: SB3 raises if two names are truncated to the same text.
        super().__init__(sys.stdout, max_length=60)
        self._every_s = every_s
        self._last_s = -float("inf")

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Print the values, unless the last table is younger than `every_s`."""
        if time.monotonic() - self._last_s >= self._every_s:
            super().write(key_values, key_excluded, step)
            self._last_s = time.monotonic()


def _quiet_about_the_disk(hook: Callable[[threading.ExceptHookArgs], object]) -> Callable[..., object]:
    """Suppress disk tracebacks of TensorBoard's own thread: our next write fails too and reports the error."""

    def quiet(args: threading.ExceptHookArgs) -> None:
        is_tensorboards = type(args.thread).__module__.startswith("tensorboard")
        if not (is_tensorboards and issubclass(args.exc_type, OSError)):
            hook(args)

    return quiet


class TensorBoardWriter(TensorBoardOutputFormat):
    """Stable-Baselines3's TensorBoard writer, which can also continue in the folder of an earlier run."""

    def __init__(
        self, folder: Path, resume_after_step: int | None, settings: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        """Open an event file.

        Args:
            folder: the run's TensorBoard folder.
            resume_after_step: steps of the checkpoint that training continues from; later steps in the folder are
                hidden so that the curve does not overlap itself. None for a new run.
            settings: the configuration by dotted paths; `HYPERPARAMETERS` selects the fields to show.

        Raises:
            MachineError: TensorBoard is not installed, or the disk refuses the write.
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
        # Not add_hparams, which would make a separate run. And without the third part, which marks the run as ended. A
        # resumed run adds them again, in case it began without them; TensorBoard keeps the first.
        for summary in hparams(shown, dict.fromkeys(JUDGED_BY, 0.0))[:2]:
            self.writer._get_file_writer().add_summary(summary)

    def add_picture(self, name: str, file: Path, step: int) -> None:
        """Add a PNG, or a GIF, which TensorBoard plays."""
        if file.suffix == ".gif":
            self._add_gif(name, file, step)
            return
        with Image.open(file) as picture:
            self.writer.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")
        self.writer.flush()

    def _add_gif(self, name: str, file: Path, step: int) -> None:
        # TensorBoard's add_video silently writes nothing with moviepy 2 or newer.
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
    """Return numbers and text unchanged, anything else as JSON, because TensorBoard would show true as 1."""
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
        MachineError: TensorBoard is not installed, or the disk refuses the write.
    """
    events = TensorBoardWriter(tensorboard, resume_after_step, settings)
    return Logger(str(tensorboard), [ConsoleTable(console_every_s), events, *more])
