"""What differs from robot to robot: drawn here, applied by a scene (dynamics) or by the environment (the rest).

Tobin et al. 2017, "Domain randomization for transferring deep neural networks from simulation to the real world"; for
dynamics Peng et al. 2018, "Sim-to-real transfer of robotic control with dynamics randomization".
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from biped.mdp.state import GRAVITY_DIRECTION_W
from biped_config import (
    NOMINAL,
    BumpsConfig,
    ContactSensorConfig,
    PushConfig,
    RandomizationConfig,
    Randomized,
    RobotConfig,
)


@dataclass(frozen=True)
class DynamicsSample:
    """How each robot and its ground differ from the model."""

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
    """Dry friction beyond the model's, (num_envs, num_joints), N·m."""
    armature: Tensor
    """Factor on the reflected inertia of the motors, (num_envs, num_joints)."""
    gravity_direction: Tensor
    """Direction of gravity in the world, (num_envs, 3): on a slope the world's z axis is normal to the ground."""
    latency_steps: Tensor
    """Control steps by which actions are late, (num_envs,), int64."""
    backlash_rad: Tensor
    """Play of the gears, (num_envs, num_joints), rad."""
    bump_field: Tensor
    """Number of the field of bumps that an episode starts on, (num_envs,), int64; -1 for the plane."""


_PER_JOINT = ("strength", "damping", "joint_friction_nm", "armature", "backlash_rad")


def sample_dynamics(
    cfg: RandomizationConfig, robot: RobotConfig, num_envs: int, generator: torch.Generator, difficulty: float = 1.0
) -> DynamicsSample:
    """Draw a robot for every environment; nothing is drawn for what is off, and `cfg.nominal_share` are as the model.

    Args:
        cfg: ranges; what is off takes the model's own value.
        robot: its joints.
        num_envs: how many.
        generator: the draws, on the device that the sample will be on.
        difficulty: share of the fields of bumps that are in use, from 0 (the first alone) to 1.
    """
    joints, device = len(robot.joint_names), generator.device

    def draw(name: str, *shape: int) -> Tensor:
        item: Randomized = getattr(cfg, name)
        if item.mode == "off":
            return torch.full((num_envs, *shape), NOMINAL.get(name, 0.0), device=device, dtype=torch.float32)
        low, high = item.range
        return low + (high - low) * torch.rand(
            num_envs, *shape, generator=generator, device=device, dtype=torch.float32
        )

    low, high = math.ceil(cfg.latency_steps.range[0]), math.floor(cfg.latency_steps.range[1])
    late = torch.zeros(num_envs, dtype=torch.int64, device=device)
    if cfg.latency_steps.mode != "off":
        late = torch.randint(low, high + 1, (num_envs,), generator=generator, device=device)
    drawn = DynamicsSample(
        friction=draw("friction"),
        torso_mass_kg=draw("torso_mass_kg"),
        torso_com_m=draw("torso_com_m", 3),
        gravity_direction=_tilted(draw("slope_rad"), None if cfg.slope_rad.mode == "off" else generator),
        latency_steps=late,
        bump_field=_fields(cfg.bumps, num_envs, generator, difficulty),
        **{name: draw(name, joints) for name in _PER_JOINT},
    )
    if not cfg.nominal_share:
        return drawn
    model = sample_dynamics(RandomizationConfig(), robot, num_envs, generator)
    nominal = is_nominal(cfg.nominal_share, num_envs, device)
    return DynamicsSample(
        **{item.name: _where(nominal, getattr(model, item.name), getattr(drawn, item.name)) for item in fields(drawn)}
    )


def is_nominal(share: float, num_envs: int, device: torch.device) -> Tensor:
    """Return which robots are the model itself and left alone, (num_envs,), bool: always the same, spread evenly.

    Args:
        share: of the robots, from 0 to 1.
        num_envs: how many there are.
        device: where the answer is to be.
    """
    count = torch.arange(num_envs + 1, device=device, dtype=torch.float32) * share
    return count[1:].ceil() > count[:-1].ceil()


