"""A robot hung up by its base, whose joints follow given targets: what identification compares with a log.

The motors are those of `biped.robot.actuators`: targets come late, the gears' play follows them, and a clamped PD law
drives the joint against dry friction, viscous damping and the rotor's inertia.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biped.base.errors import MachineError, first_line
from biped.base.platforms import usable_cores
from biped.config.task import EnvConfig
from biped.robot.model import model_file
from biped.robot.state import GRAVITY_M_S2
from biped.sim.mujoco_file import import_mujoco
from biped.sim.mujoco_model import ModelBuilder
from biped.sim.mujoco_robot import robot_spec

Array = NDArray[np.float64]

PARAMETERS = ("gain", "damping", "friction", "armature", "delay", "play")
"""What is known of a joint by its motion, in the order of every array of parameters."""
UNITS = ("1", "N·m·s/rad", "N·m", "kg·m²", "s", "rad")
"""Units of `PARAMETERS`: `gain` is a factor on kp, `damping` all that grows with speed, kd and the joint's own."""
PHYSICS_DT_S = 0.0025
"""Longest physics step (s)."""
STIFFEST = 0.25
"""Largest physics step, in times within which damping stops a rotor."""
HEIGHT_M = 10.0
"""Height of the base over the ground (m)."""


@dataclass(frozen=True)
class Excited:
    """What was sent to a robot that hung by its base, and what its encoders said; rows are control steps."""

    time_s: Array
    """When positions were read, (num_steps,), s, from 0 on."""
    targets_rad: Array
    """What was sent right after, (num_steps, num_joints), rad."""
    pos_rad: Array
    """What was read, (num_steps, num_joints), rad; NaN where a servo did not answer."""
    gravity_b: Array
    """Unit vector along gravity in the base frame, (3,)."""
    dt_s: float
    """Time between two control steps as planned (s)."""

    @property
    def num_joints(self) -> int:
        """The number of joints."""
        return self.targets_rad.shape[1]


def driven_through(targets_rad: Array, play_rad: Array) -> Array:
    """Return what the gears' output is driven to, (num_steps, num_joints), rad.

    `biped.robot.actuators.Actuation.driven_to`, for a whole track.

    Args:
        targets_rad: (num_steps, num_joints), rad.
        play_rad: (num_joints,), rad.
    """
    half, track = 0.5 * play_rad, np.empty_like(targets_rad)
    at = targets_rad[0]
    for row, target in enumerate(targets_rad):
        at = np.minimum(np.maximum(at, target - half), target + half)
        track[row] = at
    return track


def held_mean(time_s: Array, track: Array, edges_s: Array) -> Array:
    """Return the mean between edges of a track that jumps at each time to its next row, (num_edges - 1,).

    Unlike samples of the track it changes smoothly when the times are moved, by whatever part of a physics step.

    Args:
        time_s: when each row begins to hold, (num_steps,), s; before the first, the first holds.
        track: (num_steps,).
        edges_s: (num_edges,), s.
    """
    area = np.concatenate(([0.0], np.cumsum(track[:-1] * np.diff(time_s))))
    row = np.searchsorted(time_s, edges_s, side="right") - 1
    held = np.maximum(row, 0)
    until = area[held] + track[held] * (edges_s - time_s[held])
    return np.diff(until) / np.diff(edges_s)


