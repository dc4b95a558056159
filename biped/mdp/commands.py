"""Velocity commands: what the robot is asked to do, and when commands are redrawn.

A command is (forward, left, counter-clockwise) in the base frame: (num_envs, 3), m/s, m/s, rad/s.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from biped.config.task import CommandConfig
from biped.robot.state import BipedState


@dataclass(frozen=True)
class CommandState:
    """The current commands and the time until they are redrawn."""

    velocity: Tensor
    """Commands, (num_envs, 3): m/s, m/s, rad/s."""
    time_left_s: Tensor
    """Time until the next draw, (num_envs,), s."""

    @classmethod
    def initial(cls, num_envs: int, device: torch.device) -> "CommandState":
        """Return zero commands that are due to be redrawn at once."""
        return cls(
            torch.zeros(num_envs, 3, device=device, dtype=torch.float32),
            torch.zeros(num_envs, device=device, dtype=torch.float32),
        )


@cache
def _ranges(cfg: CommandConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the middles and the sizes of the command ranges, (3, 1) each."""
    low, high = zip(cfg.lin_vel_x_m_s, cfg.lin_vel_y_m_s, cfg.ang_vel_rad_s, strict=True)
    middles = [0.5 * (a + b) for a, b in zip(low, high, strict=True)]
    sizes = [b - a for a, b in zip(low, high, strict=True)]
    return (
        torch.tensor(middles, device=device, dtype=torch.float32)[:, None],
        torch.tensor(sizes, device=device, dtype=torch.float32)[:, None],
    )


@cache
def _first_kinds(cfg: CommandConfig, device: torch.device) -> Tensor:
    """Return from which drawn kind on a command has a velocity forward, to the left and about the vertical, (3, 1).

    Kinds are drawn from -1/2 to 1/2.
    """
    turns_from, walks_from = cfg.standing_fraction - 0.5, cfg.standing_fraction + cfg.turning_fraction - 0.5
    return torch.tensor((walks_from, walks_from, turns_from), device=device, dtype=torch.float32)[:, None]


@cache
def _levers(cfg: CommandConfig, device: torch.device) -> Tensor:
    """Return the factors that turn a command into speeds, (3,)."""
    return torch.tensor((1.0, 1.0, cfg.turning_lever_m), device=device, dtype=torch.float32)


def _draw(num_envs: int, cfg: CommandConfig, generator: torch.Generator, share: float) -> Tensor:
    """Draw commands uniformly from `share` of their ranges, around the middle: (num_envs, 3).

    A part of them turns on the spot, and a part is zero. Some are too small to ask for motion.
    """
    device = generator.device
    middles, sizes = _ranges(cfg, device)
    drawn = torch.empty(4, num_envs, device=device, dtype=torch.float32).uniform_(-0.5, 0.5, generator=generator)
    # The factor is a Python number: a copy from the host would stall the GPU at every step.
    velocity = torch.addcmul(middles, sizes, drawn[:3], value=share)
    return (velocity * (drawn[3] >= _first_kinds(cfg, device))).T


def widened(share: float, progress: float, cfg: CommandConfig) -> float:
    """Return the share of the ranges to draw from next: larger after a rollout that tracked well, never smaller.

    Args:
        share: the share that commands are drawn from now.
        progress: mean of `command_progress` over a rollout's commands to move; 0 for robots that stand still.
        cfg: settings of the curriculum.
    """
    return min(1.0, share + cfg.widen_by) if progress >= cfg.widen_above else share


def curriculum_progress(share: float, cfg: CommandConfig) -> float:
    """Return the progress of the curriculum, from 0 to 1, at a share of the ranges."""
    start = cfg.start_share
    return 1.0 if start >= 1.0 else min(1.0, max(0.0, (share - start) / (1.0 - start)))


def held(velocity: Tensor, cfg: CommandConfig) -> tuple[CommandState, Tensor]:
    """Return commands (num_envs, 3) that are never redrawn, zero where too small, and where they ask for motion."""
    moving = is_moving(velocity, cfg)
    forever = torch.full_like(velocity[:, 0], torch.inf)
    return CommandState(velocity * moving[:, None], forever), moving


def advance_commands(
    state: CommandState,
    dt_s: float,
    cfg: CommandConfig,
    generator: torch.Generator,
    share: float = 1.0,
) -> tuple[CommandState, Tensor]:
    """Advance the timers; redraw from `share` of the ranges where time is up.

    Commands too small to ask for motion are set to zero.

    Returns:
        The commands, and where they ask for motion, (num_envs,), bool.
    """
    time_left_s = state.time_left_s - dt_s
    stays = time_left_s > 0.0
    velocity = torch.where(stays[:, None], state.velocity, _draw(len(stays), cfg, generator, share))
    moving = is_moving(velocity, cfg)
    # The commands that are kept are zero already where they do not ask for motion.
    return CommandState(velocity * moving[:, None], torch.where(stays, time_left_s, cfg.resample_s)), moving


def command_speed(velocity: Tensor, cfg: CommandConfig) -> Tensor:
    """Return the size of commands (num_envs, 3) as one speed, (num_envs,), m/s; yaw counts by `turning_lever_m`."""
    return torch.linalg.vector_norm(velocity * _levers(cfg, velocity.device), dim=-1)


def is_moving(velocity: Tensor, cfg: CommandConfig) -> Tensor:
    """Return True where commands (num_envs, 3) ask for motion rather than for standing, (num_envs,), bool."""
    return command_speed(velocity, cfg) >= cfg.moving_threshold_m_s


def asked_and_done(command: Tensor, state: BipedState) -> Tensor:
    """Return commands (num_envs, 3) and beside them what the robots do, (num_envs, 2, 3): m/s, m/s, rad/s."""
    done = state.base_lin_vel_b[:, :2], state.base_ang_vel_b[:, 2:]
    return torch.cat((command, *done), dim=1).unflatten(1, (2, 3))


def command_progress(velocities: Tensor, cfg: CommandConfig) -> Tensor:
    """Return the share of the command that the robot's velocity achieves, (num_envs,).

    The projection of the achieved velocity on the commanded one, divided by the size of the command: 1 if the robot
    follows it, 0 at rest, negative if the robot moves the other way; 0 for a zero command.

    Args:
        velocities: the commanded one and the achieved one, (num_envs, 2, 3); see `asked_and_done`.
        cfg: the lever of turning.
    """
    speeds = velocities * _levers(cfg, velocities.device)
    wanted_squared, along = (speeds * speeds[:, :1]).sum(dim=2).unbind(dim=1)
    return along / wanted_squared.clamp_min(1e-6)
