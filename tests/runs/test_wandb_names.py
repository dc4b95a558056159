"""Flags win over W&B's variables, variables over our defaults; what W&B would refuse is refused before training."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb

import biped_sweep
import biped_train
from biped.config.run import WandbConfig
from biped.config.serial import from_json
from biped.runs.directory import RunDirectory
from biped.runs.wandb_names import DEFAULT_PROJECT, alert_title, artifact_name, with_variables
from biped.runs.wandb_writer import start_wandb
from biped.train.metrics import METRICS
from tests.processes import ROOT, UNDRAWN
from tests.wandb_runs import WANDB, account, forget_account, recorded_runs, stream
from tests.wandb_server import REFUSAL, WandbServer

SMOKE = ["--preset", "smoke", "--sim", "mujoco", "--total_timesteps", "256", "--eval_freq", "0", "--wandb", *UNDRAWN]
VARIABLES = {
    "WANDB_PROJECT": "lab",
    "WANDB_ENTITY": "team",
    "WANDB_NAME": "first try",
    "WANDB_RUN_ID": "mine",
    "WANDB_RUN_GROUP": "seeds",
    "WANDB_TAGS": "cpu,first",
    "WANDB_NOTES": "does it turn?",
    "WANDB_JOB_TYPE": "train",
}
SAID = {
    "project": "lab",
    "entity": "team",
    "display_name": "first try",
    "run_id": "mine",
    "run_group": "seeds",
    "tags": ["cpu", "first"],
    "notes": "does it turn?",
    "job_type": "train",
}


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget_account(monkeypatch, tmp_path)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    with account(monkeypatch) as started:
        yield started


def say(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    wandb.teardown()


def unsay(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name in variables:
        monkeypatch.delenv(name, raising=False)
    wandb.teardown()


def names(found: dict) -> dict:
    return {name: found.get(name) for name in SAID}


def test_variables_win_over_defaults_and_a_run_that_goes_on_keeps_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say(monkeypatch, {**VARIABLES, "WANDB_MODE": "offline"})
    command = ["-e", "demo", "--log_dir", str(tmp_path)]
    assert biped_train.main([*command, *SMOKE]) == 0
    assert names(recorded_runs(tmp_path / "demo")[0]) == SAID

    unsay(monkeypatch, VARIABLES)
    assert biped_train.main([*command, "--continue_training"]) == 0
    assert names(recorded_runs(tmp_path / "demo")[1]) == {**SAID, "job_type": None}

    say(monkeypatch, {"WANDB_PROJECT": "another", "WANDB_RUN_ID": "another", "WANDB_JOB_TYPE": "again"})
    capsys.readouterr()
    assert biped_train.main([*command, "--continue_training"]) == 0
    assert names(recorded_runs(tmp_path / "demo")[2]) == {**SAID, "job_type": "again"}
    told = [line for line in capsys.readouterr().err.splitlines() if "ignored" in line]
    assert len(told) == 2
    assert "WANDB_PROJECT='another'" in told[0]
    assert "WANDB_RUN_ID=another" in told[1]
    assert "mine" in told[1]

    assert biped_train.main([*command, "--continue_training", "--wandb_project", "moved"]) == 0
    assert recorded_runs(tmp_path / "demo")[3]["project"] == "moved"


def test_flags_win_over_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, {**VARIABLES, "WANDB_MODE": "disabled"})
    flags = ["--wandb_project", "p", "--wandb_entity", "e", "--wandb_run_name", "n", "--wandb_group", "g"]
    flags += ["--wandb_tags", "t", "--wandb_notes", "why", "--wandb_mode", "Offline"]
    assert biped_train.main(["-e", "demo", "--log_dir", str(tmp_path), *SMOKE, *flags]) == 0
    (found,) = recorded_runs(tmp_path / "demo")
    asked = {"project": "p", "entity": "e", "display_name": "n", "run_group": "g", "tags": ["t"], "notes": "why"}
    assert names(found) == {**SAID, **asked}


def test_where_nothing_is_said_there_are_our_defaults(tmp_path: Path) -> None:
    stream(tmp_path, WandbConfig())
    (found,) = recorded_runs(tmp_path / "demo")
    assert (found["project"], found["display_name"]) == (DEFAULT_PROJECT, "demo")
    assert found["run_id"] == RunDirectory(tmp_path / "demo").wandb_id()


def test_the_files_that_wandb_init_writes_win_over_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "settings").write_text("[default]\nproject = filed\nentity = team\n")
    say(monkeypatch, {"WANDB_CONFIG_DIR": str(tmp_path)})
    assert with_variables(WandbConfig()) == WandbConfig(project="filed", entity="team")
    monkeypatch.setenv("WANDB_PROJECT", "lab")
    assert with_variables(WandbConfig()).project == "lab"
    assert with_variables(WandbConfig(project="p")).project == "p"


def test_a_run_of_an_older_version_goes_on_in_the_project_that_it_wrote_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["-e", "demo", "--log_dir", str(tmp_path)]
    assert biped_train.main([*command, *SMOKE, "--wandb_mode", "offline"]) == 0
    file = tmp_path / "demo" / "config.json"
    assert json.loads(file.read_text())["wandb"]["project"] == DEFAULT_PROJECT  # as older versions always wrote
    assert from_json(file.read_text()).wandb.project == DEFAULT_PROJECT
    say(monkeypatch, {"WANDB_PROJECT": "lab"})
    assert biped_train.main([*command, "--continue_training"]) == 0
    assert {run["project"] for run in recorded_runs(tmp_path / "demo")} == {DEFAULT_PROJECT}
    assert "WANDB_PROJECT='lab'" in capsys.readouterr().err


REFUSED = {
    "a project with a slash": ({"WANDB_PROJECT": "a/b"}, "WANDB_PROJECT"),
    "a long project": ({"WANDB_PROJECT": "p" * 129}, "WANDB_PROJECT"),
    "an entity with a slash": ({"WANDB_ENTITY": "a/b"}, "WANDB_ENTITY"),
    "a long name": ({"WANDB_NAME": "n" * 129}, "WANDB_NAME"),
    "a long group": ({"WANDB_RUN_GROUP": "g" * 129}, "WANDB_RUN_GROUP"),
    "a long job type": ({"WANDB_JOB_TYPE": "j" * 65}, "WANDB_JOB_TYPE"),
    "a tag of 65 letters": ({"WANDB_TAGS": "a," + "t" * 65}, "WANDB_TAGS"),
    "an empty tag": ({"WANDB_TAGS": "a,,b"}, "WANDB_TAGS"),
    "an id with a percent sign": ({"WANDB_RUN_ID": "a%b"}, "WANDB_RUN_ID"),
    "a long id": ({"WANDB_RUN_ID": "i" * 65}, "WANDB_RUN_ID"),
    "a mode that is misspelled": ({"WANDB_MODE": "ofline"}, "did you mean offline?"),
    "a mode that is none": ({"WANDB_MODE": "x"}, "WANDB_MODE"),
    "a console that is none": ({"WANDB_CONSOLE": "x"}, "WANDB_CONSOLE is refused by W&B (Input should be 'auto'"),
    "a time that is none": ({"WANDB_INIT_TIMEOUT": "soon"}, "WANDB_INIT_TIMEOUT"),
    "a server that is none": ({"WANDB_BASE_URL": "x"}, "WANDB_BASE_URL"),
    "a fork": ({"WANDB_FORK_FROM": "x?_step=3"}, "WANDB_FORK_FROM"),
    "a folder that cannot be written": ({"WANDB_DIR": "/proc/1/x"}, "WANDB_DIR"),
    "notes of bytes": ({"WANDB_NOTES": os.fsdecode(b"\xff")}, "WANDB_NOTES"),
    "a project by flag": (["--wandb_project", "a:b"], "--wandb_project"),
    "no project by flag": (["--wandb_project", ""], "--wandb_project"),
    "an entity by flag": (["--wandb_entity", "a#b"], "--wandb_entity"),
    "a name by flag": (["--wandb_run_name", "n" * 129], "--wandb_run_name"),
    "a group by flag": (["--wandb_group", "g" * 129], "--wandb_group"),
    "tags by flag": (["--wandb_tags", "a", "t" * 65], "--wandb_tags"),
    "an empty tag by flag": (["--wandb_tags", ""], "--wandb_tags"),
    "a mode by flag": (["--wandb_mode", "onlin"], "did you mean online?"),
    "a project by --set": (["--set", "wandb.project=a?b"], "--wandb_project"),
}


@pytest.mark.parametrize(("said", "named"), REFUSED.values(), ids=REFUSED)
def test_what_wandb_would_refuse_is_one_line_and_exit_code_2_and_leaves_nothing(
    said: dict[str, str] | list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    say(monkeypatch, said if isinstance(said, dict) else {})
    flags = said if isinstance(said, list) else []
    try:
        code = biped_train.main(["-e", "demo", "--log_dir", str(tmp_path / "logs"), *SMOKE, *flags])
    except SystemExit as stop:
        code = stop.code
    said_of_it = capsys.readouterr().err.strip().splitlines()
    assert code == 2
    assert len(said_of_it) == 1, said_of_it
    assert named in said_of_it[0]
    assert list(tmp_path.iterdir()) == []


def test_names_are_not_looked_at_without_wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "a/b")
    without = [word for word in SMOKE if word != "--wandb"]
    assert biped_train.main(["-e", "demo", "--log_dir", str(tmp_path), *without]) == 0
    assert json.loads((tmp_path / "demo" / "config.json").read_text())["wandb"]["project"] is None


@pytest.mark.parametrize(("text", "is_recorded"), [("Offline", True), ("", True), ("DISABLED", False)])
def test_a_mode_in_capitals_is_read_and_an_empty_one_says_nothing(
    text: str,
    is_recorded: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    say(monkeypatch, {"WANDB_MODE": text, "WANDB_PROJECT": "", "WANDB_RUN_ID": " "})
    stream(tmp_path, WandbConfig())
    assert bool(list((tmp_path / "demo" / "wandb").glob("offline-run-*"))) == is_recorded
    assert "W&B stopped" not in capsys.readouterr().err


def test_what_the_server_refuses_later_is_recorded_offline_with_the_cause(
    server: WandbServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.behaviour = "refuses runs"
    stream(tmp_path, WandbConfig(project="secret"))
    assert recorded_runs(tmp_path / "demo")[0]["project"] == "secret"
    (told,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("W&B")]
    assert REFUSAL in told


def command_said(text: str) -> str:
    (found,) = re.findall(r"(wandb sync .*)", "\n".join(line for line in text.splitlines() if line.startswith("W&B")))
    return found


@pytest.mark.parametrize("place", ["the run's directory", "WANDB_DIR"])
def test_a_shell_can_carry_out_the_command_that_sends_what_was_recorded_offline(
    place: str,
    server: WandbServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "it's a $HOME"
    if place == "WANDB_DIR":
        monkeypatch.setenv("WANDB_DIR", str(folder))
        monkeypatch.setenv("WANDB_RUN_ID", "seed-10")
        stream(folder, WandbConfig(mode="offline"), name="other")  # which shares the folder, and stays there
        monkeypatch.setenv("WANDB_RUN_ID", "seed-1")
    logs = tmp_path if place == "WANDB_DIR" else folder
    server.behaviour = "refuses runs"
    stream(logs, WandbConfig())
    server.behaviour = "good"
    command = command_said(capsys.readouterr().err)
    command = command.replace("wandb ", f"{WANDB} ", 1)
    sent = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=300)
    assert sent.returncode == 0, sent.stderr
    run_id = RunDirectory(logs / "demo").wandb_id()
    assert list(server.runs) == [run_id]
    assert len(server.rows(run_id)) == 3
    assert list((folder / "wandb" if place == "WANDB_DIR" else folder / "demo" / "wandb").glob("offline-run-*"))


def test_models_of_runs_with_long_names_are_sent_under_names_of_their_own(server: WandbServer, tmp_path: Path) -> None:
    for last in "ab":
        run = RunDirectory.create(tmp_path, "n" * 127 + last)
        run.best_model.write_bytes(last.encode())
        writer = start_wandb(run, WandbConfig(), {}, METRICS)
        assert writer is not None
        for steps, kind in enumerate(("best", "checkpoint")):
            writer.publish_model(run.best_model, kind, {"steps": steps})
        writer.alert(f"{run.path.name}: limps", "the left foot")
        writer.close()
    sent = [found["artifactCollectionName"] for found in server.artifacts]
    assert len(set(sent)) == 4
    assert all(len(name) <= 128 for name in sent)
    assert {name.rpartition("-")[2] for name in sent} == {"best", "checkpoint"}
    assert all(len(alert["title"]) < 64 and alert["title"].endswith(": limps") for alert in server.alerts)
    assert len(server.alerts) == 2


def test_short_names_stay_as_they_are() -> None:
    assert artifact_name("n" * 117, "checkpoint") == "n" * 117 + "-checkpoint"
    assert alert_title("walk: limps") == "walk: limps"


def test_what_we_set_of_wandbs_manners_gives_way_to_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manners = {"WANDB_CONSOLE": "wrap_raw", "WANDB_INIT_TIMEOUT": "77", "WANDB_FINISH_TIMEOUT": "0"}
    manners["WANDB_DATA_DIR"] = str(tmp_path / "data")
    say(monkeypatch, {**manners, "WANDB_MODE": "offline"})
    run = RunDirectory.create(tmp_path, "demo")
    writer = start_wandb(run, WandbConfig(), {}, METRICS)
    assert writer is not None
    writer.publish_model(run.best_model, "best", {"steps": 1})  # there is none, which costs a line
    writer.close()
    settings = writer._run.settings
    assert (settings.console, settings.init_timeout, settings.finish_timeout) == ("wrap_raw", 77.0, 0.0)
    assert writer.finish_s > 1e6
    assert os.environ["WANDB_DATA_DIR"] == manners["WANDB_DATA_DIR"]


def test_in_a_sweep_the_agents_id_wins_and_its_folder_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDirectory.create(tmp_path, "demo")
    before = run.wandb_id()
    monkeypatch.chdir(tmp_path)
    agents = {"WANDB_SWEEP_ID": "s1", "WANDB_RUN_ID": "agents", "WANDB_DIR": str(tmp_path), "WANDB_PROJECT": "lab"}
    say(monkeypatch, {**agents, "WANDB_MODE": "offline"})
    stream(tmp_path, WandbConfig())
    (found,) = recorded_runs(run.path)
    assert (found["run_id"], found["sweep_id"], found["project"]) == ("agents", "s1", "lab")
    assert run.wandb_id() == "agents"
    assert f"it was {before}" in capsys.readouterr().err


@pytest.mark.usefixtures("quick_trials")
def test_trials_of_a_search_do_not_share_the_id_of_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, {"WANDB_RUN_ID": "mine", "WANDB_MODE": "offline"})
    flags = ["--study", "s", "--trials", "2", "--preset", "smoke", "--log_dir", str(tmp_path), *UNDRAWN]
    flags += ["--total_timesteps", "256", "--search", "ppo.desired_kl=0.01:0.1:log"]
    assert biped_sweep.main([*flags, "--set", "train.sim=mujoco", "--set", "wandb.enabled=true"]) == 0
    ids = [RunDirectory(tmp_path / f"s-{number}").wandb_id() for number in range(2)]
    assert len({"mine", *ids}) == 3


def test_the_page_on_tracking_names_variables_that_there_are() -> None:
    text = (ROOT / "docs" / "tracking.md").read_text()
    known = {name for name in vars(wandb.env).values() if isinstance(name, str) and name.startswith("WANDB_")}
    known |= {f"WANDB_{name.upper()}" for name in wandb.Settings.model_fields}
    named = set(re.findall(r"`(WANDB_\w+)", text))
    assert named <= known
    assert {*VARIABLES, "WANDB_DIR", "WANDB_MODE", "WANDB_DATA_DIR", "WANDB_RESUME", "WANDB_CONSOLE"} <= named
