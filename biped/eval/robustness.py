"""Robustness of a policy: survival as one property at a time is varied from the model's."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biped.base.errors import ConfigError
from biped.config.randomization import (
    MAX_LATENCY_STEPS,
    BumpsConfig,
    NoiseConfig,
    RandomizationConfig,
    Randomized,
)
from biped.config.scale import Scale, scale_of
from biped.config.task import EnvConfig
from biped.env.env import BipedEnv
from biped.env.groups import Observations, sensed, with_sensed
from biped.eval.agents import Agent
from biped.eval.episodes import record_episodes, trial_commands
from biped.eval.figures import walking_from
from biped.mdp.observations import ObservationLayout
from biped.mdp.randomization import sample_dynamics
from biped.robot.dynamics import DynamicsSample
from biped.robot.rotations import quat_rotate

HALF = 0.5
"""The share of surviving episodes that defines the push in a policy's summary."""
HEADED_PUSH_M_S = 0.5
"""Size of the pushes of the biped whose heading is varied (m/s)."""
DISTURBED = ("push", "push_heading")
"""Axes with single disturbances: an episode has several, and each is counted."""


@dataclass(frozen=True)
class Axis:
    """One property that is varied, with its values."""

    name: str
    """Name of the property."""
    unit: str
    """Unit of the values."""
    nominal: float | None
    """The model's own value; None if it has none."""
    levels: tuple[float, ...]
    """The values, ascending."""


AXES = (
    Axis("friction", "1", 1.0, (0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.2)),
    Axis("added_mass", "share of the robot", 0.0, (-0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4)),
    Axis("strength", "share of the model's", 1.0, (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2)),
    Axis("latency", "control steps", 0.0, (0.0, 1.0, 2.0, 3.0, 4.0)),
    Axis("push", "m/s", 0.0, (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)),
    Axis("push_heading", f"degrees, {HEADED_PUSH_M_S:g} m/s", None, tuple(45.0 * eighth for eighth in range(-3, 5))),
    Axis("noise", "times --randomize full", 0.0, (0.0, 0.5, 1.0, 2.0, 3.0, 4.0)),
    Axis("slope", "degrees", 0.0, (0.0, 2.5, 5.0, 7.5, 10.0)),
    Axis("bumps", "cm", 0.0, (0.0, 1.0, 2.0, 3.0, 4.0)),
)
"""All axes of a report of the biped. On a slope robots walk in all directions. A push heads in the direction in which
it moves the base: 0 is straight ahead, 90 to the left; pushes of the axis `push` have random headings."""


def scaled_axes(scale: Scale) -> tuple[Axis, ...]:
    """Return all axes for a robot of another size: pushes and bumps are in proportion."""
    push = f"degrees, {_headed_push_m_s(scale):.3g} m/s"
    units = {"m/s": scale.factor("m/s"), "cm": scale.factor("m")}
    return tuple(
        replace(
            axis,
            unit=push if axis.name == "push_heading" else axis.unit,
            levels=tuple(float(f"{level * units.get(axis.unit, 1.0):.3g}") for level in axis.levels),
        )
        for axis in AXES
    )


def _headed_push_m_s(scale: Scale) -> float:
    return HEADED_PUSH_M_S * scale.factor("m/s")


@dataclass(frozen=True)
class Sweep:
    """Survival along one axis."""

    axis: Axis
    survival: tuple[float, ...]
    """Share of the episodes without a fall, per level."""
    survival_each: tuple[float, ...] | None = None
    """Share of the single disturbances without a fall, per level; None for a property that holds all the time."""


def sweeps(fell: NDArray[np.bool_], episodes: int, axes: Sequence[Axis] = AXES) -> list[Sweep]:
    """Return survival along each axis.

    Args:
        fell: episodes that ended in a fall, axis by axis, level by level, (levels of all axes × episodes,).
        episodes: number of episodes per level.
        axes: the axes that were varied.
    """
    shares = 1.0 - fell.reshape(-1, episodes).mean(axis=1)
    found, first = [], 0
    for axis in axes:
        found.append(Sweep(axis, tuple(float(share) for share in shares[first : first + len(axis.levels)])))
        first += len(axis.levels)
    return found


def survived_each(fell: NDArray[np.bool_], disturbances: NDArray[np.int_], episodes: int) -> tuple[float, ...]:
    """Return the share of single disturbances without a fall, per level; 1 for a level without disturbances.

    Args:
        fell: episodes that ended in a fall, level by level, (levels × episodes,).
        disturbances: number of disturbances in each episode, in the same order.
        episodes: number of episodes per level.
    """
    falls, seen = (values.reshape(-1, episodes).sum(axis=1) for values in (fell, disturbances))
    return tuple(
        float(1.0 - min(fall, count) / count) if count else 1.0 for fall, count in zip(falls, seen, strict=True)
    )


