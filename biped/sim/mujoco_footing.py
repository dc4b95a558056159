"""Where the ground is under a robot in any pose."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biped.base.errors import MachineError
from biped.config.task import EnvConfig
from biped.sim.mujoco_file import import_mujoco
from biped.sim.mujoco_geometry import sole_of
from biped.sim.mujoco_model import ModelBuilder
from biped.sim.mujoco_robot import robot_spec

Array = NDArray[np.float64]

BASE_QPOS = 7
"""Entries before the joints in the generalised position: place and orientation of the base."""


def height_on_soles(cfg: EnvConfig, quat: Array, joint_pos_rad: Array) -> Array:
    """Return the height of the base at which the lowest point of both soles touches the ground, (n,), m.

    Args:
        cfg: the robot.
        quat: orientations of the base, (n, 4), wxyz.
        joint_pos_rad: joint positions, (n, num_joints), rad.

    Raises:
        MachineError: MuJoCo or the model is missing, or nothing of the feet collides.
    """
    mujoco: Any = import_mujoco()
    model = ModelBuilder(cfg).build(robot_spec(cfg), keep_looks=False)
    data = mujoco.MjData(model)
    base = slice(BASE_QPOS)
    joints = [int(model.joint(name).qposadr[0]) for name in cfg.robot.joint_names]
    feet = [model.body(name).id for name in cfg.robot.foot_links]
    heights = np.zeros(len(quat))
    for index, (orientation, angles) in enumerate(zip(quat, joint_pos_rad, strict=True)):
        data.qpos[base], data.qpos[joints] = (0.0, 0.0, 0.0, *orientation), angles
        mujoco.mj_kinematics(model, data)
        soles = [sole for foot in feet if (sole := sole_of(model, data, foot)) is not None]
        if not soles:
            raise MachineError(f"nothing of {' and '.join(cfg.robot.foot_links)} touches the ground: check the model")
        heights[index] = -min(sole.low_w[2] for sole in soles)
    return heights
