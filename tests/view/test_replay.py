"""The page of a replay, by its command."""

import json
import sys
from pathlib import Path

import pytest

from biped.__main__ import main
from biped.config.robot import JOINT_NAMES
from tests.eval.replays import saved
from tests.view.test_page import Page


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of a robot that sways."""
    return saved(tmp_path_factory.mktemp("robot"))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    try:
        code = main(["replay", *words])
    except SystemExit as ended:
        code = ended.code
    out, line = capsys.readouterr()
    assert (code, out) == (2, "")
    assert len(line.splitlines()) == 1
    return line


def test_a_page_shows_every_joint_and_fetches_nothing(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(log), "--sim", "mujoco", "--window", "0.5"]) == 0
    out, folder = capsys.readouterr().out, log.with_name("run_replay")
    page = Page(folder / "replay.html")
    figures = json.loads((folder / "replay.json").read_text())
    for joint in JOINT_NAMES:
        assert joint in page.text
        assert joint in out
        assert figures["sims"]["mujoco"]["joints_rad"][joint] < 2e-3
    assert all(source.startswith("data:") for source in page.sources)
    assert sorted(file.name for file in folder.iterdir()) == [
        "base.png",
        "growth.png",
        "joints.png",
        "replay.html",
        "replay.json",
    ]
    assert figures["windows"] == 3
    assert "velocity is the policy's estimate" in page.text
    assert "asked to" in page.text, "what the log says of the run"
    assert out.splitlines()[-1] == f"page: {folder / 'replay.html'}"


def test_results_that_are_there_stay(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "replay.json").write_text("mine")
    assert "is there already" in refused(capsys, str(log), "--sim", "mujoco", "--out", str(tmp_path))
    assert (tmp_path / "replay.json").read_text() == "mine"


def test_without_genesis_it_goes_on_with_mujoco_and_says_so(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "genesis", None)
    out = tmp_path / "new"
    assert main(["replay", str(log), "--out", str(out)]) == 0
    line = capsys.readouterr().err
    assert line.startswith("no replay in genesis: Genesis cannot be imported")
    assert len(line.splitlines()) == 1
    assert "no replay in genesis" in Page(out / "replay.html").text
    assert list(json.loads((out / "replay.json").read_text())["sims"]) == ["mujoco"]
    assert main(["replay", str(log), "--sim", "genesis", "--out", str(tmp_path / "other")]) == 1
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--window", "0"], "is not a number above 0"),
        (["--window", "nan"], "is not a number above 0"),
        (["--phases", "dancing"], "there is no phase dancing"),
        (["--phases", "limp"], "has no steps in these phases"),
        (["--robot", "none.json"], "cannot be read"),
        (["--late", "-1"], "whole number"),
        (["--sim", "gazebo"], "invalid choice"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_one_line_and_leaves_nothing(
    log: Path, tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, str(log), "--out", str(tmp_path / "new"), *words)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_log_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other.npz").write_bytes(b"PK")
    assert "is no log of biped_run.py" in refused(capsys, str(tmp_path / "other.npz"))
    assert "cannot read" in refused(capsys, str(tmp_path / "none.npz"))
