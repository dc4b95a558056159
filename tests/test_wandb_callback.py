"""A real offline W&B run, read back with wandb's own reader."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import wandb

import biped_train
from biped.metrics import METRICS
from biped.runs import RunDirectory
from wandb_callback import WandbWriter, start_wandb

FLAGS = [
    "--preset",
    "smoke",
    "--total_timesteps",
    "1024",
    "--wandb",
    "--wandb_project",
    "lab",
    "--wandb_run_name",
    "try",
]


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    wandb.teardown()  # it reads the environment once in a process


def records(run: Path) -> list[dict]:
    """Read every record of the offline runs in a run directory, oldest first."""
    found = []
    for folder in sorted((run / "wandb").glob("offline-run-*")):
        command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(folder)]
        text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
        found += [json.loads(line) for line in text.splitlines()]
    return found


def rows(found: list[dict]) -> list[dict]:
    return [record["history"] for record in found if record["type"] == "history"]


def test_a_run_without_an_account_is_recorded_offline_and_resumed_as_the_same_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["-e", "demo", "--log_dir", str(tmp_path), *FLAGS]
    assert biped_train.main(command) == 0
    assert "wandb sync" in capsys.readouterr().err
    assert biped_train.main(["-e", "demo", "--log_dir", str(tmp_path), "--continue_training"]) == 0
    found = records(tmp_path / "demo")
    runs = [record["run"] for record in found if record["type"] == "run"]
    assert {run["run_id"] for run in runs} == {RunDirectory(tmp_path / "demo").wandb_id()}
    assert {run["project"] for run in runs} == {"lab"}
    assert {run["display_name"] for run in runs} == {"try"}
    config = runs[0]["config"]["update"]
    assert config["ppo"]["n_epochs"] == 2
    logged = [{**row["item"]} for row in rows(found)]
    assert [row["performance/total_timesteps"] for row in logged] == list(range(256, 2049, 256))
    names = {name for row in logged for name in row if not name.startswith("_")}
    table = {metric.wandb_name.replace("<exp_name>", "demo") for metric in METRICS.values()}
    assert names <= table
    # A robot that falls at once has no steps to measure.
    assert table - names <= {name for name in table if name.startswith("gate/")} | {"eval/demo/success_precision"}
    assert {"eval/demo/success_rate", "eval/demo/best_success_rate", "gate/score"} <= names


def test_entropy_has_its_own_sign_in_wandb() -> None:
    class Recorder:
        def __init__(self) -> None:
            self.rows: list[dict] = []

        def define_metric(self, *_: object, **__: object) -> None: ...

        def log(self, row: dict) -> None:
            self.rows.append(row)

    run = Recorder()
    WandbWriter(run, "walk").write({"train/entropy_loss": -3.5, "custom/thing": 2, "text": "x"}, {}, 10)
    assert run.rows == [{"ppo/entropy": 3.5, "custom/thing": 2, "performance/total_timesteps": 10}]


def test_a_tracker_that_fails_is_said_once_and_then_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    class Dying:
        calls = 0

        def define_metric(self, *_: object, **__: object) -> None: ...

        def log(self, _: dict) -> None:
            Dying.calls += 1
            raise ConnectionResetError("the service is gone")

        def finish(self) -> None:
            raise AssertionError("a dead run must not be finished")

    writer = WandbWriter(Dying(), "walk")
    for step in range(3):
        writer.write({"time/fps": 1}, {}, step)
    writer.close()
    assert Dying.calls == 1
    assert capsys.readouterr().err.count("training goes on") == 1


def test_wandb_mode_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    wandb.teardown()
    run = RunDirectory.create(tmp_path, "demo")
    writer = start_wandb(run, project="p", entity=None, run_name="n", config={})
    assert writer is not None
    writer.write({"time/fps": 1}, {}, 1)
    writer.close()
    assert not list(run.path.glob("wandb/*run-*"))


def test_without_wandb_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    run = RunDirectory.create(tmp_path, "demo")
    assert start_wandb(run, project="p", entity=None, run_name="n", config={}) is None
    assert "install_genesis.sh" in capsys.readouterr().err


def test_wandb_is_not_imported_unless_asked_for() -> None:
    code = "import sys, biped_train; sys.exit('wandb' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=Path(biped_train.__file__).parent, check=False).returncode == 0
    )
