"""The state of the robots from what Genesis reports; a function of tensors."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from biped.robot.actuators import Motors, pd_torque
from biped.robot.dynamics import DynamicsSample
from biped.robot.rotations import quat_rotate, quat_rotate_inverse
from biped.robot.state import BipedState, non_finite


@dataclass(frozen=True)
class Readings:
    """What Genesis reports after a step; feet are ordered left, right, and all vectors are in the world."""

    base_pos: Tensor
    """(num_envs, 3), m."""
    base_quat: Tensor
    """(num_envs, 4), wxyz."""
    base_vel: Tensor
    """(num_envs, 3), m/s."""
    base_ang_vel: Tensor
    """(num_envs, 3), rad/s."""
    joint_pos: Tensor
    """(num_envs, num_joints), rad."""
    joint_vel: Tensor
    """(num_envs, num_joints), rad/s."""
    feet_pos: Tensor
    """Origins of the feet's links, (num_envs, 2, 3), m."""
    feet_quat: Tensor
    """(num_envs, 2, 4), wxyz."""
    feet_vel: Tensor
    """Velocities of those origins, (num_envs, 2, 3), m/s."""
    feet_ang_vel: Tensor
    """(num_envs, 2, 3), rad/s."""
    feet_force: Tensor
    """Vertical contact forces, (num_envs, 2), N."""
    error: Tensor
    """Where the solver failed, (num_envs,), bool."""


def as_state(
    readings: Readings,
    targets_rad: Tensor,
    gravity_w: Tensor,
    sample: DynamicsSample | None,
    *,
    motors: Motors,
    sole_offset: Tensor,
) -> BipedState:
    """Return the state.

    Args:
        readings: what Genesis reports.
        targets_rad: joint targets during the step, (num_envs, num_joints), rad.
        gravity_w: direction of gravity, (num_envs, 3).
        sample: each robot's factors on the motors; None: all as configured.
        motors: gains and limits of each joint.
        sole_offset: centre of each sole in its foot's frame, (num_envs, 2, 3), m.
    """
    vectors_w = torch.stack((readings.base_vel, readings.base_ang_vel, gravity_w), dim=1)
    lin_vel_b, ang_vel_b, gravity_b = quat_rotate_inverse(readings.base_quat[:, None], vectors_w).unbind(dim=1)
    sole_w = quat_rotate(readings.feet_quat, sole_offset)
    state = BipedState(
        base_pos_w=readings.base_pos,
        base_quat_w=readings.base_quat,
        base_lin_vel_b=lin_vel_b,
        base_ang_vel_b=ang_vel_b,
        projected_gravity_b=gravity_b,
        joint_pos_rad=readings.joint_pos,
        joint_vel_rad_s=readings.joint_vel,
        joint_torque_nm=pd_torque(targets_rad, readings.joint_pos, readings.joint_vel, motors, sample),
        foot_pos_w=readings.feet_pos + sole_w,
        foot_vel_w=readings.feet_vel + torch.linalg.cross(readings.feet_ang_vel, sole_w),
        foot_force_n=readings.feet_force,
        error=readings.error,
    )
    return replace(state, error=state.error | non_finite(state))
