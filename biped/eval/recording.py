"""The recording of an evaluation: the trajectory of one episode per environment, as arrays.

Frames: `_w` is the world (z up), `_b` the base link (x forward, y left, z up). Feet are ordered left, right.
No torch: what only draws a recording starts in a fifth of the time without it.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biped.config.robot import LEG_LENGTH_M
from biped.config.scale import Scale

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
