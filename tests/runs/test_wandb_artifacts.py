"""Policies go to a W&B of our own and come back, by the real library; what goes wrong is one line."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb

from biped.__main__ import main
from biped.base.errors import MachineError, UsageError
from biped.runs.shared import local_model, local_policy
from tests.shared_policies import make_run, refusal
from tests.wandb_runs import account, forget_account
from tests.wandb_server import WandbServer

ADDRESS = "wandb://me/lab/walk"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[WandbServer]:
    forget_account(monkeypatch, tmp_path)
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    with account(monkeypatch) as started:
        yield started


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    make_run(tmp_path / "logs")
    return tmp_path / "logs"


def push(logs: Path, to: str = ADDRESS, *flags: str) -> int:
    return main(["push", "walk", "--to", to, "--log_dir", str(logs), *flags])


def refused(kind: type[Exception], logs: Path, address: str = ADDRESS) -> str:
    return refusal(kind, logs, address)


def test_a_policy_goes_there_and_comes_back(
    server: WandbServer, logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(logs) == 0
    assert "it is at wandb://me/lab/walk:v0" in capsys.readouterr().out
    assert [(one["artifactTypeName"], one["is_committed"]) for one in server.artifacts] == [("model", True)]
    other = tmp_path / "other"
    model = local_model(ADDRESS, other)
    assert model == other / "shared" / "me--lab--walk@v0" / "model.zip"
    assert model.read_bytes() == (logs / "walk" / "model_final.zip").read_bytes()
    assert (model.parent / "config.json").is_file()
    assert local_policy(f"{ADDRESS}:latest", other) == model.with_name("policy.onnx")
    assert server.unknown == []
    asked = len(server.operations)
    assert local_model(f"{ADDRESS}:v0", other) == model  # nobody is asked for a version that is here
    assert len(server.operations) == asked
    assert "there is no artifact wandb://me/lab/walk:v7" in refused(UsageError, other, f"{ADDRESS}:v7")
    assert "there is no artifact wandb://me/lab/none" in refused(UsageError, other, "wandb://me/lab/none")
    weights = next(path for path in server.uploads if path.endswith("/model.zip"))
    server.replaced[weights] = server.uploads[weights][:-1] + b"x"
    assert "wrong SHA-256" in refused(MachineError, tmp_path / "third")
    assert not list((tmp_path / "third").rglob("model.zip"))
    server.behaviour = "refuses keys"
    assert "wandb login" in refused(MachineError, other)


def test_an_artifact_of_something_else_is_not_used(server: WandbServer, logs: Path, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("1")
    artifact = wandb.Artifact("walk", type="model")
    artifact.add_file(str(tmp_path / "data.txt"))
    with wandb.init(entity="me", project="lab", dir=str(tmp_path)) as run:
        run.log_artifact(artifact).wait()
    assert "wandb://me/lab/walk is no policy of this project: it has no manifest.json" in refused(UsageError, logs)
    assert server.unknown == []


def test_what_cannot_be_sent_is_one_line(
    server: WandbServer, logs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(logs, f"{ADDRESS}:v1") == 2
    assert "leave out v1" in capsys.readouterr().err
    assert push(logs, ADDRESS, "--private") == 2
    assert "--private is for hf://" in capsys.readouterr().err
    monkeypatch.delenv("WANDB_API_KEY")
    wandb.teardown()
    assert push(logs) == 1
    assert "W&B has no account on this machine" in capsys.readouterr().err
    assert server.artifacts == []
