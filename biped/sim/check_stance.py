"""Lets a robot stand on its joint controllers alone, and finds the cause where it falls or shakes."""

import importlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from biped.config.task import EnvConfig
from biped.robot.rotations import quat_from_yaw
from biped.robot.state import GRAVITY_M_S2
from biped.sim.mujoco_geometry import Sole, centre_of_mass_w
from biped.sim.scene import ResetPose, make_scene

STAND_S = 3.0
"""How long the robot must hold the default pose with its joint controllers alone (s)."""
MAX_SAG, MAX_LEAN_RAD = 0.075, 0.15
"""How far the base may sink, as a share of the hips' height over the ground, and lean (rad) in that time."""
SUBSTEPS = (1, 2, 4)
"""Multiples of the configured substeps that are tried."""
TIMED_ROBOTS = 16
"""Robots that stand side by side where the time is taken: with one, it would be that of the calls."""
CALM_RAD_S = 0.3
"""Joint speed under which a robot is calm (rad/s)."""
CALM_FROM_S, CALM_TO_S = 0.4, 1.0
"""When the speeds are looked at (s): after the landing, and before a robot that topples lies on the ground."""
NOISE_RAD = 0.02
"""Offsets of the joints from the default pose at the start, up to this (rad)."""
STIFF = 1.5
"""Stiffness of the ankles over mass times gravity times half the height of the centre of mass, from which they hold."""
HELD_AT = 0.98
"""Share of a motor's torque limit up to which it holds a pose."""
SAG_RAD = 0.1
"""Error of a joint under the robot's weight from which its gain is too low (rad)."""
SHORT_FEET = 0.2
"""Length of the soles under which nothing stands still, as a share of the hips' height."""
EDGE = 0.1
"""Rim of the soles over which the centre of mass may not be, as a share of their length."""

ENGINES = {"mujoco": "", "genesis": " in Genesis"}
"""Simulator to what is said of it: MuJoCo is the one that always judges."""

Finding = tuple[bool, str]
"""Whether the check passed, and the text to print."""


@dataclass(frozen=True)
class Stance:
    """What became of a robot that stood for `STAND_S`."""

    sag_m: float
    """How far the base sank (m)."""
    lean_rad: float
    """How far the base leans (rad)."""
    speed_rad_s: float
    """Largest speed of a joint between `CALM_FROM_S` and `CALM_TO_S` (rad/s); infinite if the simulation broke down."""
    torque_nm: np.ndarray
    """Largest torque of each joint, (num_joints,), N·m."""
    steps_per_s: float
    """Steps per second of all robots together, by the median: what else the machine does meanwhile hardly counts."""

    def holds(self, height_m: float) -> bool:
        """Return whether the robot still stands."""
        return abs(self.sag_m) <= MAX_SAG * height_m and self.lean_rad <= MAX_LEAN_RAD

    @property
    def is_calm(self) -> bool:
        """Whether no joint shakes."""
        return self.speed_rad_s < CALM_RAD_S


