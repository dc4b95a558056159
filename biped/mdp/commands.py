"""Velocity commands: what the robot is asked to do, and when commands are redrawn.

A command is (forward, left, counter-clockwise) in the base frame: (num_envs, 3), m/s, m/s, rad/s.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from biped.config.task import CommandConfig


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


def sample_commands(num_envs: int, cfg: CommandConfig, generator: torch.Generator, share: float = 1.0) -> Tensor:
    """Draw commands uniformly from `share` of their ranges, around the middle: (num_envs, 3).

    A part of them turns on the spot, and a part is zero. Commands too small to ask for motion are set to zero.
    """
    # Python scalars, not a tensor of bounds: a copy from the host would stall the GPU at every step.
    ranges = (cfg.lin_vel_x_m_s, cfg.lin_vel_y_m_s, cfg.ang_vel_rad_s)
    *draws, kind = torch.rand(
        len(ranges) + 1, num_envs, generator=generator, device=generator.device, dtype=torch.float32
    )
    x, y, yaw = (
        0.5 * (low + high) + share * (high - low) * (draw - 0.5)
        for (low, high), draw in zip(ranges, draws, strict=True)
    )
    walks = kind >= cfg.standing_fraction + cfg.turning_fraction
    velocity = torch.stack((x * walks, y * walks, yaw * (kind >= cfg.standing_fraction)), dim=-1)
    return velocity * is_moving(velocity, cfg)[:, None]


def widened(share: float, progress: float, cfg: CommandConfig) -> float:
    """Return the share of the ranges to draw from next: larger after a rollout that tracked well, never smaller.

    Args:
        share: the share that commands are drawn from now.
        progress: mean of `command_progress` over a rollout's commands to move; 0 for robots that stand still.
        cfg: settings of the curriculum.
    """
    return min(1.0, share + cfg.widen_by) if progress >= cfg.widen_above else share


def advance_commands(
    state: CommandState,
    restart: Tensor,
    dt_s: float,
    cfg: CommandConfig,
    generator: torch.Generator,
    share: float = 1.0,
) -> CommandState:
    """Advance the timers; redraw from `share` of the ranges where time is up or an episode starts (`restart`)."""
    time_left_s = state.time_left_s - dt_s
    due = restart | (time_left_s <= 0.0)
    fresh = sample_commands(len(due), cfg, generator, share)
    return CommandState(
        velocity=torch.where(due[:, None], fresh, state.velocity),
        time_left_s=torch.where(due, cfg.resample_s, time_left_s),
    )


def command_speed(velocity: Tensor, cfg: CommandConfig) -> Tensor:
    """Return the size of commands (num_envs, 3) as one speed, (num_envs,), m/s; yaw counts by `turning_lever_m`."""
    return torch.linalg.vector_norm(_as_speeds(velocity, cfg), dim=-1)


def is_moving(velocity: Tensor, cfg: CommandConfig) -> Tensor:
    """Return True where commands (num_envs, 3) ask for motion rather than for standing, (num_envs,), bool."""
    return command_speed(velocity, cfg) >= cfg.moving_threshold_m_s


def command_progress(velocity: Tensor, achieved: Tensor, cfg: CommandConfig) -> Tensor:
    """Return the share of the command that the robot's velocity achieves, (num_envs,).

    The projection of the achieved velocity (num_envs, 3) on the commanded one, divided by the size of the command: 1 if
    the robot follows it, 0 at rest, negative if the robot moves the other way; 0 for a zero command.
    """
    wanted, got = _as_speeds(velocity, cfg), _as_speeds(achieved, cfg)
    return (wanted * got).sum(dim=-1) / (wanted * wanted).sum(dim=-1).clamp_min(1e-6)


def _as_speeds(velocity: Tensor, cfg: CommandConfig) -> Tensor:
    return torch.cat((velocity[:, :2], velocity[:, 2:] * cfg.turning_lever_m), dim=-1)
