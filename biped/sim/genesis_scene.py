"""The biped in Genesis. No other file imports genesis."""

import importlib
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biped.base.errors import MachineError, first_line
from biped.base.packages import how_to_check, remedy
from biped.config.robot import SimConfig
from biped.config.task import EnvConfig
from biped.robot.actuators import Motors
from biped.robot.dynamics import DynamicsSample
from biped.robot.model import model_file
from biped.robot.state import GRAVITY_DIRECTION_W, GRAVITY_M_S2, BipedState
from biped.sim.generators import keeping_generators
from biped.sim.genesis_state import Readings, as_state
from biped.sim.kernel_cache import CACHE_REMEDY, choose_cache, is_of_the_disk, is_specialised
from biped.sim.kernel_news import KernelNews
from biped.sim.mujoco_robot import genesis_file
from biped.sim.quick_import import knowing_frozen_files
from biped.sim.scene import Graph, ResetPose
from biped.sim.terrain import make_terrain
from biped.sim.window import ROW, SPACING_M

BASE_QPOS = 7
"""Entries before the joints in the generalised position: base position, base quaternion."""
CAMERA_RESOLUTION = (960, 720)
"""Width and height of rendered pictures, pixels."""
CAMERA_OFFSET_M, LOOK_AT_OFFSET_M = (1.15, -1.0, 0.60), (0.0, 0.0, 0.28)
"""Positions of the camera and of its target, relative to the ground under the first robot (m)."""
_HEIGHT_UNIT_M = 0.001
_BASE_DOFS = slice(0, 6)
_DOFS = ("pos", "vel", "acc", "cdof_ang", "cdof_vel", "cdofd_ang", "cdofd_vel")
_LINKS = ("pos", "quat", "cd_ang", "cd_vel", "cinr_inertial", "cinr_pos", "root_COM")
_GEOMS = ("pos", "quat")
_UP_TO_DATE = ("_is_forward_pos_updated", "_is_forward_vel_updated")
_WARM_START = ("qacc_ws", "is_warmstart")


def _import_genesis() -> Any:
    # A CUDA build of torch loads Triton when the first optimizer is made. If Genesis has compiled a kernel before that,
    # the process dies of a segmentation fault (seen with torch 2.13.0+cu130, triton 3.7.1 and quadrants 1.3.3); if
    # Triton is loaded first, both work.
    importlib.import_module("torch._dynamo")
    # Genesis replaces sys.excepthook when it is imported, and then prints tracebacks to standard output.
    hook = sys.excepthook
    try:
        with knowing_frozen_files():
            import genesis
    except (ImportError, OSError) as error:
        advice = remedy("genesis", error)
        raise MachineError(f"Genesis cannot be imported ({error}): {advice}; --sim mujoco works without it") from error
    finally:
        sys.excepthook = hook
    return genesis


def start_genesis(device: torch.device, cfg: SimConfig) -> Any:
    """Initialise Genesis once in this process and return its module.

    Raises:
        MachineError: it cannot be imported, has no writable folder, or already runs on another device.
    """
    choose_cache()  # must come first: the compiler reads its folder on import
    gs = _import_genesis()
    backend = gs.cuda if device.type == "cuda" else gs.cpu
    if not getattr(gs, "_initialized", False):
        # gs.gpu would silently fall back to the CPU; gs.cuda fails. The seed is part of the kernel cache's key. Genesis
        # also seeds every generator of the process with it.
        seed, fast = cfg.kernel_seed, is_specialised(cfg, device.type)
        try:
            with keeping_generators(device):
                gs.init(backend=backend, seed=seed, performance_mode=fast, logging_level="error")
        except Exception as error:
            raise MachineError(f"Genesis does not start on {device.type}: {error}") from error
    if gs.backend != backend:
        raise MachineError(f"Genesis runs on {gs.backend} in this process already and cannot change to {backend}")
    return gs


