"""The states in which episodes start."""

from dataclasses import replace

import torch
from torch import Tensor

from biped.config.task import EnvConfig
from biped.robot.rotations import quat_from_yaw, quat_rotate
from biped.robot.state import BipedState, without_motion
from biped.sim.scene import ResetPose, Scene


def all_go_on(done: Tensor) -> bool:
    """Return whether no episode ended, (num_envs,), as far as the host sees without waiting: on a GPU, never."""
    return done.device.type == "cpu" and not bool(done.any())


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
        self._first_joint_pos = default_joint_pos_rad - cfg.reset.joint_noise_rad
        lift = torch.tensor((0.0, 0.0, cfg.reset.clearance_m), device=scene.device, dtype=torch.float32)
        self.standing = self._measure(scene)
        """Robots standing in the default pose, with the feet where the simulator has them."""
        rest = without_motion(self.standing)
        self._at_rest = replace(rest, base_pos_w=rest.base_pos_w + lift)
        # The base is over the origin, so that a turn about the vertical axis turns the feet about the origin.
        self._feet_w = rest.foot_pos_w + lift

    def _measure(self, scene: Scene) -> BipedState:
        base_pos_w = torch.zeros(scene.num_envs, 3, device=scene.device, dtype=torch.float32)
        base_pos_w[:, 2] = self._cfg.robot.default_base_height_m
        upright = quat_from_yaw(torch.zeros(scene.num_envs, device=scene.device, dtype=torch.float32))
        joint_pos_rad = self._default_joint_pos.expand(scene.num_envs, -1)
        everywhere = torch.ones(scene.num_envs, dtype=torch.bool, device=scene.device)
        scene.reset(everywhere, ResetPose(base_pos_w, upright, joint_pos_rad))
        standing = scene.step(joint_pos_rad)
        return replace(standing, base_pos_w=base_pos_w, base_quat_w=upright, error=torch.zeros_like(standing.error))

    def draw(self) -> Tensor:
        """Draw all that a start needs at once, (num_envs * (num_joints + 3),), uniformly from 0 to 1."""
        rest = self._at_rest.joint_pos_rad
        count = rest.numel() + 3 * len(rest)
        return torch.rand(count, generator=self._generator, device=rest.device, dtype=torch.float32)

    def place(self, draws: Tensor) -> tuple[BipedState, Tensor, Tensor]:
        """Make starts of what `draw` returned.

        Returns:
            A start state for every environment, and two draws per environment that it does not depend on, (num_envs,).
        """
        rest = self._at_rest
        joints, others = draws[: rest.joint_pos_rad.numel()], draws[rest.joint_pos_rad.numel() :]
        turn, *free = others.view(3, -1)
        joints = joints.view(rest.joint_pos_rad.shape)
        quat = quat_from_yaw(turn, unit_rad=2.0 * torch.pi)
        state = replace(
            rest,
            base_quat_w=quat,
            joint_pos_rad=torch.add(self._first_joint_pos, joints, alpha=2.0 * self._cfg.reset.joint_noise_rad),
            # The feet of the default pose: joint noise moves them by millimetres; the first step reads their place.
            foot_pos_w=quat_rotate(quat[:, None], self._feet_w),
        )
        return state, free[0], free[1]
