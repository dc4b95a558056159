"""The robot's file that an identification writes, and the door: `python -m biped identify LOG --out FILE`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from biped.__main__ import main
from biped.base.errors import MachineError
from biped.config.randomization import RandomizationConfig
from biped.config.run import Config
from biped.config.settings import robot_settings, sized_randomization, with_settings
from biped.config.task import EnvConfig
from biped.robot.model import model_file
from biped.sim.identified import actuators, doubts, ranges, table
from biped.sim.mujoco_hung import PARAMETERS, Excited
from biped.sim.mujoco_identify import Identified
from biped.view import identification
from tests.conftest import ROOT
from tests.deploy.excited_robot import hidden
from tests.sim.test_mujoco_identify import logged, two_joints

VALUES = np.array([[0.9, 0.7, 0.06, 0.012, 0.015, 0.01], [1.1, 0.3, 0.04, 0.010, 0.022, 0.02]])
HALVES = np.array([[0.09, 0.05, 0.01, 0.003, 0.001, 0.002], [0.22, 0.1, 0.002, 0.001, 0.001, 0.004]])
"""What `found_by_hand` has found: gain, damping, friction, armature, delay, play; and half of each interval."""


def found_by_hand(after_rad: float = 0.001) -> Identified:
    still = np.zeros((10, 2))
    return Identified(
        joint_names=("left_hip_pitch", "right_hip_pitch"),
        values=VALUES,
        intervals=HALVES,
        nominal=np.ones_like(VALUES),
        log=Excited(0.02 * np.arange(10.0), still, still, np.array((0.0, 0.0, -1.0)), 0.02),
        before_rad=still + 0.01,
        after_rad=still + after_rad,
        held_out=np.arange(10) >= 7,
    )


def test_each_joint_gets_the_motor_that_was_found() -> None:
    first, second = actuators(found_by_hand(), two_joints())
    assert first["joints"] == ["left_hip_pitch"]
    # 0.9 of 20 N·m/rad; of 0.7 the controller has its 0.5, the joint the rest.
    assert (first["kp_nm_per_rad"], first["kd_nm_s_per_rad"], first["damping_nm_s_per_rad"]) == (18.0, 0.5, 0.2)
    assert (first["friction_nm"], first["armature_kg_m2"]) == (0.06, 0.012)
    assert (first["effort_limit_nm"], first["velocity_limit_rad_s"]) == (3.0, 8.06)
    # Less damping than the controller should have: it has that, and the joint none.
    assert (second["kd_nm_s_per_rad"], second["damping_nm_s_per_rad"]) == (0.3, 0.0)


def test_ranges_hold_the_intervals_of_all_joints() -> None:
    found = ranges(found_by_hand(), two_joints())
    assert found["strength"] == {"range": [0.8, 1.2]}  # 0.22 of 1.1
    assert found["damping"] == {"range": [pytest.approx(0.6667), pytest.approx(1.333)]}  # 0.1 of 0.3
    assert found["joint_friction_nm"] == {"range": [-0.01, 0.01]}
    assert found["armature"] == {"range": [0.75, 1.25]}  # 0.003 of 0.012
    # 14 to 23 ms are no to two steps of 20 ms.
    assert found["latency_steps"] == {"mode": "reset", "range": [0.0, 2.0]}
    assert found["backlash_rad"] == {"mode": "reset", "range": [0.008, 0.024]}


def test_the_table_and_what_is_doubtful() -> None:
    lines = list(table(found_by_hand()))
    assert len(lines) == 1 + 2 * len(PARAMETERS) + 1 + 2
    assert lines[1].split() == ["left_hip_pitch", "gain", "0.9", "±", "0.09", "1", "1"]
    assert lines[-1].split() == ["right_hip_pitch", "10.000", "1.000"]
    (doubt,) = doubts(found_by_hand())
    assert doubt.startswith("right_hip_pitch carries too little")
    assert "± 20%" in doubt
    assert len(list(doubts(found_by_hand(after_rad=0.008)))) == 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a log, the robot's file, and what the command has made of them."""
    folder = tmp_path_factory.mktemp("identify")
    cfg = two_joints()
    logged(cfg, hidden(2, 1), 12.0).save(folder / "log.npz")
    robot = {
        "model_path": str(model_file(EnvConfig())),
        "joint_names": list(cfg.robot.joint_names),
        "default_joint_pos_rad": list(cfg.robot.default_joint_pos_rad),
    }
    content = {"robot": robot, "reward": {"target_height_m": 0.39}, "about": {"robot": "two joints"}}
    (folder / "robot.json").write_text(json.dumps(content))
    assert main(words(folder, "new.json", "--plot", str(folder / "plot.png"))) == 0
    return folder


