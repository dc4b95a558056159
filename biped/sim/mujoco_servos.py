"""A robot in MuJoCo that is driven by its servos' own law, in small steps: the plant of a simulated servo bus.

Training holds a torque law for 10 ms. Here it is computed every millisecond from what a servo measures: ticks of an
encoder, a PWM that is limited, and a motor that brakes by itself. The law is handed in: this module knows no servo.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from biped.base.errors import MachineError
from biped.config.task import EnvConfig
from biped.sim.mujoco_file import import_mujoco
from biped.sim.mujoco_model import FOOT_SENSORS, ModelBuilder
from biped.sim.mujoco_robot import robot_spec

Array = NDArray[np.float64]

PHYSICS_DT_S = 0.001
"""Time step of the physics and of the servos' law (s)."""
_TOUCH_N = 0.5
HANGING_HEIGHT_M = 0.3
"""How far above its default height the base hangs (m)."""
_BASE_QPOS, _BASE_QVEL = 7, 6
_HELD_INERTIA = 1e7
"""Inertia of the base while it is held (kg, kg·m²): the robot's weight moves it 0.1 mm in ten seconds."""


class Law(Protocol):
    """Torques (N·m) and currents (A) of servos, (num_servos,), counter-clockwise positive."""

    def __call__(
        self,
        goal_ticks: Array,
        pos_ticks: Array,
        vel_rad_s: Array,
        position_p: Array,
        position_d: Array,
        pwm_limit: Array,
        voltage_v: Array | float,
    ) -> tuple[Array, Array]:
        """Compute them from goals, what the encoders say, velocities, registers and supply voltage (V)."""
        ...


class Command(Protocol):
    """What servos are set to, (num_servos,) each."""

    @property
    def goal_ticks(self) -> Array:
        """Goals."""
        ...

    @property
    def position_p(self) -> Array:
        """Gain of the error."""
        ...

    @property
    def position_d(self) -> Array:
        """Gain of the velocity."""
        ...

    @property
    def pwm_limit(self) -> Array:
        """Largest PWM; 0 for a servo that is limp."""
        ...

    @property
    def voltage_v(self) -> float:
        """Supply voltage (V)."""
        ...


@dataclass(frozen=True)
class Mounting:
    """How the servos sit on the joints, in the order of `RobotConfig.joint_names`."""

    directions: tuple[float, ...]
    """1 where a joint's angle grows with the servo's ticks, else -1."""
    zero_ticks: tuple[float, ...]
    """Ticks at 0 rad."""
    ticks_per_turn: int = 4096
    """Resolution of the encoders."""


@dataclass(frozen=True)
class Wear:
    """How the robot differs from its model."""

    mass_factor: float = 1.0
    """Factor on the mass and inertia of each link."""
    friction_factor: float = 1.0
    """Factor on the dry friction of each joint."""
    play_rad: float = 0.0
    """Play between a servo and its joint (rad): the joint is not driven within it."""


@dataclass(frozen=True)
class BaseReading:
    """Where the base is, and what an ideal IMU at its origin says."""

    pos_w: Array
    """Position of the base frame's origin, (3,), m."""
    quat: Array
    """Orientation, (4,), wxyz."""
    specific_force_b: Array
    """Acceleration less gravity, in the base frame, (3,), m/s²; (0, 0, 9.81) at rest."""
    ang_vel_b: Array
    """Angular velocity in the base frame, (3,), rad/s."""


