"""The gait: phase clock, sinusoidal joint reference, contact phases and steps.

Phase convention: one stride is a phase of 1. The left foot is at mid-swing at 0.25, the right foot at 0.75: the
legs are in antiphase.
"""

import math
from dataclasses import dataclass
from enum import IntEnum
from functools import cache

import torch
from torch import Tensor

from biped.config.robot import RobotConfig
from biped.config.section import ConfigError
from biped.config.task import GaitConfig

LEFT, RIGHT = 0, 1
"""Index of each foot in every per-foot tensor."""


class ContactPhase(IntEnum):
    """Which feet are on the ground."""

    NONE = 0
    LEFT = 1
    RIGHT = 2
    BOTH = 3


def advance_phase(phase: Tensor, frequency_hz: float, dt_s: float) -> Tensor:
    """Advance the phase clock (num_envs,) by one control step; the result is in [0, 1)."""
    return torch.remainder(phase + frequency_hz * dt_s, 1.0)


def gait_clock(phase: Tensor, moving: Tensor) -> Tensor:
    """Return the sine and cosine of the phase (num_envs,), as (num_envs, 2); 0 where `moving` (num_envs,) is False."""
    # The cosine is the sine a quarter of a turn ahead: one kernel for both.
    angles = torch.add(_quarters_ahead(phase.device), phase[:, None], alpha=2.0 * math.pi)
    return torch.sin(angles) * moving[:, None]


@cache
def _quarters_ahead(device: torch.device) -> Tensor:
    """Return how far ahead sine and cosine are of the sine, (2,), rad."""
    # Made on the device: for a copy the host would wait.
    return 0.5 * math.pi * torch.arange(2, device=device, dtype=torch.float32)


@cache
def _mid_swings(device: torch.device) -> Tensor:
    """Return the phase at each leg's mid-swing, (2,)."""
    # Made on the device: for a copy the host would wait.
    return 0.25 + 0.5 * torch.arange(2, device=device, dtype=torch.float32)


def swing_height(phase: Tensor, swing_share: float) -> Tensor:
    """Return the half-sine of each leg's swing, (num_envs, 2): 0 in stance, 1 at mid-swing.

    Args:
        phase: the gait clock, (num_envs,), from 0 to 1.
        swing_share: share of a stride that each foot is in the air, centred on its mid-swing, at most 1/2.
    """
    # No swing goes on beyond the end of a stride.
    past = phase[:, None] - _mid_swings(phase.device)
    angle = (past * (math.pi / swing_share)).clamp(-0.5 * math.pi, 0.5 * math.pi)
    return torch.cos(angle).clamp_min(0.0)


def wanted_contacts(height: Tensor) -> Tensor:
    """Return which feet should be on the ground, (num_envs, 2), bool: those that do not swing, by `swing_height`."""
    return height == 0.0


@dataclass(frozen=True)
class GaitReference:
    """The joints that the reference moves, looked up once by name, and their amplitudes."""

    joint_indices: Tensor
    """Indices of the pitch joints, (swing_joints,): hip, knee, ankle of the left leg, then of the right."""
    default_rad: Tensor
    """Their default positions, (swing_joints,), rad."""
    amplitude_rad: Tensor
    """Their offset at mid-swing, (2, swing_joints / 2), rad, one row per leg: hip forward, knee bent, ankle up."""
    swing_share: float
    """Share of a stride that each leg swings."""

    @classmethod
    def build(cls, cfg: GaitConfig, robot: RobotConfig, device: torch.device) -> "GaitReference":
        """Find the pitch joints of both legs by name.

        Raises:
            ConfigError: a pitch joint is not one of the robot's.
        """
        if missing := set(robot.swing_joints) - set(robot.joint_names):
            raise ConfigError(f"robot.joint_names lacks {', '.join(sorted(missing))}, which the gait moves")
        amplitudes = (cfg.hip_amplitude_rad, cfg.knee_amplitude_rad, cfg.ankle_amplitude_rad)
        per_leg = len(robot.swing_joints) // 2
        sizes = amplitudes[:per_leg] * 2
        signed = [sign * size for sign, size in zip(robot.swing_signs_of_both, sizes, strict=True)]
        indices = [robot.joint_names.index(name) for name in robot.swing_joints]
        return cls(
            joint_indices=torch.tensor(indices, device=device, dtype=torch.int64),
            default_rad=torch.tensor(
                [robot.default_joint_pos_rad[i] for i in indices], device=device, dtype=torch.float32
            ),
            amplitude_rad=torch.tensor(signed, device=device, dtype=torch.float32).view(2, -1),
            swing_share=cfg.swing_share,
        )

    def at(self, phase: Tensor) -> Tensor:
        """Return the positions of the pitch joints at a phase (num_envs,): (num_envs, swing_joints), rad."""
        return self.default_rad - self.error(torch.zeros_like(self.default_rad), swing_height(phase, self.swing_share))

    def error(self, deviation_rad: Tensor, height: Tensor) -> Tensor:
        """Return the positions of the pitch joints minus the reference, (num_envs, swing_joints), rad.

        Args:
            deviation_rad: their positions minus the default pose, (num_envs, swing_joints), rad.
            height: of each leg's swing, (num_envs, 2); see `swing_height`.
        """
        legs_rad = deviation_rad.unflatten(-1, self.amplitude_rad.shape)
        return torch.addcmul(legs_rad, height[:, :, None], self.amplitude_rad, value=-1.0).flatten(1)