def _where(mask: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Return `new` where `mask` (num_envs,) is True, and `old` elsewhere, (num_envs, ...) each."""
    return torch.where(mask.view(-1, *[1] * (old.dim() - 1)), new, old)


def _fields(cfg: BumpsConfig, num_envs: int, generator: torch.Generator, difficulty: float) -> Tensor:
    """Return a field of bumps for `cfg.share` of the robots, always the same ones, and -1 for the others."""
    if not cfg.heights_m:
        return torch.full((num_envs,), -1, device=generator.device, dtype=torch.int64)
    in_use = max(1, math.ceil(difficulty * len(cfg.heights_m)))
    drawn = torch.randint(0, in_use, (num_envs,), generator=generator, device=generator.device)
    # The last robot of each 1 / share, and `is_nominal` takes the first: with shares that divide evenly none is both.
    count = torch.arange(num_envs + 1, device=generator.device, dtype=torch.float32) * cfg.share
    return torch.where(count[1:].floor() > count[:-1].floor(), drawn, -1)


def _tilted(slope_rad: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return the direction of gravity (num_envs, 3) over slopes (num_envs,) that fall away in any direction."""
    heading = torch.zeros_like(slope_rad)
    if generator is not None:
        heading = (
            2.0
            * math.pi
            * torch.rand(len(slope_rad), generator=generator, device=slope_rad.device, dtype=torch.float32)
        )
    size = slope_rad.sin()
    return torch.stack((size * heading.cos(), size * heading.sin(), GRAVITY_DIRECTION_W[2] * slope_rad.cos()), dim=-1)


def redrawn(sample: DynamicsSample, fresh: DynamicsSample, mask: Tensor, cfg: RandomizationConfig) -> DynamicsSample:
    """Return the sample with what is drawn an episode taken from `fresh` where `mask` (num_envs,) is True."""
    changed = {}
    for item in fields(sample):
        old, new = getattr(sample, item.name), getattr(fresh, item.name)
        again = is_drawn_at_reset(item.name, cfg)
        changed[item.name] = _where(mask, new, old) if again else old
    return DynamicsSample(**changed)


def is_drawn_at_reset(name: str, cfg: RandomizationConfig) -> bool:
    """Say whether a field of `DynamicsSample` is drawn anew for each episode."""
    if name == "bump_field":
        return cfg.bumps.mode == "reset" and cfg.bumps.heights_m != ()
    return getattr(cfg, "slope_rad" if name == "gravity_direction" else name).mode == "reset"


@dataclass(frozen=True)
class Actuation:
    """What lies between an action and the motor: time, and play in the gears."""

    history: Tensor
    """The last actions, the latest first, (num_envs, depth, num_joints)."""
    joint_targets_rad: Tensor
    """Where the gears' output stands, (num_envs, num_joints), rad."""

    @classmethod
    def at(cls, targets_rad: Tensor, depth: int) -> "Actuation":
        """Begin with no action, and the gears at `targets_rad` (num_envs, num_joints)."""
        return cls(targets_rad.new_zeros(len(targets_rad), depth, targets_rad.shape[1]), targets_rad)

    def reset(self, mask: Tensor, targets_rad: Tensor) -> "Actuation":
        """Begin anew where `mask` (num_envs,) is True."""
        return Actuation(
            self.history.masked_fill(mask[:, None, None], 0.0),
            torch.where(mask[:, None], targets_rad, self.joint_targets_rad),
        )

    def with_action(self, action: Tensor) -> "Actuation":
        """Take in an action (num_envs, num_joints)."""
        history = torch.cat((action[:, None], self.history[:, :-1]), dim=1)
        return Actuation(history, self.joint_targets_rad)

    def delayed(self, latency_steps: Tensor) -> Tensor:
        """Return the action that takes effect now, (num_envs, num_joints), `latency_steps` (num_envs,) late."""
        index = latency_steps[:, None, None].expand(-1, 1, self.history.shape[2])
        return self.history.gather(1, index)[:, 0]

    def driven_to(self, targets_rad: Tensor, backlash_rad: Tensor) -> "Actuation":
        """Turn the motors to their targets; the output follows once the play is used up.

        The play operator: Nordin and Gutman 2002, "Controlling mechanical systems with backlash - a survey".
        """
        half = 0.5 * backlash_rad
        output = torch.minimum(torch.maximum(self.joint_targets_rad, targets_rad - half), targets_rad + half)
        return Actuation(self.history, output)


@dataclass(frozen=True)
class ContactSensors:
    """What the switches under the feet say."""

    is_late: Tensor
    """Robots whose switches lag a control step behind, (num_envs,), bool."""
    before: Tensor
    """Contacts of the step before, (num_envs, 2), bool."""
    felt: Tensor
    """What they say now, (num_envs, 2), bool."""

    @classmethod
    def initial(cls, num_envs: int, device: torch.device) -> "ContactSensors":
        """Nothing felt yet."""
        nothing = torch.zeros(num_envs, 2, dtype=torch.bool, device=device)
        return cls(nothing[:, 0], nothing, nothing)

    def reset(self, mask: Tensor, cfg: ContactSensorConfig, generator: torch.Generator) -> "ContactSensors":
        """Begin anew where `mask` (num_envs,) is True."""
        late = torch.rand(len(mask), generator=generator, device=mask.device, dtype=torch.float32) < cfg.late_share
        return ContactSensors(
            torch.where(mask, late, self.is_late),
            self.before & ~mask[:, None],
            self.felt & ~mask[:, None],
        )

    def feel(self, contacts: Tensor, cfg: ContactSensorConfig, generator: torch.Generator) -> "ContactSensors":
        """Take in the true contacts (num_envs, 2), bool, of a control step."""
        seen = torch.where(self.is_late[:, None], self.before, contacts)
        draw = torch.rand(contacts.shape, generator=generator, device=contacts.device, dtype=torch.float32)
        felt = torch.where(seen, draw >= cfg.miss_rate, draw < cfg.false_rate)
        return ContactSensors(self.is_late, contacts, felt)


@dataclass(frozen=True)
class Pushes:
    """When the next push comes, and the force in progress."""

    time_left_s: Tensor
    """Until the next push, (num_envs,), s."""
    force_w: Tensor
    """Force on the base, (num_envs, 3), N."""
    force_left_s: Tensor
    """How long it still lasts, (num_envs,), s."""

    @classmethod
    def initial(cls, num_envs: int, device: torch.device) -> "Pushes":
        """No force, and none due."""
        zeros = torch.zeros(num_envs, device=device, dtype=torch.float32)
        return cls(
            torch.full_like(zeros, torch.inf), torch.zeros(num_envs, 3, device=device, dtype=torch.float32), zeros
        )

    def reset(self, mask: Tensor, cfg: PushConfig, generator: torch.Generator) -> "Pushes":
        """Begin anew where `mask` (num_envs,) is True."""
        draw = torch.rand(len(mask), generator=generator, device=mask.device, dtype=torch.float32)
        return Pushes(
            torch.where(mask, cfg.interval_s * (0.5 + draw), self.time_left_s),
            self.force_w.masked_fill(mask[:, None], 0.0),
            self.force_left_s.masked_fill(mask, 0.0),
        )

    def advance(
        self, dt_s: float, cfg: PushConfig, share: float, generator: torch.Generator
    ) -> tuple["Pushes", Tensor, Tensor]:
        """Let a control step pass.

        Args:
            dt_s: the control step (s).
            cfg: sizes.
            share: of the sizes, from 0 to 1.
            generator: the draws.

        Returns:
            The pushes after it; where the base's velocity jumps now, (num_envs,), bool, and by how much, (num_envs, 3),
            m/s in the world.
        """
        due = self.time_left_s <= dt_s
        wait, size, heading, kind = torch.rand(4, len(due), generator=generator, device=due.device, dtype=torch.float32)
        heading = 2.0 * math.pi * heading
        direction = torch.stack((heading.cos(), heading.sin(), torch.zeros_like(heading)), dim=-1)
        # Of the two kinds that are switched on, either is as likely.
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
    """Say whether anything is pushed at all."""
    return cfg.velocity_m_s > 0 or cfg.force_n > 0
