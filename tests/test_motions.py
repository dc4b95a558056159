"""`python -m biped motion`: what is recorded is a clip that the robot can do, and wrong usage is one line."""

import sys
import threading
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from biped.__main__ import main
from biped.robot.motion import Motion
from biped.robot.motion_files import read_motion, write_motion
from biped.sim.check_robot import env_of
from biped.view import motion as page
from biped_config import smoke_preset
from tests.loopback import free_port
from tests.processes import ROOT, run

MOTIONS = sorted((ROOT / "assets" / "motions").glob("*.csv"))
WALK = ROOT / "assets" / "policies" / "biped_walk.zip"


def test_there_are_clips_of_all_that_commands_ask_for() -> None:
    assert {file.stem for file in MOTIONS} == {"walk", "back", "turn", "side_step", "stand", "stride"}
    moved = {file.stem: read_motion(file) for file in MOTIONS}
    assert moved["walk"].base_pos_w[-1, 0] == pytest.approx(0.4 * moved["walk"].length_s, rel=0.2)
    assert moved["back"].base_pos_w[-1, 0] == pytest.approx(-0.15 * moved["back"].length_s, rel=0.2)
    assert moved["side_step"].base_pos_w[-1, 1] > 0.2
    assert np.abs(moved["stand"].base_pos_w[-1, :2]).max() < 0.05
    w, _, _, z = moved["turn"].base_quat_w[-1]
    assert 0.8 < np.mod(2.0 * np.arctan2(z, w), 2.0 * np.pi) < 2.4  # to the left


@pytest.mark.parametrize("file", MOTIONS, ids=lambda file: file.stem)
def test_the_robot_can_do_what_ships(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["motion", "check", str(file)]) == 0
    assert "nothing that the robot cannot do" in capsys.readouterr().out


def test_what_it_cannot_do_is_listed_and_is_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    motion = read_motion(ROOT / "assets" / "motions" / "walk.csv")
    joints = motion.joint_pos_rad.copy()
    joints[50, motion.joint_names.index("left_knee")] = 3.5
    write_motion(
        Motion(motion.time_s, motion.base_pos_w, motion.base_quat_w, motion.joint_names, joints), tmp_path / "bad.csv"
    )
    assert main(["motion", "check", str(tmp_path / "bad.csv")]) == 1
    printed = capsys.readouterr().out
    assert "left_knee is at 3.500 rad in frame 50 (1.000 s), beyond its range of" in printed
    assert "left_knee turns at" in printed


