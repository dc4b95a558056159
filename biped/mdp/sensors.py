"""Readings of an IMU and of servo encoders, with the errors that such sensors have.

Errors of an attitude estimate about the vertical axis do not matter here, because gravity does not show them.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from biped.config.sensors import EncoderConfig, ImuConfig
from biped.robot.state import BipedState


@dataclass(frozen=True)
class Imu:
    """An IMU with an attitude filter, one per robot."""

    bias_rad_s: Tensor
    """Constant error of the gyroscope, (num_envs, 3), rad/s."""
    mounting_rad: Tensor
    """Rotation of the IMU relative to the base, as a small rotation vector, (num_envs, 3), rad."""
    drift_rad: Tensor
    """Current error of the attitude filter, as a small rotation vector, (num_envs, 3), rad."""
    is_late: Tensor
    """Robots whose IMU is read one control step late, (num_envs,), bool."""
    said: Tensor
    """Reported direction of gravity and angular velocity, now and one step ago, (num_envs, 2, 6)."""

    @classmethod
    def initial(cls, state: BipedState) -> "Imu":
        """Return sensors without errors that report the true state."""
        vectors = torch.zeros_like(state.projected_gravity_b)
        truth = torch.cat((state.projected_gravity_b, state.base_ang_vel_b), dim=1)
        late = torch.zeros(len(vectors), dtype=torch.bool, device=vectors.device)
        return cls(vectors, vectors, vectors, late, torch.stack((truth, truth), dim=1))

    def reset(self, mask: Tensor, start: BipedState, cfg: ImuConfig, generator: torch.Generator) -> "Imu":
        """Redraw errors where `mask` (num_envs,) is True, for episodes that begin with `start`."""
        draws = torch.rand(2, len(mask), 3, generator=generator, device=mask.device, dtype=torch.float32)
        late = torch.rand(len(mask), generator=generator, device=mask.device, dtype=torch.float32) < cfg.late_share
        drift = cfg.tilt_drift_rad * _normal(self.drift_rad, generator)
        column = mask[:, None]
        fresh = Imu(
            torch.where(column, cfg.gyro_bias_rad_s * (2.0 * draws[0] - 1.0), self.bias_rad_s),
            torch.where(column, cfg.mounting_rad * (2.0 * draws[1] - 1.0), self.mounting_rad),
            torch.where(column, drift, self.drift_rad),
            torch.where(mask, late, self.is_late),
            self.said,
        )
        reading = fresh._reading(start)
        said = torch.where(column[..., None], torch.stack((reading, reading), dim=1), self.said)
        return replace(fresh, said=said)

    def feel(self, state: BipedState, dt_s: float, cfg: ImuConfig, generator: torch.Generator) -> "Imu":
        """Read the state after a control step.

        The filter's error follows an Ornstein-Uhlenbeck process, whose standard deviation stays `cfg.tilt_drift_rad`.
        """
        keep = math.exp(-dt_s / cfg.tilt_drift_s)
        push = math.sqrt(1.0 - keep * keep) * cfg.tilt_drift_rad
        moved = replace(self, drift_rad=keep * self.drift_rad + push * _normal(self.drift_rad, generator))
        return replace(moved, said=torch.stack((moved._reading(state), self.said[:, 0]), dim=1))

    def sensed(self) -> tuple[Tensor, Tensor]:
        """Return the reported direction of gravity and angular velocity in the base frame."""
        said = torch.where(self.is_late[:, None], self.said[:, 1], self.said[:, 0])
        return said[:, :3], said[:, 3:]

    def _reading(self, state: BipedState) -> Tensor:
        gravity, ang_vel = state.projected_gravity_b, state.base_ang_vel_b
        turned = gravity + torch.linalg.cross(self.mounting_rad + self.drift_rad, gravity)
        turned = turned / torch.linalg.vector_norm(turned, dim=1, keepdim=True)
        rate = ang_vel + torch.linalg.cross(self.mounting_rad, ang_vel) + self.bias_rad_s
        return torch.cat((turned, rate), dim=1)


@dataclass(frozen=True)
class Encoders:
    """The encoders of all servos: positions in counts, and the velocities that the servos compute from them."""

    stand_rad: Tensor
    """Positions of the encoder shafts, which follow the joints with backlash, (num_envs, num_joints), rad."""
    smooth_rad_s: Tensor
    """Smoothed difference of the last positions, (num_envs, num_joints), rad/s."""
    is_late: Tensor
    """Robots whose encoders are read one control step late, (num_envs,), bool."""
    said: Tensor
    """Reported positions and velocities, now and one step ago, (num_envs, 2, 2, num_joints)."""

    @classmethod
    def initial(cls, state: BipedState) -> "Encoders":
        """Return sensors without errors that report the true state."""
        truth = torch.stack((state.joint_pos_rad, state.joint_vel_rad_s), dim=1)
        late = torch.zeros(len(truth), dtype=torch.bool, device=truth.device)
        return cls(state.joint_pos_rad, state.joint_vel_rad_s, late, torch.stack((truth, truth), dim=1))

    def reset(self, mask: Tensor, start: BipedState, cfg: EncoderConfig, generator: torch.Generator) -> "Encoders":
        """Start again where `mask` (num_envs,) is True, with the shafts in the middle of their backlash."""
        late = torch.rand(len(mask), generator=generator, device=mask.device, dtype=torch.float32) < cfg.late_share
        column = mask[:, None]
        position = _in_counts(start.joint_pos_rad, cfg)
        velocity = start.joint_vel_rad_s
        reading = torch.stack((position, velocity), dim=1)
        return Encoders(
            torch.where(column, start.joint_pos_rad, self.stand_rad),
            torch.where(column, velocity, self.smooth_rad_s),
            torch.where(mask, late, self.is_late),
            torch.where(column[..., None, None], torch.stack((reading, reading), dim=1), self.said),
        )

    def feel(self, state: BipedState, dt_s: float, cfg: EncoderConfig) -> "Encoders":
        """Read the state after a control step."""
        half = 0.5 * cfg.play_rad
        joint = state.joint_pos_rad
        stand = torch.minimum(torch.maximum(self.stand_rad, joint - half), joint + half)
        position = _in_counts(stand, cfg)
        velocity, smooth = state.joint_vel_rad_s, self.smooth_rad_s
        if cfg.servo_velocity:
            difference = (position - self.said[:, 0, 0]) / dt_s
            velocity = self.smooth_rad_s  # computed from the previous position
            smooth = cfg.velocity_smoothing * self.smooth_rad_s + (1.0 - cfg.velocity_smoothing) * difference
        reading = torch.stack((position, velocity), dim=1)
        return Encoders(stand, smooth, self.is_late, torch.stack((reading, self.said[:, 0]), dim=1))

    def sensed(self) -> tuple[Tensor, Tensor]:
        """Return the reported joint positions (rad) and velocities (rad/s)."""
        said = torch.where(self.is_late[:, None, None], self.said[:, 1], self.said[:, 0])
        return said[:, 0], said[:, 1]


def _in_counts(position_rad: Tensor, cfg: EncoderConfig) -> Tensor:
    """Round positions to multiples of one encoder count."""
    if not cfg.counts_per_turn:
        return position_rad
    count_rad = 2.0 * math.pi / cfg.counts_per_turn
    return (position_rad / count_rad).round() * count_rad


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=torch.float32)
