"""A biped in MuJoCo that a policy drives as it drives a real one, with faults where a real one has them.

It runs faster than real time, and leaves the log that a run on a robot leaves.
"""
# pyright: reportAttributeAccessIssue=false
# (mujoco has no type stubs)

from dataclasses import dataclass, replace
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from biped.config.robot import SimConfig
from biped.config.task import EnvConfig
from biped.deploy.controller import Controller, Decision, Memory, OnnxPolicy
from biped.deploy.hardware import ImuReading, JointReading
from biped.deploy.run_log import PHASES, LogWriter, RunLog
from biped.sim.mujoco_model import ModelBuilder
from biped.sim.mujoco_robot import robot_spec

Array = NDArray[np.float64]

SUBSTEPS = 10
"""Physics steps per control step: latencies in steps of 2 ms."""
COUNT_RAD, SPEED_RAD_S, CURRENT_A = 2.0 * np.pi / 4096.0, 0.229 * 2.0 * np.pi / 60.0, 0.00269
"""What an X-series servo counts positions, speeds and currents in (ROBOTIS e-Manual, XM430-W210)."""
NM_PER_A = 1.3
"""Torque per current: 3.0 N·m at 2.3 A, as the same page says."""
FULL_V = 12.0
_FILTER_S = 0.008
_HUNG_M = 0.006


@dataclass(frozen=True)
class Faults:
    """What is wrong with a robot; nothing by default."""

    swapped: tuple[int, int] | None = None
    """Two joints whose ids are exchanged."""
    reversed: int | None = None
    """A joint that turns the other way."""
    offsets_rad: tuple[tuple[int, float], ...] = ()
    """Joints whose zero is wrong, and by how much (rad)."""
    imu_from: tuple[tuple[float, float, float], ...] | None = None
    """What the IMU's driver says is this matrix times what it should say, (3, 3): gravity and angular velocity."""
    gyro_from: tuple[tuple[float, float, float], ...] | None = None
    """The same for the angular velocity alone."""
    gravity_factor: float = 1.0
    gyro_factor: float = 1.0
    scales: tuple[tuple[str, float], ...] = ()
    """Terms of the observation and the factor on their scale."""
    exchanged_terms: tuple[str, str] | None = None
    """Two terms of the observation, of one width, in each other's place."""
    forgets: bool = False
    """The memory is empty in every step."""
    clock_factor: float = 1.0
    """Factor on the frequency of the gait clock."""
    deaf: bool = False
    """The command does not reach the policy."""
    gain: float = 1.0
    """Factor on the proportional gain of the servos."""
    gain_joint: int | None = None
    """The joint with this gain; None: all."""
    damping: float = 1.0
    """Factor on the derivative gain."""
    limit_nm: float | None = None
    """What all servos give at most (N·m)."""
    limit_joint: int | None = None
    play_rad: float = 0.0
    """Play of the gears: the output follows the target once it is used up (rad)."""
    play_joint: int | None = None
    latency_s: float = 0.0
    """Time until a target is in force (s)."""
    lost: float = 0.0
    """Share of the answers that are lost."""
    lost_joint: int | None = None
    resistance_ohm: float = 0.1
    """Of battery and cables."""
    battery_v: float = FULL_V
    hot_joint: int | None = None
    """A servo that grows hot, and lowers its torque."""
    dt_factor: float = 1.0
    """How much longer a step takes than it should."""
    frozen: str = ""
    """Sensor that repeats what it said: imu, or a joint's name."""
    frozen_after_s: float = 3.0


@dataclass(frozen=True)
class World:
    """Where and what a robot is, within what it should bear."""

    command: tuple[float, float, float] = (0.3, 0.0, 0.0)
    friction: float = 1.0
    mass: float = 1.0
    slope_rad: tuple[float, float] = (0.0, 0.0)
    push_n: float = 0.0
    seed: int = 0
    standing_by_policy: bool = True
    """Whether the policy stands, or the default pose is held."""
    to_pose_s: float = 2.0
    standing_s: float = 2.0
    walking_s: float = 4.0


class FaultyController(Controller):
    """The controller with faults of a programmer."""

    def __init__(self, policy: OnnxPolicy, faults: Faults) -> None:
        """Begin with an empty memory."""
        super().__init__(policy)
        self._faults, self._empty = faults, policy.empty_memory
        self._is_started = False
        frequency = self.contract.frequency_hz * faults.clock_factor
        self.contract = replace(self.contract, frequency_hz=frequency)
        scales = dict(faults.scales)
        places = {term.name: term.where for term in self.contract.terms}
        if faults.exchanged_terms is not None:
            one, other = faults.exchanged_terms
            places[one], places[other] = places[other], places[one]
        self.contract = replace(
            self.contract,
            terms=tuple(
                replace(term, where=places[term.name], scale=term.scale * scales.get(term.name, 1.0))
                for term in self.contract.terms
            ),
        )

    def step(self, imu: ImuReading, joints: JointReading, wanted: Array) -> Decision:
        """Step, with the memory forgotten or the command lost."""
        if self._faults.forgets:
            self._memory: Memory = self._empty()
        return super().step(imu, joints, wanted * (not self._faults.deaf))


