"""What is recorded about the code and the machine of a run."""

import os
from pathlib import Path

import pytest

from biped.runs import launches as run_info
from biped.runs.directory import RunDirectory
from biped.runs.launches import changed_files, describe_code, describe_launch, fingerprints
from tests import processes
from tests.processes import PATIENCE_S


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    no_settings = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    return processes.run(["git", "-C", str(folder), *who, *arguments], check=True, env=no_settings).stdout.strip()


def test_the_commit_and_whether_files_differ_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_info, "_GIT_TIMEOUT_S", PATIENCE_S)
    git(tmp_path, "init")
    (tmp_path / "code.py").write_text("a = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert describe_code(tmp_path) == {"commit": commit, "is_dirty": False}
    (tmp_path / "code.py").write_text("a = 2\n")
    assert describe_code(tmp_path) == {"commit": commit, "is_dirty": True}


def test_code_that_is_in_no_repository_is_of_an_unknown_commit(tmp_path: Path) -> None:
    assert describe_code(tmp_path) == {"commit": None, "is_dirty": None}


def test_every_start_of_a_run_is_recorded_and_none_is_lost(logs: Path, tmp_path: Path) -> None:
    (first,) = RunDirectory(logs / "demo").read_launches()
    assert first["command"][:3] == ["biped_train.py", "-e", "demo"]
    assert first["resumed_after_step"] is None
    assert first["versions"]["torch"]
    assert first["config"]["env"]["num_envs"] == 16
    assert first["machine"]["cpu_cores"] >= 1
    assert first["machine"]["memory_gib"] > 0.5
    run = RunDirectory.create(tmp_path, "demo")
    for step in (None, 512):
        run.add_launch(describe_launch(["biped_train.py"], step))
    assert [start["resumed_after_step"] for start in run.read_launches()] == [None, 512]


def test_a_damaged_record_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "run_info.json").write_text("{")
    run = RunDirectory(tmp_path)
    assert run.read_launches() == []
    run.add_launch({"n": 1})
    assert run.read_launches() == [{"n": 1}]


def test_files_that_changed_since_they_were_last_read_are_named(tmp_path: Path) -> None:
    leg, clip = tmp_path / "leg.stl", tmp_path / "clip.csv"
    leg.write_text("one")
    clip.write_text("one")
    first = describe_launch([], None, fingerprints([leg, clip, tmp_path / "none.csv"]))
    assert first["files"] == dict.fromkeys(
        (str(leg), str(clip)), "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    )
    clip.write_text("two")
    now = fingerprints([leg, clip])
    assert changed_files([], now) == []
    assert changed_files([{"command": "of an earlier version"}, {"files": 3}], now) == []
    assert changed_files([first, {"files": {}}], now) == [str(clip)]
    assert changed_files([first, describe_launch([], 512, now)], now) == []
    clip.write_text("one")
    assert changed_files([first, describe_launch([], 512, now)], fingerprints([clip])) == [str(clip)]