def words(folder: Path, out: str, *more: str) -> list[str]:
    return [
        "identify",
        str(folder / "log.npz"),
        "--robot",
        str(folder / "robot.json"),
        "--out",
        str(folder / out),
        *more,
    ]


def test_the_command_writes_a_file_that_a_training_reads(folder: Path) -> None:
    content = json.loads((folder / "new.json").read_text())
    assert content["reward"] == {"target_height_m": 0.39}
    assert content["about"]["robot"] == "two joints"
    assert content["about"]["identified"]["log"] == "log.npz"
    settings = robot_settings(folder / "new.json")
    env = with_settings(Config(), settings).env
    truth = hidden(2, 1)
    assert model_file(env) == model_file(EnvConfig())
    kp = [motor.kp_nm_per_rad for motor in env.robot.motors]
    np.testing.assert_allclose(kp, 20.0 * truth.gain, rtol=0.05)
    assert env.randomization.backlash_rad.mode == "reset"
    assert env.randomization.strength.mode == "off"  # until --randomize switches it on, with the range that was found
    low, high = env.randomization.backlash_rad.range
    assert low <= truth.play.min() * 1.02
    assert high >= truth.play.max() * 0.98


def test_the_ranges_of_the_file_come_before_those_of_randomize(folder: Path) -> None:
    settings = robot_settings(folder / "new.json")
    wide = sized_randomization(Config(), settings, RandomizationConfig())
    strength = with_settings(Config(), [*wide, *settings]).env.randomization.strength
    assert strength.range != RandomizationConfig().strength.range


def test_the_same_log_gives_the_same_bytes(folder: Path) -> None:
    assert main(words(folder, "again.json")) == 0
    assert (folder / "again.json").read_bytes() == (folder / "new.json").read_bytes()


def test_the_plot_has_something_on_it(folder: Path) -> None:
    with Image.open(folder / "plot.png") as picture:
        pixels = np.asarray(picture.convert("RGB").resize((300, 300))).reshape(-1, 3)
        assert len(np.unique(pixels, axis=0)) > 50


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"--out": "robot.json"}, "is there already: name another file with --out"),
        ({"--plot": "plot.png"}, "is there already: name another file with --plot"),
        ({"--out": "none/third.json"}, "--out: there is no folder "),
        ({"--plot": "none/third.png"}, "--plot: there is no folder "),
        ({"--out": "third.png", "--plot": "third.png"}, "are the same file"),
        ({"log": "robot.json"}, "is no log of biped_run.py"),
        ({"--robot": ""}, "name its file, --robot"),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_is_written(
    folder: Path, change: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    names = {"--robot": "robot.json", "--out": "third.json"} | change
    flags = [word for flag, name in names.items() if flag != "log" and name for word in (flag, str(folder / name))]
    assert main(["identify", str(folder / names.get("log", "log.npz")), *flags]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody can write into")
@pytest.mark.parametrize("flag", ["--out", "--plot"])
def test_a_folder_that_refuses_files_is_known_before_the_fit(
    folder: Path, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"--out": str(folder / "third.json"), "--plot": str(folder / "third.png")} | {flag: "/proc/third.png"}
    flags = [word for pair in places.items() for word in pair]
    assert main(["identify", str(folder / "log.npz"), "--robot", str(folder / "robot.json"), *flags]) == 1
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert not (folder / "third.json").exists()


def test_a_picture_that_fails_costs_nothing_of_the_result(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise MachineError("no picture")

    monkeypatch.setattr(identification, "identify", lambda *_: found_by_hand())
    monkeypatch.setattr(identification, "draw_identification", refuse)
    assert main(words(folder, "fourth.json", "--plot", str(folder / "fourth.png"))) == 1
    assert "no picture" in capsys.readouterr().err
    assert (folder / "fourth.json").exists()
    (folder / "fourth.json").unlink()


def test_a_picture_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(_: Any, place: Any, **__: Any) -> None:
        data = b"half a picture"
        if isinstance(place, Path):
            place.write_bytes(data)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", half)
    with pytest.raises(MachineError, match="No space left"):
        identification.draw_identification(found_by_hand(), tmp_path / "plot.png")
    assert list(tmp_path.iterdir()) == []


def test_sections_that_a_robot_file_may_have_are_still_checked(tmp_path: Path) -> None:
    strange = {"robot": {"model_path": str(ROOT / "assets/biped/biped.xml")}, "about": {"by": "me"}, "wheels": {}}
    (tmp_path / "robot.json").write_text(json.dumps(strange))
    assert main(["check-robot", str(tmp_path / "robot.json")]) == 2
