"""The scene protocol: the environment's only interface to a simulator."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from biped.config.task import EnvConfig
from biped.robot.dynamics import DynamicsSample
from biped.robot.state import BipedState
from biped.sim.window import Window

SCENES = {"genesis": "biped.sim.genesis_scene:GenesisScene", "mujoco": "biped.sim.mujoco_scene:MujocoScene"}
"""Simulator name to class; the module is imported on demand."""


Graph = Callable[[Callable[..., Any], Sequence[torch.Generator]], Callable[..., Any]]
"""Makes a graph of a function of tensors, and of the generators that it draws from; `biped.base.cuda_graph`."""


@dataclass(frozen=True)
class ResetPose:
    """Poses in which robots start; the base starts at rest."""

    base_pos_w: Tensor
    """Position of the base, (num_envs, 3), m."""
    base_quat_w: Tensor
    """Orientation of the base, (num_envs, 4), wxyz."""
    joint_pos_rad: Tensor
    """Joint positions, (num_envs, num_joints), rad."""
    joint_vel_rad_s: Tensor | None = None
    """Joint velocities, (num_envs, num_joints), rad/s; None: at rest."""


class Scene(Protocol):
    """A batch of robots on a ground plane; every tensor is on `device`."""

    num_envs: int
    """Number of robots."""
    device: torch.device
    """Device of all tensors."""
    mass_kg: float
    """Mass of one robot (kg)."""

    @property
    def window(self) -> Window | None:
        """The simulator's window; None if the scene was built without a viewer."""
        ...

    def step(self, targets_rad: Tensor, force_w: Tensor | None = None) -> BipedState:
        """Hold joint position targets for one control step and return the state after it.

        Args:
            targets_rad: joint position targets, (num_envs, num_joints), rad.
            force_w: force on the base's origin during the step, (num_envs, 3), N in the world; zero in the first step
                after a reset.
        """
        ...

    def apply(self, sample: DynamicsSample) -> None:
        """Set the dynamics of each robot and its ground, from the next step on.

        Raises:
            MachineError: the scene was built without per-robot dynamics (`RandomizationConfig.changes_dynamics`).
        """
        ...

    def set_base_velocity(self, mask: Tensor, lin_vel_w: Tensor, ang_vel_b: Tensor) -> None:
        """Set the base velocity of the robots where `mask` (num_envs,) is True; joint velocities are unchanged.

        Args:
            mask: robots to change, (num_envs,), bool.
            lin_vel_w: linear velocities, (num_envs, 3), m/s in the world.
            ang_vel_b: angular velocities, (num_envs, 3), rad/s in the base frame.
        """
        ...

    def reset(self, mask: Tensor, pose: ResetPose) -> None:
        """Reset the robots where `mask` (num_envs,) is True to their pose, and clear their errors.

        The next `step` starts from there.
        """
        ...

    def get_state(self) -> dict[str, Tensor]:
        """Return copies of everything that the next steps depend on, under the simulator's own names."""
        ...

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue exactly from what `get_state` returned, in this process or in another.

        Raises:
            KeyError, RuntimeError: it belongs to another simulator, robot or number of robots.
        """
        ...

    def use_graph(self, graph: Graph) -> None:
        """Compute what follows from the simulator's results as a graph, if that is done by tensors at all."""
        ...

    def render(self) -> np.ndarray:
        """Render a picture of the first robot, (height, width, 3), uint8.

        Raises:
            MachineError: the scene was built without a camera, or the machine cannot render.
        """
        ...

    def close(self) -> None:
        """Free the simulator's resources; the scene cannot be used afterwards."""
        ...


def make_scene(sim: str, cfg: EnvConfig, device: torch.device, *, camera: bool = False, viewer: bool = False) -> Scene:
    """Build the scene of a simulator, selected by name.

    Args:
        sim: a key of `SCENES`.
        cfg: robot, time steps and number of environments.
        device: device of its tensors.
        camera: whether `render` will be called.
        viewer: whether to open the simulator's interactive window; the caller closes it.

    Raises:
        KeyError: no simulator has that name.
        MachineError: the simulator cannot be imported or built on this machine.
    """
    module_name, class_name = SCENES[sim].split(":")
    scene_class = getattr(importlib.import_module(module_name), class_name)
    return scene_class(cfg, device, camera=camera, viewer=viewer)


def as_slice(indices: list[int]) -> slice | list[int]:
    """Return consecutive indices as a slice, which reads without gathering; others unchanged."""
    first = indices[0]
    return slice(first, first + len(indices)) if indices == list(range(first, first + len(indices))) else indices
