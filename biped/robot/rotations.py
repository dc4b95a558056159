"""Rotations by unit quaternions, wxyz, from the body frame to the world."""

import torch
from torch import Tensor


def quat_rotate(quat: Tensor, vector: Tensor) -> Tensor:
    """Rotate vectors (..., 3) by unit quaternions (..., 4), wxyz: from the body frame to the world."""
    w, xyz = quat[..., :1], quat[..., 1:]
    twist = 2.0 * torch.linalg.cross(xyz, vector)
    return vector + w * twist + torch.linalg.cross(xyz, twist)


def quat_rotate_inverse(quat: Tensor, vector: Tensor) -> Tensor:
    """Rotate vectors (..., 3) by the inverse of unit quaternions (..., 4), wxyz: from the world to the body frame."""
    w, xyz = quat[..., :1], quat[..., 1:]
    twist = 2.0 * torch.linalg.cross(xyz, vector)
    return vector - w * twist + torch.linalg.cross(xyz, twist)


def quat_from_yaw(yaw_rad: Tensor) -> Tensor:
    """Return the quaternions (num_envs, 4), wxyz, of rotations by `yaw_rad` (num_envs,) about the vertical axis."""
    half = 0.5 * yaw_rad
    zero = torch.zeros_like(half)
    return torch.stack((torch.cos(half), zero, zero, torch.sin(half)), dim=-1)


def leaning(quat: Tensor, roll_rad: Tensor, pitch_rad: Tensor) -> Tensor:
    """Tilt pure yaw rotations (num_envs, 4), wxyz, by small angles (num_envs,) about their own x and y axes."""
    w, z = quat[:, 0], quat[:, 3]
    a, b = 0.5 * roll_rad, 0.5 * pitch_rad
    return torch.nn.functional.normalize(torch.stack((w, w * a - z * b, w * b + z * a, z), dim=-1), dim=-1)
