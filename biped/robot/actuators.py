"""The path from an action to a joint: latency, backlash of the gears, gains, and the servo's torque limit."""

from dataclasses import dataclass

import torch
from torch import Tensor

from biped.config.robot import RobotConfig, ServoConfig
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

    def reset(self, mask: Tensor, targets_rad: Tensor) -> "Actuation":
        """Start again where `mask` (num_envs,) is True."""
        return Actuation(
            self.history.masked_fill(mask[:, None, None], 0.0),
            torch.where(mask[:, None], targets_rad, self.joint_targets_rad),
        )

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
        half = 0.5 * backlash_rad
        output = torch.minimum(torch.maximum(self.joint_targets_rad, targets_rad - half), targets_rad + half)
        return Actuation(self.history, output)


def available_torque(torque_nm: Tensor, vel_rad_s: Tensor, servo: ServoConfig) -> Tensor:
    """Return the largest torque that a servo can apply at a speed, of the shape of `torque_nm`, N·m.

    A DC motor driven in the direction of its torque has up to τ_stall (1 - |ω| / ω_no_load); when braking, τ_stall.

    Args:
        torque_nm: the requested torque; only its direction matters (N·m).
        vel_rad_s: joint velocities, of the same shape (rad/s).
        servo: stall torque and no-load speed.
    """
    driving_speed = (vel_rad_s * torque_nm.sign()).clamp_min(0.0)
    return servo.stall_torque_nm * (1.0 - driving_speed / servo.no_load_speed_rad_s).clamp_min(0.0)


def pd_torque(
    targets_rad: Tensor, pos_rad: Tensor, vel_rad_s: Tensor, robot: RobotConfig, sample: DynamicsSample | None
) -> Tensor:
    """Return the torque of clamped PD controllers, (num_envs, num_joints), N·m; both simulators integrate this law.

    Args:
        targets_rad: (num_envs, num_joints), rad.
        pos_rad: joint positions, (num_envs, num_joints), rad.
        vel_rad_s: joint velocities, (num_envs, num_joints), rad/s.
        robot: gains and stall torque.
        sample: each robot's factors on them; None: all as configured.
    """
    kp, kd, stall = robot.kp_nm_per_rad, robot.kd_nm_s_per_rad, robot.servo.stall_torque_nm
    if sample is None:
        return (kp * (targets_rad - pos_rad) - kd * vel_rad_s).clamp(-stall, stall)
    torque = kp * sample.strength * (targets_rad - pos_rad) - kd * sample.damping * vel_rad_s
    return torch.minimum(torch.maximum(torque, -stall * sample.strength), stall * sample.strength)
