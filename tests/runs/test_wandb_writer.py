"""Real W&B runs: offline ones read back with wandb's own reader, online ones with a server on a loopback port."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import wandb
from wandb.sdk.lib import identity

import biped_train
from biped.config.run import TrainConfig, WandbConfig
from biped.ppo.style import METRICS as STYLE_METRICS
from biped.runs.directory import RunDirectory
from biped.train import sinks
from biped_config import smoke_preset
from tests import processes
from tests.processes import PATIENCE_S, UNDRAWN, release, start_held, until, until_it_says
from tests.wandb_runs import account, forget_account, records, rows, stream
from tests.wandb_server import Behaviour, WandbServer
from wandb_callback import METRICS, Checkpoints, WandbWriter, start_wandb

FLAGS = [
    "--preset",
    "smoke",
    "--sim",
    "mujoco",
    "--total_timesteps",
    "1024",
    "--wandb",
    "--wandb_project",
    "lab",
    "--wandb_run_name",
    "try",
    *UNDRAWN,
]


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget_account(monkeypatch, tmp_path)


def test_a_run_without_an_account_is_recorded_offline_and_resumed_as_the_same_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "start_wandb", partial(start_wandb, init_s=PATIENCE_S, finish_s=PATIENCE_S))
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
    logged = [row["item"] for row in rows(found) if "performance/fps" in row["item"]]
    assert [row["performance/total_timesteps"] for row in logged] == list(range(256, 2049, 256))
    names = {name for row in logged for name in row if not name.startswith("_")}
    table = {metric.wandb_name.replace("<exp_name>", "demo") for metric in METRICS.values()}
    assert names <= table
    # A robot that falls at once has no steps to measure.
    off = {"eval/demo/success_precision", "rewards/feet_apart", "performance/waiting_time"}
    off |= {"rewards/imitation", "terminations/strayed", *STYLE_METRICS}
    assert table - names <= {name for name in table if name.startswith("gate/")} | off
    assert {"eval/demo/success_rate", "eval/demo/best_success_rate", "gate/score"} <= names


class Recorder:
    """A run that keeps its rows."""

    sync_dir = "my logs/walk/wandb/run-1"

    def __init__(self) -> None:
        self.rows: list[dict] = []

    def define_metric(self, *_: object, **__: object) -> None: ...

    def log(self, row: dict) -> None:
        self.rows.append(row)

    def finish(self) -> None: ...


def test_entropy_has_its_own_sign_in_wandb() -> None:
    run = Recorder()
    writer = WandbWriter(lambda: run, "walk", METRICS)
    writer.write({"train/entropy_loss": -3.5, "custom/thing": 2, "text": "x"}, {}, 10)
    writer.close()
    assert run.rows == [{"ppo/entropy": 3.5, "custom/thing": 2, "performance/total_timesteps": 10}]


def test_a_tracker_that_fails_is_said_once_and_then_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    class Dying(Recorder):
        calls = 0

        def log(self, _: dict) -> None:
            Dying.calls += 1
            raise ConnectionResetError("the service is gone")

    writer = WandbWriter(Dying, "walk", METRICS)
    for step in range(3):
        writer.write({"time/fps": 1}, {}, step)
    writer.close()
    assert Dying.calls == 1
    assert capsys.readouterr().err.count("training goes on") == 1


def test_a_model_that_cannot_be_sent_does_not_end_the_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class NoArtifacts(Recorder):
        def log_artifact(self, *_: object, **__: object) -> None:
            raise ValueError("no room")

    run = NoArtifacts()
    model = tmp_path / "best_model.zip"
    model.write_bytes(b"weights")
    writer = WandbWriter(lambda: run, "walk", METRICS)
    for step in range(3):
        writer.publish_model(model, "best", {"steps": step})
        writer.write({"time/fps": 1}, {}, step)
    writer.close()
    assert len(run.rows) == 3
    assert capsys.readouterr().err.count("did not take a model") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["best_model.zip"]


def test_a_finish_that_never_returns_is_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    class Endless(Recorder):
        def finish(self) -> None:
            threading.Event().wait()

    writer = WandbWriter(Endless, "walk", METRICS, finish_s=0.5)
    writer.write({"time/fps": 1}, {}, 1)
    writer.close()
    assert "wandb sync 'my logs/walk/wandb'/run-1" in capsys.readouterr().err


def test_wandb_mode_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    wandb.teardown()
    assert stream(tmp_path, WandbConfig()) == []
    monkeypatch.setenv("WANDB_MODE", "online")
    assert stream(tmp_path, WandbConfig(mode="disabled")) == []


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    with account(monkeypatch) as started:
        yield started


def fps(rows: list[dict]) -> dict[int, int]:
    return {row["performance/total_timesteps"]: row["performance/fps"] for row in rows}


def test_a_run_is_streamed_and_a_resumed_one_goes_on_as_the_same_run(server: WandbServer, tmp_path: Path) -> None:
    cfg = WandbConfig(project="lab", run_name="try", group="seeds", tags=("a", "b"), notes="why")
    stream(tmp_path, cfg, range(3))
    stream(tmp_path, cfg, range(3, 6))
    run_id = RunDirectory(tmp_path / "demo").wandb_id()
    assert list(server.runs) == [run_id]
    assert fps(server.rows(run_id)) == {step: 100 + step for step in range(6)}
    sent = server.runs[run_id]
    assert (sent["project"], sent["displayName"], sent["groupName"]) == ("lab", "try", "seeds")
    assert (sent["tags"], sent["notes"]) == (["a", "b"], "why")
    assert json.loads(sent["config"])["seed"]["value"] == 3
    assert server.unknown == []


def test_models_are_sent_with_what_is_known_about_them(server: WandbServer, tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "demo")
    writer = start_wandb(run, WandbConfig(), {}, METRICS, PATIENCE_S, PATIENCE_S)
    assert writer is not None
    for steps, weights in ((100, b"first"), (200, b"second")):
        run.best_model.write_bytes(weights)
        writer.publish_model(run.best_model, "best", {"steps": steps, "epochs": 5, "gate_score": 0.5})
        run.best_model.unlink()  # as good as replaced: what was handed over must be what is sent
    run.checkpoint(200).write_bytes(b"second")
    writer.publish_model(run.checkpoint(200), "checkpoint", {"steps": 200, "epochs": 5, "gate_score": None})
    writer.alert("limps", "the left foot")
    writer.close()
    sent = {(found["artifactCollectionName"], json.loads(found["metadata"])["steps"]) for found in server.artifacts}
    assert sent == {("demo-best", 100), ("demo-best", 200), ("demo-checkpoint", 200)}
    assert all(found["is_committed"] for found in server.artifacts)
    assert json.loads(server.artifacts[0]["metadata"]) == {"steps": 100, "epochs": 5, "gate_score": 0.5}
    weights = [content for name, content in server.uploads.items() if name.endswith(".zip")]
    assert sorted(weights) == [b"first", b"second", b"second"]
    assert [alert["title"] for alert in server.alerts] == ["limps"]


def test_two_offline_fragments_are_synced_into_one_run(server: WandbServer, tmp_path: Path) -> None:
    cfg = WandbConfig(mode="offline", project="lab")
    (first,) = stream(tmp_path, cfg, range(3))
    until(lambda: time.strftime("%Y%m%d_%H%M%S") not in first.name)  # wandb names folders by the second
    fragments = stream(tmp_path, cfg, range(3, 6))
    assert len(fragments) == 2
    assert server.runs == {}
    for fragment in sorted(fragments):
        command = [str(Path(sys.executable).with_name("wandb")), "sync", str(fragment)]
        processes.run(command, check=True)
    run_id = RunDirectory(tmp_path / "demo").wandb_id()
    assert list(server.runs) == [run_id]
    assert fps(server.rows(run_id)) == {step: 100 + step for step in range(6)}


@pytest.mark.parametrize("behaviour", ["refuses keys", "fails", "is silent"])
def test_a_server_that_does_not_answer_well_is_given_up_and_the_run_is_recorded_offline(
    server: WandbServer,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    behaviour: Behaviour,
) -> None:
    """It would not answer better however long it were waited for."""
    monkeypatch.setattr(identity, "_RESOLVE_TIMEOUT_SECONDS", 1.0)  # wandb's own wait for the name of the account
    server.behaviour = behaviour
    folders = stream(tmp_path, WandbConfig(), init_s=2.0)
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("W&B")]
    assert len(said) == 1, said
    assert any(folder.name.startswith("offline-run") for folder in folders)
    assert server.runs == {}


def test_a_server_that_goes_silent_in_mid_run_is_given_up_in_the_end(
    server: WandbServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDirectory.create(tmp_path, "demo")
    writer = start_wandb(run, WandbConfig(), {}, METRICS, init_s=PATIENCE_S, finish_s=6.0)
    assert writer is not None
    writer.write({"time/fps": 1}, {}, 1)
    until(lambda: bool(server.runs))
    server.behaviour = "is silent"
    writer.write({"time/fps": 2}, {}, 2)
    writer.close()
    assert len([line for line in capsys.readouterr().err.splitlines() if line.startswith("W&B ")]) == 1


@pytest.mark.parametrize("fault", ["killed", "disk full", "silent"])
def test_training_outlives_the_service_and_its_other_records_are_whole(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """A real training; in the middle W&B's own process is killed, or can write no more, or the server says no more."""
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "2")
    run, steps = RunDirectory(tmp_path / "demo"), 2560
    flags = ["--preset", "smoke", "--sim", "mujoco", "--wandb", "--eval_freq", "0", "--total_timesteps", str(steps)]
    flags += UNDRAWN
    third_rollout = 2 * smoke_preset().ppo.n_steps + 1
    with start_held("rollout", third_rollout, "-e", "demo", "--log_dir", str(tmp_path), *flags) as training:
        until_it_says(training, "held:")
        logs = (run.path / "wandb").glob
        until(lambda: any("run started" in log.read_text() for log in logs("run-*/logs/debug.log")), training)
        struck = [
            child for child in psutil.Process(training.pid).children(recursive=True) if child.name() == "wandb-core"
        ]
        for service in struck:
            if fault == "killed":
                service.kill()
            elif fault == "silent":
                server.behaviour = "is silent"
            else:
                service.rlimit(psutil.RLIMIT_FSIZE, (0, 0))
        assert len(struck) == 1
        release(training)
        _, errors = training.communicate(timeout=PATIENCE_S)
    assert training.returncode == 0, errors
    assert run.final_model.exists()
    assert run.read_metrics()["train/loss"].steps.tolist() == list(range(256, steps + 1, 256))
    said = [line for line in errors.splitlines() if line.startswith("W&B")]
    assert len(said) <= 1
    if fault == "killed":
        assert "training goes on" in said[0]
    assert "Traceback" not in errors


