"""The files that robots and clips are read from: where one changes, a training is another one."""

from collections.abc import Sequence
from pathlib import Path

from biped.config.task import EnvConfig
from biped.robot.model import model_file
from biped.robot.motion_files import motion_file
from biped.sim.model_parts import model_parts


def files_of(cfg: EnvConfig, clips: Sequence[str] = ()) -> list[Path]:
    """Return the robot's model with all that it refers to, the clip that is followed, and these clips.

    Raises:
        MachineError: the model cannot be read.
    """
    followed = [cfg.imitation.motion] if cfg.imitation.motion else []
    return [*model_parts(model_file(cfg), for_others=False), *map(motion_file, [*followed, *clips])]
