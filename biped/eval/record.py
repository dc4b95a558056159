"""The recording of an evaluation: the trajectory of one episode per environment, as arrays.

Frames: `_w` is the world (z up), `_b` the base link (x forward, y left, z up). Feet are ordered left, right.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biped.config.robot import LEG_LENGTH_M
from biped.config.scale import Scale
from biped.robot.state import BipedState

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Recording:
    """One episode per environment, (num_steps, num_envs, ...); where `running` is False the episode is over."""

    dt_s: float
    """Control step (s)."""
    mass_kg: float
    """Mass of the robot (kg)."""
    command: Floats
    """Velocity command of each episode, (num_envs, 3): m/s, m/s, rad/s in the base frame."""
    running: Bools
    """Whether the episode is running and its state is recorded, (num_steps, num_envs)."""
    fell: Bools
    """Episodes that ended early, in a fall or in a solver error, (num_envs,)."""
    base_pos_w: Floats
    """Position of the base, (num_steps, num_envs, 3), m."""
    base_quat_w: Floats
    """Orientation of the base, (num_steps, num_envs, 4), wxyz."""
    base_lin_vel_b: Floats
    """Linear velocity of the base, (num_steps, num_envs, 3), m/s."""
    base_ang_vel_b: Floats
    """Angular velocity of the base, (num_steps, num_envs, 3), rad/s."""
    joint_pos_rad: Floats
    """Joint positions, (num_steps, num_envs, num_joints), rad."""
    joint_vel_rad_s: Floats
    """Joint velocities, (num_steps, num_envs, num_joints), rad/s."""
    joint_torque_nm: Floats
    """Joint torques, (num_steps, num_envs, num_joints), N·m."""
    foot_pos_w: Floats
    """Centres of the soles, (num_steps, num_envs, 2, 3), m."""
    foot_vel_w: Floats
    """Velocities of the centres of the soles, (num_steps, num_envs, 2, 3), m/s."""
    contacts: Bools
    """Feet on the ground, (num_steps, num_envs, 2)."""
    phase: Floats
    """The gait clock, (num_steps, num_envs), from 0 to 1."""
    estimate: Floats
    """The policy's prediction of the base's velocity (m/s, base frame) and height (m) when it acted, before the step,
    (num_steps, num_envs, 4); (num_steps, num_envs, 0) for a policy without predictions."""
    rewards: Floats
    """Reward of each term, (num_steps, num_envs, num_terms)."""
    reward_names: NDArray[np.str_]
    """Names of the reward terms, (num_terms,)."""
    leg_length_m: float = LEG_LENGTH_M
    """Leg length of the robot (m)."""

    @property
    def scale(self) -> Scale:
        """The robot's size."""
        return Scale.of(self.leg_length_m)

    def episodes(self, chosen: Bools) -> "Recording":
        """Return the episodes where `chosen` (num_envs,) is True."""
        single = {"command", "fell"}
        parts = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, np.ndarray) and item.name != "reward_names":
                value = value[chosen] if item.name in single else value[:, chosen]
            parts[item.name] = value
        return Recording(**parts)

    def save(self, path: Path) -> None:
        """Write a compressed npz."""
        np.savez_compressed(path, **{item.name: getattr(self, item.name) for item in fields(self)})

    @classmethod
    def load(cls, path: Path) -> "Recording":
        """Read what `save` wrote; nothing is unpickled.

        Raises:
            OSError: the file cannot be read.
            ValueError: the file is not a recording.
        """
        with np.load(path, allow_pickle=False) as file:
            names = {item.name for item in fields(cls)}
            if names - set(file.files) - {"leg_length_m"} or set(file.files) - names:
                raise ValueError(f"{path} is no recording")
            parts = {name: file[name] for name in file.files}
        numbers = {name: float(parts[name]) for name in ("dt_s", "mass_kg", "leg_length_m") if name in parts}
        return cls(**{**parts, **numbers})


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
