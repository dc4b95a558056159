"""Hand-made trajectories with known figures."""

import math

import numpy as np
from numpy.typing import NDArray

from biped.eval.recording import Recording

DT_S = 0.02
STRIDE_STEPS = 40
"""Control steps a stride: 0.8 s, 1.25 Hz."""


def walk(
    *,
    num_envs: int = 3,
    seconds: float = 20.0,
    command: tuple[float, float, float] = (0.3, 0.0, 0.0),
    swing_steps: tuple[int, int] = (16, 16),
    right_foot_delay_steps: int = STRIDE_STEPS // 2,
    apex_m: tuple[float, float] = (0.04, 0.04),
    slip_m_s: float = 0.0,
    velocity: tuple[float, float, float] | None = None,
    steps: bool = True,
    estimate: NDArray[np.float32] | None = None,
) -> Recording:
    """Return a walk at constant velocity: duty factor 0.6, apex 0.04 m, 1.25 Hz, no slip, unless asked otherwise.

    `estimate` (num_steps, num_envs, 4) is what the policy takes velocity and height to be; None: it does not say. Both
    feet swing for `swing_steps` of each stride, the right one `right_foot_delay_steps` after the left.
    """
    count = round(seconds / DT_S)
    time = np.arange(count)
    contacts = np.ones((count, num_envs, 2), dtype=bool)
    foot_pos_w = np.zeros((count, num_envs, 2, 3), dtype=np.float32)
    foot_vel_w = np.zeros_like(foot_pos_w)
    for foot, delay in enumerate((0, right_foot_delay_steps)) if steps else ():
        place = (time - delay) % STRIDE_STEPS
        swing = place < swing_steps[foot]
        contacts[:, :, foot] = ~swing[:, None]
        height = apex_m[foot] * np.sin(math.pi * (place + 0.5) / swing_steps[foot]) * swing
        foot_pos_w[:, :, foot, 2] = height[:, None]
    foot_vel_w[..., 0] = np.where(contacts, slip_m_s, 1.0)
    vx, vy, wz = command if velocity is None else velocity
    lin_vel_b = np.zeros((count, num_envs, 3), dtype=np.float32)
    lin_vel_b[..., 0], lin_vel_b[..., 1] = vx, vy
    ang_vel_b = np.zeros_like(lin_vel_b)
    ang_vel_b[..., 2] = wz
    base_pos_w = np.zeros_like(lin_vel_b)
    base_pos_w[..., 0] = (vx * DT_S * time)[:, None]
    base_pos_w[..., 1] = (vy * DT_S * time)[:, None]
    base_pos_w[..., 2] = 0.4
    return Recording(
        dt_s=DT_S,
        mass_kg=2.0,
        estimate=np.zeros((count, num_envs, 0), dtype=np.float32) if estimate is None else estimate,
        command=np.tile(np.array(command, dtype=np.float32), (num_envs, 1)),
        running=np.ones((count, num_envs), dtype=bool),
        fell=np.zeros(num_envs, dtype=bool),
        base_pos_w=base_pos_w,
        base_quat_w=np.tile(np.array((1, 0, 0, 0), dtype=np.float32), (count, num_envs, 1)),
        base_lin_vel_b=lin_vel_b,
        base_ang_vel_b=ang_vel_b,
        joint_pos_rad=np.zeros((count, num_envs, 9), dtype=np.float32),
        joint_vel_rad_s=np.zeros((count, num_envs, 9), dtype=np.float32),
        joint_torque_nm=np.ones((count, num_envs, 9), dtype=np.float32),
        foot_pos_w=foot_pos_w,
        foot_vel_w=foot_vel_w,
        contacts=contacts,
        phase=np.tile((time / STRIDE_STEPS % 1.0).astype(np.float32)[:, None], (1, num_envs)),
        rewards=np.ones((count, num_envs, 2), dtype=np.float32) * np.array((0.02, -0.01), dtype=np.float32),
        reward_names=np.array(("alive_bonus", "action_rate")),
    )
