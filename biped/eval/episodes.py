"""Recording of a policy in an environment: one full-length episode per environment, with one command each."""

import torch
from torch import Tensor

from biped.base.errors import ConfigError
from biped.config.task import CommandConfig
from biped.env.env import BipedEnv
from biped.env.groups import estimate_scales
from biped.eval.agents import Agent
from biped.eval.figures import WALKING_M_S
from biped.eval.recorder import Recorder
from biped.eval.recording import Recording
from biped.mdp.commands import is_moving

STANDING_SHARE, TURNING_SHARE = 1 / 8, 1 / 8
"""Shares of episodes with a zero command and with a command to turn on the spot, if training has such commands."""
_CANDIDATES = 64
"""Commands drawn per command needed; those too small for their kind are discarded."""


def trial_commands(count: int, cfg: CommandConfig, seed: int, walks_from_m_s: float = WALKING_M_S) -> Tensor:
    """Return one command per episode, (count, 3), from the ranges in `cfg`: standing, then turning, then walking.

    Turning and walking are drawn uniformly from the ranges, without commands too small to ask for that motion. If the
    configuration has no commands to stand, to turn on the spot or to walk, there are no such episodes.

    Args:
        count: number of episodes.
        cfg: ranges of the commands.
        seed: seed of the draws.
        walks_from_m_s: horizontal speed from which a command asks to walk; see `biped.eval.figures.walking_m_s`.

    Raises:
        ConfigError: hardly any command in the ranges asks for motion.
    """
    generator = torch.Generator().manual_seed(seed)
    ranges = torch.tensor([cfg.lin_vel_x_m_s, cfg.lin_vel_y_m_s, cfg.ang_vel_rad_s], dtype=torch.float32)
    walks = ranges[:, 0] + (ranges[:, 1] - ranges[:, 0]) * torch.rand(
        _CANDIDATES * count, 3, generator=generator, dtype=torch.float32
    )
    turns = walks * torch.tensor((0.0, 0.0, 1.0), dtype=torch.float32)
    turns = turns[is_moving(turns, cfg)]
    walks = walks[is_moving(walks, cfg) & (torch.linalg.vector_norm(walks[:, :2], dim=1) >= walks_from_m_s)]
    standing = round(STANDING_SHARE * count) if cfg.standing_fraction else 0
    turning = round(TURNING_SHARE * count) if cfg.turning_fraction and len(turns) else 0
    moving = count - standing - turning
    if not len(walks):  # training has only turning or standing
        standing, turning = (standing, turning + moving) if turning else (count, 0)
    commands = torch.cat(
        (torch.zeros(standing, 3, dtype=torch.float32), turns[:turning], walks[: count - standing - turning])
    )
    if len(commands) < count:
        raise ConfigError("hardly any of env.command's velocities asks for motion: widen its ranges")
    return commands


@torch.inference_mode()
def record_episodes(env: BipedEnv, agent: Agent, commands: Tensor, seed: int) -> Recording:
    """Run one episode in every environment up to its time limit.

    On a CPU the recording ends as soon as all robots have fallen; on a GPU this check would cost more than it saves.

    Args:
        env: the environments, as many as commands; their running episodes are ended.
        agent: the policy.
        commands: (num_envs, 3): m/s, m/s, rad/s; each for a whole episode; zero if too small to ask for motion.
        seed: seed of the starts.
    """
    env.reset(seed=seed)
    observations = env.hold_commands(commands)
    starts = torch.ones(env.num_envs, dtype=torch.bool, device=env.device)
    dt_s = env.cfg.sim.control_dt_s
    recorder = Recorder(dt_s, env.scene.mass_kg, env.command, env.reward_names, env.cfg.robot.leg_length_m)
    scales = torch.tensor(estimate_scales(env.cfg), device=env.device, dtype=torch.float32)
    for _ in range(round(env.cfg.termination.episode_s / dt_s)):
        actions, guess = agent(observations, starts), getattr(agent, "estimates", None)
        observations, _, terminated, truncated, _ = env.step(actions)
        starts = terminated | truncated
        guess = None if guess is None else guess / scales
        recorder.add(env.state, env.contacts, terminated, truncated, env.phase, env.reward_shares, guess)
        if env.device.type == "cpu" and not recorder.running.any():
            break
    return recorder.finish()