def level_survived_by_half(sweep: Sweep) -> float | None:
    """Return the value at which survival first drops below a half, interpolated linearly between two levels.

    None if it never does.
    """
    levels, shares = sweep.axis.levels, sweep.survival
    for index in range(1, len(levels)):
        if shares[index] < HALF <= shares[index - 1]:
            part = (shares[index - 1] - HALF) / (shares[index - 1] - shares[index])
            return levels[index - 1] + part * (levels[index] - levels[index - 1])
    return None


def as_table(found: Sequence[Sweep]) -> str:
    """Return survival per level as a text table, one axis after another."""
    lines = []
    for sweep in found:
        lines.append(f"{sweep.axis.name} ({sweep.axis.unit})")
        lines.append("  " + "".join(f"{level:>8g}" for level in sweep.axis.levels))
        lines.append("  " + "".join(f"{100 * share:>7.0f}%" for share in sweep.survival))
        if sweep.survival_each is not None:
            lines.append("  " + "".join(f"{100 * share:>7.0f}%" for share in sweep.survival_each) + "  of each one")
    half = _half_push(found)
    lines.append(
        "half of the episodes survive pushes of " + ("more than were tried" if half is None else f"{half:.2f} m/s")
    )
    return "\n".join(lines)


def as_json(found: Sequence[Sweep]) -> dict[str, Any]:
    """Return survival per level, by axis, and the push that half of the episodes survive (m/s; None: above all)."""
    axes: Mapping[str, Any] = {
        sweep.axis.name: {
            "unit": sweep.axis.unit,
            "levels": sweep.axis.levels,
            "survival": sweep.survival,
            **({"survival_each": sweep.survival_each} if sweep.survival_each else {}),
        }
        for sweep in found
    }
    return {"axes": axes, "half_survive_push_m_s": _half_push(found)}


def _half_push(found: Sequence[Sweep]) -> float | None:
    return next((level_survived_by_half(sweep) for sweep in found if sweep.axis.name == "push"), None)


PUSH_EVERY_S = 5.0
"""Time between pushes on the push axes (s); each push has another direction."""
EDGE = 0.02
"""Rim of a field that no robot may reach, as a share of its side."""
FIELD_M = 26.0
"""Side of a field of bumps of the biped (m): no robot leaves it from its middle within an episode."""


def robustness_config(cfg: EnvConfig, episodes: int, axes: tuple[Axis, ...] = AXES) -> EnvConfig:
    """Return the environment for a report, with `episodes` robots per level; all robots are identical at first.

    Raises:
        ConfigError: robots would leave their fields of bumps within an episode.
    """
    reach_m = cfg.termination.episode_s * max(map(abs, (*cfg.command.lin_vel_x_m_s, *cfg.command.lin_vel_y_m_s)))
    scale = scale_of(cfg.robot)
    field_m = FIELD_M * scale.factor("m/s")
    if reach_m > (0.5 - EDGE) * field_m:
        raise ConfigError(
            f"robots that walk {reach_m:.0f} m leave their field of bumps: shorten env.termination.episode_s, or slow "
            "env.command down"
        )
    alike = RandomizationConfig(
        friction=Randomized("startup", (1.0, 1.0)),
        latency_steps=Randomized("startup", (0.0, MAX_LATENCY_STEPS)),
        bumps=BumpsConfig(
            _bump_heights_m(axes), mode="startup", cell_m=BumpsConfig().cell_m * scale.factor("m"), field_m=field_m
        ),
    )
    count = episodes * sum(len(axis.levels) for axis in axes)
    return replace(cfg, num_envs=count, randomization=alike)


def _bump_heights_m(axes: tuple[Axis, ...]) -> tuple[float, ...]:
    return tuple(level / 100.0 for axis in axes if axis.name == "bumps" for level in axis.levels if level > 0)


