"""The model file of a robot."""

from pathlib import Path

from biped.base.errors import MachineError
from biped.base.shipped import located
from biped.config.settings import expanded
from biped.config.task import EnvConfig


def model_file(cfg: EnvConfig) -> Path:
    """Return the robot's model file.

    Raises:
        MachineError: the file does not exist.
    """
    path = located(expanded(cfg.robot.model_path))
    if not path.is_file():
        raise MachineError(f"the robot model {path} is missing: restore it, or set env.robot.model_path")
    return path


def is_urdf(file: Path) -> bool:
    """Return whether a model file is a URDF; all others are MJCF."""
    return file.suffix.lower() == ".urdf"