class HungRobot:
    """Simulates a log with many sets of parameters at once, on the CPU's cores."""

    def __init__(self, cfg: EnvConfig, log: Excited, limb: Sequence[int] | None = None) -> None:
        """Build the model.

        Args:
            cfg: the robot.
            log: what it did.
            limb: the joints that are simulated, by their numbers; all others are left out, which is faster. None: all.

        Raises:
            MachineError: MuJoCo or the robot's model is missing, or cannot be built.
        """
        self._mujoco = mujoco = import_mujoco()
        self.joints = tuple(range(log.num_joints) if limb is None else limb)
        """Numbers of the simulated joints."""
        chosen = list(self.joints)
        self.log = Excited(log.time_s, log.targets_rad[:, chosen], log.pos_rad[:, chosen], log.gravity_b, log.dt_s)
        """What these joints did."""
        names = [cfg.robot.joint_names[joint] for joint in chosen]
        motors = [cfg.robot.motors[joint] for joint in chosen]
        self._model = model = hung_model(cfg, log.gravity_b, names)
        self._qpos = np.array([int(model.joint(name).qposadr[0]) for name in names])
        self._dofs = np.array([int(model.joint(name).dofadr[0]) for name in names])
        self._kp = np.array([motor.kp_nm_per_rad for motor in motors])
        self._kd = np.array([motor.kd_nm_s_per_rad for motor in motors])
        self.torque_limit_nm = np.array([motor.effort_limit_nm for motor in motors])
        """Largest torque of each motor, (num_joints,), N·m."""
        stops_s = (model.dof_armature[self._dofs] / np.maximum(self._kd + model.dof_damping[self._dofs], 1e-9)).min()
        longest_s = max(min(PHYSICS_DT_S, STIFFEST * stops_s), 0.1 * PHYSICS_DT_S)
        model.opt.timestep = self.physics_dt_s = log.dt_s / max(1, int(np.ceil(log.dt_s / longest_s - 1e-9)))
        self._datas = [mujoco.MjData(model) for _ in range(usable_cores())]
        count = int(np.ceil(log.time_s[-1] / self.physics_dt_s)) + 2
        self._edges_s: Array = self.physics_dt_s * np.arange(count, dtype=float)
        self._size = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS)

    @property
    def limbs(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of joints that move each other; with the base fixed, no other joint does."""
        trees = self._model.dof_treeid[self._dofs]
        return tuple(
            tuple(joint for joint, of in zip(self.joints, trees, strict=True) if of == tree)
            for tree in np.unique(trees)
        )

    @property
    def nominal(self) -> Array:
        """The parameters of the robot's file, (num_joints, num_parameters); no delay, no play."""
        model = self._model
        columns = {
            "gain": np.ones(len(self._kp)),
            "damping": self._kd + model.dof_damping[self._dofs],
            "friction": model.dof_frictionloss[self._dofs],
            "armature": model.dof_armature[self._dofs],
        }
        return np.stack([columns.get(name, np.zeros(len(self._kp))) for name in PARAMETERS], axis=1)

    def positions(self, parameters: Array) -> Array:
        """Return joint positions when the log read them, (num_sets, num_steps, num_joints), rad.

        Args:
            parameters: (num_sets, num_joints, num_parameters).
        """
        found = [self._positions(parameters[first : first + 16]) for first in range(0, len(parameters), 16)]
        return np.concatenate(found)

    def _positions(self, parameters: Array) -> Array:
        mujoco, sets, steps = self._mujoco, len(parameters), len(self._edges_s) - 1
        state = np.zeros((sets, self._size))
        state[:, 1 + self._qpos] = self._first_position()
        controls = np.stack([self._controls(one) for one in parameters])
        states = np.empty((sets, steps, self._size))
        with mujoco.rollout.Rollout(nthread=len(self._datas)) as rollout:
            rollout.rollout([self._with(one) for one in parameters], self._datas, state, controls, state=states)
        return self._read(np.concatenate((state[:, None], states), axis=1))

    def _first_position(self) -> Array:
        first = self.log.pos_rad[0]
        return np.where(np.isfinite(first), first, self.log.targets_rad[0])

    def _controls(self, parameters: Array) -> Array:
        """Return what the motors are driven to in each physics step, (num_physics_steps, num_joints), rad."""
        log, delay = self.log, parameters[:, PARAMETERS.index("delay")]
        track = driven_through(log.targets_rad, parameters[:, PARAMETERS.index("play")])
        return np.stack(
            [held_mean(log.time_s + delay[joint], track[:, joint], self._edges_s) for joint in range(track.shape[1])],
            axis=1,
        )

    def _with(self, parameters: Array) -> Any:
        """Return a copy of the model with other parameters (num_joints, num_parameters)."""
        model = copy.copy(self._model)
        column = dict(zip(PARAMETERS, parameters.T, strict=True))
        kd, damping = split_damping(column["damping"], self._kd)
        kp = self._kp * column["gain"]
        model.actuator_gainprm[:, 0], model.actuator_biasprm[:, 1], model.actuator_biasprm[:, 2] = kp, -kp, -kd
        model.dof_damping[self._dofs], model.dof_frictionloss[self._dofs] = damping, column["friction"]
        model.dof_armature[self._dofs] = column["armature"]
        self._mujoco.mj_setConst(model, self._datas[0])
        return model

    def _read(self, states: Array) -> Array:
        """Return the positions between physics steps, by Hermite's cubic, (num_sets, num_steps, num_joints), rad."""
        at = self.log.time_s / self.physics_dt_s
        row = np.minimum(at.astype(int), states.shape[1] - 2)
        share = (at - row)[:, None]
        pos, vel = states[..., 1 + self._qpos], self.physics_dt_s * states[..., 1 + self._model.nq + self._dofs]
        one, other = pos[:, row], pos[:, row + 1]
        return (
            one * (1 + 2 * share) * (1 - share) ** 2
            + other * share**2 * (3 - 2 * share)
            + vel[:, row] * share * (1 - share) ** 2
            - vel[:, row + 1] * share**2 * (1 - share)
        )


def hung_model(cfg: EnvConfig, gravity_b: Array | Sequence[float], joints: Sequence[str]) -> Any:
    """Return the model of a robot whose base does not move, without contacts, as a `mujoco.MjModel`.

    Args:
        cfg: the robot.
        gravity_b: unit vector along gravity in the base frame, (3,).
        joints: names of the joints that turn; all others are held at 0.

    Raises:
        MachineError: MuJoCo or the robot's model is missing, or cannot be built.
    """
    mujoco, spec = import_mujoco(), robot_spec(cfg)
    base = spec.body(cfg.robot.base_link)
    for joint in list(base.joints):
        spec.delete(joint)
    base.pos, base.quat = [0.0, 0.0, HEIGHT_M], [1.0, 0.0, 0.0, 0.0]
    try:
        options = ModelBuilder(cfg).build(spec, keep_looks=False).opt
        for thing in [*spec.actuators, *spec.joints]:
            if thing.name not in joints:
                spec.delete(thing)
        model = spec.compile()
    except MachineError:
        raise
    except Exception as error:  # MuJoCo's compiler raises its own exception types
        raise MachineError(f"MuJoCo cannot build {model_file(cfg)} ({first_line(error)})") from error
    flags = mujoco.mjtDisableBit
    model.opt.disableflags = options.disableflags | flags.mjDSBL_CONTACT | flags.mjDSBL_SENSOR
    model.opt.jacobian = options.jacobian
    # Fourth order in the physics step: with the engine's own first order a delay would be off by half a step.
    model.opt.integrator = mujoco.mjtIntegrator.mjINT_RK4
    model.opt.gravity = GRAVITY_M_S2 * np.asarray(gravity_b)
    return model


def split_damping(damping: Array, kd: Array | float) -> tuple[Array, Array]:
    """Return kd and the joint's own damping, whose sum is known; kd is as in the robot's file if that leaves enough.

    They cannot be told apart while no torque is at its limit.
    """
    own = np.maximum(damping - kd, 0.0)
    return damping - own, own
