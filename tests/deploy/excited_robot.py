"""A robot with known hidden parameters that hangs by its base, is excited, and writes a log as `biped_run.py` would."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biped.base.files import REPOSITORY
from biped.config.robot import RobotConfig
from biped.config.run import Config
from biped.config.task import EnvConfig
from biped.deploy.contract import Provenance, build_contract
from biped.deploy.contract_file import PolicyContract
from biped.deploy.run_log import PHASES, LogWriter, RunLog
from biped.robot.actuators import Actuation
from biped.sim.mujoco_file import import_mujoco
from biped.sim.mujoco_robot import robot_spec

Array = NDArray[np.float64]

TICK_RAD = 2.0 * np.pi / 4096.0
"""Resolution of a servo's encoder (rad)."""
SPEED_TICK_RAD_S = 0.229 * 2.0 * np.pi / 60.0
"""Resolution of a servo's speed: 0.229 rev/min (rad/s)."""
PHYSICS_DT_S = 0.00025
"""Physics step of the hidden robot (s): a tenth of the identifying model's, and of another integrator."""
JITTER_S = 0.001
"""Largest error of a control step's time (s)."""
SPEED_FILTER_S = 0.01
"""Time constant of the servo's own filter of its speed (s)."""


@dataclass(frozen=True)
class Hidden:
    """What an identification has to find, (num_joints,) each."""

    gain: Array
    """Factor on kp."""
    damping: Array
    """Viscous friction of the joint, besides kd (N·m·s/rad)."""
    friction: Array
    """Dry friction (N·m)."""
    armature: Array
    """Reflected inertia (kg·m²)."""
    delay: Array
    """Time from reading positions to when a target acts (s)."""
    play: Array
    """Backlash of the gears (rad)."""


def hidden(num_joints: int, seed: int = 0) -> Hidden:
    """Draw a robot that is not as its file says."""
    rng = np.random.default_rng(seed)

    def draw(low: float, high: float) -> Array:
        return rng.uniform(low, high, num_joints)

    return Hidden(
        gain=draw(0.75, 1.15),
        damping=draw(0.1, 0.4),
        friction=draw(0.03, 0.12),
        armature=draw(0.006, 0.016),
        delay=draw(0.010, 0.030),
        play=draw(0.008, 0.025),
    )


def contract_of(env: EnvConfig | None = None) -> PolicyContract:
    """Return the contract of a policy for a robot."""
    config = Config() if env is None else Config(env=env)
    return PolicyContract.of(build_contract(config, Provenance("none.zip", "0" * 64, 0)))


def limits_of(env: EnvConfig) -> tuple[Array, Array]:
    """Return the limits of the joints as the robot's model states them, (num_joints,) each, rad."""
    model = robot_spec(env).compile()
    ranges = np.array([model.joint(name).range for name in env.robot.joint_names])
    return ranges[:, 0], ranges[:, 1]


def excited_log(
    env: EnvConfig, truth: Hidden, targets_rad: Array, *, seed: int = 0, gravity_b: Array | None = None
) -> RunLog:
    """Return the log of a robot that was excited.

    Args:
        env: the robot as its file says.
        truth: what it is.
        targets_rad: what is sent, (num_steps, num_joints), rad.
        seed: of the errors of time.
        gravity_b: direction of gravity in the base frame, (3,); None: it hangs upright.
    """
    contract, robot = contract_of(env), env.robot
    gravity = np.array((0.0, 0.0, -1.0)) if gravity_b is None else gravity_b
    count, dt_s = len(targets_rad), contract.dt_s
    jitter = np.random.default_rng(seed).uniform(-JITTER_S, JITTER_S, count)
    time_s = dt_s * np.arange(count) + jitter
    time_s -= time_s[0]
    pos, speed = _simulated(env, truth, targets_rad, time_s, gravity)
    row = np.clip(np.round(time_s / PHYSICS_DT_S).astype(int), 0, len(pos) - 1)
    log = LogWriter(contract)
    for step in range(count):
        log.add(
            time_s=time_s[step],
            late_s=jitter[step],
            phase=PHASES.index("exciting"),
            gravity_b=gravity,
            ang_vel_b=np.zeros(3),
            pos_rad=TICK_RAD * np.round(pos[row[step]] / TICK_RAD),
            vel_rad_s=SPEED_TICK_RAD_S * np.round(speed[row[step]] / SPEED_TICK_RAD_S),
            target_rad=targets_rad[step],
        )
    return log.finish({"wiring": robot.model_path, "date": "2026-11-30", "ended": "done", "package_version": "0"})


