"""The states in which episodes start."""

from dataclasses import replace

import torch
from torch import Tensor

from biped.config.task import EnvConfig
from biped.robot.rotations import quat_from_yaw, quat_rotate
from biped.robot.state import BipedState, without_motion
from biped.sim.scene import ResetPose, Scene


class Starts:
    """Draws start states: at rest, any heading, near the default pose."""

    def __init__(self, cfg: EnvConfig, scene: Scene, default_joint_pos_rad: Tensor, generator: torch.Generator) -> None:
        """Let all robots of the scene stand, and measure where their feet are.

        Args:
            cfg: the environment's configuration; `cfg.reset` has the ranges.
            scene: the simulator with the robots.
            default_joint_pos_rad: joint positions of the default pose, (num_joints,), rad.
            generator: the environment's random generator.
        """
        self._cfg, self._default_joint_pos, self._generator = cfg, default_joint_pos_rad, generator
        self._lift = torch.tensor((0.0, 0.0, cfg.reset.clearance_m), device=scene.device, dtype=torch.float32)
        self.standing = self._measure(scene)
        """Robots standing in the default pose, with the feet where the simulator has them."""
        self._at_rest = without_motion(self.standing)

    def _measure(self, scene: Scene) -> BipedState:
        base_pos_w = torch.zeros(scene.num_envs, 3, device=scene.device, dtype=torch.float32)
        base_pos_w[:, 2] = self._cfg.robot.default_base_height_m
        upright = quat_from_yaw(torch.zeros(scene.num_envs, device=scene.device, dtype=torch.float32))
        joint_pos_rad = self._default_joint_pos.expand(scene.num_envs, -1)
        everywhere = torch.ones(scene.num_envs, dtype=torch.bool, device=scene.device)
        scene.reset(everywhere, ResetPose(base_pos_w, upright, joint_pos_rad))
        standing = scene.step(joint_pos_rad)
        return replace(standing, base_pos_w=base_pos_w, base_quat_w=upright, error=torch.zeros_like(standing.error))

    def draw(self) -> BipedState:
        """Draw a start state for every environment."""
        reset, rest = self._cfg.reset, self._at_rest
        draws = 2.0 * self._rand(*rest.joint_pos_rad.shape) - 1.0
        yaw_rad = 2.0 * torch.pi * self._rand(len(draws))
        quat = quat_from_yaw(yaw_rad)
        base_pos_w = rest.base_pos_w + self._lift
        return replace(
            rest,
            base_pos_w=base_pos_w,
            base_quat_w=quat,
            joint_pos_rad=self._default_joint_pos + reset.joint_noise_rad * draws,
            # The feet of the default pose: joint noise moves them by millimetres; the first step reads their place.
            foot_pos_w=base_pos_w[:, None] + quat_rotate(quat[:, None], rest.foot_pos_w - rest.base_pos_w[:, None]),
        )

    def _rand(self, *shape: int) -> Tensor:
        """Draw uniformly from 0 to 1."""
        return torch.rand(*shape, generator=self._generator, device=self._lift.device, dtype=torch.float32)
