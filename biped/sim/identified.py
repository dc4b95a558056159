"""Writes what an identification found: a robot's file, a table, and what is known badly."""

import glob
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from biped.base.errors import UsageError, disk_error
from biped.base.files import write_whole
from biped.config.actuators import Motor
from biped.config.randomization import MAX_LATENCY_STEPS
from biped.config.recipes import ABOUT, content_of, is_recipe
from biped.config.robot import RobotConfig
from biped.config.task import EnvConfig
from biped.robot.model import model_file
from biped.sim.mujoco_hung import PARAMETERS, UNITS, split_damping
from biped.sim.mujoco_identify import Identified

BADLY = 0.1
"""Relative half interval of a gain from which on it is said that it is not known well."""
LARGEST_BACKLASH_RAD, ARMATURE_FACTORS = 0.5, (0.05, 20.0)
"""Bounds of what a configuration may randomise."""
_DIGITS = 4


def check_file(cfg: EnvConfig, file: Path | None) -> None:
    """Check that there is a robot's file that the new one can be made from.

    Raises:
        UsageError: the robot is not the one of the defaults, and has no file.
    """
    if file is None and cfg.robot.model_path != RobotConfig().model_path:
        raise UsageError(f"the log is of {cfg.robot.model_path}: name the file of that robot with --robot")


def robot_content(found: Identified, cfg: EnvConfig, file: Path | None, out: Path, log: Path) -> dict[str, Any]:
    """Return what a robot's file holds after an identification; the same machine gives the same numbers again.

    Args:
        found: what was identified.
        cfg: the robot that it began with.
        file: that robot's file; None: the defaults.
        out: where the file will lie, for the model's path in it.
        log: the log, for its name.
    """
    content = _content(file)
    before = content.get("robot", {})
    robot = {**before, "model_path": os.path.relpath(model_file(cfg).resolve(), out.resolve().parent)}
    robot["actuators"] = actuators(found, cfg)
    about = {**content.get(ABOUT, {}), "identified": _about(found, log)}
    randomization = {**content.get("randomization", {}), **ranges(found, cfg)}
    return {**content, "robot": robot, "randomization": randomization, ABOUT: about}


def actuators(found: Identified, cfg: EnvConfig) -> list[dict[str, Any]]:
    """Return a group of `robot.actuators` for each joint: the motor of the robot's file with what was found."""
    groups = []
    for motor, name, values in zip(cfg.robot.motors, found.joint_names, found.values, strict=True):
        value = dict(zip(PARAMETERS, values, strict=True))
        kd, damping = split_damping(value["damping"], motor.kd_nm_s_per_rad)
        groups.append(
            {
                "joints": [glob.escape(name)],
                **({"servo": motor.servo} if motor.servo else {}),
                "kp_nm_per_rad": _short(value["gain"] * motor.kp_nm_per_rad),
                "kd_nm_s_per_rad": _short(float(kd)),
                **_limits(motor),
                "armature_kg_m2": _short(value["armature"]),
                "friction_nm": _short(value["friction"]),
                "damping_nm_s_per_rad": _short(float(damping)),
            }
        )
    return groups


def ranges(found: Identified, cfg: EnvConfig) -> dict[str, dict[str, Any]]:
    """Return what `env.randomization` should draw from: each range holds the intervals of all joints.

    Delay and play have no other place in a configuration, so they are switched on. The other ranges count where
    `--randomize` switches them on.
    """
    value, half = (dict(zip(PARAMETERS, rows.T, strict=True)) for rows in (found.values, found.intervals))
    kd = np.array(
        [split_damping(d, m.kd_nm_s_per_rad)[0] for d, m in zip(value["damping"], cfg.robot.motors, strict=True)]
    )
    gain, friction = float((half["gain"] / value["gain"]).max()), float(half["friction"].max())
    damping = float((half["damping"] / np.maximum(kd, 1e-6)).max())
    armature = float((half["armature"] / np.maximum(value["armature"], 1e-9)).max())
    dt_s = cfg.sim.control_dt_s
    steps = ((value["delay"] - half["delay"]).min() / dt_s, (value["delay"] + half["delay"]).max() / dt_s)
    play = ((value["play"] - half["play"]).min(), (value["play"] + half["play"]).max())
    return {
        "strength": {"range": _factors(gain, 0.05, math.inf)},
        "damping": {"range": _factors(min(damping, 1.0), 0.0, math.inf)},
        "joint_friction_nm": {"range": [-_short(friction), _short(friction)]},
        "armature": {"range": _factors(armature, *ARMATURE_FACTORS)},
        "latency_steps": {
            "mode": "reset",
            "range": [
                float(np.clip(math.floor(steps[0]), 0, MAX_LATENCY_STEPS)),
                float(np.clip(math.ceil(steps[1]), 0, MAX_LATENCY_STEPS)),
            ],
        },
        "backlash_rad": {
            "mode": "reset",
            "range": [_short(float(np.clip(end, 0.0, LARGEST_BACKLASH_RAD))) for end in play],
        },
    }


