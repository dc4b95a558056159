"""Collects the control steps of an evaluation as a `Recording`."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biped.config.robot import LEG_LENGTH_M
from biped.eval.recording import Recording
from biped.robot.state import BipedState

RECORDED_STATE = (
    "base_pos_w",
    "base_quat_w",
    "base_lin_vel_b",
    "base_ang_vel_b",
    "joint_pos_rad",
    "joint_vel_rad_s",
    "joint_torque_nm",
    "foot_pos_w",
    "foot_vel_w",
)
"""Fields of `BipedState` that are recorded."""


class Recorder:
    """Collects control steps on the device; `finish` transfers them to the host at once."""

    def __init__(
        self,
        dt_s: float,
        mass_kg: float,
        command: Tensor,
        reward_names: Sequence[str] = (),
        leg_length_m: float = LEG_LENGTH_M,
    ) -> None:
        """Start a recording; `command` (num_envs, 3) holds for whole episodes."""
        self._dt_s, self._mass_kg, self._command, self._leg_length_m = dt_s, mass_kg, command, leg_length_m
        self._reward_names = np.array(reward_names, dtype=np.str_)
        self.running = torch.ones(len(command), dtype=torch.bool, device=command.device)
        """Whether the episode is still running, (num_envs,), bool."""
        self._fell = torch.zeros_like(self.running)
        self._steps: list[tuple[Tensor, ...]] = []

    def add(
        self,
        state: BipedState,
        contacts: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        phase: Tensor,
        rewards: Tensor,
        estimate: Tensor | None = None,
    ) -> None:
        """Record one control step.

        Args:
            state: the state after the step; where an episode ended, it may be the next episode's.
            contacts: feet on the ground, (num_envs, 2), bool.
            terminated: episodes that ended early, (num_envs,), bool.
            truncated: episodes that reached the time limit, (num_envs,), bool.
            phase: the gait clock, (num_envs,).
            rewards: reward of each term, (num_envs, num_terms).
            estimate: see `Recording.estimate`, (num_envs, 4); None for a policy without predictions.
        """
        self._fell = self._fell | (self.running & terminated)
        self.running = self.running & ~(terminated | truncated)
        guess = rewards.new_zeros(len(rewards), 0) if estimate is None else estimate
        states = (getattr(state, name) for name in RECORDED_STATE)
        self._steps.append((self.running, contacts, phase, rewards, guess, *states))

    def finish(self) -> Recording:
        """Return the recording."""
        columns = (_to_host(steps) for steps in zip(*self._steps, strict=True))
        running, contacts, phase, rewards, estimate, *states = columns
        return Recording(
            dt_s=self._dt_s,
            mass_kg=self._mass_kg,
            leg_length_m=self._leg_length_m,
            command=self._command.cpu().numpy(),
            running=running,
            fell=self._fell.cpu().numpy(),
            contacts=contacts,
            phase=phase,
            rewards=rewards,
            estimate=estimate,
            reward_names=self._reward_names,
            **dict(zip(RECORDED_STATE, states, strict=True)),
        )


def _to_host(steps: Sequence[Tensor]) -> NDArray:
    return torch.stack(list(steps)).cpu().numpy()
