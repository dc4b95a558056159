"""One batched run in which each group of robots differs from the model in one thing; see `biped.eval.robustness`."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from biped.eval.robustness import AXES, DISTURBED, HEADED_PUSH_M_S, Axis, Sweep, survived_each, sweeps
from biped.evaluation import Agent, record_episodes, trial_commands
from biped.mdp.observations import ObservationLayout
from biped.mdp.randomization import DynamicsSample, sample_dynamics
from biped.mdp.state import quat_rotate
from biped_config import (
    MAX_LATENCY_STEPS,
    BumpsConfig,
    ConfigError,
    EnvConfig,
    RandomizationConfig,
    Randomized,
    randomization_preset,
)
from biped_env import BipedEnv

PUSH_EVERY_S = 5.0
"""Robots on the push axis are pushed this often (s), each time in another direction."""
FIELD_M = 26.0
"""Side of a field of bumps (m): from its middle nobody leaves it within an episode."""


def robustness_config(cfg: EnvConfig, episodes: int, axes: tuple[Axis, ...] = AXES) -> EnvConfig:
    """Return the environment of a report: `episodes` robots a level, that may differ, and are all alike at first.

    Raises:
        ConfigError: within an episode robots would walk off their fields of bumps.
    """
    reach_m = cfg.termination.episode_s * max(map(abs, (*cfg.command.lin_vel_x_m_s, *cfg.command.lin_vel_y_m_s)))
    if reach_m > FIELD_M / 2 - 0.5:
        raise ConfigError(
            f"robots that walk {reach_m:.0f} m leave their field of bumps: shorten env.termination.episode_s, or slow "
            "env.command down"
        )
    alike = RandomizationConfig(
        friction=Randomized("startup", (1.0, 1.0)),
        latency_steps=Randomized("startup", (0.0, MAX_LATENCY_STEPS)),
        bumps=BumpsConfig(_bump_heights_m(axes), mode="startup", field_m=FIELD_M),
    )
    count = episodes * sum(len(axis.levels) for axis in axes)
    return replace(cfg, num_envs=count, randomization=alike)


def _bump_heights_m(axes: tuple[Axis, ...]) -> tuple[float, ...]:
    return tuple(level / 100.0 for axis in axes if axis.name == "bumps" for level in axis.levels if level > 0)


def run_robustness(env: BipedEnv, agent: Agent, episodes: int, seed: int, axes: tuple[Axis, ...] = AXES) -> list[Sweep]:
    """Run one episode in every environment, and return survival over each axis.

    Args:
        env: made from `robustness_config`.
        agent: the policy.
        episodes: a level; each level gets the same commands.
        seed: of starts, commands, directions of pushes and of noise.
        axes: what is swept.
    """
    levels = [(axis.name, level) for axis in axes for level in axis.levels]
    generator = torch.Generator(env.device).manual_seed(seed)

    def of(name: str, nominal: float) -> Tensor:
        """Return the value of an axis in every environment, (num_envs,)."""
        values = torch.tensor(
            [level if axis == name else nominal for axis, level in levels], device=env.device, dtype=torch.float32
        )
        return values.repeat_interleave(episodes)

    env.randomizer.hold(_sample(env, of, generator))
    noise = of("noise", 0.0)[:, None] * _full_noise(env)
    heading = of("push_heading", math.nan) * math.pi / 180.0
    size = torch.where(heading.isnan(), of("push", 0.0), HEADED_PUSH_M_S)
    push, step = _Pushes(env, size, heading, generator), [0]
    every = round(PUSH_EVERY_S / env.cfg.sim.control_dt_s)

    def disturbed(observations: Tensor, starts: Tensor) -> Tensor:
        step[0] += 1
        if step[0] % every == 0:
            push()
        drawn = torch.randn(observations.shape, generator=generator, device=env.device, dtype=torch.float32)
        return agent(observations + noise * drawn, starts)

    commands = trial_commands(episodes, env.cfg.command, seed).repeat(len(levels), 1)
    record = record_episodes(env, disturbed, commands, seed)
    # A push comes before the step of its number: those who have ended by then do not feel it.
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


def _full_noise(env: BipedEnv) -> Tensor:
    """Return the standard deviation of `--randomize full`'s noise on each number of the observation, (width,)."""
    noisy = replace(env.cfg, randomization=randomization_preset("full"))
    return ObservationLayout.build(noisy).noise(env.device)


class _Pushes:
    """Changes the velocity of every base by its size, along its heading (rad, left of ahead; NaN: drawn each time)."""

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