def _simulated(
    env: EnvConfig, truth: Hidden, targets_rad: Array, time_s: Array, gravity_b: Array
) -> tuple[Array, Array]:
    """Return positions and the servos' filtered speeds at each physics step, (num_physics_steps, num_joints)."""
    mujoco, model = import_mujoco(), _hidden_model(env, truth, gravity_b)
    count = int(time_s[-1] / PHYSICS_DT_S) + 2
    controls = _controls(truth, targets_rad, time_s, PHYSICS_DT_S * np.arange(count, dtype=float))
    names = env.robot.joint_names
    qpos = [int(model.joint(name).qposadr[0]) for name in names]
    state = np.zeros((1, mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS)))
    state[0, [1 + place for place in qpos]] = targets_rad[0]
    with mujoco.rollout.Rollout(nthread=0) as rollout:
        states, _ = rollout.rollout(model, mujoco.MjData(model), state, controls[None])
    pos = np.concatenate((state, states[0]))[:-1, [1 + place for place in qpos]]
    ticks = TICK_RAD * np.round(pos / TICK_RAD)
    return pos, _servo_speed(ticks)


def _servo_speed(ticks_rad: Array) -> Array:
    """Return what a servo says of its speed: the difference of its positions, filtered."""
    every = round(0.001 / PHYSICS_DT_S)
    speed, filtered = np.zeros_like(ticks_rad), np.zeros(ticks_rad.shape[1])
    share = 0.001 / SPEED_FILTER_S
    for row in range(every, len(ticks_rad), every):
        filtered = filtered + share * ((ticks_rad[row] - ticks_rad[row - every]) / 0.001 - filtered)
        speed[row : row + every] = filtered
    return speed


def _controls(truth: Hidden, targets_rad: Array, time_s: Array, at_s: Array) -> Array:
    """Return what each motor is driven to, late and through the gears' play, (num_physics_steps, num_joints), rad."""
    import torch

    actuation = Actuation.at(torch.from_numpy(targets_rad[:1].copy()), 1)
    driven = np.empty_like(targets_rad)
    play = torch.from_numpy(truth.play)
    for row, target in enumerate(torch.from_numpy(targets_rad.copy())):
        actuation = actuation.driven_to(target[None], play)
        driven[row] = actuation.joint_targets_rad[0].numpy()
    columns = []
    for joint, delay in enumerate(truth.delay):
        row = np.searchsorted(time_s + delay, at_s, side="right") - 1
        columns.append(driven[np.maximum(row, 0), joint])
    return np.stack(columns, axis=1)


def _hidden_model(env: EnvConfig, truth: Hidden, gravity_b: Array) -> Any:
    mujoco, spec, robot = import_mujoco(), robot_spec(env), env.robot
    base = spec.body(robot.base_link)
    for joint in list(base.joints):
        spec.delete(joint)
    for index, (name, motor) in enumerate(zip(robot.joint_names, robot.motors, strict=True)):
        joint = spec.joint(name)
        joint.armature, joint.frictionloss = truth.armature[index], truth.friction[index]
        joint.damping = np.array([truth.damping[index], *[0.0] * (len(np.atleast_1d(joint.damping)) - 1)])
        actuator = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        actuator.set_to_position(kp=motor.kp_nm_per_rad * truth.gain[index], kv=motor.kd_nm_s_per_rad)
        actuator.forcelimited = mujoco.mjtLimited.mjLIMITED_TRUE
        actuator.forcerange = [-motor.effort_limit_nm, motor.effort_limit_nm]
    spec.option.timestep = PHYSICS_DT_S
    spec.option.gravity = 9.81 * gravity_b
    model = spec.compile()
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
    return model


def biped() -> EnvConfig:
    """Return an environment with the biped of the defaults."""
    assert (REPOSITORY / RobotConfig().model_path).exists()
    return EnvConfig()
