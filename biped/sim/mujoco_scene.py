"""The biped in MuJoCo, batched on CPU threads by `mujoco.rollout`.

Todorov, Erez and Tassa 2012, "MuJoCo: A physics engine for model-based control".
"""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biped.base.errors import MachineError, first_line
from biped.base.platforms import usable_cores
from biped.config.task import EnvConfig
from biped.robot.actuators import Motors, pd_torque
from biped.robot.dynamics import DynamicsSample
from biped.robot.model import model_file
from biped.robot.rotations import quat_rotate, quat_rotate_inverse
from biped.robot.state import GRAVITY_DIRECTION_W, GRAVITY_M_S2, BipedState
from biped.sim.mujoco_file import import_mujoco
from biped.sim.mujoco_model import CAMERA_RESOLUTION, FOOT_SENSORS, ModelBuilder
from biped.sim.mujoco_robot import robot_spec
from biped.sim.mujoco_window import MujocoWindow
from biped.sim.scene import Graph, ResetPose, as_slice

BASE_QPOS, BASE_QVEL = 7, 6
"""Entries before the joints in the generalised position and velocity: the free joint of the base."""
MAX_VELOCITY = 1e4
"""Generalised velocity beyond which the simulation of a robot counts as diverged (m/s or rad/s)."""


