"""Motion clips: what is read is what was written, at any rate, and mirrored; and what is none is said."""

import math
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biped.base.errors import MachineError, UsageError
from biped.config.robot import RobotConfig
from biped.robot.motion import Motion
from biped.robot.motion_files import clip_of, read_motion, write_motion
from biped.robot.symmetry import mirror_joints

NAMES = ("left_knee", "right_knee", "torso_yaw")


def clip(count: int = 11, dt_s: float = 0.1) -> Motion:
    """A base that moves along x at 1 m/s and turns left by 0.5 rad/s, and three joints."""
    time = dt_s * np.arange(count)
    half = 0.25 * time
    zeros = 0.0 * time
    return Motion(
        time,
        np.stack((time, 0.1 + zeros, 0.4 + zeros), axis=1),
        np.stack((np.cos(half), zeros, zeros, np.sin(half)), axis=1),
        NAMES,
        np.stack((time, np.sin(time), 0.2 + zeros), axis=1),
    )


def close(one: Motion, other: Motion, atol: float = 1e-5) -> None:
    for name in ("time_s", "base_pos_w", "base_quat_w", "joint_pos_rad"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=0, atol=atol, err_msg=name)
    assert one.joint_names == other.joint_names


@pytest.mark.parametrize("name", ["clip.csv", "clip.npz"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    write_motion(clip(), tmp_path / name)
    close(read_motion(tmp_path / name), clip())


def test_columns_may_be_in_any_order_and_rates_uneven(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(
        "knee,base_qw,base_qx,base_qy,base_qz,time,base_x,base_y,base_z\n"
        "0.1,1,0,0,0,0,0,0,0.4\n0.2,1,0,0,0,0.1,0.1,0,0.4\n0.4,-2e0,0,0,0,0.3,0.3,0,0.4\n".replace("-2e0", "-1")
    )
    motion = read_motion(tmp_path / "mine.csv")
    assert motion.joint_names == ("knee",)
    np.testing.assert_allclose(motion.joint_vel_rad_s[:, 0], 1.0)
    np.testing.assert_allclose(motion.base_vel_w[:, 0], 1.0)
    # q and -q are one orientation; neighbours are in one half of the sphere, or what is between them would be a turn
    np.testing.assert_allclose(motion.base_quat_w[:, 0], 1.0)
    np.testing.assert_allclose(motion.resampled(0.05).joint_pos_rad[:, 0], np.linspace(0.1, 0.4, 7))


@given(st.floats(0.004, 0.3))
def test_another_rate_is_the_same_motion(dt_s: float) -> None:
    motion = clip().resampled(dt_s)
    np.testing.assert_allclose(np.diff(motion.time_s), dt_s)
    assert 1.0 - dt_s < motion.length_s <= 1.0 + 1e-6
    np.testing.assert_allclose(motion.base_pos_w[:, 0], motion.time_s, atol=1e-6)
    np.testing.assert_allclose(
        2.0 * np.arctan2(motion.base_quat_w[:, 3], motion.base_quat_w[:, 0]), 0.5 * motion.time_s, atol=1e-5
    )
    np.testing.assert_allclose(np.linalg.norm(motion.base_quat_w, axis=1), 1.0)


def test_a_clip_that_is_too_short_is_said() -> None:
    with pytest.raises(UsageError, match=r"lasts 1 s: 3 frames of 0\.6 s are needed"):
        clip().resampled(0.6)


def test_the_mirror_image_turns_to_the_other_side_with_the_other_leg() -> None:
    robot = RobotConfig()
    index, sign = mirror_joints(robot)
    wide = Motion(
        np.arange(3.0),
        np.tile((1.0, 0.2, 0.4), (3, 1)),
        np.tile((math.cos(0.2), 0.0, 0.0, math.sin(0.2)), (3, 1)),
        robot.joint_names,
        np.tile(np.arange(1.0, 10.0), (3, 1)),
    )
    image = wide.mirrored((index, sign))
    assert image.base_pos_w[0].tolist() == [1.0, -0.2, 0.4]
    assert image.base_quat_w[0].tolist() == [math.cos(0.2), 0.0, 0.0, -math.sin(0.2)]
    # left and right change places; hip roll and torso yaw change their sign
    assert image.joint_pos_rad[0].tolist() == [-5.0, 6.0, 7.0, 8.0, -1.0, 2.0, 3.0, 4.0, -9.0]
    close(image.mirrored((index, sign)), wide)


@given(st.floats(-3.1, 3.1), st.floats(-5.0, 5.0), st.floats(-0.3, 0.3))
def test_a_clip_begins_at_the_origin_heading_along_x(yaw: float, x: float, lean: float) -> None:
    """Turned and moved as a whole: distances, and the leaning, stay."""
    straight = clip()
    cos, sin = math.cos(yaw / 2), math.sin(yaw / 2)
    w, _, _, z = straight.base_quat_w.T
    leaned = np.stack((w * math.cos(lean), w * math.sin(lean), z * math.sin(lean), z * math.cos(lean)), axis=1)
    a, b, c, d = leaned.T
    turned = np.stack((cos * a - sin * d, cos * b - sin * c, cos * c + sin * b, cos * d + sin * a), axis=1)
    turn = np.array(((math.cos(yaw), -math.sin(yaw), 0), (math.sin(yaw), math.cos(yaw), 0), (0, 0, 1)))
    moved = Motion(
        5.0 + straight.time_s,
        straight.base_pos_w @ turn.T + (x, -x, 0.0),
        turned,
        straight.joint_names,
        straight.joint_pos_rad,
    )
    found = moved.from_origin()
    np.testing.assert_allclose(found.base_pos_w, straight.base_pos_w - (0.0, 0.1, 0.0), atol=1e-9)
    np.testing.assert_allclose(np.abs((found.base_quat_w * leaned).sum(axis=1)), 1.0, atol=1e-9)
    assert found.time_s[0] == 0.0


def test_joints_beyond_their_range_are_named_with_the_worst_frame() -> None:
    ranges = np.array([[-1.0, 0.75], [-1.0, 1.0], [0.3, 1.0]])
    found = clip().problems(ranges, [2.0, 2.0, 2.0])
    assert found == [
        "left_knee is at 1.000 rad in frame 10 (1.000 s), beyond its range of -1.000 to 0.750 (3 frames)",
        "torso_yaw is at 0.200 rad in frame 0 (0.000 s), beyond its range of 0.300 to 1.000 (11 frames)",
    ]


def test_joints_that_are_too_fast_are_named() -> None:
    anywhere = np.tile((-9.0, 9.0), (3, 1))
    assert clip().problems(anywhere, [1.1, 1.1, 1.1]) == []
    (found,) = clip().problems(anywhere, [1.1, 0.9, 1.1])
    assert found.startswith("right_knee turns at 1.00 rad/s in frame 0 (0.000 s)")


HEAD = "time,base_x,base_y,base_z,base_qw,base_qx,base_qy,base_qz,knee\n"
ROW = "{time},0,0,0.4,1,0,0,0,{knee}\n"


def rows(*pairs: tuple[object, object]) -> str:
    return HEAD + "".join(ROW.format(time=time, knee=knee) for time, knee in pairs)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"),
        ("time,knee\n0,0\n", "its first row has no column base_x"),
        (HEAD.replace("knee", "time"), "its first row has the column time more than once"),
        (rows((0, 0), (0.1, 0)), "it has 2 frames, and 3 are needed"),
        (rows((0, 0), (0.1, 0), (0.1, 0)), "time does not rise from frame 1 to frame 2"),
        (rows((0, 0), (0.1, "nan"), (0.2, 0)), "knee is 'nan' in row 3, which is no number"),
        (rows((0, 0), (0.1, "fast"), (0.2, 0)), "knee is 'fast' in row 3, which is no number"),
        (rows((0, 0), (0.1, "1,2"), (0.2, 0)), "row 3 has 10 values, and the first 9"),
        (rows((0, 0), (0.1, 0), (0.2, 0)).replace("0.4,1,", "0.4,0.5,"), "the quaternion of frame 0 has length 0.5"),
        ("\x89PNG\x00\x1a", "its first row has no column time"),
        (HEAD.replace(",", ";"), "its columns are separated by ';': separate them by commas"),
        (HEAD.replace("knee", ""), "it names a joint ''"),
        (rows((0, 0), (0.1, 0), (0.1 + 1e-9, 0)), "time does not rise from frame 1 to frame 2"),
        (rows((0, 0), (0.1, 0), (9, 0)), "frames 1 and 2 are 8.9 s apart: cut the clip there"),
        (rows((0, 0), (0.1, 1e39), (0.2, 0)), "knee is 1e+39 in frame 1, where no robot is"),
        (rows((0, 0), (0.1, "9" * 140_000), (0.2, 0)), "field larger than field limit"),
    ],
)
def test_what_is_no_clip_is_said_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(UsageError, match=r"bad\.csv is no motion") as error:
        read_motion(tmp_path / "bad.csv")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def npz(folder: Path, **changes: object) -> Path:
    motion = clip()
    parts: dict[str, object] = {
        "time": motion.time_s,
        "base_pos": motion.base_pos_w,
        "base_quat": motion.base_quat_w,
        "joint_names": np.array(NAMES),
        "joint_pos": motion.joint_pos_rad,
    }
    parts |= changes
    np.savez(folder / "bad.npz", **{name: value for name, value in parts.items() if value is not None})
    return folder / "bad.npz"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"joint_pos": None}, "it has no array joint_pos"),
        ({"joint_pos": np.zeros((11, 2))}, r"joint_pos is \(11, 2\), and should be \(11, 3\)"),
        ({"base_quat": np.zeros((11, 3))}, r"base_quat is \(11, 3\), and should be \(11, 4\)"),
        ({"base_pos": np.full((11, 3), np.inf)}, "base_x is no number in frame 0"),
        ({"joint_pos": np.zeros((11, 3), complex)}, "an array holds complex128, and should hold numbers"),
        ({"joint_pos": np.full((11, 3), "a")}, "an array holds <U1, and should hold numbers"),
        ({"joint_names": np.array(["left_knee", "time", "torso_yaw"])}, "it names a joint time"),
        ({"joint_names": np.array(["left_knee", "left_knee", "torso_yaw"])}, "it names left_knee more than once"),
        ({"joint_names": np.array("left_knee")}, r"joint_pos is \(11, 3\), and should be \(11, 1\)"),
        ({"joint_names": np.array([{}, 1, 2], dtype=object)}, "is no motion"),
        ({"time": np.float64(1.0)}, "is no motion"),
    ],
)
def test_arrays_that_are_no_clip_are_said_in_one_line(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_motion(npz(tmp_path, **changes))


@pytest.mark.parametrize("name", ["cut.npz", "cut.csv"])
def test_a_damaged_file_is_said(tmp_path: Path, name: str) -> None:
    write_motion(clip(), tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    halved = [whole[: len(whole) // 2]] if name == "cut.npz" else []  # half of a CSV is a shorter clip
    for content in (whole[:1], whole[:30], whole[::-1], *halved):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match="is no motion"):
            read_motion(tmp_path / name)


def test_what_is_in_no_zip_or_has_a_broken_head_is_no_motion(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(UsageError, match="it is no NPZ"):
        read_motion(tmp_path / "array.npz")
    with zipfile.ZipFile(tmp_path / "head.npz", "w") as file:
        for name in ("time", "base_pos", "base_quat", "joint_names", "joint_pos"):
            file.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f8',")
    with pytest.raises(UsageError, match="is no motion"):
        read_motion(tmp_path / "head.npz")


def test_lines_may_end_as_on_any_system_and_names_be_bytes(tmp_path: Path) -> None:
    write_motion(clip(), tmp_path / "mine.csv")
    text = (tmp_path / "mine.csv").read_text()
    for ends in ("\r", "\r\n"):
        (tmp_path / "mine.csv").write_bytes(("\ufeff" + text.replace("\n", ends)).encode())
        np.testing.assert_allclose(read_motion(tmp_path / "mine.csv").joint_pos_rad, clip().joint_pos_rad, atol=1e-6)
    assert read_motion(npz(tmp_path, joint_names=np.array(NAMES, dtype=np.bytes_))).joint_names == NAMES


def test_a_long_clip_keeps_its_times(tmp_path: Path) -> None:
    times = 5000.0 + np.arange(9) / 120
    pos, quat = np.tile((0.0, 0.0, 0.4), (9, 1)), np.tile((1.0, 0.0, 0.0, 0.0), (9, 1))
    write_motion(Motion(times, pos, quat, ("knee",), np.zeros((9, 1))), tmp_path / "late.csv")
    np.testing.assert_allclose(np.diff(read_motion(tmp_path / "late.csv").time_s), 1 / 120, atol=1e-4)


def test_where_an_episode_would_end_is_named() -> None:
    still = clip()
    assert still.falls(0.1, 1.5) == []
    low, over = still.base_pos_w.copy(), still.base_quat_w.copy()
    low[4, 2], over[7] = 0.05, (np.cos(1.0), 0.0, np.sin(1.0), 0.0)
    found = replace(still, base_pos_w=low, base_quat_w=over).falls(0.1, 1.5)
    assert found == [
        "the base is at 0.050 m in frame 4 (0.400 s): an episode ends below 0.100 (termination.min_base_height_m)",
        "the base leans by 2.00 rad in frame 7 (0.700 s): an episode ends beyond 1.50 (termination.max_tilt_rad)",
    ]


def test_a_missing_file_and_another_robots_are_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no motion"):
        read_motion(tmp_path / "none.csv")
    with pytest.raises(MachineError, match="cannot read"):
        read_motion(tmp_path)
    write_motion(clip(), tmp_path / "mine.csv")
    with pytest.raises(UsageError, match=r"mine\.csv: the clip has no joint left_ankle \(it has left_knee"):
        clip_of(str(tmp_path / "mine.csv"), ("left_knee", "left_ankle"))
    with pytest.raises(UsageError, match=r"mine\.csv: the clip lasts 1 s"):
        clip_of(str(tmp_path / "mine.csv"), ("left_knee",), 0.9)
    assert clip_of(str(tmp_path / "mine.csv"), ("torso_yaw", "left_knee")).joint_pos_rad[:, 0].tolist() == [0.2] * 11