def run_robustness(
    env: BipedEnv, agent: Agent, episodes: int, seed: int, noise: NoiseConfig, axes: tuple[Axis, ...] = AXES
) -> list[Sweep]:
    """Run one episode in every environment and return survival along each axis.

    Args:
        env: an environment made from `robustness_config`.
        agent: the policy.
        episodes: number of episodes per level; each level gets the same commands.
        seed: seed of starts, commands, push directions and noise.
        noise: the noise of `--randomize full`, which the axis `noise` multiplies.
        axes: the axes to vary.
    """
    levels = [(axis.name, level) for axis in axes for level in axis.levels]
    generator = torch.Generator(env.device).manual_seed(seed)

    def of(name: str, nominal: float) -> Tensor:
        """Return the value of an axis for every environment, (num_envs,)."""
        values = torch.tensor(
            [level if axis == name else nominal for axis, level in levels], device=env.device, dtype=torch.float32
        )
        return values.repeat_interleave(episodes)

    env.randomizer.hold(_sample(env, of, generator))
    deviation = of("noise", 0.0)[:, None] * _full_noise(env, noise)
    heading = of("push_heading", math.nan) * math.pi / 180.0
    size = torch.where(heading.isnan(), of("push", 0.0), _headed_push_m_s(scale_of(env.cfg.robot)))
    push, step = _Pushes(env, size, heading, generator), [0]
    every = round(PUSH_EVERY_S / env.cfg.sim.control_dt_s)

    def disturbed(observations: Observations, starts: Tensor) -> Tensor:
        step[0] += 1
        if step[0] % every == 0:
            push()
        seen = sensed(observations)
        drawn = torch.randn(seen.shape, generator=generator, device=env.device, dtype=torch.float32)
        return agent(with_sensed(observations, seen + deviation * drawn), starts)

    commands = trial_commands(episodes, env.cfg.command, seed, walking_from(env.cfg.robot)).repeat(len(levels), 1)
    record = record_episodes(env, disturbed, commands, seed)
    # A push comes before the step of its number; episodes that have ended by then do not get it.
    seen = record.running[every - 2 :: every].sum(axis=0)
    names = np.repeat([axis.name for axis in axes for _ in axis.levels], episodes)
    each = {
        name: survived_each(record.fell[names == name], seen[names == name], episodes)
        for name in DISTURBED
        if name in names
    }
    found = sweeps(record.fell, episodes, axes)
    return [replace(sweep, survival_each=each.get(sweep.axis.name)) for sweep in found]


def _sample(env: BipedEnv, of: Callable[[str, float], Tensor], generator: torch.Generator) -> DynamicsSample:
    nominal = sample_dynamics(RandomizationConfig(), env.cfg.robot, env.num_envs, generator)
    heights_m = torch.tensor(env.cfg.randomization.bumps.heights_m, device=env.device, dtype=torch.float32)
    bumps_m = of("bumps", 0.0) / 100.0
    slope = of("slope", 0.0) * math.pi / 180.0
    heading = 2.0 * math.pi * torch.rand(env.num_envs, generator=generator, device=env.device, dtype=torch.float32)
    down = torch.stack((slope.sin() * heading.cos(), slope.sin() * heading.sin(), -slope.cos()), dim=-1)
    return replace(
        nominal,
        friction=of("friction", 1.0),
        torso_mass_kg=of("added_mass", 0.0) * env.scene.mass_kg,
        strength=of("strength", 1.0)[:, None].expand_as(nominal.strength),
        latency_steps=of("latency", 0.0).long(),
        bump_field=torch.where(bumps_m > 0, torch.searchsorted(heights_m, bumps_m - 1e-4), -1),
        gravity_direction=down,
    )


def _full_noise(env: BipedEnv, noise: NoiseConfig) -> Tensor:
    """Return the standard deviation of the noise on each number of the observation, (width,)."""
    noisy = replace(env.cfg, randomization=RandomizationConfig(noise=noise))
    return ObservationLayout.build(noisy).noise(env.device)


class _Pushes:
    """Changes the velocity of every base by a size along a heading (rad, left of ahead; NaN: random each time)."""

    def __init__(self, env: BipedEnv, size_m_s: Tensor, heading_rad: Tensor, generator: torch.Generator) -> None:
        self._env, self._size_m_s, self._heading_rad, self._generator = env, size_m_s, heading_rad, generator
        self._ahead = torch.tensor((1.0, 0.0, 0.0), device=env.device, dtype=torch.float32)

    def __call__(self) -> None:
        env = self._env
        ahead_w = quat_rotate(env.state.base_quat_w, self._ahead.expand(env.num_envs, 3))
        drawn = (
            2.0 * math.pi * torch.rand(env.num_envs, generator=self._generator, device=env.device, dtype=torch.float32)
        )
        left_of_ahead = torch.where(self._heading_rad.isnan(), drawn, self._heading_rad)
        heading = torch.atan2(ahead_w[:, 1], ahead_w[:, 0]) + left_of_ahead
        way = torch.stack((heading.cos(), heading.sin(), torch.zeros_like(heading)), dim=-1)
        vel_w = quat_rotate(env.state.base_quat_w, env.state.base_lin_vel_b) + self._size_m_s[:, None] * way
        env.scene.set_base_velocity(self._size_m_s > 0, vel_w, env.state.base_ang_vel_b)
