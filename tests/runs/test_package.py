"""What is shared of a policy: what belongs to it, and nothing that is of another one or nobody's business."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

import biped_eval
from biped.__main__ import main
from biped.config.run import Config, WandbConfig
from biped.config.serial import from_json, to_dict, to_json
from biped.config.settings import with_settings
from biped.runs.directory import RunDirectory
from biped.runs.manifest import Manifest
from biped.runs.package import SHIPPED_ROBOTS
from tests.conftest import ROOT
from tests.shared_policies import POLICIES, make_run


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(make_run(tmp_path / "logs"))


def push(run: RunDirectory, *flags: str, what: str = "walk") -> int:
    logs = run.path.parent
    return main(["push", what, "--to", str(logs.parent / "package"), "--log_dir", str(logs), *flags])


def pushed(run: RunDirectory, *flags: str, what: str = "walk") -> Path:
    assert push(run, *flags, what=what) == 0
    return run.path.parent.parent / "package"


def names(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def change(run: RunDirectory, *settings: tuple[str, Any]) -> Config:
    config = with_settings(run.read_config(), settings)
    (run.path / "config.json").write_text(to_json(config))
    return config


def test_all_that_belongs_to_a_policy_is_shared_with_its_checksums(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pushed(run)
    assert "nothing was sent" in capsys.readouterr().out
    shared = ["config.json", "eval.json", "model.zip", "policy.onnx", "robustness.json"]
    assert names(folder) == sorted(["README.md", "manifest.json", *shared])
    manifest = Manifest.read(folder / "manifest.json", "it")
    assert sorted(manifest.parts) == shared
    for name in shared:
        manifest.verify(name, folder / name, "it")
    assert manifest.about["steps"] == 2_506_752
    assert push(run) == 2  # a folder that is there is never added to
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["walk", "folder/", "model.zip"])
def test_a_run_its_folder_or_a_checkpoint_is_named(run: RunDirectory, what: str) -> None:
    word = {"folder/": f"{run.path}/", "model.zip": str(run.final_model)}.get(what, what)
    folder = pushed(run, what=word)
    assert (folder / "model.zip").read_bytes() == run.final_model.read_bytes()
    assert {"eval.json", "robustness.json", "policy.onnx"} <= set(names(folder))


def test_the_shipped_policies_can_be_shared_with_their_results(run: RunDirectory) -> None:
    folder = pushed(run, what=str(POLICIES / "robust" / "biped_robust.zip"))
    assert {"eval.json", "robustness.json", "policy.onnx"} <= set(names(folder))


def test_results_and_exports_of_another_checkpoint_stay_here(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(POLICIES / "biped_walk.zip", run.final_model)
    shutil.copy(POLICIES / "config.json", run.path)
    folder = pushed(run)
    assert names(folder) == ["README.md", "config.json", "manifest.json", "model.zip"]
    assert "Not judged." in (folder / "README.md").read_text()
    said = capsys.readouterr().err
    assert "has no eval.json" in said
    assert "policy.onnx is of another checkpoint" in said


def test_an_evaluation_with_other_settings_is_not_the_policys_but_one_in_mujoco_is(run: RunDirectory) -> None:
    found = json.loads((run.path / "eval.json").read_text())
    (run.path / "eval.json").write_text(json.dumps({**found, "command": [0.4, 0, 0]}))
    (run.path / "eval_mujoco.json").write_text(json.dumps({**found, "sim": "mujoco"}))
    folder = pushed(run)
    assert json.loads((folder / "eval.json").read_text())["sim"] == "mujoco"


def test_where_it_lay_and_its_names_in_wandb_are_nobodys_business(run: RunDirectory) -> None:
    change(run, ("wandb.entity", "secret-lab"), ("wandb.notes", "secret plan"), ("wandb.enabled", True))
    found = json.loads((run.path / "eval.json").read_text())
    (run.path / "eval.json").write_text(json.dumps({**found, "model": "/home/secret/walk.zip"}))
    (run.path / "run_info.json").write_text('{"starts": [{"machine": "secret"}]}')
    folder = pushed(run)
    config = from_json((folder / "config.json").read_text())
    assert config.wandb == WandbConfig()
    assert to_dict(replace(config, wandb=WandbConfig())) == to_dict(replace(run.read_config(), wandb=WandbConfig()))
    texts = [file.read_text() for file in folder.iterdir() if file.suffix in (".json", ".md")]
    assert not [text for text in texts if "secret" in text]


def test_clips_stay_here_but_for_those_that_ship(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    ours, mine = "assets/motions/walk.csv", "/home/somebody/dance.csv"
    change(
        run,
        ("style.motions", [ours, mine]),
        ("env.imitation.motion", mine),
        ("env.reward.weights.imitation", 2.0),
        ("env.imitation.max_error_rad", 0.3),
    )
    config = from_json((pushed(run) / "config.json").read_text())
    assert config.style.motions == (ours,)
    assert config.env.imitation.motion == ""
    assert config.env.reward.weights.imitation == config.env.imitation.max_error_rad == 0.0
    assert "stay here" in capsys.readouterr().out


def test_the_film_is_the_reports_the_trainings_or_the_one_that_is_named(run: RunDirectory, tmp_path: Path) -> None:
    (run.path / "videos").mkdir()
    (run.path / "videos" / "walk_7_steps.gif").write_bytes(b"another checkpoint's")
    assert "replay.gif" not in names(pushed(run))
    shutil.rmtree(tmp_path / "package")
    (run.path / "videos" / "walk_2506752_steps.gif").write_bytes(b"training's")
    assert (pushed(run) / "replay.gif").read_bytes() == b"training's"
    shutil.rmtree(tmp_path / "package")
    (run.path / "report").mkdir()
    (run.path / "report" / "walk.mp4").write_bytes(b"report's")
    folder = pushed(run)
    assert (folder / "replay.mp4").read_bytes() == b"report's"
    assert '<video src="replay.mp4"' in (folder / "README.md").read_text()
    shutil.rmtree(tmp_path / "package")
    (tmp_path / "mine.gif").write_bytes(b"mine")
    folder = pushed(run, "--film", str(tmp_path / "mine.gif"))
    assert (folder / "replay.gif").read_bytes() == b"mine"
    assert push(run, "--film", str(tmp_path / "none.gif")) == 2


def test_the_card_has_the_gates_table_and_its_figures_for_the_website(run: RunDirectory) -> None:
    text = (pushed(run, "--license", "apache-2.0") / "README.md").read_text()
    data = ModelCard(text).data
    said = data.to_dict()
    assert (said["library_name"], said["license"]) == ("stable-baselines3", "apache-2.0")
    assert said["model-index"][0]["name"] == "package"
    figures = json.loads((run.path / "eval.json").read_text())
    results = {result.metric_type: result.metric_value for result in data.eval_results}
    assert results["gate_score"] == figures["score"]
    for name, line in figures["lines"].items():
        assert results[name] == pytest.approx(line["value"], abs=1e-4)
        assert f"| `{name}` | {line['value']:.4f}" in text
    assert {result.task_type for result in data.eval_results} == {"reinforcement-learning"}
    for axis in json.loads((run.path / "robustness.json").read_text())["axes"]:
        assert f"| {axis.replace('_', ' ')} (" in text


def test_the_card_says_where_the_gate_failed(run: RunDirectory) -> None:
    figures = json.loads((run.path / "eval.json").read_text())
    figures["passed"] = figures["lines"]["survival"]["passed"] = False
    figures["lines"]["flight"]["value"] = None
    (run.path / "eval.json").write_text(json.dumps(figures))
    text = (pushed(run) / "README.md").read_text()
    assert "It **fails** in 1 of the lines" in text
    assert "| `flight` | — |" in text
    assert next(line for line in text.splitlines() if "**failed**" in line).startswith("| `survival`")


def test_a_damaged_model_is_not_shared(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    run.final_model.write_bytes(run.final_model.read_bytes()[:1000])
    assert push(run, what=str(run.final_model)) == 2
    assert "nothing is shared" in capsys.readouterr().err


def own_robot(run: RunDirectory, folder: Path) -> Path:
    """Let the run's robot be one of the user's: a model in one folder that includes a file of another."""
    (folder / "models").mkdir(parents=True)
    (folder / "parts").mkdir()
    text = (ROOT / SHIPPED_ROBOTS[0]).read_text()
    (folder / "parts" / "floor.xml").write_text("<mujoco><option/></mujoco>")
    model = folder / "models" / "mine.xml"
    model.write_text(text.replace("<worldbody>", '<include file="../parts/floor.xml"/>\n<worldbody>', 1))
    (folder / "LICENSE").write_text("mine")
    change(run, ("env.robot.model_path", str(model)))
    return model


def test_a_robot_that_does_not_ship_goes_along_and_is_found_where_it_was_fetched(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own_robot(run, tmp_path / "own")
    folder = pushed(run)
    robot = [name for name in names(folder) if name.startswith("robot/")]
    assert robot == ["robot/LICENSE", "robot/models/mine.xml", "robot/parts/floor.xml"]
    assert "Its model is `robot/models/mine.xml`" in (folder / "README.md").read_text()
    assert "the robot's 2 files" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "own")  # as on another machine
    moved = folder.rename(tmp_path / "elsewhere")
    short = ["--set", "env.termination.episode_s=0.5", "--episodes", "2", "--sim", "mujoco"]
    words = ["--model", str(moved / "model.zip"), "--log_dir", str(tmp_path / "logs"), *short]
    assert biped_eval.main(words) == biped_eval.GATE_FAILED


def test_a_robot_may_stay_here_and_the_card_says_so(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own_robot(run, tmp_path / "own")
    folder = pushed(run, "--no_robot")
    assert not [name for name in names(folder) if name.startswith("robot")]
    assert "**not** part of this repository: put it at `robot/mine.xml`" in (folder / "README.md").read_text()
    assert "others need a model of their own at robot/mine.xml" in capsys.readouterr().err


def test_every_robot_that_ships_is_known(run: RunDirectory) -> None:
    found = [f"assets/{folder}/{folder}.xml" for folder in ("biped", "strider")]
    assert sorted(SHIPPED_ROBOTS) == found
    with_robot = {file.parent.name for file in (ROOT / "assets").glob("*/*.xml")}
    assert {name.split("/")[1] for name in SHIPPED_ROBOTS} == with_robot
    assert run.read_config().env.robot.model_path in SHIPPED_ROBOTS
