"""Differences of each robot and its ground from the model."""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor


@dataclass(frozen=True)
class DynamicsSample:
    """Differences of each robot and its ground from the model, one entry per environment."""

    friction: Tensor
    """Coefficient of friction between feet and ground, (num_envs,)."""
    torso_mass_kg: Tensor
    """Mass added to the torso, (num_envs,), kg."""
    torso_com_m: Tensor
    """Shift of the torso's centre of mass in the torso's frame, (num_envs, 3), m."""
    strength: Tensor
    """Factor on stiffness and stall torque, (num_envs, num_joints)."""
    damping: Tensor
    """Factor on the controllers' damping, (num_envs, num_joints)."""
    joint_friction_nm: Tensor
    """Dry friction in addition to the model's, (num_envs, num_joints), N·m."""
    armature: Tensor
    """Factor on the reflected inertia of the motors, (num_envs, num_joints)."""
    gravity_direction: Tensor
    """Direction of gravity in the world, (num_envs, 3): on a slope the world's z axis is normal to the ground."""
    latency_steps: Tensor
    """Delay of actions in control steps, (num_envs,), int64."""
    backlash_rad: Tensor
    """Backlash of the gears, (num_envs, num_joints), rad."""
    bump_field: Tensor
    """Index of the field of bumps that an episode starts on, (num_envs,), int64; -1 for the plane."""

    @cached_property
    def latency(self) -> Tensor:
        """`latency_steps` as a float, (num_envs,); it is observed twice."""
        return self.latency_steps.float()