def stand(cfg: EnvConfig, sim: str = "mujoco", substeps: int | None = None, robots: int = 1) -> Stance:
    """Let a robot stand, its joints off the default pose by a little.

    Args:
        cfg: the robot, and how it is simulated.
        sim: the simulator.
        substeps: physics steps per action; None: as configured.
        robots: how many stand side by side, all alike; the first is looked at.
    """
    steps = cfg.sim.substeps if substeps is None else substeps
    cfg = replace(cfg, num_envs=robots, sim=replace(cfg.sim, substeps=steps))
    scene = make_scene(sim, cfg, torch.device("cpu"))
    base = torch.tensor([[0.0, 0.0, cfg.robot.default_base_height_m + cfg.reset.clearance_m]], dtype=torch.float32)
    pose = torch.tensor([cfg.robot.default_joint_pos_rad], dtype=torch.float32)
    noise = 2.0 * torch.rand(pose.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32) - 1.0
    level = quat_from_yaw(torch.zeros(robots, dtype=torch.float32))
    off, targets = (pose + NOISE_RAD * noise).repeat(robots, 1), pose.repeat(robots, 1)
    scene.reset(torch.ones(robots, dtype=torch.bool), ResetPose(base.repeat(robots, 1), level, off))
    count, dt_s = round(STAND_S / cfg.sim.control_dt_s), cfg.sim.control_dt_s
    speed, torque, failed, took_s = 0.0, torch.zeros_like(pose[0]), False, np.zeros(count)
    for step in range(count):
        began_s = time.perf_counter()
        state = scene.step(targets)
        took_s[step] = time.perf_counter() - began_s
        failed |= bool(state.error.any())
        torque = torch.maximum(torque, state.joint_torque_nm[0].abs())
        if CALM_FROM_S <= step * dt_s < CALM_TO_S:
            speed = max(speed, float(state.joint_vel_rad_s[0].abs().max()))
    sag = cfg.robot.default_base_height_m - float(state.base_pos_w[0, 2])
    lean = float(torch.acos((-state.projected_gravity_b[0, 2]).clamp(-1.0, 1.0)))
    scene.close()
    failed |= not np.isfinite([sag, lean, speed]).all()
    fastest, rate = np.inf if failed else speed, robots / float(np.median(took_s))
    return Stance(sag, lean, fastest, torque.nan_to_num().numpy(), rate)


def check_standing(
    cfg: EnvConfig, model: Any, data: Any, soles: tuple[Sole | None, Sole | None], sim: str = "mujoco"
) -> Iterator[Finding]:
    """Let the robot stand at its own and at finer substeps, and say what is wrong where it does not.

    Args:
        cfg: the environment with this robot.
        model: its `mujoco.MjModel`.
        data: its `mujoco.MjData`, in the default pose.
        soles: what collides of each foot in this pose.
        sim: the simulator.
    """
    height_m, where = _height(cfg, model, data), ENGINES[sim]
    tried = {factor * cfg.sim.substeps: stand(cfg, sim, factor * cfg.sim.substeps, TIMED_ROBOTS) for factor in SUBSTEPS}
    calm = [substeps for substeps, stance in tried.items() if stance.is_calm]
    now = tried[cfg.sim.substeps]
    speeds = ", ".join(f"{_as_speed(stance)} at {substeps}" for substeps, stance in tried.items())
    if cfg.sim.substeps in calm:
        yield True, f"substeps{where}: calm: the fastest joint turns with {speeds}"
    elif not calm:
        shakes = any(stance.holds(height_m) or not np.isfinite(stance.speed_rad_s) for stance in tried.values())
        remedy = "lower kp_nm_per_rad, or raise kd_nm_s_per_rad or the motors' armature" if shakes else "it falls"
        yield not shakes, f"substeps{where}: never calm: the fastest joint turns with {speeds}: {remedy}"
    else:
        remedy = f"set sim.substeps to {calm[0]} in the robot's file"
        yield False, f"substeps{where}: unstable at {cfg.sim.substeps} ({_as_speed(now)}), calm at {calm[0]}: {remedy}"
        now = tried[calm[0]]
    rates = ", ".join(f"{stance.steps_per_s:,.0f} at {substeps}" for substeps, stance in tried.items())
    yield True, f"speed{where}: {rates} substeps, in steps per second of {TIMED_ROBOTS} robots side by side"
    sunk = f"the base is {1000 * now.sag_m:.0f} mm lower and leans {now.lean_rad:.2f} rad"
    text = f"standing{where}: after {STAND_S:.0f} s {sunk}, with {now.torque_nm.max():.2f} N·m at most"
    if now.holds(height_m):
        yield True, text
        return
    fault, cause = _cause(cfg, model, data, soles)
    yield not fault, f"{text}: {cause}"


