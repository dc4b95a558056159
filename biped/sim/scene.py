"""The scene protocol: all that the environment knows of a simulator."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from biped.config.task import EnvConfig
from biped.robot.dynamics import DynamicsSample
from biped.robot.state import BipedState
from biped.sim.window import Window

SCENES = {"genesis": "biped.sim.genesis_scene:GenesisScene", "mujoco": "biped.sim.mujoco_scene:MujocoScene"}
"""Simulator name to class; the module is imported only when it is asked for."""


@dataclass(frozen=True)
class ResetPose:
    """Where episodes start; velocities start at zero."""

    base_pos_w: Tensor
    """(num_envs, 3), m."""
    base_quat_w: Tensor
    """(num_envs, 4), wxyz."""
    joint_pos_rad: Tensor
    """(num_envs, num_joints), rad."""


class Scene(Protocol):
    """A batch of robots on a ground plane; every tensor lives on `device`."""

    num_envs: int
    """Robots in the batch."""
    device: torch.device
    """Where the tensors live."""
    mass_kg: float
    """Mass of one robot (kg)."""

    @property
    def window(self) -> Window | None:
        """Where a person watches; None where the scene was built without a viewer."""
        ...

    def step(self, targets_rad: Tensor, force_w: Tensor | None = None) -> BipedState:
        """Hold joint position targets for one control step; return the state after it.

        Args:
            targets_rad: (num_envs, num_joints), rad.
            force_w: force on the base's origin meanwhile, (num_envs, 3), N in the world; zero in the first step after
                a reset.
        """
        ...

    def apply(self, sample: DynamicsSample) -> None:
        """Give each robot and its ground the dynamics of a sample, from the next step on.

        Raises:
            MachineError: the scene was built for robots that are all alike (`RandomizationConfig.changes_dynamics`).
        """
        ...

    def set_base_velocity(self, mask: Tensor, lin_vel_w: Tensor, ang_vel_b: Tensor) -> None:
        """Give the bases of the robots where `mask` (num_envs,) is True a velocity; the joints keep theirs.

        Args:
            mask: (num_envs,), bool.
            lin_vel_w: (num_envs, 3), m/s in the world.
            ang_vel_b: (num_envs, 3), rad/s in the base frame.
        """
        ...

    def reset(self, mask: Tensor, pose: ResetPose) -> None:
        """Put the robots where `mask` (num_envs,) is True into their pose, at rest, and clear their errors.

        The next `step` starts from there.
        """
        ...

    def get_state(self) -> dict[str, Tensor]:
        """Return copies of all that the next steps depend on, by names of the simulator's own."""
        ...

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `get_state` returned, in this process or in another, exactly.

        Raises:
            KeyError, RuntimeError: it is of another simulator, robot or number of robots.
        """
        ...

    def render(self) -> np.ndarray:
        """Return a picture of the first robot, (height, width, 3), uint8.

        Raises:
            MachineError: the scene was built without a camera, or the machine cannot render.
        """
        ...

    def close(self) -> None:
        """Free what the simulator holds; the scene is of no use afterwards."""
        ...


def make_scene(sim: str, cfg: EnvConfig, device: torch.device, *, camera: bool = False, viewer: bool = False) -> Scene:
    """Build the scene of a simulator by its name.

    Args:
        sim: a key of `SCENES`.
        cfg: robot, time steps and number of environments.
        device: where its tensors live.
        camera: whether `render` will be called.
        viewer: whether to open the simulator's interactive window; its owner closes it.

    Raises:
        KeyError: there is no simulator of that name.
        MachineError: the simulator cannot be imported or built here.
    """
    module_name, class_name = SCENES[sim].split(":")
    scene_class = getattr(importlib.import_module(module_name), class_name)
    return scene_class(cfg, device, camera=camera, viewer=viewer)


def as_slice(indices: list[int]) -> slice | list[int]:
    """Return consecutive indices as a slice, which reads without gathering, and others as they are."""
    first = indices[0]
    return slice(first, first + len(indices)) if indices == list(range(first, first + len(indices))) else indices
