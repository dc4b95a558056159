"""The motors in the draft of a robot's file: limits as the model states them, and gains that follow from them."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GAIN_RAD = 0.15
"""Error at which a joint's controller reaches the joint's torque limit (rad)."""
DAMPING_S = 0.025
"""Derivative gain over the proportional one (s)."""
GUESSED_EFFORT = 1.0
"""Torque limit where the model has none, in weights times leg lengths."""
GUESSED_SPEED_RAD_S = 10.0
"""Speed limit where the model has none (rad/s)."""
Limits = tuple[float, float]
"""Of torque (N·m) and speed (rad/s); 0 where nothing is stated."""


@dataclass(frozen=True)
class Actuators:
    """Groups of joints with the same limits."""

    groups: list[dict[str, Any]]
    """As in `robot.actuators`."""
    guesses: list[str]
    """What is not certain, one line each."""


def draft_actuators(driven: Sequence[str], limits: Mapping[str, Limits], guess_nm: float) -> Actuators:
    """Group joints by their limits, with gains that reach the limit at an error of `GAIN_RAD`.

    Args:
        driven: names of the joints.
        limits: what the model states of each.
        guess_nm: torque limit of the others (N·m).
    """
    guesses: list[str] = []
    groups: dict[Limits, list[str]] = {}
    unlimited: list[str] = []
    for name in driven:
        effort, speed = limits.get(name, (0.0, 0.0))
        if not effort:
            unlimited.append(name)
        groups.setdefault((effort or guess_nm, speed or GUESSED_SPEED_RAD_S), []).append(name)
    if unlimited:
        guesses.append(
            f"effort_limit_nm: the model has no torque limit of {', '.join(unlimited)}; {guess_nm} N·m is a guess from "
            "weight and leg length"
        )
    if any(speed == GUESSED_SPEED_RAD_S for _, speed in groups):
        guesses.append(f"velocity_limit_rad_s: {GUESSED_SPEED_RAD_S:g} where the model states none")
    guesses.append(f"gains: kp reaches the torque limit at {GAIN_RAD} rad, kd is {DAMPING_S} s times kp; measure yours")
    made = [
        {
            "joints": names,
            "kp_nm_per_rad": round(effort / GAIN_RAD, 3),
            "kd_nm_s_per_rad": round(DAMPING_S * effort / GAIN_RAD, 4),
            "effort_limit_nm": round(effort, 3),
            "velocity_limit_rad_s": round(speed, 3),
        }
        for (effort, speed), names in groups.items()
    ]
    return Actuators(made, guesses)


def stated_limits(spec: Any, file: Path) -> dict[str, Limits]:
    """Return the limits of each joint that a model states.

    Args:
        spec: the model as a `mujoco.MjSpec`, with its own motors.
        file: the file, of which a URDF states speeds too.
    """
    limits: dict[str, Limits] = {}
    for joint in spec.joints:
        limits[joint.name] = (float(joint.actfrcrange[1]), 0.0)
    for actuator in spec.actuators:
        gear = abs(float(actuator.gear[0])) or 1.0
        bounds = [float(actuator.forcerange[1])]
        if int(actuator.gaintype) == int(actuator.biastype) == 0 and actuator.ctrlrange[1]:  # a torque motor
            bounds.append(float(actuator.ctrlrange[1]))
        most = [bound * gear for bound in bounds if bound > 0.0]
        known = limits.get(actuator.target, (0.0, 0.0))[0]
        if most:
            limits[actuator.target] = (min([*most, *([known] if known else [])]), 0.0)
    if file.suffix.lower() == ".urdf":
        for joint in ET.parse(file).getroot().iter("joint"):
            limit = joint.find("limit")
            if limit is not None:
                effort, speed = (float(limit.get(name, 0.0)) for name in ("effort", "velocity"))
                limits[joint.get("name", "")] = (effort, speed)
    return limits