class MujocoServos:
    """One robot with its servos; it stands held at its default height until it is released."""

    def __init__(
        self,
        cfg: EnvConfig,
        law: Law,
        mounting: Mounting,
        wear: Wear = Wear(),
        *,
        hanging: bool = False,
    ) -> None:
        """Build the robot, in its default pose and at rest, its base held.

        Args:
            cfg: robot and ground.
            law: what the servos do.
            mounting: how they sit.
            wear: how the robot differs from its model.
            hanging: hold it in the air.

        Raises:
            MachineError: MuJoCo or the model is missing or unusable, or the mounting is of another robot.
        """
        names = cfg.robot.joint_names
        if not len(mounting.directions) == len(mounting.zero_ticks) == len(names):
            raise MachineError(f"the mounting has {len(mounting.directions)} servos, the robot {len(names)} joints")
        self._mujoco, self._law, self._play_rad = import_mujoco(), law, wear.play_rad
        self._model = _build(cfg, wear)
        self._data = self._mujoco.MjData(self._model)
        self.joint_names = names
        joints = [self._model.joint(name) for name in names]
        self._qpos = np.array([int(joint.qposadr[0]) for joint in joints])
        self._qvel = np.array([int(joint.dofadr[0]) for joint in joints])
        self._directions, self._zeros = np.array(mounting.directions), np.array(mounting.zero_ticks)
        self._ticks_per_rad = mounting.ticks_per_turn / (2.0 * np.pi)
        self._base = self._model.body(cfg.robot.base_link).id
        self._foot_sensors = [f"{foot} {FOOT_SENSORS[0]}" for foot in cfg.robot.foot_links]
        self._armature = self._model.dof_armature.copy()
        self._currents = np.zeros(len(names))
        self._motor_ticks: Array | None = None
        self._pose = np.array([0.0, 0.0, cfg.robot.default_base_height_m, 1.0, 0.0, 0.0, 0.0])
        self._data.qpos[self._qpos] = cfg.robot.default_joint_pos_rad
        self.hold(height_m=HANGING_HEIGHT_M if hanging else 0.0)
        self._mujoco.mj_forward(self._model, self._data)

    @property
    def model(self) -> Any:
        """The `mujoco.MjModel`, for a camera."""
        return self._model

    @property
    def data(self) -> Any:
        """The `mujoco.MjData`."""
        return self._data

    @property
    def pos_ticks(self) -> Array:
        """Positions of the servos, (num_servos,), ticks, not rounded."""
        return self._zeros + self._directions * self._data.qpos[self._qpos] * self._ticks_per_rad

    @property
    def vel_rad_s(self) -> Array:
        """Velocities of the servos, (num_servos,), rad/s, counter-clockwise positive."""
        return self._directions * self._data.qvel[self._qvel]

    @property
    def current_a(self) -> Array:
        """Motor currents, (num_servos,), A, counter-clockwise positive."""
        return self._currents

    @property
    def pos_rad(self) -> Array:
        """Positions of the joints, (num_joints,), rad."""
        return self._data.qpos[self._qpos].copy()

    @property
    def feet_down(self) -> NDArray[np.bool_]:
        """Which feet are on the ground, left, right, (2,)."""
        return np.array([np.linalg.norm(self._data.sensor(name).data) > _TOUCH_N for name in self._foot_sensors])

    def base(self) -> BaseReading:
        """Return where the base is, and what an ideal IMU says."""
        data = self._data
        return BaseReading(
            data.xpos[self._base].copy(),
            data.xquat[self._base].copy(),
            data.sensor("base accelerometer").data.copy(),
            data.sensor("base gyro").data.copy(),
        )

    def hold(self, height_m: float = 0.0) -> None:
        """Hold the base upright, `height_m` above its default height, until it is released."""
        self._pose_held = self._pose + np.array([0.0, 0.0, height_m, 0.0, 0.0, 0.0, 0.0])
        self._model.dof_armature[:_BASE_QVEL] = _HELD_INERTIA
        self._is_held = True
        self._keep_held()

    def release(self) -> None:
        """Let the base go."""
        self._model.dof_armature[:_BASE_QVEL] = self._armature[:_BASE_QVEL]
        self._is_held = False

    def move_by_hand(self, pos_rad: Sequence[float]) -> None:
        """Set the joints to positions (num_joints,), rad, at rest, as a person does with a limp robot that is held."""
        self._data.qpos[self._qpos] = pos_rad
        self._data.qvel[self._qvel] = 0.0
        self._mujoco.mj_forward(self._model, self._data)

    def push(self, force_w: Sequence[float]) -> None:
        """Push the base with a force (3,), N, in the world frame, until it is set anew."""
        self._data.xfrc_applied[self._base, :3] = force_w

    def advance(self, to_s: float, command: Command) -> None:
        """Step up to a time since the start (s)."""
        data, law = self._data, self._law
        steps = int((to_s - data.time) / PHYSICS_DT_S + 1e-6)
        goals, gains = self._through_play(command.goal_ticks), (command.position_p, command.position_d)
        for _ in range(steps):
            torque, self._currents = law(
                goals, np.rint(self.pos_ticks), self.vel_rad_s, *gains, command.pwm_limit, command.voltage_v
            )
            data.ctrl[:] = self._directions * torque
            self._mujoco.mj_step(self._model, data)
        if self._is_held and steps:
            self._keep_held()

    def _through_play(self, goals: Array) -> Array:
        """Return where the servos' motors drive the joints: behind their goals by up to half of the play.

        The play operator: Nordin and Gutman 2002, "Controlling mechanical systems with backlash - a survey".
        """
        if not self._play_rad:
            return goals
        half, before = 0.5 * self._play_rad * self._ticks_per_rad, self._motor_ticks
        self._motor_ticks = goals if before is None else np.clip(before, goals - half, goals + half)
        return self._motor_ticks

    def _keep_held(self) -> None:
        self._data.qpos[:_BASE_QPOS] = self._pose_held
        self._data.qvel[:_BASE_QVEL] = 0.0


def _build(cfg: EnvConfig, wear: Wear) -> Any:
    """Return the model with motors of torque, and an IMU at the base's origin."""
    mujoco, spec = import_mujoco(), robot_spec(cfg)
    site = "base imu"
    spec.body(cfg.robot.base_link).add_site(name=site)
    for name, kind in (
        ("accelerometer", mujoco.mjtSensor.mjSENS_ACCELEROMETER),
        ("gyro", mujoco.mjtSensor.mjSENS_GYRO),
    ):
        spec.add_sensor(name=f"base {name}", type=kind, objtype=mujoco.mjtObj.mjOBJ_SITE, objname=site)
    for geom in spec.geoms:
        # In training a fall ends the episode; here the robot has to lie on the ground.
        geom.contype |= int(geom.parent.name not in cfg.robot.foot_links)
    model = ModelBuilder(cfg).build(spec, keep_looks=True)
    model.opt.timestep = PHYSICS_DT_S
    # In place of the position controllers of training: the control is the torque.
    model.actuator_gainprm[:] = 0.0
    model.actuator_gainprm[:, 0] = 1.0
    model.actuator_biastype[:] = mujoco.mjtBias.mjBIAS_NONE
    model.actuator_forcelimited[:] = 0
    model.dof_frictionloss[:] *= wear.friction_factor
    model.body_mass[:] *= wear.mass_factor
    model.body_inertia[:] *= wear.mass_factor
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model
