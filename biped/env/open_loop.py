"""Robots that are given joint targets and nothing else: no episodes, commands or rewards."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from biped.config.randomization import RandomizationConfig
from biped.config.task import EnvConfig
from biped.robot.rotations import quat_rotate
from biped.robot.state import BipedState
from biped.sim.mujoco_footing import height_on_soles
from biped.sim.scene import ResetPose, make_scene


@dataclass(frozen=True)
class Motion:
    """How robots are and move, standing on the lowest point of their soles."""

    quat: Tensor
    """Orientation of the base, (n, 4), wxyz."""
    lin_vel_b: Tensor
    """Velocity of the base in its own frame, (n, 3), m/s."""
    ang_vel_b: Tensor
    """Angular velocity of the base in its own frame, (n, 3), rad/s."""
    joint_pos_rad: Tensor
    """Joint positions, (n, num_joints), rad."""
    joint_vel_rad_s: Tensor
    """Joint velocities, (n, num_joints), rad/s."""


class OpenLoop:
    """Robots in a simulator, as the model has them, on a plane, driven by the motor law of training."""

    def __init__(self, cfg: EnvConfig, sim: str, start: Motion) -> None:
        """Put each robot where it starts.

        Args:
            cfg: robot and time steps; its randomisation is left out.
            sim: name of the simulator.
            start: one row per robot.

        Raises:
            MachineError: the simulator, MuJoCo or the model is missing or unusable.
        """
        self._cfg = replace(cfg, num_envs=len(start.quat), randomization=RandomizationConfig())
        height = height_on_soles(cfg, start.quat.double().numpy(), start.joint_pos_rad.double().numpy())
        self._scene = make_scene(sim, self._cfg, torch.device("cpu"))
        base_pos_w = torch.zeros(len(start.quat), 3, dtype=torch.float32)
        base_pos_w[:, 2] = torch.from_numpy(height)
        everywhere = torch.ones(len(start.quat), dtype=torch.bool)
        self._scene.reset(everywhere, ResetPose(base_pos_w, start.quat, start.joint_pos_rad, start.joint_vel_rad_s))
        self._scene.set_base_velocity(everywhere, quat_rotate(start.quat, start.lin_vel_b), start.ang_vel_b)

    def step(self, targets_rad: Tensor) -> BipedState:
        """Hold joint targets (n, num_joints), rad, for one control step and return the state after it."""
        return self._scene.step(targets_rad)

    def close(self) -> None:
        """Free the simulator."""
        self._scene.close()
