"""The state of every robot after a simulation step.

Frames: `_w` is the world (z up), `_b` the base link (x forward, y left, z up). Quaternions are wxyz and rotate from
the base to the world.
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

GRAVITY_DIRECTION_W = (0.0, 0.0, -1.0)
"""Direction of gravity in the world frame."""
GRAVITY_M_S2 = 9.81
"""Size of the acceleration of gravity."""


@dataclass(frozen=True)
class BipedState:
    """One physical state per environment; feet are ordered left, right; joints like `RobotConfig.joint_names`."""

    base_pos_w: Tensor
    """Position of the base, (num_envs, 3), m."""
    base_quat_w: Tensor
    """Orientation of the base, (num_envs, 4), wxyz."""
    base_lin_vel_b: Tensor
    """Linear velocity of the base in the base frame, (num_envs, 3), m/s."""
    base_ang_vel_b: Tensor
    """Angular velocity of the base in the base frame, (num_envs, 3), rad/s."""
    projected_gravity_b: Tensor
    """Direction of gravity in the base frame, (num_envs, 3); (0, 0, -1) when upright."""
    joint_pos_rad: Tensor
    """Joint positions, (num_envs, num_joints), rad."""
    joint_vel_rad_s: Tensor
    """Joint velocities, (num_envs, num_joints), rad/s."""
    joint_torque_nm: Tensor
    """Torques that the actuators apply, after clamping, (num_envs, num_joints), N·m."""
    foot_pos_w: Tensor
    """Centres of the soles, (num_envs, 2, 3), m."""
    foot_vel_w: Tensor
    """Velocities of the centres of the soles, (num_envs, 2, 3), m/s."""
    foot_force_n: Tensor
    """Vertical contact force on each foot, upward positive, (num_envs, 2), N."""
    error: Tensor
    """True where the solver failed or a value is not finite, (num_envs,), bool."""

    @property
    def base_height_m(self) -> Tensor:
        """Height of the base over the ground plane, (num_envs,), m."""
        return self.base_pos_w[:, 2]


_FLOAT_FIELDS = tuple(item.name for item in fields(BipedState) if item.name != "error")


def without_motion(state: BipedState) -> BipedState:
    """Return the state with the same positions, upright and at rest: zero velocity, torque and contact force."""
    still = ("base_lin_vel_b", "base_ang_vel_b", "joint_vel_rad_s", "joint_torque_nm", "foot_vel_w", "foot_force_n")
    upright = torch.zeros_like(state.projected_gravity_b)
    upright[:, 2] = GRAVITY_DIRECTION_W[2]
    zeros = {name: torch.zeros_like(getattr(state, name)) for name in still}
    return replace(state, projected_gravity_b=upright, **zeros)


def non_finite(state: BipedState) -> Tensor:
    """Return True where any value of the state is NaN or infinite, (num_envs,), bool."""
    # A sum is finite only if every addend is.
    values = torch.cat([getattr(state, name).flatten(1) for name in _FLOAT_FIELDS], dim=1)
    return ~torch.isfinite(values.sum(dim=1))