def table(found: Identified) -> Iterator[str]:
    """Yield lines: what was found of each joint, and how well the held-out part is explained before and after."""
    yield f"{'joint':18} {'parameter':10} {'value':>10}   {'±':>9}  {'nominal':>10}  unit"
    for joint, name in enumerate(found.joint_names):
        for number, (parameter, unit) in enumerate(zip(PARAMETERS, UNITS, strict=True)):
            numbers = (rows[joint, number] for rows in (found.values, found.intervals, found.nominal))
            value, half, nominal = (f"{number:.4g}" for number in numbers)
            yield f"{name:18} {parameter:10} {value:>10} ± {half:>9}  {nominal:>10}  {unit}"
    yield f"{'joint':18} held-out position RMSE (mrad): before, after"
    errors = zip(found.rmse_rad(found.before_rad), found.rmse_rad(found.after_rad), strict=True)
    for name, (before, after) in zip(found.joint_names, errors, strict=True):
        yield f"{name:18} {1e3 * before:8.3f} {1e3 * after:8.3f}"


def doubts(found: Identified) -> Iterator[str]:
    """Yield a line about each joint whose torques are known badly, and about one that the fit explains no better."""
    gain = PARAMETERS.index("gain")
    share = found.intervals[:, gain] / found.values[:, gain]
    errors = zip(found.rmse_rad(found.before_rad), found.rmse_rad(found.after_rad), strict=True)
    for name, known_to, (before, after) in zip(found.joint_names, share, errors, strict=True):
        if known_to > BADLY:
            yield (
                f"{name} carries too little: its gain, damping, friction and armature are known to ± {known_to:.0%} "
                "together; hang the trunk so that gravity turns this joint, or fix a weight to it and to the model"
            )
        if after > 0.5 * before:
            yield f"{name} is explained little better than before: look at the plot for what the model lacks"


def write(content: Mapping[str, Any], out: Path) -> None:
    """Write a robot's file.

    Raises:
        UsageError: there is a file already.
        MachineError: the disk refuses the write.
    """
    refuse_existing(out, "--out")
    try:
        write_whole(out, (json.dumps(content, indent=2) + "\n").encode())
    except OSError as error:
        raise disk_error(out, error, "--out") from error


def refuse_existing(path: Path, flag: str) -> None:
    """Check that a file would not be overwritten.

    Raises:
        UsageError: there is a file already.
    """
    if path.exists():
        raise UsageError(f"{path} is there already: name another file with {flag}, or move it away")


def _content(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    return content_of(str(file)) if is_recipe(file) else json.loads(file.read_text(encoding="utf-8"))


def _limits(motor: Motor) -> dict[str, float]:
    return {
        "effort_limit_nm": motor.effort_limit_nm,
        "stall_torque_nm": motor.stall_torque_nm,
        "velocity_limit_rad_s": motor.velocity_limit_rad_s,
    }


def _about(found: Identified, log: Path) -> dict[str, Any]:
    """Return what no field of a configuration holds: each number with its interval, and how well it explains."""
    errors = (found.rmse_rad(found.before_rad), found.rmse_rad(found.after_rad))
    return {
        "log": log.name,
        "seconds": _short(float(found.log.time_s[-1])),
        "values_with_half_of_a_95_percent_interval": {
            name: {
                f"{parameter} ({unit})": [_short(value), _short(half)]
                for parameter, unit, value, half in zip(PARAMETERS, UNITS, values, halves, strict=True)
            }
            for name, values, halves in zip(found.joint_names, found.values, found.intervals, strict=True)
        },
        "held_out_rmse_rad_before_and_after": {
            name: [_short(before), _short(after)]
            for name, before, after in zip(found.joint_names, *errors, strict=True)
        },
    }


def _factors(half: float, low: float, high: float) -> list[float]:
    return [_short(min(max(1.0 + side * half, low), high)) for side in (-1.0, 1.0)]


def _short(value: float) -> float:
    """Round to digits that mean something; the same log gives the same ones on the same machine."""
    return float(f"{value:.{_DIGITS}g}")
