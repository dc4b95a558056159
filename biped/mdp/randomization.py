"""Differences between robots: drawn here, applied by a scene (dynamics) or by the environment (the rest).

Tobin et al. 2017, "Domain randomization for transferring deep neural networks from simulation to the real world"; for
dynamics Peng et al. 2018, "Sim-to-real transfer of robotic control with dynamics randomization".
"""

import math
from dataclasses import fields

import torch
from torch import Tensor

from biped.config.randomization import (
    NOMINAL,
    BumpsConfig,
    RandomizationConfig,
    Randomized,
)
from biped.config.robot import RobotConfig
from biped.robot.dynamics import DynamicsSample
from biped.robot.state import GRAVITY_DIRECTION_W

_PER_JOINT = ("strength", "damping", "joint_friction_nm", "armature", "backlash_rad")


def sample_dynamics(
    cfg: RandomizationConfig, robot: RobotConfig, num_envs: int, generator: torch.Generator, difficulty: float = 1.0
) -> DynamicsSample:
    """Draw a robot for every environment; quantities that are off, and `cfg.nominal_share` of the robots, stay nominal.

    Args:
        cfg: ranges; a quantity that is off keeps the model's own value.
        robot: defines the joints.
        num_envs: number of robots.
        generator: source of the draws, on the device of the sample.
        difficulty: share of the bump fields that are in use, from 0 (only the first) to 1.
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
    """Return which robots are left unchanged, (num_envs,), bool: always the same ones, evenly spaced.

    Args:
        share: share of the robots, from 0 to 1.
        num_envs: number of robots.
        device: device of the result.
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
    # This takes the last robot of each 1 / share, `is_nominal` the first: shares that divide evenly do not overlap.
    count = torch.arange(num_envs + 1, device=generator.device, dtype=torch.float32) * cfg.share
    return torch.where(count[1:].floor() > count[:-1].floor(), drawn, -1)


def _tilted(slope_rad: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return the direction of gravity (num_envs, 3) over slopes (num_envs,) that descend in a random direction."""
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
    """Return the sample with its per-episode fields taken from `fresh` where `mask` (num_envs,) is True."""
    changed = {}
    for item in fields(sample):
        old, new = getattr(sample, item.name), getattr(fresh, item.name)
        again = is_drawn_at_reset(item.name, cfg)
        changed[item.name] = _where(mask, new, old) if again else old
    return DynamicsSample(**changed)


def is_drawn_at_reset(name: str, cfg: RandomizationConfig) -> bool:
    """Return whether a field of `DynamicsSample` is redrawn for each episode."""
    if name == "bump_field":
        return cfg.bumps.mode == "reset" and cfg.bumps.heights_m != ()
    return getattr(cfg, "slope_rad" if name == "gravity_direction" else name).mode == "reset"