def test_a_motion_is_as_far_from_a_clip_as_its_joints_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    walk = ROOT / "assets" / "motions" / "walk.csv"
    motion = read_motion(walk)
    joints = motion.joint_pos_rad.copy()
    torso = motion.joint_names.index("torso_yaw")
    joints[:, torso] = joints[:, torso].max() + 0.9  # above all of the clip: each frame is nearest to its highest
    away = 0.9 + (joints[0, torso] - 0.9 - motion.joint_pos_rad[:, torso]).mean()
    moved = Motion(motion.time_s, motion.base_pos_w, motion.base_quat_w, motion.joint_names, joints)
    write_motion(moved, tmp_path / "moved.csv")
    assert main(["motion", "compare", str(tmp_path / "moved.csv"), str(walk)]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert {name for name, far in rows.items() if far == "0.0000 rad"} == {*motion.joint_names} - {"torso_yaw"}
    assert float(rows["torso_yaw"].split()[0]) == pytest.approx(away, abs=1e-3)
    assert float(rows["mean"].split()[0]) == pytest.approx(away / len(motion.joint_names), abs=1e-3)
    strider = ["--robot", str(ROOT / "assets" / "strider" / "robot.json")]
    assert main(["motion", "compare", str(walk), str(walk), *strider]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.exports
def test_a_policy_is_recorded_as_it_walks(tmp_path: Path) -> None:
    for name, flags in (("walk.csv", ["--seconds", "2"]), ("stride.npz", ["--stride"])):
        command = ["motion", "record", "--model", str(WALK), "--command", "0.4", "0", "0", *flags]
        assert main([*command, "--out", str(tmp_path / name)]) == 0
        assert main(["motion", "check", str(tmp_path / name)]) == 0
    walk, stride = read_motion(tmp_path / "walk.csv"), read_motion(tmp_path / "stride.npz")
    assert walk.length_s == pytest.approx(2.0)
    assert walk.base_pos_w[-1, 0] == pytest.approx(0.8, abs=0.15)
    assert stride.length_s == pytest.approx(1.0 / 1.4, abs=1e-6)
    np.testing.assert_allclose(stride.joint_pos_rad[0], stride.joint_pos_rad[-1], atol=1e-6)
    # left and right take turns: half a stride later one does what the other did
    left, right = (stride.joint_pos_rad[:, stride.joint_names.index(f"{side}_knee")] for side in ("left", "right"))
    half = len(stride) // 2
    assert np.abs(np.roll(left[:-1], half) - right[:-1]).mean() < 0.5 * np.abs(left[:-1] - right[:-1]).mean()


def test_the_reference_is_recorded_for_any_robot(tmp_path: Path) -> None:
    robot = ROOT / "assets" / "strider" / "robot.json"
    out = tmp_path / "reference.csv"
    assert main(["motion", "record", "--reference", "--stride", "--robot", str(robot), "--out", str(out)]) == 0
    assert read_motion(out).joint_names == env_of(robot).robot.joint_names
    assert main(["motion", "check", str(out), "--robot", str(robot)]) == 0


def test_a_published_clip_becomes_one_of_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    walk = read_motion(ROOT / "assets" / "motions" / "walk.csv")
    half = 0.5 * 1.2  # elsewhere, and headed elsewhere
    w, x, y, z = walk.base_quat_w.T
    turned = np.stack(
        [
            np.cos(half) * x - np.sin(half) * y,
            np.cos(half) * y + np.sin(half) * x,
            np.cos(half) * z + np.sin(half) * w,
            np.cos(half) * w - np.sin(half) * z,
        ],
        axis=1,
    )
    heading = np.array(((np.cos(1.2), np.sin(1.2), 0.0), (-np.sin(1.2), np.cos(1.2), 0.0), (0.0, 0.0, 1.0)))
    table = np.hstack((walk.base_pos_w @ heading + (5.0, -2.0, 0.0), turned, walk.joint_pos_rad))
    np.savetxt(tmp_path / "theirs.csv", table, delimiter=",", fmt="%.8f")
    convert = ["motion", "convert", str(tmp_path / "theirs.csv"), "--fps", "50"]
    assert main([*convert, "--joints", *walk.joint_names, "--out", str(tmp_path / "ours.npz")]) == 0
    assert f"4.00 s, {len(walk)} frames, 9 joints" in capsys.readouterr().out
    ours, origin = read_motion(tmp_path / "ours.npz"), walk.from_origin()
    np.testing.assert_allclose(ours.base_pos_w, origin.base_pos_w, atol=1e-5)
    np.testing.assert_allclose(ours.base_quat_w, origin.base_quat_w, atol=1e-5)
    np.testing.assert_allclose(ours.joint_pos_rad, walk.joint_pos_rad, atol=1e-5)

    names = ["--joints", "my_hip", *walk.joint_names[1:]]
    assert main([*convert, *names, "--start", "1", "--seconds", "2", "--out", str(tmp_path / "part.csv")]) == 0
    assert f"it lacks {walk.joint_names[0]} of the robot" in capsys.readouterr().out
    part = read_motion(tmp_path / "part.csv")
    assert (len(part), part.time_s[0], part.length_s) == (101, 0.0, pytest.approx(2.0))
    np.testing.assert_allclose(part.joint_pos_rad, walk.joint_pos_rad[50:151], atol=1e-5)


def test_quaternions_in_the_other_order_are_suspected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = np.tile((0, 0, 0.4, 1, 0, 0, 0, *[0] * 9), (4, 1))
    np.savetxt(tmp_path / "plain.csv", rows, delimiter=",")
    convert = ["motion", "convert", str(tmp_path / "plain.csv"), "--fps", "30"]
    names = ["--joints", *read_motion(MOTIONS[0]).joint_names]
    assert main([*convert, *names, "--out", str(tmp_path / "wrong.csv")]) == 0
    assert "upside down: perhaps its quaternions are in the other order, --wxyz" in capsys.readouterr().out
    assert main(["motion", "check", str(tmp_path / "wrong.csv")]) == 1
    assert "the base leans by 3.14 rad in frame 0" in capsys.readouterr().out
    assert main([*convert, *names, "--wxyz", "--out", str(tmp_path / "right.csv")]) == 0
    assert "upside down" not in capsys.readouterr().out


def test_a_link_to_itself_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    assert main(["motion", "check", str(tmp_path / "loop.csv")]) == 1
    assert "cannot read" in capsys.readouterr().err


def test_wrong_usage_is_one_line_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there.csv").write_text("mine")
    np.savetxt(tmp_path / "plain.csv", np.tile((0, 0, 0.4, 0, 0, 0, 1, *[0] * 9), (4, 1)), delimiter=",")
    (tmp_path / "link.csv").symlink_to("nowhere.csv")
    record, out = ["motion", "record"], ["--out", str(tmp_path / "new.csv")]
    strider = str(ROOT / "assets" / "strider" / "robot.json")
    cases = {
        "one of both": [*record, *out],
        "name a policy": [*record, "--reference", "--model", str(WALK), *out],
        "neither .csv nor .npz": [*record, "--reference", "--out", str(tmp_path / "new.bvh")],
        "exists: name another": [*record, "--reference", "--out", str(tmp_path / "link.csv")],
        "there is no folder": [*record, "--reference", "--out", str(tmp_path / "none" / "new.csv")],
        "only walks ahead": [*record, "--reference", "--command", "0.4", "0.1", "0", *out],
        "--robot goes with --reference": [*record, "--model", str(WALK), "--robot", strider, *out],
        "--seconds: at most 600": [*record, "--reference", "--seconds", "1e300", *out],
        "3 are needed": [*record, "--model", str(WALK), "--seconds", "0.01", *out],
        "--start: at least 0": ["motion", "convert", str(tmp_path / "plain.csv"), "--start", "-1", *out],
        "exists": [*record, "--reference", "--out", str(tmp_path / "there.csv")],
        "there is no motion": ["motion", "check", str(tmp_path / "none.csv")],
        "is no motion": ["motion", "check", str(tmp_path / "there.csv")],
        "--out: ": ["motion", "convert", str(tmp_path / "there.csv"), "--out", str(tmp_path / "there.csv")],
        "is no published motion": ["motion", "convert", str(tmp_path / "there.csv"), "--fps", "30", *out],
        "has 0 frames of what is asked for": [
            *("motion", "convert", str(tmp_path / "plain.csv"), "--fps", "30", "--start", "9", *out)
        ],
        "has no joint": ["motion", "check", str(MOTIONS[0]), "--robot", strider],
    }
    for said, command in cases.items():
        assert main(command) == 2, said
        printed = capsys.readouterr().err.strip()
        assert said in printed
        assert len(printed.splitlines()) == 1, printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.csv", "plain.csv", "there.csv"]
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_a_clip_is_found_from_any_folder(tmp_path: Path) -> None:
    """A name of the project's, and one beside where the command is typed."""
    (tmp_path / "mine.csv").write_bytes((ROOT / "assets" / "motions" / "walk.csv").read_bytes())
    for name in ("mine.csv", "assets/motions/walk.csv"):
        ended = run([sys.executable, "-m", "biped", "motion", "check", name], cwd=tmp_path)
        assert (ended.returncode, ended.stderr) == (0, "")


def test_the_page_plays_the_clip(capsys: pytest.CaptureFixture[str]) -> None:
    cfg, port = smoke_preset().env, free_port()
    motion = read_motion(ROOT / "assets" / "motions" / "walk.csv").of_joints(cfg.robot.joint_names)
    found: list[int] = []

    def look() -> None:
        for _ in range(50):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=1) as answer:
                    found.append(answer.status)
                    return
            except OSError:
                threading.Event().wait(0.1)

    visitor = threading.Thread(target=look)
    visitor.start()
    page.show_motion(cfg, motion, "walk.csv", port, limit_s=2.0)
    visitor.join()
    assert found == [200]
    assert f"walk.csv, 4.00 s, at http://127.0.0.1:{port}" in capsys.readouterr().out
