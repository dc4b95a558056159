"""Clips of recordings and of the gait's reference, and the distance of a motion to a clip."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biped.base.errors import UsageError
from biped.config.task import EnvConfig
from biped.eval.motion import distances_rad, mean_stride, motion_of, reference_motion, warped_distance
from biped.eval.recording import Recording
from biped.robot.motion import Motion

DT_S, NAMES = 0.02, ("left_knee", "right_knee")


def recording(seconds: float = 10.0, fell_after_s: float | None = None, frequency_hz: float = 1.25) -> Recording:
    """Two robots that walk along a line 30 degrees from x, knees by the clock, the second one half as far."""
    count = round(seconds / DT_S)
    time = DT_S * np.arange(1, count + 1)
    phase = np.mod(0.37 + frequency_hz * time, 1.0)
    knees = np.stack((np.sin(2 * math.pi * phase), np.cos(2 * math.pi * phase)), axis=1)
    joints = np.stack((knees, 0.5 * knees), axis=1)
    yaw = math.radians(30.0)
    pos = np.zeros((count, 2, 3))
    pos[..., 0], pos[..., 1], pos[..., 2] = (math.cos(yaw) * time)[:, None], (math.sin(yaw) * time)[:, None], 0.4
    quat = np.tile((math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)), (count, 2, 1))
    running = np.ones((count, 2), dtype=bool)
    if fell_after_s is not None:
        running[round(fell_after_s / DT_S) :, 1] = False
    nothing = np.zeros((count, 2, 3), dtype=np.float32)
    feet = np.zeros((count, 2, 2, 3), dtype=np.float32)
    return Recording(
        dt_s=DT_S,
        mass_kg=1.7,
        command=np.zeros((2, 3), dtype=np.float32),
        running=running,
        fell=np.zeros(2, dtype=bool),
        base_pos_w=pos.astype(np.float32),
        base_quat_w=quat.astype(np.float32),
        base_lin_vel_b=nothing,
        base_ang_vel_b=nothing,
        joint_pos_rad=joints.astype(np.float32),
        joint_vel_rad_s=joints.astype(np.float32),
        joint_torque_nm=joints.astype(np.float32),
        foot_pos_w=feet,
        foot_vel_w=feet,
        contacts=np.zeros((count, 2, 2), dtype=bool),
        phase=np.tile(phase[:, None], (1, 2)).astype(np.float32),
        estimate=np.zeros((count, 2, 0), dtype=np.float32),
        rewards=np.zeros((count, 2, 0), dtype=np.float32),
        reward_names=np.array([], dtype=np.str_),
    )


def test_a_part_of_an_episode_is_a_clip_from_the_origin() -> None:
    clip = motion_of(recording(), NAMES, 1, 2.0, 3.0)
    assert clip.joint_names == NAMES
    assert len(clip) == 151
    assert clip.length_s == pytest.approx(3.0)
    np.testing.assert_allclose(
        clip.base_pos_w, np.stack((clip.time_s, 0 * clip.time_s, 0.4 + 0 * clip.time_s), axis=1), atol=1e-4
    )
    np.testing.assert_allclose(clip.base_quat_w[:, 0], 1.0, atol=1e-6)
    np.testing.assert_allclose(clip.joint_pos_rad, recording().joint_pos_rad[100:251, 1])


def test_a_fall_before_the_end_is_said() -> None:
    assert motion_of(recording(fell_after_s=3.0), NAMES, 1, 1.0, 1.5).length_s == pytest.approx(1.5)
    with pytest.raises(UsageError, match=r"the episode lasts 3\.00 s, and the clip is to end at 4\.00 s"):
        motion_of(recording(fell_after_s=3.0), NAMES, 1, 1.0, 3.0)
    with pytest.raises(UsageError, match="there is no whole stride"):
        mean_stride(recording(fell_after_s=3.0), NAMES, 1, 2.5, 1.25)


def test_the_mean_stride_begins_at_phase_0_and_is_a_loop() -> None:
    clip = mean_stride(recording(), NAMES, 0, 1.0, 1.25)
    assert clip.length_s == pytest.approx(0.8)
    phase = clip.time_s / 0.8
    np.testing.assert_allclose(clip.joint_pos_rad[:, 0], np.sin(2 * math.pi * phase), atol=0.01)
    np.testing.assert_allclose(clip.joint_pos_rad[:, 1], np.cos(2 * math.pi * phase), atol=0.01)
    np.testing.assert_allclose(clip.joint_pos_rad[0], clip.joint_pos_rad[-1], atol=1e-9)
    np.testing.assert_allclose(clip.base_pos_w[:, 0], clip.time_s, atol=1e-4)


def test_the_reference_bends_each_knee_at_its_mid_swing() -> None:
    cfg = EnvConfig()
    clip = reference_motion(cfg, 0.4, 1.0 / cfg.gait.frequency_hz)
    knees = [cfg.robot.joint_names.index(f"{side}_knee") for side in ("left", "right")]
    default = cfg.robot.default_joint_pos_rad[knees[0]]
    apexes = [clip.time_s[clip.joint_pos_rad[:, knee].argmax()] * cfg.gait.frequency_hz for knee in knees]
    assert apexes == pytest.approx([0.25, 0.75], abs=0.02)
    assert clip.joint_pos_rad[:, knees[0]].max() == pytest.approx(default + cfg.gait.knee_amplitude_rad, abs=0.02)
    assert clip.base_pos_w[-1].tolist() == pytest.approx([0.4 / cfg.gait.frequency_hz, 0.0, 0.404])
    np.testing.assert_allclose(clip.joint_pos_rad[0], clip.joint_pos_rad[-1], atol=1e-6)


def slow(wanted: np.ndarray, done: np.ndarray) -> float:
    """Dynamic time warping as in the book, step by step."""
    n, m = len(wanted), len(done)
    best = np.full((n, m), np.inf)
    for i in range(n):
        for j in range(m):
            cost = abs(wanted[i] - done[j])
            before = [best[i - 1, j] if i else np.inf, best[i, j - 1] if i and j else np.inf]
            before += [best[i - 1, j - 1] if i and j else np.inf]
            best[i, j] = cost + (min(before) if i else 0.0)
    return float(best[-1].min() / n)


numbers = st.lists(st.floats(-2.0, 2.0), min_size=1, max_size=12)


@given(numbers, numbers)
def test_the_distance_is_that_of_the_book(wanted: list[float], done: list[float]) -> None:
    one, other = np.array(wanted), np.array(done)
    assert warped_distance(one, other) == pytest.approx(slow(one, other), abs=1e-9)


def test_a_motion_at_another_pace_and_from_another_start_is_the_same_motion() -> None:
    clip = np.sin(np.linspace(0.0, 6.0, 120))
    slower = np.sin(np.linspace(-2.0, 9.0, 400))
    assert warped_distance(clip, slower) < 0.02
    assert warped_distance(clip, slower + 0.3) > 0.1


def test_distances_are_by_joint_whatever_their_order() -> None:
    time = np.arange(50) * DT_S
    joints = np.stack((np.sin(6 * time), 0 * time), axis=1)
    pos, quat = np.zeros((50, 3)), np.tile((1.0, 0, 0, 0), (50, 1))
    clip = Motion(time, pos, quat, NAMES, joints)
    swapped = Motion(time, pos, quat, NAMES[::-1], joints[:, ::-1] + (0.25, 0.0))
    assert distances_rad(clip, swapped) == pytest.approx({"left_knee": 0.0, "right_knee": 0.25})
    with pytest.raises(UsageError, match="no joint left_knee"):
        distances_rad(clip, Motion(time, pos, quat, ("x", "y"), joints))
