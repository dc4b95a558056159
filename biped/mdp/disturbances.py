"""Disturbances during an episode: pushes, and errors of the switches under the feet."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from biped.config.randomization import (
    ContactSensorConfig,
    PushConfig,
)


@dataclass(frozen=True)
class ContactSensors:
    """The readings of the switches under the feet."""

    is_late: Tensor
    """Robots whose switches are read one control step late, (num_envs,), bool."""
    before: Tensor
    """True contacts of the previous step, (num_envs, 2), bool."""
    felt: Tensor
    """Contacts as the switches report them now, (num_envs, 2), bool."""

    @classmethod
    def initial(cls, num_envs: int, device: torch.device) -> "ContactSensors":
        """Return switches that have reported no contact yet."""
        nothing = torch.zeros(num_envs, 2, dtype=torch.bool, device=device)
        return cls(nothing[:, 0], nothing, nothing)

    def reset(self, mask: Tensor, cfg: ContactSensorConfig, generator: torch.Generator) -> "ContactSensors":
        """Start again where `mask` (num_envs,) is True."""
        late = torch.rand(len(mask), generator=generator, device=mask.device, dtype=torch.float32) < cfg.late_share
        return ContactSensors(
            torch.where(mask, late, self.is_late),
            self.before & ~mask[:, None],
            self.felt & ~mask[:, None],
        )

    def feel(self, contacts: Tensor, cfg: ContactSensorConfig, generator: torch.Generator) -> "ContactSensors":
        """Read the switches at the true contacts (num_envs, 2), bool, of a control step."""
        seen = torch.where(self.is_late[:, None], self.before, contacts)
        draw = torch.rand(contacts.shape, generator=generator, device=contacts.device, dtype=torch.float32)
        felt = torch.where(seen, draw >= cfg.miss_rate, draw < cfg.false_rate)
        return ContactSensors(self.is_late, contacts, felt)


@dataclass(frozen=True)
class Pushes:
    """The time of the next push, and the force in progress."""

    time_left_s: Tensor
    """Time until the next push, (num_envs,), s."""
    force_w: Tensor
    """Force on the base, (num_envs, 3), N."""
    force_left_s: Tensor
    """Remaining duration of the force, (num_envs,), s."""

    @classmethod
    def initial(cls, num_envs: int, device: torch.device) -> "Pushes":
        """Return pushes with no force in progress and none due."""
        zeros = torch.zeros(num_envs, device=device, dtype=torch.float32)
        return cls(
            torch.full_like(zeros, torch.inf), torch.zeros(num_envs, 3, device=device, dtype=torch.float32), zeros
        )

    def reset(self, mask: Tensor, cfg: PushConfig, generator: torch.Generator) -> "Pushes":
        """Start again where `mask` (num_envs,) is True."""
        draw = torch.rand(len(mask), generator=generator, device=mask.device, dtype=torch.float32)
        return Pushes(
            torch.where(mask, cfg.interval_s * (0.5 + draw), self.time_left_s),
            self.force_w.masked_fill(mask[:, None], 0.0),
            self.force_left_s.masked_fill(mask, 0.0),
        )

    def advance(
        self, dt_s: float, cfg: PushConfig, share: float, generator: torch.Generator
    ) -> tuple["Pushes", Tensor, Tensor]:
        """Advance by one control step.

        Args:
            dt_s: the control step (s).
            cfg: sizes and timing.
            share: factor on the sizes, from 0 to 1.
            generator: source of the draws.

        Returns:
            The pushes after the step; where the base's velocity jumps now, (num_envs,), bool; and the size of the jump,
            (num_envs, 3), m/s in the world.
        """
        due = self.time_left_s <= dt_s
        wait, size, heading, kind = torch.rand(4, len(due), generator=generator, device=due.device, dtype=torch.float32)
        heading = 2.0 * math.pi * heading
        direction = torch.stack((heading.cos(), heading.sin(), torch.zeros_like(heading)), dim=-1)
        # The kinds of push that are switched on are equally likely.
        jump_share = 1.0 if not cfg.force_n else 0.5 if cfg.velocity_m_s else 0.0
        jumps = due & (kind < jump_share)
        pulls = due & ~jumps
        left_s = torch.where(pulls, cfg.force_s, self.force_left_s - dt_s)
        force = torch.where(pulls[:, None], share * cfg.force_n * size[:, None] * direction, self.force_w)
        after = Pushes(
            torch.where(due, cfg.interval_s * (0.5 + wait), self.time_left_s - dt_s),
            force * (left_s > 0.5 * dt_s)[:, None],
            left_s.clamp_min(0.0),
        )
        return after, jumps, share * cfg.velocity_m_s * size[:, None] * direction


def pushes_are_on(cfg: PushConfig) -> bool:
    """Return whether any pushes are switched on."""
    return cfg.velocity_m_s > 0 or cfg.force_n > 0
