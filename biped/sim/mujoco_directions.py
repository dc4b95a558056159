"""Which way a robot's joints go, in words that a person can check on the robot itself."""

import numpy as np

from biped.base.errors import MachineError, first_line
from biped.config.task import EnvConfig
from biped.sim.mujoco_file import import_mujoco
from biped.sim.mujoco_model import ModelBuilder
from biped.sim.mujoco_robot import robot_spec

_WAYS = (("forward", "backward"), ("to the left", "to the right"), ("up", "down"))
_LEAST_LEVER = 0.3
"""Share of the distance from a joint to what it carries, across its axis, from which on it is seen to move."""


def joint_directions(cfg: EnvConfig) -> tuple[str, ...]:
    """Return what a person sees when each joint turns in its positive direction from the default pose, trunk upright.

    Raises:
        MachineError: MuJoCo is missing, or cannot build the robot.
    """
    mujoco, robot = import_mujoco(), cfg.robot
    try:
        model = ModelBuilder(cfg).build(robot_spec(cfg), keep_looks=True)
    except MachineError:
        raise
    except Exception as error:  # MuJoCo's compiler raises its own exception types
        raise MachineError(f"MuJoCo cannot build the robot ({first_line(error)})") from error
    data = mujoco.MjData(model)
    joints = [model.joint(name) for name in robot.joint_names]
    for joint, pos_rad in zip(joints, robot.default_joint_pos_rad, strict=True):
        data.qpos[joint.qposadr] = pos_rad
    mujoco.mj_forward(model, data)
    base_from_world = data.xmat[model.body(robot.base_link).id].reshape(3, 3).T
    return tuple(
        in_words(
            base_from_world @ data.xaxis[joint.id],
            base_from_world @ (data.subtree_com[model.jnt_bodyid[joint.id]] - data.xanchor[joint.id]),
        )
        for joint in joints
    )


def in_words(axis_b: np.ndarray, carried_b: np.ndarray) -> str:
    """Return which way something moves, or turns, for a small positive turn.

    Args:
        axis_b: the joint's axis in the base frame, a unit vector, (3,).
        carried_b: from the joint to the centre of mass of all that it carries, in the base frame, (3,), m.
    """
    moved = np.cross(axis_b, carried_b)
    if np.linalg.norm(moved) >= _LEAST_LEVER * np.linalg.norm(carried_b):
        way = int(np.abs(moved).argmax())
        return f"what it carries moves {_WAYS[way][int(moved[way] < 0.0)]}"
    seen = int(np.abs(axis_b).argmax())
    sense = "counter-clockwise" if axis_b[seen] > 0.0 else "clockwise"
    return f"what it carries turns {sense}, seen from {('the front', 'the left', 'above')[seen]}"
