"""The path from an action to a joint: latency, backlash of the gears, gains, and the servo's torque limit."""

from dataclasses import dataclass, fields
from functools import cached_property

import torch
from torch import Tensor

from biped.config.robot import RobotConfig
from biped.robot.dynamics import DynamicsSample


@dataclass(frozen=True)
class Actuation:
    """State between the action and the motor: delayed actions and the backlash of the gears."""

    history: Tensor
    """The last actions, newest first, (num_envs, depth, num_joints)."""
    joint_targets_rad: Tensor
    """Position of the gears' output, (num_envs, num_joints), rad."""

    @classmethod
    def at(cls, targets_rad: Tensor, depth: int) -> "Actuation":
        """Start without actions, and with the gears at `targets_rad` (num_envs, num_joints)."""
        return cls(targets_rad.new_zeros(len(targets_rad), depth, targets_rad.shape[1]), targets_rad)

    def with_action(self, action: Tensor) -> "Actuation":
        """Add an action (num_envs, num_joints) to the history."""
        history = torch.cat((action[:, None], self.history[:, :-1]), dim=1)
        return Actuation(history, self.joint_targets_rad)

    def delayed(self, latency_steps: Tensor) -> Tensor:
        """Return the action of `latency_steps` (num_envs,) control steps ago, (num_envs, num_joints)."""
        index = latency_steps[:, None, None].expand(-1, 1, self.history.shape[2])
        return self.history.gather(1, index)[:, 0]

    def driven_to(self, targets_rad: Tensor, backlash_rad: Tensor) -> "Actuation":
        """Turn the motors to their targets; the gears' output follows once the backlash is used up.

        The play operator: Nordin and Gutman 2002, "Controlling mechanical systems with backlash - a survey".
        """
        least = torch.sub(targets_rad, backlash_rad, alpha=0.5)
        most = torch.add(targets_rad, backlash_rad, alpha=0.5)
        return Actuation(self.history, torch.clamp(self.joint_targets_rad, least, most))


@dataclass(frozen=True)
class Motors:
    """The motors of a robot, one entry per joint, (num_joints,)."""

    kp_nm_per_rad: Tensor
    """Proportional gain (N·m/rad)."""
    kd_nm_s_per_rad: Tensor
    """Derivative gain (N·m·s/rad)."""
    effort_limit_nm: Tensor
    """Largest torque that the controller applies (N·m)."""
    stall_torque_nm: Tensor
    """Torque-speed curve at standstill (N·m)."""
    velocity_limit_rad_s: Tensor
    """Speed at which the torque-speed curve ends (rad/s)."""

    @classmethod
    def build(cls, robot: RobotConfig, device: torch.device | None = None) -> "Motors":
        """Collect the motors in the order of `RobotConfig.joint_names`."""
        motors = robot.motors
        return cls(
            **{
                item.name: torch.tensor(
                    [getattr(motor, item.name) for motor in motors], device=device, dtype=torch.float32
                )
                for item in fields(cls)
            }
        )

    @cached_property
    def envelope(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The torque-speed envelope, for torques of both directions: with the joint's axis, and against it.

        Torque at standstill (2, num_joints), N·m; what is lost per speed (num_joints,), N·m·s/rad; and the bounds of
        what is left (2, num_joints) each, N·m.
        """
        stall, largest = self.stall_torque_nm, torch.minimum(self.stall_torque_nm, self.effort_limit_nm)
        none = torch.zeros_like(largest)
        return (
            torch.stack((stall, -stall)),
            stall / self.velocity_limit_rad_s,
            torch.stack((none, -largest)),
            torch.stack((largest, none)),
        )

    def of(self, joint: int) -> "Motors":
        """Return the motor of one joint, as numbers that fit any shape."""
        return Motors(**{item.name: getattr(self, item.name)[joint] for item in fields(self)})


def torque_range(vel_rad_s: Tensor, motors: Motors) -> tuple[Tensor, Tensor]:
    """Return the most negative and the most positive torque that each motor can apply, of the shape of the speed, N·m.

    A DC motor driven in the direction of its torque has up to τ_stall (1 - |ω| / ω_no_load), and never more than the
    controller's limit; when braking, that limit.

    Args:
        vel_rad_s: joint velocities, (..., num_joints), rad/s.
        motors: limits of each joint.
    """
    stall_nm, lost_per_speed, least_nm, most_nm = motors.envelope
    both = (2, *[1] * (vel_rad_s.dim() - lost_per_speed.dim()), *lost_per_speed.shape)
    at_speed_nm = torch.addcmul(stall_nm.view(both), vel_rad_s, lost_per_speed, value=-1.0)
    high_nm, low_nm = torch.clamp(at_speed_nm, least_nm.view(both), most_nm.view(both))
    return low_nm, high_nm


def available_torque(torque_nm: Tensor, vel_rad_s: Tensor, motors: Motors) -> Tensor:
    """Return the largest torque that each motor can apply at a speed, of the shape of `torque_nm`, N·m.

    Args:
        torque_nm: the requested torque, (..., num_joints); only its direction matters (N·m).
        vel_rad_s: joint velocities, of the same shape (rad/s).
        motors: limits of each joint; see `torque_range`.
    """
    low_nm, high_nm = torque_range(vel_rad_s, motors)
    return torch.where(torque_nm < 0.0, -low_nm, high_nm)


def pd_torque(
    targets_rad: Tensor, pos_rad: Tensor, vel_rad_s: Tensor, motors: Motors, sample: DynamicsSample | None
) -> Tensor:
    """Return the torque of clamped PD controllers, (num_envs, num_joints), N·m; both simulators integrate this law.

    Args:
        targets_rad: (num_envs, num_joints), rad.
        pos_rad: joint positions, (num_envs, num_joints), rad.
        vel_rad_s: joint velocities, (num_envs, num_joints), rad/s.
        motors: gains and limits of each joint.
        sample: each robot's factors on them; None: all as configured.
    """
    kp, kd, limit = motors.kp_nm_per_rad, motors.kd_nm_s_per_rad, motors.effort_limit_nm
    if sample is not None:
        kp, kd, limit = kp * sample.strength, kd * sample.damping, limit * sample.strength
    torque = kp * (targets_rad - pos_rad) - kd * vel_rad_s
    return torch.minimum(torch.maximum(torque, -limit), limit)