class MujocoScene:
    """A batch of bipeds on a plane, stepped by MuJoCo on the CPU's cores; see `biped.sim.scene.Scene`.

    Foot sensors are read at the beginning of the last substep; foot positions are extrapolated to its end by velocity.
    """

    def __init__(self, cfg: EnvConfig, device: torch.device, *, camera: bool = False, viewer: bool = False) -> None:
        """Compile the model.

        Raises:
            MachineError: MuJoCo or the robot model is missing, the model is unusable, or the device is not the CPU.
        """
        if device.type != "cpu":
            raise MachineError("MuJoCo runs on the CPU here: use --device cpu with --sim mujoco")
        self._mujoco = mujoco = import_mujoco()
        self._cfg, self.num_envs, self.device = cfg, cfg.num_envs, device
        spec = robot_spec(cfg)
        self.window = MujocoWindow(spec.copy(), cfg) if viewer else None
        try:
            self._model = ModelBuilder(cfg).build(spec, keep_looks=camera)
            self._index(self._model)
        except MachineError:
            raise
        except Exception as error:  # MuJoCo's compiler raises its own exception types
            raise MachineError(f"MuJoCo cannot build {model_file(cfg)} ({first_line(error)})") from error
        self._models: Any = self._model
        self._motors = Motors.build(cfg.robot)
        self._sample: DynamicsSample | None = None
        self._camera: Any = self._make_camera() if camera else None
        threads = usable_cores()
        self._rollout = mujoco.rollout.Rollout(nthread=threads)
        self._datas = [mujoco.MjData(self._model) for _ in range(threads)]
        size = mujoco.mj_stateSize(self._model, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        substeps = cfg.sim.substeps
        self._state = np.zeros((self.num_envs, size))
        self._states = np.zeros((self.num_envs, substeps, size))
        self._sensed = np.zeros((self.num_envs, substeps, self._model.nsensordata))
        self._state[:, 1 : 1 + self._model.nq] = self._model.qpos0
        self._targets = torch.tensor(cfg.robot.default_joint_pos_rad, dtype=torch.float32).expand(self.num_envs, -1)
        self._controls = np.zeros((self.num_envs, substeps, self._model.nu))
        self.mass_kg = float(self._model.body_mass.sum())
        self._gravity_w = torch.tensor(GRAVITY_DIRECTION_W, dtype=torch.float32).expand(self.num_envs, 3)

    def _make_camera(self) -> Any:
        try:
            return self._mujoco.Renderer(self._model, *CAMERA_RESOLUTION[::-1])
        except Exception as error:  # several kinds without a display or a working driver
            raise MachineError(f"MuJoCo cannot render here ({first_line(error)})") from error

    def _index(self, model: Any) -> None:
        robot = self._cfg.robot
        if model.nq != BASE_QPOS + len(robot.joint_names):
            raise MachineError(
                f"the model has {model.nq - BASE_QPOS} joints besides its base, the configuration "
                f"{len(robot.joint_names)}"
            )
        joints = [model.joint(name) for name in robot.joint_names]
        self._base = model.body(robot.base_link).id
        if model.body_jntnum[self._base] != 1 or model.body_dofnum[self._base] != BASE_QVEL:
            raise MachineError(f"the model's {robot.base_link} does not float: it needs a free joint")
        self._torso = model.body(robot.torso_link).id
        self._qpos = as_slice([1 + int(joint.qposadr[0]) for joint in joints])
        self._dofs = [int(joint.dofadr[0]) for joint in joints]
        self._qvel = as_slice([1 + model.nq + dof for dof in self._dofs])
        self._base_qpos = slice(1, 1 + BASE_QPOS)
        self._base_qvel = slice(1 + model.nq, 1 + model.nq + BASE_QVEL)
        first = int(model.sensor(f"{robot.foot_links[0]} {FOOT_SENSORS[0]}").adr[0])
        self._feet = slice(first, first + 2 * 3 * len(FOOT_SENSORS))

    def step(self, targets_rad: Tensor, force_w: Tensor | None = None) -> BipedState:
        """Hold joint position targets for one control step; see `Scene.step`."""
        self.advance(targets_rad, force_w)
        return self._read_state()

    def advance(self, targets_rad: Tensor, force_w: Tensor | None = None) -> None:
        """Step without reading the state: the bare simulator, for benchmarks."""
        mujoco = self._mujoco
        self._targets = targets_rad
        self._controls[:] = targets_rad.numpy()[:, None]
        control = self._controls
        spec = int(mujoco.mjtState.mjSTATE_CTRL)
        if force_w is not None:
            forces = np.zeros((self.num_envs, self._model.nbody, 6))
            forces[:, self._base, :3] = force_w.numpy()
            # MuJoCo applies forces at the base's centre of mass; the moment corrects for the offset of the origin.
            base_quat = torch.from_numpy(self._state[:, self._base_qpos][:, 3:])
            arm = quat_rotate(base_quat, torch.from_numpy(self._model.body_ipos[self._base]).expand(self.num_envs, 3))
            forces[:, self._base, 3:] = np.cross(-arm.numpy(), force_w.numpy())
            forces = np.broadcast_to(forces.reshape(self.num_envs, 1, -1), (*control.shape[:2], forces[0].size))
            control = np.concatenate((control, forces), axis=2)
            spec |= int(mujoco.mjtState.mjSTATE_XFRC_APPLIED)
        self._rollout.rollout(
            self._models,
            self._datas,
            self._state,
            control,
            control_spec=spec,
            state=self._states,
            sensordata=self._sensed,
        )
        self._state = self._states[:, -1].copy()

    def reset(self, mask: Tensor, pose: ResetPose) -> None:
        """Reset the robots where `mask` (num_envs,) is True to their pose, and clear their errors."""
        chosen = mask.numpy()
        state = np.zeros((int(chosen.sum()), self._state.shape[1]))
        state[:, self._base_qpos] = torch.cat((pose.base_pos_w, pose.base_quat_w), dim=1).numpy()[chosen]
        state[:, self._qpos] = pose.joint_pos_rad.numpy()[chosen]
        if pose.joint_vel_rad_s is not None:
            state[:, self._qvel] = pose.joint_vel_rad_s.numpy()[chosen]
        self._state[chosen] = state

    def set_base_velocity(self, mask: Tensor, lin_vel_w: Tensor, ang_vel_b: Tensor) -> None:
        """Set velocities of bases; see `Scene.set_base_velocity`."""
        chosen = mask.numpy()
        self._state[chosen, self._base_qvel] = torch.cat((lin_vel_w, ang_vel_b), dim=1).numpy()[chosen]

    def apply(self, sample: DynamicsSample) -> None:
        """Set the dynamics of each robot and its ground; see `Scene.apply`.

        MuJoCo stores these quantities in the model, so each robot gets its own model.
        """
        if self._models is self._model:
            self._models = [copy.copy(self._model) for _ in range(self.num_envs)]
        self._sample, self._gravity_w = sample, sample.gravity_direction
        motors, nominal = self._motors, self._model
        kp = motors.kp_nm_per_rad.numpy() * sample.strength.numpy()
        kd = motors.kd_nm_s_per_rad.numpy() * sample.damping.numpy()
        limit = motors.effort_limit_nm.numpy() * sample.strength.numpy()
        armature = nominal.dof_armature[self._dofs] * sample.armature.numpy()
        com = nominal.body_ipos[self._torso] + sample.torso_com_m.numpy()
        mass = nominal.body_mass[self._torso] + sample.torso_mass_kg.numpy()
        gravity = GRAVITY_M_S2 * sample.gravity_direction.numpy()
        friction = sample.friction.numpy()
        dry = np.maximum(nominal.dof_frictionloss[self._dofs] + sample.joint_friction_nm.numpy(), 0.0)
        data = self._datas[0]
        for index, model in enumerate(self._models):
            model.geom_friction[:, 0] = friction[index]
            model.body_mass[self._torso], model.body_ipos[self._torso] = mass[index], com[index]
            model.actuator_gainprm[:, 0], model.actuator_biasprm[:, 1] = kp[index], -kp[index]
            model.actuator_biasprm[:, 2] = -kd[index]
            model.actuator_forcerange[:, 0], model.actuator_forcerange[:, 1] = -limit[index], limit[index]
            model.dof_frictionloss[self._dofs], model.dof_armature[self._dofs] = dry[index], armature[index]
            model.opt.gravity = gravity[index]
            self._mujoco.mj_setConst(model, data)

    def _read_state(self) -> BipedState:
        state = torch.from_numpy(self._state).float()
        base, velocity = state[:, self._base_qpos], state[:, self._base_qvel]
        feet = torch.from_numpy(self._sensed[:, -1, self._feet]).float().unflatten(1, (len(FOOT_SENSORS), 2, 3))
        (force_w, sole_w, foot_vel_w), quat = feet.unbind(dim=1), base[:, 3:]
        vectors_w = torch.stack((velocity[:, :3], self._gravity_w), dim=1)
        lin_vel_b, gravity_b = quat_rotate_inverse(quat[:, None], vectors_w).unbind(dim=1)
        joint_pos, joint_vel = state[:, self._qpos], state[:, self._qvel]
        torque = pd_torque(self._targets, joint_pos, joint_vel, self._motors, self._sample)
        # All other values are computed from these; a sum is finite only if every addend is.
        is_finite = torch.isfinite(state.sum(dim=1) + feet.flatten(1).sum(dim=1) + torque.sum(dim=1))
        is_slow = (state[:, 1 + self._model.nq :].abs() <= MAX_VELOCITY).all(dim=1)
        return BipedState(
            base_pos_w=base[:, :3],
            base_quat_w=quat,
            base_lin_vel_b=lin_vel_b,
            base_ang_vel_b=velocity[:, 3:],
            projected_gravity_b=gravity_b,
            joint_pos_rad=joint_pos,
            joint_vel_rad_s=joint_vel,
            joint_torque_nm=torque,
            foot_pos_w=sole_w + self._model.opt.timestep * foot_vel_w,
            foot_vel_w=foot_vel_w,
            foot_force_n=-force_w[..., 2],  # the sensor gives the foot's force on the ground
            error=~(is_finite & is_slow),
        )

    def use_graph(self, graph: Graph) -> None:
        """Do nothing: MuJoCo's results are no tensors."""

    def get_state(self) -> dict[str, Tensor]:
        """Return copies of everything that the next steps depend on."""
        return {"physics": torch.from_numpy(self._state.copy())}

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue exactly from what `get_state` returned.

        Raises:
            KeyError: a part is missing.
            RuntimeError: it belongs to another robot or number of robots.
        """
        physics = state["physics"].numpy()
        if physics.shape != self._state.shape:
            raise RuntimeError(f"the physics is {physics.shape}, the scene's is {self._state.shape}")
        self._state = physics.copy()

    def render(self) -> np.ndarray:
        """Render a picture of the first robot, (height, width, 3), uint8.

        Raises:
            MachineError: the scene was built without a camera, or the machine cannot render.
        """
        if self._camera is None:
            raise MachineError("this scene was built without a camera: build it with camera=True")
        mujoco, data = self._mujoco, self._datas[0]
        mujoco.mj_setState(self._model, data, self._state[0], mujoco.mjtState.mjSTATE_FULLPHYSICS)
        mujoco.mj_forward(self._model, data)
        view = mujoco.MjvCamera()
        view.lookat, view.distance, view.azimuth, view.elevation = (*data.qpos[:2], 0.28), 1.6, 131.0, -12.0
        try:
            self._camera.update_scene(data, camera=view)
            return self._camera.render()
        except Exception as error:
            raise MachineError(f"MuJoCo cannot render here ({first_line(error)})") from error

    def close(self) -> None:
        """Free the threads and the renderer; the scene cannot be used afterwards."""
        self._rollout.close()
        if self._camera is not None:
            self._camera.close()
