"""Reports what is wrong with a robot: `python -m biped check-robot FILE`, with its robot.json or its model.

One line per check, with the remedy if it fails. Exit codes: 0 everything is fine, 1 something is not.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from biped.base.errors import MachineError
from biped.config.robot import RobotConfig
from biped.config.run import Config
from biped.config.settings import robot_settings, with_settings
from biped.config.task import EnvConfig
from biped.robot.model import model_file
from biped.robot.rotations import quat_from_yaw
from biped.robot.symmetry import mirror_joints
from biped.sim.mujoco_model import robot_spec
from biped.sim.scene import ResetPose, make_scene

STAND_S = 3.0
"""How long the robot must hold the default pose with its joint controllers alone (s)."""
MAX_SAG_M, MAX_LEAN_RAD = 0.03, 0.15
"""How far the base may sink (m) and lean (rad) in that time."""
MAX_SOLE_ERROR_M = 0.01
"""Largest height of the soles above or below the ground in the default pose (m)."""
MIN_RISE_M = 0.01
"""How high the gait must lift a foot (m)."""
SYMMETRY_KG, SYMMETRY_M = 1e-4, 1e-3
"""Largest difference of masses (kg) and centres of mass (m) from their mirror images."""

Finding = tuple[bool, str]
"""Whether the check passed, and the text to print."""


@dataclass(frozen=True)
class Subject:
    """The robot under test."""

    cfg: EnvConfig
    """The environment with this robot."""
    model: Any
    """Its `mujoco.MjModel`."""
    data: Any
    """Its `mujoco.MjData`, in the default pose at the default height."""


def check_names(model: Any, robot: RobotConfig) -> Iterator[Finding]:
    """Report joints, links and feet that the model lacks, and joints of the model without an actuator."""
    joints = {model.joint(index).name for index in range(model.njnt) if model.jnt_type[index] != 0}
    links = {model.body(index).name for index in range(model.nbody)}
    missing = [name for name in robot.joint_names if name not in joints]
    idle = sorted(joints - set(robot.joint_names))
    if missing or idle:
        lacks = [f"the model lacks {', '.join(missing)}"] if missing else []
        lacks += [f"no motor drives {', '.join(idle)}"] if idle else []
        yield False, f"joints: {'; '.join(lacks)}: make robot.joint_names and the model's joints the same"
    else:
        yield True, f"joints: {len(joints)}, all driven"
    for what, names in (("base", [robot.base_link]), ("torso", [robot.torso_link]), ("feet", list(robot.foot_links))):
        absent = [name for name in names if name not in links]
        yield not absent, f"{what}: " + (f"the model has no link {', '.join(absent)}" if absent else ", ".join(names))
    unknown = [name for name in robot.swing_joints if name not in robot.joint_names]
    yield not unknown, "gait: " + (f"robot.swing_joints names {', '.join(unknown)}" if unknown else "six joints swing")


def check_symmetry(subject: Subject) -> Finding:
    """Compare each leg with the mirror image of the other, link by link."""
    model, data, robot = subject.model, subject.data, subject.cfg.robot
    try:
        index, _ = mirror_joints(robot)
    except ValueError as error:
        return False, f"symmetry: {error}; name the counterparts in robot.mirror_joints"
    for name, other in zip(robot.joint_names, (robot.joint_names[i] for i in index), strict=True):
        mine, theirs = (int(model.joint(joint).bodyid[0]) for joint in (name, other))
        mass = abs(model.body_mass[mine] - model.body_mass[theirs])
        place = np.abs(data.xipos[mine] - data.xipos[theirs] * (1.0, -1.0, 1.0)).max()
        if mass > SYMMETRY_KG or place > SYMMETRY_M:
            pair = f"{model.body(mine).name} is no mirror image of {model.body(theirs).name}"
            apart = f"{1000 * mass:.1f} g, {1000 * place:.1f} mm apart"
            return False, f"symmetry: {pair} ({apart}): correct it, or train with --set ppo.mirror=false"
    return True, "symmetry: masses and places of the legs are mirror images"


def check_soles(subject: Subject) -> Finding:
    """Measure the height of the soles in the default pose at the default height."""
    robot = subject.cfg.robot
    heights = [_sole(subject, foot)[2] for foot in robot.foot_links]
    worst = max(heights, key=abs)
    if abs(worst) <= MAX_SOLE_ERROR_M:
        return True, f"soles: on the ground in the default pose (within {1000 * abs(worst):.0f} mm)"
    off = f"{1000 * abs(worst):.0f} mm {'under' if worst < 0 else 'over'} the ground"
    return False, f"soles: {off}: default_base_height_m {robot.default_base_height_m - worst:.3f} puts them on it"


def check_sides(subject: Subject) -> Finding:
    """Check that the first foot is on the left."""
    left, right = (_sole(subject, foot)[1] for foot in subject.cfg.robot.foot_links)
    if left > right:
        return True, "sides: left foot to the left"
    return False, "sides: foot_links must name the left foot first"


def check_swing(subject: Subject) -> Finding:
    """Swing each leg as the gait does and check that the foot rises."""
    robot, gait = subject.cfg.robot, subject.cfg.gait
    sizes = (gait.hip_amplitude_rad, gait.knee_amplitude_rad, gait.ankle_amplitude_rad)
    for leg, foot in enumerate(robot.foot_links):
        before = _sole(subject, foot)
        mujoco, data = importlib.import_module("mujoco"), subject.data
        pose = data.qpos.copy()
        for name, sign, size in zip(robot.swing_joints[3 * leg : 3 * leg + 3], robot.swing_signs, sizes, strict=True):
            data.joint(name).qpos[0] += sign * size
        mujoco.mj_forward(subject.model, data)
        rise = _sole(subject, foot)[2] - before[2]
        data.qpos[:] = pose
        mujoco.mj_forward(subject.model, data)
        if rise < MIN_RISE_M:
            text = f"gait: at mid-swing {foot} is {1000 * rise:.0f} mm higher"
            return False, f"{text}: see robot.swing_joints and swing_signs"
    return True, f"gait: at mid-swing the feet are {1000 * rise:.0f} mm up"


def check_standing(subject: Subject) -> Finding:
    """Let the robot stand with its joint controllers alone."""
    cfg = subject.cfg
    scene = make_scene("mujoco", cfg, torch.device("cpu"))
    base = torch.tensor([[0.0, 0.0, cfg.robot.default_base_height_m + cfg.reset.clearance_m]], dtype=torch.float32)
    joints = torch.tensor([cfg.robot.default_joint_pos_rad], dtype=torch.float32)
    scene.reset(
        torch.ones(1, dtype=torch.bool), ResetPose(base, quat_from_yaw(torch.zeros(1, dtype=torch.float32)), joints)
    )
    for _ in range(round(STAND_S / cfg.sim.control_dt_s)):
        state = scene.step(joints)
    sag = cfg.robot.default_base_height_m - float(state.base_pos_w[0, 2])
    lean = float(torch.acos((-state.projected_gravity_b[0, 2]).clamp(-1.0, 1.0)))
    torque = float(state.joint_torque_nm.abs().max())
    scene.close()
    sunk = f"the base is {1000 * sag:.0f} mm lower and leans {lean:.2f} rad"
    text = f"standing: after {STAND_S:.0f} s {sunk}, with {torque:.2f} N·m at most"
    if abs(sag) <= MAX_SAG_M and lean <= MAX_LEAN_RAD:
        return True, text
    return False, f"{text}: raise kp_nm_per_rad, or choose a pose whose centre of mass is over the soles"


def check_heights(subject: Subject) -> Finding:
    """Compare the task's heights with the robot's own."""
    height, low = subject.cfg.robot.default_base_height_m, subject.cfg.termination.min_base_height_m
    target = subject.cfg.reward.target_height_m
    text = f"heights: fallen below {low} m, target {target} m, standing at {height} m"
    if low < 0.9 * height and abs(target - height) < 0.1 * height:
        return True, text
    return False, f"{text}: set termination.min_base_height_m and reward.target_height_m"


def _sole(subject: Subject, foot: str) -> np.ndarray:
    """Return the centre of a sole in the world, (3,), m."""
    body = subject.data.body(foot)
    return body.xpos + body.xmat.reshape(3, 3) @ np.array(subject.cfg.robot.foot_sole_offset_m)


def findings(cfg: EnvConfig) -> Iterator[Finding]:
    """Run the checks in order; the later ones run only if joints and links are complete.

    Raises:
        MachineError: the model file is missing, or MuJoCo cannot read it.
    """
    mujoco = importlib.import_module("mujoco")
    spec = robot_spec(cfg)
    try:
        model = spec.compile()
    except ValueError as error:
        raise MachineError(f"MuJoCo cannot read {model_file(cfg)} ({str(error).splitlines()[0]})") from error
    named = list(check_names(model, cfg.robot))
    yield from named
    if not all(fine for fine, _ in named):
        return
    data = mujoco.MjData(model)
    data.qpos[:] = 0.0
    data.qpos[2], data.qpos[3] = cfg.robot.default_base_height_m, 1.0
    for name, angle in zip(cfg.robot.joint_names, cfg.robot.default_joint_pos_rad, strict=True):
        data.joint(name).qpos[0] = angle
    mujoco.mj_forward(model, data)
    subject = Subject(cfg, model, data)
    checks: tuple[Callable[[Subject], Finding], ...] = (
        check_symmetry,
        check_sides,
        check_soles,
        check_heights,
        check_swing,
        check_standing,
    )
    for check in checks:
        yield check(subject)


def check(file: Path) -> bool:
    """Print the findings about a robot; return whether all checks passed.

    Raises:
        ConfigError: the file is not a robot's file.
        MachineError: the model is missing or cannot be read.
    """
    env = EnvConfig()
    if file.suffix == ".json":
        env = with_settings(Config(), robot_settings(file)).env
    else:
        env = replace(env, robot=replace(env.robot, model_path=str(file.resolve())))
    all_fine = True
    for fine, text in findings(replace(env, num_envs=1)):
        print(f"{'ok     ' if fine else 'WRONG  '}{text}", flush=True)
        all_fine &= fine
    return all_fine
