"""A few control steps of one of many robots: gathered on the device, read by the host at once."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biped.env.env import BipedEnv

Floats = NDArray[np.float32]
MOST_STEPS = 1000
"""Most control steps of a clip; of a longer one the end is missing."""


@dataclass(frozen=True)
class Clip:
    """Consecutive control steps of one robot; an episode may end within, and the next one begin."""

    robot: int
    """Index of the robot."""
    dt_s: float
    """Control step (s)."""
    base_pos_w: Floats
    """Position of the base, (num_steps, 3), m."""
    base_quat_w: Floats
    """Orientation of the base, (num_steps, 4), wxyz."""
    joint_pos_rad: Floats
    """Joint positions, (num_steps, num_joints), rad."""
    command: Floats
    """What the policy is told, (num_steps, 3): m/s, m/s, rad/s in the base frame."""
    base_lin_vel_b: Floats
    """Linear velocity of the base, (num_steps, 3), m/s."""
    base_ang_vel_b: Floats
    """Angular velocity of the base, (num_steps, 3), rad/s."""
    contacts: Floats
    """1 where the left and the right foot are on the ground, (num_steps, 2)."""
    rewards: Floats
    """Reward of each term, (num_steps, num_terms)."""
    reward_names: tuple[str, ...]
    """Names of the terms."""

    def __len__(self) -> int:
        """Return the number of control steps."""
        return len(self.base_pos_w)

    @property
    def length_s(self) -> float:
        """Simulated time (s)."""
        return len(self) * self.dt_s

    @property
    def reward_rates(self) -> Mapping[str, float]:
        """Mean reward of each term per second."""
        means = self.rewards.mean(axis=0) / self.dt_s
        return dict(zip(self.reward_names, means.tolist(), strict=True))


class ClipRecorder:
    """Gathers control steps of one robot; only reads the environment, and draws nothing."""

    def __init__(self, env: BipedEnv) -> None:
        """Gather from `env`."""
        self._env, self._robot = env, 0
        self._steps: list[Tensor] = []

    def add(self, robot: int) -> None:
        """Gather the step that was just taken, of a robot; of another one than before, the clip begins anew."""
        if robot != self._robot:
            self._robot, self._steps = robot, []
        if len(self._steps) < MOST_STEPS:
            self._steps.append(torch.cat([part[robot].to(torch.float32) for part in self._parts()]))

    def _parts(self) -> tuple[Tensor, ...]:
        """Return what is gathered, (num_envs, ...) each, in the order of the fields of `Clip`."""
        env, state = self._env, self._env.state
        base = state.base_pos_w, state.base_quat_w, state.joint_pos_rad
        return *base, env.command, state.base_lin_vel_b, state.base_ang_vel_b, env.contacts, env.reward_shares

    def take(self) -> Clip | None:
        """Return what was gathered since the last call, in one read of the device; None if that is nothing."""
        if not self._steps:
            return None
        steps, self._steps = torch.stack(self._steps).cpu().numpy(), []
        ends = np.cumsum([part.shape[1] for part in self._parts()])
        parts = np.split(steps, ends[:-1], axis=1)
        return Clip(self._robot, self._env.cfg.sim.control_dt_s, *parts, reward_names=self._env.reward_names)
