"""Clips as others publish them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from biped.base.errors import MachineError, UsageError
from biped.robot.published import Origin, read_published

FRAMES, JOINTS = 4, ("hip", "knee")
POS = np.arange(12.0).reshape(FRAMES, 3)
QUAT = np.tile((0.8, 0.0, 0.6, 0.0), (FRAMES, 1))  # w first
ANGLES = np.arange(8.0).reshape(FRAMES, 2) / 10
PLAIN = Origin(None, JOINTS, 50.0)


def csv_file(folder: Path, quats: np.ndarray, **changes: str) -> Path:
    rows = np.concatenate((POS, quats, ANGLES), axis=1)
    text = "\n".join(",".join(f"{value:.3f}" for value in row) for row in rows)
    for old, new in changes.items():
        text = text.replace(old.replace("_", "."), new)
    file = folder / "clip.csv"
    file.write_text(text + "\n\n")
    return file


def npz_file(folder: Path, **arrays: object) -> Path:
    file = folder / "clip.npz"
    np.savez(file, allow_pickle=False, **arrays)  # pyright: ignore[reportArgumentType]
    return file


def tracker(**changes: object) -> dict[str, object]:
    """The arrays of trackers: two bodies, of which the first is the base."""
    bodies, turns = np.stack((POS, POS + 1), axis=1), np.stack((QUAT, np.roll(QUAT, 1, axis=1)), axis=1)
    return {"fps": [25], "joint_pos": ANGLES, "body_pos_w": bodies, "body_quat_w": turns, **changes}


def isaac(**changes: object) -> dict[str, object]:
    """The arrays of Isaac Lab, with names, the base second."""
    bodies, turns = np.stack((POS + 1, POS), axis=1), np.stack((np.roll(QUAT, 1, axis=1), QUAT), axis=1)
    named = {"dof_names": ["knee", "hip"], "body_names": ["foot", "pelvis"]}
    arrays = {"fps": 25, "dof_positions": ANGLES[:, ::-1], "body_positions": bodies, "body_rotations": turns}
    return {**arrays, **named, **changes}


@pytest.mark.parametrize("w_first", [False, True])
def test_a_table_without_names_has_the_models_joints(tmp_path: Path, w_first: bool) -> None:
    file = csv_file(tmp_path, QUAT if w_first else np.roll(QUAT, -1, axis=1))
    motion = read_published(file, replace(PLAIN, w_first=w_first))
    assert motion.joint_names == JOINTS
    np.testing.assert_allclose(motion.time_s, (0.0, 0.02, 0.04, 0.06))
    np.testing.assert_allclose(motion.base_pos_w, POS)
    np.testing.assert_allclose(motion.base_quat_w, QUAT)
    np.testing.assert_allclose(motion.joint_pos_rad, ANGLES)


def test_arrays_of_trackers_have_the_base_first_and_no_names(tmp_path: Path) -> None:
    file = npz_file(tmp_path, **tracker(), body_lin_vel_w=np.zeros((FRAMES, 2, 3)))
    motion = read_published(file, Origin(("left", "right"), JOINTS, None))
    assert motion.joint_names == ("left", "right")
    assert motion.time_s[1] == pytest.approx(0.04)
    np.testing.assert_allclose(motion.base_pos_w, POS)
    np.testing.assert_allclose(motion.base_quat_w, QUAT)
    assert read_published(file, replace(PLAIN, joint_names=JOINTS)).time_s[1] == pytest.approx(0.02)  # the flag wins
    with pytest.raises(UsageError, match="it names no joints: name them in the trainer's order with --joints"):
        read_published(file, PLAIN)


def test_arrays_of_isaac_lab_name_joints_and_base(tmp_path: Path) -> None:
    motion = read_published(npz_file(tmp_path, **isaac()), Origin(None, (), None, base_link="pelvis"))
    assert motion.joint_names == ("knee", "hip")
    np.testing.assert_allclose(motion.base_pos_w, POS)
    np.testing.assert_allclose(motion.base_quat_w, QUAT)
    np.testing.assert_allclose(motion.joint_pos_rad, ANGLES[:, ::-1])


@pytest.mark.parametrize(
    "changes, origin, said",
    [
        ({}, replace(PLAIN, rate_hz=None), "does not say its rate: add --fps"),
        ({}, replace(PLAIN, model_joints=("hip",)), "2 joints, and the robot's model names 1: name .* with --joints"),
        ({}, replace(PLAIN, joint_names=("hip",)), "2 joints, and --joints names 1;"),
        ({}, replace(PLAIN, joint_names=("hip", "hip")), "it names hip more than once"),
        ({"0_700": "x"}, PLAIN, "column 9 is 'x' in row 4, which is no number"),
        ({"0_700": "1,2"}, PLAIN, "row 4 has 10 values, and the first 9"),
        ({"0_800": "3"}, PLAIN, "the quaternion of frame 0 has length"),
        ({"0_000,1_000": "time,x"}, PLAIN, "it names its columns"),
    ],
)
def test_what_is_wrong_with_a_table_is_one_line(
    tmp_path: Path, changes: dict[str, str], origin: Origin, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        read_published(csv_file(tmp_path, np.roll(QUAT, -1, axis=1), **changes), origin)


@pytest.mark.parametrize(
    "arrays, said",
    [
        (tracker(joint_pos=ANGLES[:3]), "3, 4 and 4 frames"),
        (tracker(body_pos_w=POS), "its arrays are"),
        (isaac(dof_positions=np.where(ANGLES == 0.3, np.nan, ANGLES)), "hip is no number in frame 1"),
        (isaac(dof_names=["time", "hip"]), "it names a joint time"),
        (isaac(fps=1e-308), "its rate is 1e-308 frames"),
        (isaac(dof_names=np.array("hip")), "2 joints, and the file names 1"),
        ({"time": 0, "base_pos": 0, "base_quat": 0, "joint_names": 0, "joint_pos": 0}, "the other commands read it"),
        (isaac(fps=[0]), "its rate is 0 frames per second"),
        (tracker(fps=[]), "is no published motion"),
        ({"fps": [25]}, "dof_positions"),
        (isaac(dof_names=["hip"]), "2 joints, and the file names 1"),
        (tracker(body_pos_w=np.zeros((FRAMES, 0, 3)), body_quat_w=np.zeros((FRAMES, 0, 4))), "have 0 and 0 bodies"),
    ],
)
def test_what_is_wrong_with_arrays_is_one_line(tmp_path: Path, arrays: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_published(npz_file(tmp_path, **arrays), Origin(None, JOINTS, None))


def test_a_file_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "short.csv").write_text("1,2,3\n")
    (tmp_path / "picture.npz").write_bytes(b"PNG")
    said = {"empty.csv": "0 values", "short.csv": "3 values", "picture.npz": "no published", "none.csv": "no file"}
    for name, text in said.items():
        with pytest.raises(UsageError, match=text):
            read_published(tmp_path / name, PLAIN)
    with pytest.raises(MachineError, match="cannot read"):
        read_published(tmp_path, PLAIN)
    with pytest.raises(UsageError, match="--wxyz is for a CSV"):
        read_published(npz_file(tmp_path, **isaac()), replace(PLAIN, w_first=True))
