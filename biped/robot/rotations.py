"""Rotations by unit quaternions, wxyz, from the body frame to the world."""

import math
from functools import cache

import torch
from torch import Tensor


def quat_rotate(quat: Tensor, vector: Tensor) -> Tensor:
    """Rotate vectors (..., 3) by unit quaternions (..., 4), wxyz: from the body frame to the world."""
    w, xyz = quat[..., :1], quat[..., 1:]
    twist = torch.linalg.cross(xyz, vector)
    # vector + 2 (w twist + xyz × twist)
    return torch.add(vector, torch.addcmul(torch.linalg.cross(xyz, twist), w, twist), alpha=2.0)


def quat_rotate_inverse(quat: Tensor, vector: Tensor) -> Tensor:
    """Rotate vectors (..., 3) by the inverse of unit quaternions (..., 4), wxyz: from the world to the body frame."""
    w, xyz = quat[..., :1], quat[..., 1:]
    twist = torch.linalg.cross(xyz, vector)
    return torch.add(vector, torch.addcmul(torch.linalg.cross(xyz, twist), w, twist, value=-1.0), alpha=2.0)


def quat_from_yaw(yaw: Tensor, unit_rad: float = 1.0) -> Tensor:
    """Return the quaternions (num_envs, 4), wxyz, of rotations about the vertical axis.

    Args:
        yaw: angles, (num_envs,), in `unit_rad`.
        unit_rad: their unit (rad).
    """
    # (cos, 0, 0, sin) of half the angle, as sines: one kernel for all four.
    ahead_rad, factors = _sines_of_a_yaw(yaw.device)
    return torch.sin(torch.addcmul(ahead_rad, yaw[..., None], factors, value=unit_rad))


@cache
def _sines_of_a_yaw(device: torch.device) -> Tensor:
    """Return what is added to each sine's angle, and the factors on the yaw before, (2, 4)."""
    return torch.tensor(((0.5 * math.pi, 0.0, 0.0, 0.0), (0.5, 0.0, 0.0, 0.5)), device=device, dtype=torch.float32)


def leaning(quat: Tensor, roll_rad: Tensor, pitch_rad: Tensor) -> Tensor:
    """Tilt pure yaw rotations (num_envs, 4), wxyz, by small angles (num_envs,) about their own x and y axes."""
    w, z = quat[:, 0], quat[:, 3]
    a, b = 0.5 * roll_rad, 0.5 * pitch_rad
    return torch.nn.functional.normalize(torch.stack((w, w * a - z * b, w * b + z * a, z), dim=-1), dim=-1)


def quat_from_gravity(gravity_b: Tensor) -> Tensor:
    """Return quaternions (n, 4), wxyz, under which gravity has these directions (n, 3) in the base frame.

    The heading is left open by gravity; of all such rotations this is the smallest. Upside down, it is half a turn
    about the x axis.
    """
    x, y, z = torch.nn.functional.normalize(gravity_b, dim=-1).unbind(dim=-1)
    quat = torch.stack((1.0 - z, -y, x, torch.zeros_like(x)), dim=-1)
    over = torch.zeros_like(quat)
    over[..., 1] = 1.0
    return torch.nn.functional.normalize(torch.where((1.0 - z)[..., None] < 1e-6, over, quat), dim=-1)
