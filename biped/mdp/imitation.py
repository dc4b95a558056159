"""How a robot moves, as numbers that a clip has too: what a discriminator compares, and what a reward follows.

Frames: `_b` is the base (x forward, y left, z up). Nothing depends on where the robot is on the ground, or which way it
heads.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from biped.config.robot import RobotConfig
from biped.config.section import ConfigError
from biped.config.style import Feature
from biped.config.task import EnvConfig
from biped.robot.motion import Motion
from biped.robot.motion_files import clip_of
from biped.robot.rotations import quat_rotate_inverse
from biped.robot.state import GRAVITY_DIRECTION_W, BipedState
from biped.robot.symmetry import MirrorRule, mirror_joints

_VECTOR: MirrorRule = ([0, 1, 2], [1.0, -1.0, 1.0])
_OFF_BEAT = 0.02
"""Largest difference of a clip's length from the gait clock's stride, as a share of it."""
_OPEN_RAD = 0.2
"""Largest distance between the ends of a clip that is played over and over (rad)."""
_ROTATION: MirrorRule = ([0, 1, 2], [-1.0, 1.0, -1.0])


@dataclass(frozen=True)
class FeatureTerm:
    """One group of numbers that describes a pose or its motion."""

    of_state: Callable[[BipedState], Tensor]
    """What the simulator has, (num_envs, width)."""
    mirror: Callable[[RobotConfig], MirrorRule]
    """How the mirror changes it."""


FEATURES: Mapping[Feature, FeatureTerm] = MappingProxyType(
    {
        "joint_pos": FeatureTerm(lambda state: state.joint_pos_rad, mirror_joints),
        "projected_gravity": FeatureTerm(lambda state: state.projected_gravity_b, lambda _: _VECTOR),
        "base_height": FeatureTerm(lambda state: state.base_pos_w[:, 2:], lambda _: ([0], [1.0])),
        "base_lin_vel": FeatureTerm(lambda state: state.base_lin_vel_b, lambda _: _VECTOR),
        "base_ang_vel": FeatureTerm(lambda state: state.base_ang_vel_b, lambda _: _ROTATION),
    }
)
"""Every feature by its name: rad, 1, m, m/s and rad/s."""


@dataclass(frozen=True)
class Features:
    """Features side by side: of a simulator's robots, and of clips."""

    names: tuple[Feature, ...]
    """Which, in their order."""
    robot: RobotConfig
    """The robot that has them."""

    def of(self, state: BipedState) -> Tensor:
        """Return the features of robots, (num_envs, width)."""
        return torch.cat([FEATURES[name].of_state(state) for name in self.names], dim=1)

    def step(self, before: BipedState, after: BipedState, failed: Tensor) -> Tensor:
        """Return the features before and after a control step side by side, (num_envs, 2 × width).

        Where the physics `failed`, (num_envs,), bool, both are those before it: nothing there is a number.
        """
        earlier = self.of(before)
        return torch.cat((earlier, torch.where(failed[:, None], earlier, self.of(after))), dim=1)

    def of_frames(self, clip: Motion, dt_s: float) -> Tensor:
        """Return the features of each step of a clip, as `step` does: (frames - 1, 2 × width).

        Velocities of a frame are the differences to the next one.

        Args:
            clip: the clip, with the robot's joints, a frame per control step.
            dt_s: the control step (s).
        """
        features = self.of(_as_state(clip, dt_s))
        return torch.cat((features[:-1], features[1:]), dim=1)

    def mirror(self) -> MirrorRule:
        """Return how the mirror changes the features before and after a step, (2 × width).

        Raises:
            ValueError: the robot is not symmetric.
        """
        index: list[int] = []
        sign: list[float] = []
        for name in (*self.names, *self.names):
            places, signs = FEATURES[name].mirror(self.robot)
            index, sign = [*index, *(len(index) + place for place in places)], [*sign, *signs]
        return index, sign


@dataclass(frozen=True)
class Stride:
    """A clip of one stride, whose phase is the gait clock."""

    joint_pos_rad: Tensor
    """Joint positions at equal distances of the phase from 0 on, and once more that at 0, (frames + 1, num_joints)."""

    def at(self, phase: Tensor) -> Tensor:
        """Return the joint positions at phases (num_envs,) from 0 to 1: (num_envs, num_joints), rad."""
        place = phase * (len(self.joint_pos_rad) - 1)
        frame = place.long().clamp_max(len(self.joint_pos_rad) - 2)
        before, after = (self.joint_pos_rad.index_select(0, index) for index in (frame, frame + 1))
        return torch.lerp(before, after, (place - frame)[:, None])

    def error_rad(self, joint_pos_rad: Tensor, phase: Tensor) -> Tensor:
        """Return the mean distance of joints (num_envs, num_joints) to the clip, (num_envs,), rad."""
        return (joint_pos_rad - self.at(phase)).abs().mean(dim=1)