class FaultyRobot:
    """The robot: physics, servos, IMU and power, each with its faults."""

    def __init__(self, env: EnvConfig, policy: OnnxPolicy, faults: Faults, world: World) -> None:
        """Hang the robot over the ground, limp."""
        env = replace(env, sim=replace(SimConfig(), substeps=SUBSTEPS))
        self._contract, self._faults, self._world = policy.contract, faults, world
        self._controller = FaultyController(policy, faults)
        self._random = np.random.default_rng(world.seed)
        self._model = self._build(env)
        self._data: Any = mujoco.MjData(self._model)
        names = self._contract.joint_names
        self._qpos = [int(self._model.joint(name).qposadr[0]) for name in names]
        self._qvel = [int(self._model.joint(name).dofadr[0]) for name in names]
        self._base = self._model.body(env.robot.base_link).id
        self._height_m = env.robot.default_base_height_m
        self._wiring()
        count = len(names)
        low, high = self._model.jnt_range[[self._model.joint(name).id for name in names]].T
        start = np.clip(self._random.normal(self._contract.default_pose_rad, 0.25), low + 0.02, high - 0.02)
        self._data.qpos[self._qpos] = start
        self._data.qpos[2] = self._height_m + _HUNG_M
        self._shaft = start.copy()
        self._smooth = np.zeros(count)
        self._queue: list[tuple[float, Array]] = []
        self._now_s, self._log_s = 0.0, 0.0
        self._in_force = self._to_motor(self._to_joint(start))
        self._driven, self._half_play = self._in_force.copy(), np.zeros(count)
        played = slice(None) if faults.play_joint is None else [faults.play_joint]
        self._half_play[played] = 0.5 * faults.play_rad
        self._torque = np.zeros(count)
        self._heat_c = np.full(count, 36.0)
        self._voltage = faults.battery_v
        self._drift = np.zeros(3)
        self._bias = self._random.uniform(-0.02, 0.02, 3)
        self._mounting = self._random.uniform(-0.015, 0.015, 3)
        self._kept: dict[str, Any] = {}
        self._settle()

    def _build(self, env: EnvConfig) -> Any:
        model = ModelBuilder(env).build(robot_spec(env), keep_looks=False)
        world, faults, count = self._world, self._faults, len(self._contract.motors)
        model.geom_friction[:, 0] = world.friction
        model.body_mass *= world.mass
        model.body_inertia *= world.mass
        x, y = world.slope_rad
        model.opt.gravity = 9.81 * np.array((np.sin(x), np.sin(y), -np.sqrt(1.0 - np.sin(x) ** 2 - np.sin(y) ** 2)))
        chosen = slice(None) if faults.gain_joint is None else [faults.gain_joint]
        gain, limit = np.ones(count), np.full(count, np.inf)
        gain[chosen] = faults.gain
        if faults.limit_nm is not None:
            limit[slice(None) if faults.limit_joint is None else [faults.limit_joint]] = faults.limit_nm
        self._kp = np.array([motor.kp_nm_per_rad for motor in self._contract.motors]) * gain
        self._kd = np.array([motor.kd_nm_s_per_rad for motor in self._contract.motors]) * faults.damping
        self._limit = np.minimum(limit, [motor.torque_limit_nm for motor in self._contract.motors])
        mujoco.mj_setConst(model, mujoco.MjData(model))
        return model

    def _settle(self) -> None:
        mujoco.mj_forward(self._model, self._data)

    # Wiring

    def _wiring(self) -> None:
        count, faults = len(self._contract.motors), self._faults
        self._source, self._sign, self._offset = np.arange(count), np.ones(count), np.zeros(count)
        if faults.swapped is not None:
            one, other = faults.swapped
            self._source[[one, other]] = other, one
        if faults.reversed is not None:
            self._sign[faults.reversed] = -1.0
        for joint, offset in faults.offsets_rad:
            self._offset[joint] = offset

    def _to_joint(self, motor_rad: Array, is_speed: bool = False) -> Array:
        """Return what the wiring makes of the motors' angles or speeds, (num_joints,)."""
        return self._sign * (motor_rad[self._source] - (0.0 if is_speed else self._offset))

    def _to_motor(self, joint_rad: Array) -> Array:
        motor = np.empty(len(joint_rad))
        motor[self._source] = self._sign * joint_rad + self._offset
        return motor

    # Sensors

    def read_joints(self) -> JointReading:
        """Return what the servos say."""
        shaft = np.round(self._shaft / COUNT_RAD) * COUNT_RAD
        pos, vel = self._to_joint(shaft), self._to_joint(np.round(self._smooth / SPEED_RAD_S) * SPEED_RAD_S, True)
        current = self._to_joint(np.round(self._torque / NM_PER_A / CURRENT_A) * CURRENT_A, True)
        lost = self._random.random(len(pos)) < self._faults.lost
        if self._faults.lost_joint is not None:
            lost &= np.arange(len(pos)) == self._faults.lost_joint
        voltage = np.round(np.full(len(pos), self._voltage) - 0.05 * self._random.random(len(pos)), 1)
        for column in (pos, vel, current, voltage):
            column[lost] = np.nan
        heat = np.where(lost, np.nan, np.round(self._heat_c[self._source]))
        return self._frozen_joints(JointReading(pos, vel, current, voltage, heat, np.zeros(len(pos), np.int64)))

    def _frozen_joints(self, reading: JointReading) -> JointReading:
        if self._faults.frozen not in self._contract.joint_names or self._now_s < self._faults.frozen_after_s:
            return reading
        joint = self._contract.joint_names.index(self._faults.frozen)
        kept = self._kept.setdefault("joints", (reading.pos_rad[joint], reading.vel_rad_s[joint]))
        reading.pos_rad[joint], reading.vel_rad_s[joint] = kept
        return reading

    def read_imu(self) -> ImuReading:
        """Return what the IMU says."""
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, self._data.qpos[3:7])
        down = self._model.opt.gravity / np.linalg.norm(self._model.opt.gravity)
        self._drift = 0.99 * self._drift + self._random.normal(0.0, 0.001, 3)
        gravity = rotation.reshape(3, 3).T @ down
        gravity = gravity + np.cross(self._mounting + self._drift, gravity) + self._random.normal(0.0, 0.001, 3)
        gravity /= np.linalg.norm(gravity)
        rate = self._data.qvel[3:6] + self._bias + self._random.normal(0.0, 0.02, 3)
        faults = self._faults
        if faults.imu_from is not None:
            gravity, rate = np.array(faults.imu_from) @ gravity, np.array(faults.imu_from) @ rate
        if faults.gyro_from is not None:
            rate = np.array(faults.gyro_from) @ rate
        age = self._random.uniform(0.0, 0.01)
        reading = ImuReading(faults.gravity_factor * gravity, faults.gyro_factor * rate, age)
        if faults.frozen == "imu" and self._now_s >= faults.frozen_after_s:
            reading = self._kept.setdefault("imu", reading)
        return reading

    # Physics

    def write(self, targets_rad: Array) -> None:
        """Send targets, (num_joints,), rad."""
        self._queue.append((self._now_s + self._faults.latency_s, self._to_motor(targets_rad)))

    def advance(self, hung: float) -> None:
        """Live through one control step; `hung`: whether hands hold the base."""
        data, dt = self._data, self._model.opt.timestep
        for _ in range(round(SUBSTEPS * self._faults.dt_factor)):
            while self._queue and self._queue[0][0] <= self._now_s + 1e-9:
                self._in_force = self._queue.pop(0)[1]
            self._drive()
            if hung:
                self._hold()
            mujoco.mj_step(self._model, data)
            self._now_s += dt
            self._turn_shafts()
        self._power()

    def _hold(self) -> None:
        """A person holds the base, not quite still."""
        t = self._now_s
        roll, pitch = 0.03 * np.sin(4.1 * t + 0.3), 0.03 * np.sin(5.3 * t)
        speed = np.array((0.03 * 4.1 * np.cos(4.1 * t + 0.3), 0.03 * 5.3 * np.cos(5.3 * t), 0.0))
        self._data.qpos[:7] = (0.0, 0.0, self._height_m + _HUNG_M, 1.0, 0.5 * roll, 0.5 * pitch, 0.0)
        self._data.qpos[3:7] /= np.linalg.norm(self._data.qpos[3:7])
        self._data.qvel[:6] = (0.0, 0.0, 0.0, *speed)

    def _drive(self) -> None:
        """Set the motors, whose law MuJoCo integrates: torque = kp (target - position) - kd speed, clipped."""
        model, half = self._model, self._half_play
        self._driven = np.clip(self._driven, self._in_force - half, self._in_force + half)
        share = self._voltage / FULL_V
        limit = self._limit * share
        if self._faults.hot_joint is not None:
            hot = self._faults.hot_joint
            limit[hot] *= np.clip(1.0 - (self._heat_c[hot] - 70.0) / 12.0, 0.15, 1.0)
        model.actuator_gainprm[:, 0], model.actuator_biasprm[:, 1] = self._kp, -self._kp
        model.actuator_biasprm[:, 2] = -self._kd
        model.actuator_forcerange[:, 0], model.actuator_forcerange[:, 1] = -limit, limit
        self._data.ctrl[:] = self._driven

    def _turn_shafts(self) -> None:
        """Move what the encoders see."""
        before, self._shaft = self._shaft, self._data.qpos[self._qpos].copy()
        share = self._model.opt.timestep / _FILTER_S
        self._smooth = self._smooth + share * ((self._shaft - before) / self._model.opt.timestep - self._smooth)
        self._torque = self._data.actuator_force.copy()

    def _power(self) -> None:
        total_a = np.abs(self._torque).sum() / NM_PER_A
        self._voltage = max(5.0, self._faults.battery_v - self._faults.resistance_ohm * total_a)
        self._heat_c += 0.004
        if self._faults.hot_joint is not None:
            self._heat_c[self._faults.hot_joint] = min(84.0, 62.0 + 3.5 * self._now_s)

    @property
    def _has_fallen(self) -> bool:
        _, x, y, _ = self._data.qpos[3:7]
        return 1.0 - 2.0 * (x * x + y * y) < 0.5 or self._data.qpos[2] < 0.5 * self._height_m

    def _push(self) -> None:
        self._data.xfrc_applied[self._base] = 0.0
        if self._world.push_n and self._now_s % 1.5 < 0.1:
            angle = 7.0 * (self._now_s // 1.5) + self._world.seed
            self._data.xfrc_applied[self._base, :2] = self._world.push_n * np.array((np.cos(angle), np.sin(angle)))

    # The run

    def run(self) -> RunLog:
        """Take the pose, stand, walk, and return the log."""
        log, world, contract = LogWriter(self._contract), self._world, self._contract
        begin = self.read_joints().pos_rad
        begin = np.where(np.isfinite(begin), begin, contract.default_pose_rad)
        count = round((world.to_pose_s + world.standing_s + world.walking_s) / contract.dt_s)
        ended = "the time was over"
        for step in range(count):
            t = step * contract.dt_s
            phase = "to pose" if t < world.to_pose_s else "standing"
            phase = "walking" if t >= world.to_pose_s + world.standing_s else phase
            given = np.array(world.command) * (phase == "walking")
            imu, joints = self.read_imu(), self.read_joints()
            row: dict[str, Any] = {}
            if phase == "to pose":
                share = min(1.0, t / (0.8 * world.to_pose_s))
                targets = begin + share * (contract.default_pose_rad - begin)
            elif phase == "standing" and not world.standing_by_policy:
                targets = contract.default_pose_rad
            else:
                made = self._controller.step(imu, joints, given)
                targets = made.targets_rad
                row = {"observation": made.observation, "action": made.action, "command": made.command}
                row |= {} if made.estimate is None else {"estimate": made.estimate}
            self._add(log, row, phase, given, imu, joints, targets)
            self.write(targets)
            self._push()
            self.advance(hung=phase == "to pose")
            self._log_s += contract.dt_s * self._faults.dt_factor
            ended = self._why_to_stop(imu, phase) or ended
            if ended != "the time was over":
                break
        return log.finish({"ended": ended, "wiring": "test", "date": "2026-01-01", "package_version": "0"})

    def _why_to_stop(self, imu: ImuReading, phase: str) -> str:
        if phase == "to pose":
            return ""
        cosine = -imu.gravity_b[2] / max(1e-9, float(np.linalg.norm(imu.gravity_b)))
        if self._controller.must_stop:
            return "readings were lost for too long"
        if cosine < np.cos(self._contract.max_tilt_rad) or self._has_fallen:
            return "it fell"
        return ""

    def _add(
        self,
        log: LogWriter,
        row: dict[str, Any],
        phase: str,
        given: Array,
        imu: ImuReading,
        joints: JointReading,
        targets: Array,
    ) -> None:
        log.add(
            time_s=self._log_s + self._random.normal(0.0, 1e-4),
            late_s=abs(self._random.normal(0.0, 1e-4)),
            read_s=0.002,
            policy_s=0.0005,
            write_s=0.0005,
            phase=PHASES.index(phase),
            given_command=given,
            gravity_b=imu.gravity_b,
            ang_vel_b=imu.ang_vel_b,
            imu_age_s=imu.age_s,
            pos_rad=joints.pos_rad,
            vel_rad_s=joints.vel_rad_s,
            current_a=joints.current_a,
            voltage_v=joints.voltage_v,
            temperature_c=joints.temperature_c,
            faults=joints.faults,
            target_rad=targets,
            **row,
        )


def run_with(env: EnvConfig, policy: OnnxPolicy, faults: Faults | None = None, world: World | None = None) -> RunLog:
    """Return the log of a robot with faults in a world."""
    return FaultyRobot(env, policy, faults or Faults(), world or World()).run()