def test_a_best_model_of_an_earlier_process_is_not_sent_again_under_a_worse_score(tmp_path: Path) -> None:
    sent: list[dict] = []

    class Publisher:
        def publish_model(self, file: Path, kind: str, metadata: dict) -> None:
            sent.append({"kind": kind, **metadata})

    part = Checkpoints(RunDirectory(tmp_path), SimpleNamespace(), TrainConfig(), publisher=Publisher())
    part.model = SimpleNamespace(num_timesteps=900, _n_updates=7)

    def evaluated(score: float) -> dict[str, float]:
        best = max(score, 0.9)
        rates = {"eval/success_rate": score, "eval/best_success_rate": best}
        return {"gate/score": score, "gate/best_score": best, **rates}

    part.before_training(evaluated(0.2))
    assert sent == []
    part.before_training(evaluated(0.95))
    assert sent == [{"kind": "best", "steps": 900, "epochs": 7, "gate_score": 0.95}]


def test_without_wandb_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    run = RunDirectory.create(tmp_path, "demo")
    assert start_wandb(run, WandbConfig(), {}, METRICS) is None
    assert "install_genesis.sh" in capsys.readouterr().err


def test_wandb_is_not_imported_unless_asked_for() -> None:
    code = "import sys, biped_train; sys.exit('wandb' in sys.modules)"
    assert processes.run([sys.executable, "-c", code]).returncode == 0
