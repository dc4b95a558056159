"""What the policy sees: one layout that the environment, exports and checks all read."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from biped.config.task import EnvConfig
from biped.mdp.commands import is_moving
from biped.mdp.gait import phase_features
from biped.robot.state import BipedState


@dataclass(frozen=True)
class ObservationTerm:
    """One named part of the observation."""

    name: str
    """What it is, with its frame."""
    width: int
    """Numbers it takes."""
    scale: float
    """What the physical value is multiplied by."""
    unit: str
    """Unit of the physical value."""
    noise: float = 0.0
    """Standard deviation of the Gaussian noise on the physical value."""


@dataclass(frozen=True)
class ObservationLayout:
    """The parts of the observation, in order."""

    terms: tuple[ObservationTerm, ...]

    @classmethod
    def build(cls, cfg: EnvConfig) -> "ObservationLayout":
        """Return the layout that a configuration leads to."""
        joints = len(cfg.robot.joint_names)
        scales, noise = cfg.observation, cfg.randomization.noise
        return cls(
            (
                ObservationTerm("projected_gravity_b", 3, 1.0, "1", noise.projected_gravity),
                ObservationTerm("base_ang_vel_b", 3, scales.ang_vel_scale, "rad/s", noise.base_ang_vel_rad_s),
                ObservationTerm("base_lin_vel_xy_b", 2, scales.lin_vel_scale, "m/s", noise.base_lin_vel_m_s),
                ObservationTerm("base_height_m", 1, 1.0, "m", noise.base_height_m),
                ObservationTerm("command_lin_vel_x_b", 1, scales.command_scale[0], "m/s"),
                ObservationTerm("command_lin_vel_y_b", 1, scales.command_scale[1], "m/s"),
                ObservationTerm("command_ang_vel_b", 1, scales.command_scale[2], "rad/s"),
                ObservationTerm("joint_pos_rad", joints, 1.0, "rad from the default pose", noise.joint_pos_rad),
                ObservationTerm("joint_vel_rad_s", joints, scales.joint_vel_scale, "rad/s", noise.joint_vel_rad_s),
                ObservationTerm("foot_contact", 2, 1.0, "1"),
                ObservationTerm("previous_action", joints, 1.0, "1"),
                ObservationTerm("gait_phase", 2, 1.0, "sine, cosine; zero while standing is asked for"),
            )
        )

    @property
    def width(self) -> int:
        """Numbers in one observation."""
        return sum(term.width for term in self.terms)

    def slices(self) -> dict[str, slice]:
        """Return where each term lies in the observation."""
        where, start = {}, 0
        for term in self.terms:
            where[term.name] = slice(start, start + term.width)
            start += term.width
        return where

    def noise(self, device: torch.device) -> Tensor:
        """Return the standard deviation of the noise on each scaled number, (width,)."""
        return torch.cat(
            [torch.full((term.width,), term.noise * term.scale, dtype=torch.float32) for term in self.terms]
        ).to(device)

    def assemble(self, values: Mapping[str, Tensor], clip: float) -> Tensor:
        """Scale, concatenate and clip the named values, each (num_envs, width), into (num_envs, self.width).

        Raises:
            KeyError: a term of the layout has no value.
        """
        parts = [values[term.name] if term.scale == 1.0 else values[term.name] * term.scale for term in self.terms]
        return torch.cat(parts, dim=-1).clamp(-clip, clip)


def build_observation(
    layout: ObservationLayout,
    cfg: EnvConfig,
    state: BipedState,
    command: Tensor,
    contacts: Tensor,
    previous_action: Tensor,
    phase: Tensor,
    default_joint_pos_rad: Tensor,
) -> Tensor:
    """Return the observations, (num_envs, layout.width).

    Args:
        layout: the table of terms.
        cfg: clip.
        state: the physical state.
        command: velocity commands, (num_envs, 3).
        contacts: feet on the ground, (num_envs, 2), bool.
        previous_action: the clipped action of the step before, (num_envs, num_joints).
        phase: the gait clock, (num_envs,).
        default_joint_pos_rad: (num_joints,), rad.
    """
    lin_vel_x, lin_vel_y, ang_vel = command.split(1, dim=1)
    values = {
        "projected_gravity_b": state.projected_gravity_b,
        "base_ang_vel_b": state.base_ang_vel_b,
        "base_lin_vel_xy_b": state.base_lin_vel_b[:, :2],
        "base_height_m": state.base_height_m[:, None],
        "command_lin_vel_x_b": lin_vel_x,
        "command_lin_vel_y_b": lin_vel_y,
        "command_ang_vel_b": ang_vel,
        "joint_pos_rad": state.joint_pos_rad - default_joint_pos_rad,
        "joint_vel_rad_s": state.joint_vel_rad_s,
        "foot_contact": contacts.float(),
        "previous_action": previous_action,
        "gait_phase": phase_features(phase) * is_moving(command, cfg.command)[:, None],
    }
    return layout.assemble(values, cfg.observation.clip)