def _cause(cfg: EnvConfig, model: Any, data: Any, soles: tuple[Sole | None, Sole | None]) -> tuple[bool, str]:
    """Return why a robot does not stand, and whether that is a fault: a policy can balance where gains alone do not."""
    robot, height_m = cfg.robot, _height(cfg, model, data)
    centre, found = centre_of_mass_w(data), [sole for sole in soles if sole is not None]
    back, front = min(sole.low_w[0] for sole in found), max(sole.high_w[0] for sole in found)
    length = front - back
    if length < SHORT_FEET * height_m:
        return False, "feet as short as these do not stand by themselves; a policy has to step (no fault)"
    if not back + EDGE * length <= centre[0] <= front - EDGE * length:
        off = centre[0] - 0.5 * (back + front)
        way = "forward" if off > 0 else "backward"
        return True, (
            f"the centre of mass is {1000 * abs(off):.0f} mm {way} of the middle of the soles: choose a "
            "default_joint_pos_rad that puts it over them"
        )
    motors = robot.motors
    static = _static_torque(model, data, robot.joint_names)
    weak = [
        f"{name} has {motor.effort_limit_nm:g} N·m and needs about {need:.2g}"
        for name, motor, need in zip(robot.joint_names, motors, static, strict=True)
        if need > HELD_AT * motor.effort_limit_nm
    ]
    if weak:
        return True, f"torque limits: {'; '.join(weak[:3])}: choose stronger motors, or straighter legs"
    ankle = robot.swing_joints[len(robot.swing_joints) // 2 - 1]
    height_com_m = float(centre[2] - data.xanchor[model.joint(ankle).id][2])
    needed = float(model.body_mass.sum()) * GRAVITY_M_S2 * height_com_m / 2.0
    kp = motors[robot.joint_names.index(ankle)].kp_nm_per_rad
    soft = [
        f"{name} {motor.kp_nm_per_rad:g} (about {need / SAG_RAD:.3g})"
        for name, motor, need in zip(robot.joint_names, motors, static, strict=True)
        if motor.kp_nm_per_rad < need / SAG_RAD
    ]
    if soft:
        return True, f"raise kp_nm_per_rad: the pose sags under its own weight at {', '.join(soft[:3])}"
    if kp < STIFF * needed:
        return False, (
            f"no fault: to stand without a policy takes a kp_nm_per_rad of {STIFF * needed:.3g} at {ankle}, which has "
            f"{kp:g}; a policy can balance with less"
        )
    return True, "the pose falls over: choose one whose centre of mass is over the soles"


def _static_torque(model: Any, data: Any, names: tuple[str, ...]) -> np.ndarray:
    """Return the torque that each joint needs to hold the pose on both feet, half of the weight on each, N·m."""
    mujoco = importlib.import_module("mujoco")
    total = float(model.body_mass.sum()) * GRAVITY_M_S2
    torque = np.array(data.qfrc_bias)  # gravity, at rest
    touching = (model.geom_contype | model.geom_conaffinity).astype(bool) & (model.geom_bodyid > 0)
    ends = {int(model.body_weldid[link]) for link in model.geom_bodyid[touching]}
    feet = sorted(ends, key=lambda body: data.xipos[body][2])[:2]
    for foot in feet:
        jacobian = np.zeros((3, model.nv))
        point = np.array([data.subtree_com[0][0], data.xipos[foot][1], data.xipos[foot][2]])
        mujoco.mj_jac(model, data, jacobian, None, point, foot)
        torque -= jacobian.T @ np.array([0.0, 0.0, total / len(feet)])
    return np.array([abs(torque[int(model.joint(name).dofadr[0])]) for name in names])


def _height(cfg: EnvConfig, model: Any, data: Any) -> float:
    """Return the height of the hips over the ground, m."""
    hips = [data.xanchor[model.joint(name).id][2] for name in cfg.robot.swing_joints]
    return float(max(hips))


def _as_speed(stance: Stance) -> str:
    return f"{stance.speed_rad_s:.2f} rad/s" if np.isfinite(stance.speed_rad_s) else "numbers that are not finite"
