"""From a policy and an environment to a recording: one full-length episode an environment, a command each."""

from collections.abc import Callable

import torch
from torch import Tensor

from biped.eval.figures import WALKING_M_S
from biped.eval.record import Recorder, Recording
from biped.mdp.commands import is_moving
from biped_config import CommandConfig
from biped_env import BipedEnv

STANDING_SHARE, TURNING_SHARE = 1 / 8, 1 / 8
"""Shares of the episodes whose command is zero, and whose command turns on the spot, where training asks for both."""
_CANDIDATES = 64
"""Commands that are drawn for each that is wanted: those too small for their kind are left out."""

Agent = Callable[[Tensor, Tensor], Tensor]
"""From observations (num_envs, width) and episode starts (num_envs,), bool, to actions (num_envs, num_joints)."""


def trial_commands(count: int, cfg: CommandConfig, seed: int) -> Tensor:
    """Return a command an episode, (count, 3), over the range that `cfg` trains: standing, then turning, then walking.

    Turning and walking are drawn uniformly from the ranges, without commands too small to ask for that motion. A
    configuration that never asks to stand or to turn on the spot gets no such episodes.
    """
    generator = torch.Generator().manual_seed(seed)
    ranges = torch.tensor([cfg.lin_vel_x_m_s, cfg.lin_vel_y_m_s, cfg.ang_vel_rad_s])
    draws = torch.rand(_CANDIDATES * count, 3, generator=generator)
    walks = ranges[:, 0] + (ranges[:, 1] - ranges[:, 0]) * draws
    turns = walks * torch.tensor((0.0, 0.0, 1.0))
    turns = turns[is_moving(turns, cfg)]
    walks = walks[torch.linalg.vector_norm(walks[:, :2], dim=1) >= WALKING_M_S]
    standing = round(STANDING_SHARE * count) if cfg.standing_fraction or not len(walks) else 0
    turning = round(TURNING_SHARE * count) if cfg.turning_fraction and len(turns) else 0
    if not len(walks):
        standing = count - turning
    kinds = (torch.zeros(standing, 3), turns[:turning], walks[: count - standing - turning])
    return torch.cat(kinds)


@torch.inference_mode()
def record_episodes(env: BipedEnv, agent: Agent, commands: Tensor, seed: int) -> Recording:
    """Run one episode in every environment, until each has fallen or timed out.

    Args:
        env: the environments, as many as commands; their own episodes are ended.
        agent: the policy.
        commands: (num_envs, 3): m/s, m/s, rad/s; each holds for a whole episode.
        seed: of the starts.
    """
    env.reset(seed=seed)
    observations = env.hold_commands(commands)
    starts = torch.ones(env.num_envs, dtype=torch.bool, device=env.device)
    dt_s = env.cfg.sim.control_dt_s
    recorder = Recorder(dt_s, env.scene.mass_kg, commands)
    for _ in range(round(env.cfg.termination.episode_s / dt_s)):
        observations, _, terminated, truncated, _ = env.step(agent(observations, starts))
        starts = terminated | truncated
        recorder.add(env.state, env.contacts, terminated, truncated)
    return recorder.finish()
