"""A standing pose with bent knees, for a robot whose model does not say one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from biped.sim.mujoco_geometry import posed, sole_of, sole_pitch

CROUCH = 0.94
"""Length of a bent leg over that of a straight one, in the standing pose."""
START_RAD = (0.35, 0.7, 0.35)
"""Where the search begins: hip forward, knee bent, toes lifted (rad)."""
_TILT_M = 0.3
"""Weight of a foot's tilt beside errors of length (m/rad)."""
_STEPS = 60
_DELTA_RAD = 1e-4
"""Step of the numeric derivatives (rad)."""
_MOST_RAD = 0.2
"""Largest change of a joint in one step (rad)."""
_CLOSE_M = 1e-5
"""Error at which the search ends (m)."""


@dataclass
class Leg:
    """One leg: its joints from the base down, and its foot."""

    foot: str
    """Name of the foot's link."""
    joints: list[str]
    """Names of the joints."""
    kinds: list[str]
    """What each joint does: roll, pitch or yaw."""

    def pitch(self) -> list[str]:
        """Return the joints that pitch: hip, knee and, if there is one, ankle."""
        return [name for name, kind in zip(self.joints, self.kinds, strict=True) if kind == "pitch"]


def crouch(model: Any, legs: Sequence[Leg], signs: Sequence[float]) -> tuple[dict[str, float], float]:
    """Find joint angles that bend the knees, keep the feet flat, and the centre of mass over the soles.

    Gauss-Newton on numeric derivatives; both legs bend alike.

    Args:
        model: the robot's `mujoco.MjModel`.
        legs: left, right.
        signs: the sign of each pitch joint that moves the hip forward, bends the knee and lifts the toes.

    Returns:
        The angle of each pitch joint (rad), and the largest error that is left (m).
    """
    per_leg = len(signs) // 2
    zero = posed(model, {})
    straight = _leg_length(model, zero, legs[0])
    leaning = sole_pitch(model, zero, model.body(legs[0].foot).id)

    def pose(angles: np.ndarray) -> dict[str, float]:
        return {
            name: _within(model, name, sign * angle)
            for number, leg in enumerate(legs)
            for name, sign, angle in zip(leg.pitch(), signs[number * per_leg :], angles, strict=False)
        }

    def off(angles: np.ndarray) -> np.ndarray:
        data, leg = posed(model, pose(angles)), legs[0]
        sole = sole_of(model, data, model.body(leg.foot).id)
        assert sole is not None
        bent = _leg_length(model, data, leg) - CROUCH * straight
        errors = [bent, data.subtree_com[0][0] - sole.centre_w[0], _TILT_M * (_turned(zero, data, leg.foot) + leaning)]
        return np.array(errors[:per_leg])  # without an ankle nothing keeps a foot flat

    values = np.array(START_RAD[:per_leg])
    for _ in range(_STEPS):
        error = off(values)
        if np.abs(error).max() < _CLOSE_M:
            break
        slopes = np.stack([(off(values + _DELTA_RAD * unit) - error) / _DELTA_RAD for unit in np.eye(per_leg)], 1)
        step = np.linalg.lstsq(slopes, -error, rcond=1e-6)[0]
        values = values + step * min(1.0, _MOST_RAD / max(_CLOSE_M, float(np.abs(step).max())))
    return pose(values), float(np.abs(off(values)).max())


def _within(model: Any, name: str, angle_rad: float) -> float:
    joint = model.joint(name)
    low, high = model.jnt_range[joint.id] if model.jnt_limited[joint.id] else (-math.pi, math.pi)
    return min(max(angle_rad, float(low)), float(high))


def _leg_length(model: Any, data: Any, leg: Leg) -> float:
    """Return the height of the hip over the foot's frame, m; unlike the sole's lowest point it moves smoothly."""
    return float(data.xanchor[model.joint(leg.pitch()[0]).id][2] - data.body(leg.foot).xpos[2])


def _turned(zero: Any, data: Any, foot: str) -> float:
    """Return by how much a foot is pitched from the pose in which all joints are at 0, rad."""
    turned = data.body(foot).xmat.reshape(3, 3) @ zero.body(foot).xmat.reshape(3, 3).T
    return float(math.atan2(turned[0, 2], turned[2, 2]))
