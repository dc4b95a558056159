"""Moves of links in a robot's `mujoco.MjSpec`, before it is compiled, however its file writes orientations."""

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


def move_frame(spec: Any, link: Any, point_m: Vector) -> None:
    """Move the frame of a link to a point, (3,), in that frame (m); nothing of the robot moves.

    The link's joints may have no place of their own: it is the base, which floats.
    """
    for part in (*link.bodies, *link.geoms, *link.sites, *link.cameras, *link.lights):
        part.pos = np.asarray(part.pos) - point_m
    link.ipos = np.asarray(link.ipos) - point_m
    link.pos = np.asarray(link.pos) + rotation_of(_quat(spec, link)) @ point_m


def turn_link(spec: Any, joint: Any, angle_rad: float) -> None:
    """Turn a link about one of its joints, as if the joint stood at an angle from the pose in the file (rad)."""
    if not angle_rad:
        return
    mujoco, link, turn, quat = _mujoco(), joint.parent, np.zeros(4), np.zeros(4)
    axis = np.asarray(joint.axis, dtype=float)
    mujoco.mju_axisAngle2Quat(turn, axis / np.linalg.norm(axis), angle_rad)
    anchor, turned, before = np.asarray(joint.pos, dtype=float), rotation_of(turn), _quat(spec, link)
    link.pos = np.asarray(link.pos) + rotation_of(before) @ (anchor - turned @ anchor)
    mujoco.mju_mulQuat(quat, before, turn)
    link.quat, link.alt.type = quat, mujoco.mjtOrientation.mjORIENTATION_QUAT
    for other in link.joints:
        if other.name == joint.name:
            break
        # Joints before this one move it: they stay where they are.
        other.axis = turned.T @ np.asarray(other.axis)
        other.pos = anchor + turned.T @ (np.asarray(other.pos) - anchor)


def rotation_of(quat: Any) -> Vector:
    """Return the matrix of a unit quaternion, wxyz, (3, 3)."""
    matrix = np.zeros(9)
    _mujoco().mju_quat2Mat(matrix, np.asarray(quat, dtype=float))
    return matrix.reshape(3, 3)


def _quat(spec: Any, link: Any) -> Vector:
    """Return a link's orientation in its parent as a unit quaternion, wxyz, however the file writes it."""
    mujoco = _mujoco()
    if link.alt.type == mujoco.mjtOrientation.mjORIENTATION_QUAT:
        return np.asarray(link.quat, dtype=float)
    return np.asarray(
        mujoco.MjSpec.resolve_orientation(
            degree=spec.compiler.degree, sequence=spec.compiler.eulerseq, orientation=link.alt
        )
    )


def _mujoco() -> Any:
    return importlib.import_module("mujoco")
