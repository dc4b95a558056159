"""The files that robots and clips are read from: where one changes, a training is another one."""

from collections.abc import Sequence
from pathlib import Path

from biped.config.task import EnvConfig
from biped.robot.model import model_file
from biped.robot.motion_files import motion_file
from biped.sim.model_parts import model_parts


def clips_of(cfg: EnvConfig, clips: Sequence[str] = ()) -> list[Path]:
    """Return the clip that is followed, if there is one, and these clips, whether or not they are there."""
    followed = [cfg.imitation.motion] if cfg.imitation.motion else []
    return [motion_file(clip) for clip in (*followed, *clips)]


def files_of(cfg: EnvConfig, clips: Sequence[str] = ()) -> list[Path]:
    """Return the robot's model with all that it refers to, and the clips of `clips_of`.

    Raises:
        MachineError: the model cannot be read.
    """
    return [*model_parts(model_file(cfg), for_others=False), *clips_of(cfg, clips)]