class GenesisWindow:
    """Genesis's interactive viewer, which draws without being called; see `biped.sim.window.Window`."""

    def __init__(self, viewer: Any, robot: Any) -> None:
        """Let the camera follow the first robot."""
        self._viewer = viewer
        viewer.follow_entity(robot, fixed_axis=(None, None, CAMERA_OFFSET_M[2]), smoothing=0.95)

    @property
    def is_open(self) -> bool:
        """Whether the user has not closed the window."""
        return self._viewer.is_alive()

    def show(self, state: BipedState) -> None:
        """Do nothing: Genesis draws what it simulates."""

    def close(self) -> None:
        """Close the window."""
        self._viewer.stop()


class GenesisScene:
    """A batch of bipeds on a plane, stepped by Genesis; see `biped.sim.scene.Scene`."""

    def __init__(self, cfg: EnvConfig, device: torch.device, *, camera: bool = False, viewer: bool = False) -> None:
        """Build the scene; the first build on a machine compiles kernels for a minute or two.

        Raises:
            MachineError: Genesis or the robot model is missing, or the build fails.
        """
        self._news = KernelNews()
        try:
            self._set_up(cfg, device, camera, viewer)
        except BaseException:
            self._news.close()
            raise

    def _set_up(self, cfg: EnvConfig, device: torch.device, camera: bool, viewer: bool) -> None:
        self._gs = start_genesis(device, cfg.sim)
        self._cfg = cfg
        self.num_envs = cfg.num_envs
        self.device = torch.device(self._gs.device)
        self._camera: Any = None
        # Gives a view of Genesis's memory where Genesis shares it: on the CPU and on CUDA.
        self._qd_to_torch: Any = importlib.import_module("genesis.utils.misc").qd_to_torch
        model = model_file(cfg)
        try:
            with genesis_file(cfg) as file:
                self._build(file, camera, viewer)
            self._index_joints()
            self._number_on_device()
            self._set_actuators()
        except MachineError:
            raise
        # Genesis, its compiler and the driver raise many kinds of errors, including out of memory.
        except Exception as error:
            remedy = CACHE_REMEDY if is_of_the_disk(error) else "where memory is short, use fewer of them"
            raise MachineError(
                f"Genesis cannot build {cfg.num_envs} robots of {model} on {device.type} ({first_line(error)}); "
                f"{remedy}"
            ) from error
        self.window = GenesisWindow(self._scene.viewer, self._robot) if viewer else None
        self._targets = torch.tensor(cfg.robot.default_joint_pos_rad, device=self.device, dtype=torch.float32).expand(
            self.num_envs, -1
        )
        self._no_torque = torch.zeros(self.num_envs, 1, 3, device=self.device, dtype=torch.float32)
        self._sample: DynamicsSample | None = None
        self.mass_kg = float(sum(link.desc.mass for link in self._robot.links))
        self._gravity_w = torch.tensor(GRAVITY_DIRECTION_W, device=self.device, dtype=torch.float32).expand(
            self.num_envs, 3
        )
        offsets = torch.tensor(cfg.robot.sole_offsets_m, device=self.device, dtype=torch.float32)
        self._eager_state = partial(as_state, motors=self._motors, sole_offset=offsets.expand(self.num_envs, 2, 3))
        self._as_state: Callable[..., BipedState] = self._eager_state

    def _build(self, model: Path, camera: bool, viewer: bool) -> None:
        gs, sim = self._gs, self._cfg.sim
        self._scene = gs.Scene(
            sim_options=gs.options.SimOptions(dt=sim.control_dt_s, substeps=sim.substeps),
            rigid_options=gs.options.RigidOptions(
                enable_self_collision=bool(self._cfg.robot.self_collisions),
                enable_neutral_collision=True,  # pairs that overlap while all joints are at 0 collide too
                max_collision_pairs=sim.max_collision_pairs,
                # Each robot has its own masses and motors, at the cost of more memory traffic.
                batch_links_info=self._cfg.randomization.changes_dynamics,
                batch_dofs_info=self._cfg.randomization.changes_dynamics,
            ),
            vis_options=gs.options.VisOptions(
                rendered_envs_idx=list(range(self.num_envs)) if viewer else [0],
                background_color=(0.85, 0.89, 0.94),
                ambient_light=(0.3, 0.3, 0.3),
                lights=[{"type": "directional", "dir": (-0.5, 1.0, -1.0), "color": (1.0, 1.0, 1.0), "intensity": 5.0}],
            ),
            # The code that shows the viewer keeps real time.
            viewer_options=gs.options.ViewerOptions(
                camera_pos=CAMERA_OFFSET_M, camera_lookat=LOOK_AT_OFFSET_M, realtime_factor=None
            ),
            show_viewer=viewer,
        )
        self._scene.add_entity(gs.morphs.Plane())
        if (terrain := make_terrain(self._cfg.randomization.bumps)) is not None:
            morph = gs.morphs.Terrain(
                height_field=terrain.heights_m / _HEIGHT_UNIT_M,
                horizontal_scale=terrain.cell_m,
                vertical_scale=_HEIGHT_UNIT_M,
                pos=(*terrain.corner_m, 0.0),
            )
            self._scene.add_entity(morph)
        self._robot = self._scene.add_entity(gs.morphs.MJCF(file=str(model)))
        if camera:
            self._camera = self._scene.add_camera(
                res=CAMERA_RESOLUTION, pos=CAMERA_OFFSET_M, lookat=LOOK_AT_OFFSET_M, fov=32
            )
        spacing = {"env_spacing": (SPACING_M, SPACING_M), "n_envs_per_row": ROW, "center_envs_at_origin": False}
        self._scene.build(n_envs=self.num_envs, **(spacing if viewer else {}))
        self._solver: Any = self._scene.rigid_solver

    def _index_joints(self) -> None:
        robot, names = self._robot, self._cfg.robot
        joints = [robot.get_joint(name) for name in names.joint_names]
        self._dofs = _as_range([joint.dofs_idx_local[0] for joint in joints])
        qpos = [joint.qs_idx_local[0] for joint in joints]
        if len(qpos) + BASE_QPOS != robot.n_qs:
            raise MachineError(
                f"the model has {robot.n_qs - BASE_QPOS} joints besides its base, the configuration {len(qpos)}"
            )
        if robot.base_link.name != names.base_link:
            raise MachineError(f"the model's base is {robot.base_link.name}, the configuration's {names.base_link}")
        # Maps each column of qpos to (base position, base quaternion, joints in the configured order).
        order = torch.empty(robot.n_qs, dtype=torch.int64)
        order[:BASE_QPOS] = torch.arange(BASE_QPOS, dtype=torch.int64)
        order[torch.tensor(qpos, dtype=torch.int64)] = torch.arange(BASE_QPOS, robot.n_qs, dtype=torch.int64)
        self._qpos_order = order.to(self.device)
        left, right = (robot.get_link(name).idx_local for name in names.foot_links)
        # A strided slice reads both feet without gathering; torch does not support negative strides.
        self._feet = slice(left, right + 1, right - left) if left < right else [left, right]

    def _number_on_device(self) -> None:
        """Put what is named by its number on the device: Genesis copies numbers from the host, and waits for that."""
        robot = self._robot
        torso = robot.get_link(self._cfg.robot.torso_link)
        number = partial(torch.tensor, device=self.device, dtype=self._gs.tc_int)
        self._base_link, self._torso_link = number([robot.base_link.idx]), number([torso.idx])
        self._joint_dofs = number([robot.dof_start + dof for dof in self._dofs])
        self._geoms = torch.arange(self._solver.n_geoms, device=self.device, dtype=self._gs.tc_int)
        self._torso_mass_kg = torso.desc.mass
        self._torso_com_m = torch.tensor(torso.desc.inertial_pos, device=self.device, dtype=torch.float32)

    def _set_actuators(self) -> None:
        self._motors = motors = Motors.build(self._cfg.robot, self.device)
        self._robot.set_dofs_kp(motors.kp_nm_per_rad, self._dofs)
        self._robot.set_dofs_kv(motors.kd_nm_s_per_rad, self._dofs)
        self._robot.set_dofs_force_range(-motors.effort_limit_nm, motors.effort_limit_nm, self._dofs)
        self._armature = self._robot.get_dofs_armature(self._dofs).clone()
        self._dry_friction = self._robot.get_dofs_frictionloss(self._dofs).clone()

    def step(self, targets_rad: Tensor, force_w: Tensor | None = None) -> BipedState:
        """Hold joint position targets for one control step; see `Scene.step`."""
        if force_w is not None:
            self._solver.apply_links_external_wrench(force_w[:, None], self._no_torque, self._base_link)
        self.advance(targets_rad)
        state = self._read_state()
        self._news.close()  # after the first step almost all kernels are compiled
        return state

    def apply(self, sample: DynamicsSample) -> None:
        """Set the dynamics of each robot and its ground; see `Scene.apply`.

        Raises:
            MachineError: the scene was built without per-robot dynamics.
        """
        if not self._cfg.randomization.changes_dynamics:
            raise MachineError("this scene was built without per-robot dynamics: switch a randomization on")
        self._sample = sample
        robot, motors, solver = self._robot, self._motors, self._solver
        # Genesis uses the larger of the two friction values, and both default to 1.
        solver.set_geoms_friction_ratio(sample.friction[:, None].expand(-1, len(self._geoms)), self._geoms)
        solver.set_links_mass((self._torso_mass_kg + sample.torso_mass_kg)[:, None], self._torso_link)
        solver.set_links_COM((self._torso_com_m + sample.torso_com_m)[:, None], self._torso_link)
        limit = motors.effort_limit_nm * sample.strength
        robot.set_dofs_kp(motors.kp_nm_per_rad * sample.strength, self._dofs)
        robot.set_dofs_kv(motors.kd_nm_s_per_rad * sample.damping, self._dofs)
        robot.set_dofs_force_range(-limit, limit, self._dofs)
        robot.set_dofs_frictionloss((self._dry_friction + sample.joint_friction_nm).clamp_min(0.0), self._dofs)
        solver.set_dofs_armature(self._armature * sample.armature, self._joint_dofs)
        self._gravity_w = sample.gravity_direction
        solver.set_gravity(GRAVITY_M_S2 * sample.gravity_direction)

    def set_base_velocity(self, mask: Tensor, lin_vel_w: Tensor, ang_vel_b: Tensor) -> None:
        """Set velocities of bases; see `Scene.set_base_velocity`."""
        if self.device.type == "cpu" and not mask.any():
            return
        # Genesis takes values only for the selected environments, and a GPU would have to wait to count them.
        before = self._robot.get_dofs_velocity(_BASE_DOFS)
        velocity = torch.where(mask[:, None], torch.cat((lin_vel_w, ang_vel_b), dim=1), before)
        self._robot.set_dofs_velocity(velocity, _BASE_DOFS, skip_forward=True)

    def advance(self, targets_rad: Tensor) -> None:
        """Step without reading the state: the bare simulator, for benchmarks."""
        self._targets = targets_rad
        self._robot.control_dofs_position(targets_rad, self._dofs)
        self._scene.step()

    def reset(self, mask: Tensor, pose: ResetPose) -> None:
        """Reset the robots where `mask` (num_envs,) is True to their pose, and clear their errors."""
        # On the CPU, reading the mask causes no stall, and most steps reset no robot.
        if self.device.type == "cpu" and not mask.any():
            return
        qpos = torch.cat((pose.base_pos_w, pose.base_quat_w, pose.joint_pos_rad), dim=1)
        self._robot.set_qpos(
            qpos.index_select(1, self._qpos_order), envs_idx=mask, zero_velocity=True, skip_forward=True
        )
        if pose.joint_vel_rad_s is not None:
            before = self._robot.get_dofs_velocity(self._dofs)
            velocity = torch.where(mask[:, None], pose.joint_vel_rad_s, before)
            self._robot.set_dofs_velocity(velocity, self._dofs, skip_forward=True)

    def _read_state(self) -> BipedState:
        robot, feet = self._robot, self._feet
        readings = Readings(
            base_pos=robot.get_pos(),
            base_quat=robot.get_quat(),
            base_vel=robot.get_vel(),
            base_ang_vel=robot.get_ang(),
            joint_pos=robot.get_dofs_position(self._dofs),
            joint_vel=robot.get_dofs_velocity(self._dofs),
            feet_pos=robot.get_links_pos()[:, feet],
            feet_quat=robot.get_links_quat()[:, feet],
            feet_vel=robot.get_links_vel()[:, feet],
            feet_ang_vel=robot.get_links_ang()[:, feet],
            feet_force=robot.get_links_net_contact_force()[:, feet, 2],
            error=self._solver.get_error_envs_mask(),
        )
        return self._as_state(readings, self._targets, self._gravity_w, self._sample)

    def use_graph(self, graph: Graph) -> None:
        """Compute the state as a graph; see `Scene.use_graph`."""
        self._as_state = graph(self._eager_state, [])

    def get_state(self) -> dict[str, Tensor]:
        """Return copies of everything that the next steps depend on, solver warm start and contact cache included."""
        solver = self._solver
        return {
            **{name: view.clone() for name, view in self._live_views().items()},
            "is_up_to_date": torch.tensor([getattr(solver, name) for name in _UP_TO_DATE], dtype=torch.bool),
        }

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue exactly from what `get_state` returned, in this process or in another.

        Raises:
            KeyError: a part is missing.
            RuntimeError: a part has another shape.
        """
        self._robot.set_qpos(state["qpos"].T.to(self.device))  # invalidates what Genesis has cached of the old pose
        for name, view in self._live_views().items():
            if view.shape != state[name].shape:
                raise RuntimeError(f"{name} is {tuple(state[name].shape)}, the scene's is {tuple(view.shape)}")
            view.copy_(state[name])
        # After a reset, the next step starts from the links' poses; restore these flags so that it does here too.
        for name, value in zip(_UP_TO_DATE, state["is_up_to_date"].tolist(), strict=True):
            setattr(self._solver, name, value)

    def _live_views(self) -> dict[str, Tensor]:
        """Return views of Genesis's own memory of the moving parts.

        Found by experiment with genesis-world 1.4.5: with these parts a new scene repeats a trajectory bit by bit, and
        without most of them it does not. Genesis's own `get_state` omits the warm start and values that the next step
        takes from the end of the last one.
        """
        solver = self._solver
        dyn, contacts = solver.dyn_state, solver.collider.collider_state
        parts = {
            "qpos": solver.rigid_info.qpos,
            **{f"dofs.{name}": getattr(dyn.dofs, name) for name in _DOFS},
            **{f"links.{name}": getattr(dyn.links, name) for name in _LINKS},
            **{f"geoms.{name}": getattr(dyn.geoms, name) for name in _GEOMS},
            **{f"solver.{name}": getattr(solver.constraint_solver.constraint_state, name) for name in _WARM_START},
            "contacts.first_time": contacts.first_time,
            "contacts.normal": contacts.contact_cache.normal,
            "contacts.penetration": contacts.contact_cache.penetration,
        }
        return {name: self._qd_to_torch(part, copy=False) for name, part in parts.items()}

    def render(self) -> np.ndarray:
        """Render a picture of the first robot, (height, width, 3), uint8.

        Raises:
            MachineError: the scene was built without a camera, or the machine cannot render.
        """
        if self._camera is None:
            raise MachineError("this scene was built without a camera: build it with camera=True")
        here = self._robot.get_pos()[0].cpu().numpy() * (1.0, 1.0, 0.0)
        try:
            self._camera.set_pose(pos=here + CAMERA_OFFSET_M, lookat=here + LOOK_AT_OFFSET_M)
            picture = self._camera.render(rgb=True)[0]
        except Exception as error:
            raise MachineError(f"this machine cannot render ({error}): {how_to_check()}") from error
        return np.asarray(picture)[..., :3]

    def close(self) -> None:
        """Free the simulator's resources; the scene cannot be used afterwards."""
        self._news.close()
        self._scene.destroy()


def _as_range(indices: list[int]) -> range | list[int]:
    """Return consecutive indices as a range, which Genesis reads without gathering; others unchanged."""
    first = indices[0]
    return range(first, first + len(indices)) if indices == list(range(first, first + len(indices))) else indices
