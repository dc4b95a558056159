"""Where the gait moves a robot's legs, seen from the side."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biped.config.task import EnvConfig
from biped.robot.model import model_file
from biped.sim.check_robot import Subject, check_names, subject_of
from biped.sim.mujoco_file import compiled
from biped.sim.mujoco_robot import read_robot

Line = NDArray[np.float64]
"""Points from the hip over knee and ankle to the sole, x forward and z up, (n, 2), m."""


@dataclass(frozen=True)
class Leg:
    """A leg in two poses."""

    foot: str
    """The foot's link."""
    standing_m: Line
    """In the default pose."""
    swinging_m: Line
    """As the gait moves it at mid-swing, if nothing else moves."""


def swing_legs(cfg: EnvConfig) -> list[Leg]:
    """Return both legs of a robot, left first; none if the model lacks what the configuration names.

    Raises:
        MachineError: the model file is missing, or MuJoCo cannot read it.
    """
    model = compiled(read_robot(cfg).spec, model_file(cfg))
    if not all(fine for fine, _ in check_names(model, cfg.robot, ())):
        return []
    subject = subject_of(cfg, model)
    return [_leg(subject, foot) for foot in (0, 1)]


def _leg(subject: Subject, foot: int) -> Leg:
    standing = _line(subject, foot)
    with subject.turned(subject.swing_rad(foot)):
        return Leg(subject.cfg.robot.foot_links[foot], standing, _line(subject, foot))


def _line(subject: Subject, foot: int) -> Line:
    joints = [subject.data.xanchor[subject.data.joint(name).id] for name in subject.swing_rad(foot)]
    return np.array([*joints, subject.sole_w(foot)])[:, [0, 2]]