def stride_of(cfg: EnvConfig, device: torch.device) -> Stride | None:
    """Return the stride that a configuration asks to follow; None if it asks for none.

    Raises:
        UsageError: there is no such clip, or it is of another robot.
        ConfigError: it is not one stride of the gait clock, or it ends in another pose than it begins.
    """
    imitation = cfg.imitation
    if not cfg.follows_clip:
        return None
    clip = clip_of(imitation.motion, cfg.robot.joint_names)
    if abs(clip.length_s * cfg.gait.frequency_hz - 1.0) > _OFF_BEAT:
        stride_s, fitting_hz = 1.0 / cfg.gait.frequency_hz, 1.0 / clip.length_s
        raise ConfigError(
            f"env.imitation.motion lasts {clip.length_s:.3f} s, and a stride of the gait clock {stride_s:.3f} s: use "
            f"--set env.gait.frequency_hz={fitting_hz:.4g}, or a clip of one stride"
        )
    frames = clip.resampled(clip.length_s / round(clip.length_s / cfg.sim.control_dt_s)).joint_pos_rad
    gap = abs(frames[-1] - frames[0])
    if gap.max() > _OPEN_RAD:
        name = clip.joint_names[int(gap.argmax())]
        raise ConfigError(
            f"env.imitation.motion is no loop: {name} ends {gap.max():.2f} rad from where it begins; cut one stride"
        )
    frames[-1] = frames[0]
    return Stride(torch.tensor(frames, device=device, dtype=torch.float32))


def _as_state(frames: Motion, dt_s: float) -> BipedState:
    """Return the frames of a clip as robots; what a clip does not tell is zero."""
    pos, quat, joints, pos_rates, joint_rates = (
        torch.tensor(values, dtype=torch.float32)
        for values in (
            frames.base_pos_w,
            frames.base_quat_w,
            frames.joint_pos_rad,
            frames.base_vel_w,
            frames.joint_vel_rad_s,
        )
    )
    count = len(frames)
    still = torch.zeros(count, 3, dtype=torch.float32)
    down = torch.tensor(GRAVITY_DIRECTION_W, dtype=torch.float32).expand(count, 3)
    return BipedState(
        base_pos_w=pos,
        base_quat_w=quat,
        base_lin_vel_b=quat_rotate_inverse(quat, _with_last(pos_rates)),
        base_ang_vel_b=_rates_of_turn(quat, dt_s),
        projected_gravity_b=quat_rotate_inverse(quat, down),
        joint_pos_rad=joints,
        joint_vel_rad_s=_with_last(joint_rates),
        joint_torque_nm=torch.zeros_like(joints),
        foot_pos_w=still[:, None].expand(count, 2, 3),
        foot_vel_w=still[:, None].expand(count, 2, 3),
        foot_force_n=still[:, :2],
        error=torch.zeros(count, dtype=torch.bool),
    )


def _with_last(rates: Tensor) -> Tensor:
    """Return rates of the steps between frames, (frames - 1, n), as those of the frames: the last one's stays."""
    return torch.cat((rates, rates[-1:]))


def _rates_of_turn(quat: Tensor, dt_s: float) -> Tensor:
    """Return angular velocities in the base frame, (frames, 3), rad/s: those of the rotation to the next frame."""
    w, xyz = quat[:-1, :1], quat[:-1, 1:]
    after_w, after = quat[1:, :1], quat[1:, 1:]
    # conjugate(before) × after
    vector = w * after - after_w * xyz - torch.linalg.cross(xyz, after)
    scalar = (quat[:-1] * quat[1:]).sum(dim=1, keepdim=True)
    half = torch.atan2(torch.linalg.vector_norm(vector, dim=1, keepdim=True), scalar)
    return _with_last(2.0 * half / torch.sin(half).clamp_min(1e-9) * vector / dt_s)


def steps_of_files(features: Features, files: Sequence[str], dt_s: float, *, mirrored: bool) -> Tensor:
    """Return the steps of several clips, and of their mirror images, (n, 2 × width).

    Args:
        features: what describes a step.
        files: motion files of the configuration.
        dt_s: the control step (s).
        mirrored: whether to add the mirror images.

    Raises:
        UsageError: a file is missing, is no motion, is of another robot or too short; the message names it.
        ConfigError: the robot is not symmetric.
    """
    steps = [features.of_frames(clip_of(file, features.robot.joint_names, dt_s), dt_s) for file in files]
    if mirrored:
        try:
            index, sign = features.mirror()
        except ValueError as error:
            raise ConfigError(f"{error}: use --set ppo.mirror=false") from error
        steps += [part[:, index] * torch.tensor(sign, dtype=torch.float32) for part in steps]
    return torch.cat(steps)
