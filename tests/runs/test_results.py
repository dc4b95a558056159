"""Where results go: none replaces another one, and a model from elsewhere stays as it came."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import biped_eval
from biped.runs.results import Place, tail_of
from tests.conftest import ROOT

SHIPPED = ROOT / "assets" / "policies"
STANDARD = {"sim": "genesis", "randomize": "none", "seed": 0, "episodes": 256, "command": None, "set": []}
QUICK = ["--sim", "mujoco", "--episodes", "2", "--set", "env.termination.episode_s=0.2"]
TAIL = "_mujoco_2_episodes_episode_s_0.2"
"""What names of files say of it."""


@pytest.fixture
def shipped(tmp_path: Path) -> Callable[[str], Path]:
    """Return the shipped model in a folder."""

    def make(folder: str) -> Path:
        (tmp_path / folder).mkdir(parents=True)
        for name in ("config.json", "biped_walk.zip"):
            shutil.copy(SHIPPED / name, tmp_path / folder)
        return tmp_path / folder / "biped_walk.zip"

    return make


def test_the_standard_judge_has_the_plain_name_and_every_other_setting_is_in_it() -> None:
    assert tail_of(STANDARD, 256) == ""
    for change, tail in (
        ({"sim": "mujoco"}, "_mujoco"),
        ({"sim": "mujoco", "randomize": "full", "seed": 3}, "_mujoco_full_seed3"),
        ({"episodes": 64}, "_64_episodes"),
        ({"command": [0.4, 0.0, -0.1]}, "_command_0.4_0_-0.1"),
        ({"set": ["env.control.latency_share=1"]}, "_latency_share_1"),
        ({"set": ["env.command.lin_vel_x_m_s=[0.1, 0.2]"]}, "_lin_vel_x_m_s_-0.1-0.2-"),
    ):
        assert tail_of({**STANDARD, **change}, 256) == tail
    assert len(tail_of({**STANDARD, "set": ["env.gait.frequency_hz=1.5"] * 50}, 256)) < 200


def test_a_runs_models_share_its_folder_and_others_get_one_among_the_logs(shipped, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    walk, other = shipped("logs/walk"), shipped("else/where")
    assert Place.of(walk, logs, by_name=False).file("eval.json") == logs / "walk" / "eval.json"
    assert Place.of(walk, logs, by_name=True).file("eval.json") == logs / "walk" / "eval_biped_walk.json"
    assert Place.of(walk, logs, by_name=True).file("export") == logs / "walk" / "export_biped_walk"
    place = Place.of(other, logs, by_name=True)
    assert place.file("eval.json") == logs / "evaluations" / "where-biped_walk" / "eval.json"
    deeper = shipped("logs/old/walk")
    assert Place.of(deeper, logs, by_name=True).folder == logs / "evaluations" / "walk-biped_walk"


def result(score: float, **asked: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    asked = {"model": "a.zip", "model_sha256": "0", **STANDARD, **asked}
    return {**asked, "score": score}, asked


def test_a_result_is_replaced_by_its_like_and_kept_beside_any_other(tmp_path: Path) -> None:
    place = Place(tmp_path)

    def write(score: float, **asked: Any) -> None:
        content, settings = result(score, **asked)
        assert place.write("eval.json", content, settings, others=("report.html", "report")) == tmp_path / "eval.json"

    def scores() -> dict[str, float]:
        return {path.name: json.loads(path.read_text())["score"] for path in tmp_path.glob("eval*.json")}

    write(0.1)
    write(0.2, model="./a.zip")
    assert scores() == {"eval.json": 0.2}, "the same command again"
    (tmp_path / "report.html").write_text("page")
    (tmp_path / "report").mkdir()
    write(0.3, model_sha256="1")
    assert scores() == {"eval.json": 0.3, "eval.1.json": 0.2}
    assert (tmp_path / "report.1.html").read_text() == "page"
    assert (tmp_path / "report.1").is_dir()
    assert not (tmp_path / "report.html").exists()
    write(0.4, model_sha256="2")
    assert scores() == {"eval.json": 0.4, "eval.1.json": 0.2, "eval.2.json": 0.3}
    (tmp_path / "eval.json").write_text("an older version's, or a reader's own")
    write(0.5)
    assert (tmp_path / "eval.3.json").read_text() == "an older version's, or a reader's own"


def test_a_disk_that_takes_nothing_more_leaves_the_result_before_it(tmp_path: Path) -> None:
    place = Place(tmp_path)
    content, asked = result(0.1)
    place.write("eval.json", content, asked, others=())
    (tmp_path / ".eval.json.part").mkdir()  # nothing can be written there
    content, asked = result(0.2, model_sha256="1")
    with pytest.raises(OSError, match=r"\.part"):
        place.write("eval.json", content, asked, others=())
    assert json.loads((tmp_path / "eval.json").read_text())["score"] == 0.1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".eval.json.part", "eval.json"]


def test_a_model_from_elsewhere_stays_as_it_came_and_can_be_compared(shipped, tmp_path: Path, capsys) -> None:
    model, logs = shipped("theirs/walk"), tmp_path / "logs"
    before = sorted(path.name for path in model.parent.iterdir())
    command = ["--model", str(model), "--log_dir", str(logs), *QUICK]
    assert biped_eval.main(command) in (0, 3)
    folder = logs / "evaluations" / "walk-biped_walk"
    assert f"figures: {folder / f'eval{TAIL}.json'}" in capsys.readouterr().out
    assert sorted(path.name for path in model.parent.iterdir()) == before
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", f"eval{TAIL}.json"]
    assert biped_eval.main(["--compare", str(folder / f"eval{TAIL}.json"), str(SHIPPED)]) == 0
    assert capsys.readouterr().out.split()[1:3] == [f"walk-biped_walk/eval{TAIL}", "policies"]

    twin = shipped("yours/walk")
    config = json.loads((twin.parent / "config.json").read_text())
    config["train"]["seed"] = 77
    (twin.parent / "config.json").write_text(json.dumps(config))
    assert biped_eval.main(["--model", str(twin), "--log_dir", str(logs), *QUICK]) in (0, 3)
    assert sorted(path.name for path in (logs / "evaluations").iterdir()) == ["walk-biped_walk", "walk-biped_walk.1"]


def test_a_page_with_figures_of_its_own_place_lies_beside_them(shipped, tmp_path: Path, capsys) -> None:
    shipped("logs/walk").rename(tmp_path / "logs" / "walk" / "biped_model_1_steps.zip")
    command = ["-e", "walk", "--log_dir", str(tmp_path / "logs"), "--out", str(tmp_path / "x.json"), "--report", *QUICK]
    assert biped_eval.main([*command, "--video_robots", "1", "--video_seconds", "0.1"]) in (0, 3)
    assert f"report: {tmp_path / 'x_report.html'}" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "logs" / "walk").iterdir()) == [
        "biped_model_1_steps.zip",
        "config.json",
    ]
