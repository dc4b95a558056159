"""A scene without physics: robots are where a generator puts them, on any device."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biped.config.task import EnvConfig
from biped.robot.dynamics import DynamicsSample
from biped.robot.state import BipedState
from biped.sim.scene import ResetPose
from biped.sim.window import Window


class StubScene:
    """All that the protocol asks for; each tensor that it is given must be on its device."""

    def __init__(self, cfg: EnvConfig, device: torch.device) -> None:
        """Make `cfg.num_envs` robots."""
        self.num_envs, self.device, self.mass_kg = cfg.num_envs, device, cfg.robot.mass_kg
        self._joints = len(cfg.robot.joint_names)
        self._generator = torch.Generator(device)
        self._generator.manual_seed(0)
        pos, quat, gravity = (0.0, 0.0, cfg.robot.default_base_height_m), (1.0, 0.0, 0.0, 0.0), (0.0, 0.0, -1.0)
        self._rest = torch.tensor((*pos, *quat, *gravity), device=device, dtype=torch.float32)

    @property
    def window(self) -> Window | None:
        """There is none."""
        return None

    def step(self, targets_rad: Tensor, force_w: Tensor | None = None) -> BipedState:
        """Return another state: some fall, some feet are in the air."""
        self._expect(targets_rad, *([] if force_w is None else [force_w]))
        count, joints = self.num_envs, self._joints
        drawn = 0.1 * torch.randn(count, 30 + 3 * joints, generator=self._generator, device=self.device)
        pos, quat, gravity = (self._rest + drawn[:, :10]).split((3, 4, 3), dim=1)
        lin, ang, feet, force, motion, rest = drawn[:, 10:].split((3, 3, 6, 2, 6, 3 * joints), dim=1)
        joint_pos, joint_vel, torque = rest.reshape(count, 3, joints).unbind(dim=1)
        return BipedState(
            base_pos_w=pos,
            base_quat_w=torch.nn.functional.normalize(quat, dim=1),
            base_lin_vel_b=lin,
            base_ang_vel_b=ang,
            projected_gravity_b=gravity,
            joint_pos_rad=joint_pos,
            joint_vel_rad_s=joint_vel,
            joint_torque_nm=torque,
            foot_pos_w=feet.reshape(count, 2, 3),
            foot_vel_w=motion.reshape(count, 2, 3),
            foot_force_n=100.0 * force,
            error=drawn[:, 0] > 0.3,
        )

    def apply(self, sample: DynamicsSample) -> None:
        """Look at the sample."""
        self._expect(*(getattr(sample, item.name) for item in fields(sample)))

    def set_base_velocity(self, mask: Tensor, lin_vel_w: Tensor, ang_vel_b: Tensor) -> None:
        """Look at the velocities."""
        self._expect(mask, lin_vel_w, ang_vel_b)

    def reset(self, mask: Tensor, pose: ResetPose) -> None:
        """Look at the pose."""
        self._expect(mask, pose.base_pos_w, pose.base_quat_w, pose.joint_pos_rad)

    def use_graph(self, graph: Any) -> None:
        """Do nothing."""

    def get_state(self) -> dict[str, Tensor]:
        """Return what the next draws depend on."""
        return {"drawn": self._generator.get_state()}

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on with the same draws."""
        self._generator.set_state(state["drawn"].cpu())

    def render(self) -> np.ndarray:
        """Return a black picture."""
        return np.zeros((2, 2, 3), dtype=np.uint8)

    def close(self) -> None:
        """Do nothing."""

    def _expect(self, *tensors: Tensor) -> None:
        assert {tensor.device for tensor in tensors} == {self.device}
