"""The door to the robot: what it refuses, and a simulated robot that walks through the real packages."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import biped_run
from biped.deploy.run_log import RunLog
from tests.processes import ROOT, run

POLICY = ROOT / "assets" / "policies" / "robust" / "policy.onnx"


def wiring(**changes: object) -> str:
    joint = {"joint": "left_hip_roll", "id": 1, "direction": 1, "zero_tick": 2048, "lower_rad": -1.0, "upper_rad": 1.0}
    raw = {"format": "biped-wiring", "version": 1, "port": "/dev/none", "baud": 1000000, "joints": [joint]}
    return json.dumps({**raw, **changes})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.onnx").write_text("no network")
    (tmp_path / "old.npz").write_text("mine")
    (tmp_path / "wiring.json").write_text(wiring())
    (tmp_path / "imu.json").write_text(wiring(imu={"source": "/dev/none", "axis": "+x+y+z"}))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), r"the following arguments are required: policy"),
        (("none.onnx", "--wiring", "wiring.json"), r"cannot read none\.onnx \("),
        (("text.onnx", "--wiring", "wiring.json"), r"text\.onnx is no ONNX file"),
        ((POLICY,), r"name the robot's wiring with --wiring FILE"),
        ((POLICY, "--wire", "new.json"), r"--wire needs --port"),
        ((POLICY, "--wire", "new.json", "--port", "/dev/none", "--imu_axes", "+y-x+z"), r"name it too, such as --imu"),
        (
            (POLICY, "--wire", "new.json", "--port", "/dev/none", "--imu", "x", "--imu_axes", "+y"),
            r"'\+y' is no mounting",
        ),
        ((POLICY, "--wiring", "none.json"), r"cannot read none\.json .*biped_run\.py --wire"),
        ((POLICY, "--wiring", "wiring.json"), r"the wiring has no servo for left_hip_pitch, "),
        ((POLICY, "--wiring", "imu.json"), r"imu\.json: there is no imu\.axis: did you mean axes\?"),
        ((POLICY, "--simulate", "--log", "old.npz"), r"--log: old\.npz exists"),
        ((POLICY, "--simulate", "--log", "none/a.npz"), r"--log: there is no folder none"),
        ((POLICY, "--simulate", "--seconds", "0"), r"'0' is not a number above 0"),
        ((POLICY, "--simulate", "--lost", "2"), r"'2' is not a share from 0 to 1"),
        ((POLICY, "--simulate", "--command", "1", "nan", "0"), r"'nan' is not a number"),
        ((POLICY, "--simulate", "--film", "a.png"), r"a\.png is not the name of a film"),
        ((POLICY, "--simulate", "--robot", "none.json"), r"the robot's file none\.json cannot be read"),
        ((POLICY, "--simulate", "--film", "none/a.gif"), r"--film: none is no folder that can be written to"),
        (
            (POLICY, "--simulate", "--command", "2", "0", "0"),
            r"--command: the policy knows forward -0\.2 to 0\.6, left",
        ),
        ((POLICY, "--wiring", "wiring.json", "--lost", "0.1"), r"--lost is for a simulated robot: add --simulate"),
        ((POLICY, "--wiring", "wiring.json", "--film", "a.gif"), r"--film is for a simulated robot"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    here: Path, capsys: pytest.CaptureFixture[str], words: tuple[object, ...], said: str
) -> None:
    before = sorted(here.iterdir())
    try:
        code = biped_run.main([str(word) for word in words])
    except SystemExit as end:  # argparse's way
        code = end.code
    error = capsys.readouterr().err
    assert code == 2
    assert re.search(said, error), error
    assert error.count("\n") == 1
    assert sorted(path for path in here.iterdir() if path.name != "logs") == before


def test_a_policy_for_another_robot_names_no_robot_that_ships(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strider = ROOT / "assets" / "strider" / "robot.json"
    assert biped_run.main([str(POLICY), "--simulate", "--robot", str(strider), "--log", "a.npz"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (here / "a.npz").exists()


@pytest.mark.slow
@pytest.mark.parametrize("trouble", [(), ("--lost", "0.01", "--latency_ms", "5")], ids=["sound", "lost and late"])
def test_the_shipped_policy_walks_a_minute_on_simulated_servos(tmp_path: Path, trouble: tuple[str, ...]) -> None:
    log = tmp_path / "walk.npz"
    words = ["--simulate", "--command", "0.3", "0", "0", "--seconds", "60", "--log", str(log), *trouble]
    done = run([sys.executable, str(ROOT / "biped_run.py"), str(POLICY), *words])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on its feet" in done.stdout
    walked = RunLog.load(log)
    length = float(re.search(r"([\d.]+) m along its path", done.stdout)[1])  # type: ignore[index]
    assert 14.0 < length < 24.0
    assert walked.during("walking").sum() == pytest.approx(59.0 * 50, abs=5)
    lost = np.isnan(walked["pos_rad"]).any(axis=1).mean()
    assert lost > 0.005 if trouble else lost < 0.005