def update_contacts(contacts: Tensor, force_n: Tensor, cfg: GaitConfig) -> Tensor:
    """Decide which feet are on the ground, with hysteresis against chatter when the force is near one threshold.

    Args:
        contacts: the decision of the previous step, (num_envs, 2), bool.
        force_n: vertical contact force on each foot, (num_envs, 2), N.
        cfg: thresholds.

    Returns:
        The contacts, (num_envs, 2), bool.
    """
    # A foot that is on the ground needs that much less force to stay there.
    return torch.add(force_n, contacts, alpha=cfg.contact_on_n - cfg.contact_off_n) >= cfg.contact_on_n


@dataclass(frozen=True)
class StepState:
    """The state of the step detector between two control steps."""

    contacts: Tensor
    """Feet on the ground, (num_envs, 2), bool."""
    air_time_s: Tensor
    """How long each foot's swing will have lasted at the next step, (num_envs, 2), s; 0 on the ground."""
    supported: Tensor
    """True on the ground, and while the other foot has been on it for the whole of a swing, (num_envs, 2), bool."""
    last_step: Tensor
    """The foot that made the last valid step, (num_envs,), int64; -1 before the first."""

    @classmethod
    def initial(cls, num_envs: int, device: torch.device) -> "StepState":
        """Return the state right after a reset: both feet in the air, no step yet."""
        return cls(
            contacts=torch.zeros(num_envs, 2, dtype=torch.bool, device=device),
            air_time_s=torch.zeros(num_envs, 2, device=device, dtype=torch.float32),
            supported=torch.zeros(num_envs, 2, dtype=torch.bool, device=device),
            last_step=torch.full((num_envs,), -1, dtype=torch.int64, device=device),
        )

    @property
    def phase(self) -> Tensor:
        """The `ContactPhase` of the two contacts, (num_envs,), int64."""
        return self.contacts[:, LEFT] * ContactPhase.LEFT + self.contacts[:, RIGHT] * ContactPhase.RIGHT


@dataclass(frozen=True)
class StepEvents:
    """Landings and steps in one control step."""

    touchdown: Tensor
    """Feet that landed, (num_envs, 2), bool: any landing, including chatter."""
    valid_step: Tensor
    """Feet that landed after a swing of valid length while the other foot stood, (num_envs, 2), bool."""
    alternated_swing_s: Tensor
    """Length of a swing that ended in a valid step of the other foot than the last, (num_envs,), s; 0 otherwise."""

    @classmethod
    def none(cls, num_envs: int, device: torch.device) -> "StepEvents":
        """Return events without any landing."""
        feet = torch.zeros(num_envs, 2, dtype=torch.bool, device=device)
        return cls(feet, feet, torch.zeros(num_envs, device=device, dtype=torch.float32))


def advance_steps(state: StepState, force_n: Tensor, dt_s: float, cfg: GaitConfig) -> tuple[StepState, StepEvents]:
    """Advance the step detector by one control step.

    The detector's states are the contact phases none, left, right and both (`StepState.phase`), plus the swings in
    progress. A foot that lifts while the other stands begins a swing; its landing is a valid step if the swing lasted
    from `min_swing_s` to `max_swing_s` and the other foot stood all the while. A valid step alternates if the last
    valid step was the other foot's. Contact chatter, hops with both feet and two steps with the same foot therefore
    never count as an alternation.

    Args:
        state: the state before the step.
        force_n: vertical contact force on each foot, (num_envs, 2), N.
        dt_s: control step (s).
        cfg: thresholds of force and of swing time.

    Returns:
        The state after the step, and the landings and steps in it.
    """
    contacts = update_contacts(state.contacts, force_n, cfg)
    touchdown = contacts > state.contacts
    swing_s = state.air_time_s
    # Swings last whole control steps; half a step of margin keeps the bounds clear of rounding.
    lasted = swing_s == swing_s.clamp(cfg.min_swing_s - 0.5 * dt_s, cfg.max_swing_s + 0.5 * dt_s)
    # Support goes up to the step before: two feet that land together end a jump, whichever foot stood before.
    valid_step = touchdown & state.supported & lasted

    # At most one foot makes a valid step, because each needs the other one on the ground before.
    feet, other_feet = _feet(force_n.device)
    alternated = valid_step & (state.last_step[:, None] == other_feet)
    last_step = torch.where(valid_step[:, LEFT], feet[LEFT], state.last_step)

    after = StepState(
        contacts=contacts,
        air_time_s=torch.where(contacts, 0.0, swing_s + dt_s),
        # At a foot's lift it is enough that the other one stands now.
        supported=contacts | (contacts.flip(1) & state.supported),
        last_step=torch.where(valid_step[:, RIGHT], feet[RIGHT], last_step),
    )
    events = StepEvents(
        touchdown=touchdown,
        valid_step=valid_step,
        alternated_swing_s=(alternated * swing_s).sum(dim=1),
    )
    return after, events


@cache
def _feet(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the index of each foot, and that of the other one, (2,) each, int64."""
    feet = torch.arange(2, device=device, dtype=torch.int64)
    return feet, feet.flip(0)
