"""Policies go to a Hugging Face of our own and come back, by the real library; what goes wrong is one line."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import biped_eval
import biped_run
import biped_train
from biped.__main__ import main
from biped.base.errors import MachineError, UsageError
from biped.runs.shared import local_model, local_policy
from tests.hub_server import HubServer, Repository
from tests.shared_policies import NOWHERE, forget_hub, hub_account, make_run, refusal

ADDRESS = "hf://me/walk"
Account = Callable[..., None]
"""Changes variables of the account."""


@pytest.fixture
def hub() -> Iterator[HubServer]:
    server = HubServer()
    yield server
    server.close()
    forget_hub()


@pytest.fixture(autouse=True)
def account(hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Account:
    def change(**variables: str) -> None:
        hub_account(monkeypatch, tmp_path, hub, **variables)

    change()
    return change


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    make_run(tmp_path / "logs")
    return tmp_path / "logs"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a push of the run would send."""
    folder = tmp_path_factory.mktemp("package")
    make_run(folder / "logs")
    assert push(folder / "logs", to=str(folder / "package")) == 0
    return folder / "package"


@pytest.fixture
def there(hub: HubServer, package: Path) -> Repository:
    """The repository of the run, as a push leaves it."""
    there = hub.repositories["me/walk"] = Repository()
    there.commit({file.name: file.read_bytes() for file in package.iterdir()}, "pushed")
    return there


def push(logs: Path, *flags: str, to: str = ADDRESS) -> int:
    return main(["push", "walk", "--to", to, "--log_dir", str(logs), *flags])


def refused(kind: type[Exception], logs: Path, address: str = ADDRESS) -> str:
    return refusal(kind, logs, address)


def kept(logs: Path) -> list[str]:
    return sorted(file.name for file in (logs / "shared").rglob("*") if file.is_file())


def test_a_policy_goes_there_and_is_judged_elsewhere(
    hub: HubServer, logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(logs) == 0
    there = hub.repositories["me/walk"]
    names = ["README.md", "config.json", "eval.json", "manifest.json", "model.zip", "policy.onnx", "robustness.json"]
    assert sorted(there.files) == [".gitattributes", *names]
    assert there.files["model.zip"] == (logs / "walk" / "model_final.zip").read_bytes()
    assert not there.is_private
    assert f"it is at {hub.url}/me/walk/commit/{there.commits[-1][0]}" in capsys.readouterr().out
    other = tmp_path / "other"
    short = ["--set", "env.termination.episode_s=0.5", "--episodes", "2", "--sim", "mujoco"]
    judged = biped_eval.main(["--model", ADDRESS, "--log_dir", str(other), *short])
    assert judged == biped_eval.GATE_FAILED  # half a second is no walk
    name = f"me--walk@{there.commits[-1][0][:12]}"
    assert f"{ADDRESS} is in {other / 'shared' / name}" in capsys.readouterr().out
    assert kept(other) == ["config.json", "eval.json", "manifest.json", "model.zip", "robustness.json"]
    assert list((other / "evaluations" / f"{name}-model").glob("eval_*.json"))
    assert hub.unknown == []


def test_nobody_is_asked_for_a_commit_that_is_here(hub: HubServer, there: Repository, logs: Path) -> None:
    address = f"{ADDRESS}@{there.commits[-1][0]}"
    model = local_model(address, logs)
    asked = len(hub.requests)
    assert local_model(address, logs) == model
    assert len(hub.requests) == asked


@pytest.mark.usefixtures("there")
def test_an_exported_policy_comes_alone(logs: Path) -> None:
    policy = local_policy(ADDRESS, logs)
    assert kept(logs) == ["manifest.json", "policy.onnx"]
    assert policy.read_bytes() == (logs / "walk" / "export" / "policy.onnx").read_bytes()
    assert local_model(ADDRESS, logs) == policy.with_name("model.zip")  # the rest joins it


def test_a_second_push_is_a_second_revision_and_the_first_one_stays(hub: HubServer, logs: Path) -> None:
    assert push(logs, "--private") == 0
    there = hub.repositories["me/walk"]
    first = there.commits[-1][0]
    (logs / "walk" / "robustness.json").unlink()
    assert push(logs, "--license", "mit") == 0
    assert there.is_private
    assert there.commits[-1][0] != first
    assert "license: mit" in there.files["README.md"].decode()
    assert local_model(ADDRESS, logs) != local_model(f"{ADDRESS}@{first}", logs)
    assert kept(logs).count("robustness.json") == 1


def test_what_does_not_exist_is_one_line(account: Account, logs: Path) -> None:
    assert push(logs, "--private") == 0
    assert "there is no repository hf://me/none" in refused(UsageError, logs, "hf://me/none")
    assert "there is no revision v9 of hf://me/walk" in refused(UsageError, logs, f"{ADDRESS}@v9")
    account(HF_TOKEN="")
    assert "or it is private" in refused(UsageError, logs)
    account(HF_TOKEN="hf_wrong")
    assert "refuses hf://me/walk (401): check HF_TOKEN" in refused(MachineError, logs)
    assert kept(logs) == []


@pytest.mark.parametrize(
    ("variables", "to", "code", "said"),
    [
        ({"HF_TOKEN": "hf_wrong"}, ADDRESS, 1, "refuses hf://me/walk (401)"),
        ({}, "hf://you/walk", 1, "refuses hf://you/walk (403)"),
        ({"HF_ENDPOINT": NOWHERE}, ADDRESS, 1, "hf://me/walk cannot be sent"),
        ({}, "hf://me/walk@v1", 2, "leave out v1"),
        ({}, "hf://walk", 2, "is not of the form hf://USER/REPO"),
    ],
)
def test_what_cannot_be_sent_is_one_line(
    account: Account,
    logs: Path,
    variables: dict[str, str],
    to: str,
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    account(**variables)
    assert push(logs, to=to) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]


@pytest.mark.parametrize("variables", [{"HF_ENDPOINT": NOWHERE}, {"HF_HUB_OFFLINE": "1"}], ids=["gone", "offline"])
def test_without_a_network_what_was_fetched_is_used_and_said(
    account: Account, there: Repository, logs: Path, variables: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    account(**variables)
    assert "hf://me/walk was never fetched here" in refused(MachineError, logs)
    account()
    model = local_model(ADDRESS, logs)
    account(**variables)
    capsys.readouterr()
    assert local_model(ADDRESS, logs) == model
    assert f"hf://me/walk as of revision {there.commits[-1][0][:12]}, from the cache" in capsys.readouterr().out


@pytest.mark.usefixtures("there")
def test_a_service_out_of_order_is_as_good_as_no_network(hub: HubServer, logs: Path) -> None:
    model = local_model(ADDRESS, logs)
    hub.behaviour = "fails"
    assert local_model(ADDRESS, logs) == model


def test_what_is_not_as_it_was_shared_is_not_used(there: Repository, logs: Path) -> None:
    there.commit({"model.zip": there.files["model.zip"][:-1] + b"x"}, "changed by somebody")
    assert "model.zip of hf://me/walk is not what its manifest.json says" in refused(MachineError, logs)
    assert "model.zip" not in kept(logs)


def forged(there: Repository, name: str, content: bytes) -> None:
    """Commit a file with a manifest that fits it."""
    manifest: dict[str, Any] = json.loads(there.files["manifest.json"])
    manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    there.commit({name: content, "manifest.json": json.dumps(manifest).encode()}, "forged")


def test_a_name_that_escapes_is_refused_before_anything_is_written(there: Repository, logs: Path) -> None:
    forged(there, "robot/../../../../evil.xml", b"")
    assert "could lead elsewhere" in refused(UsageError, logs)
    assert kept(logs) == []


@pytest.mark.parametrize("model", ["/etc/hostname", "../../secret.xml", "robot/../../x.xml", "assets/mine/none.xml"])
def test_a_robot_that_is_neither_shared_nor_shipped_is_refused(there: Repository, logs: Path, model: str) -> None:
    config = json.loads(there.files["config.json"])
    config["env"]["robot"]["model_path"] = model
    forged(there, "config.json", json.dumps(config).encode())
    assert model in refused(UsageError, logs)


def test_nothing_is_unpickled(there: Repository, logs: Path, tmp_path: Path) -> None:
    """A checkpoint whose weights would write a file if anything unpickled them."""

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    weights = io.BytesIO()
    torch.save({"a": Evil()}, weights)
    evil = tmp_path / "evil.zip"
    with zipfile.ZipFile(evil, "w") as archive:
        archive.writestr("data", "{}")
        for name in ("policy.pth", "policy.optimizer.pth", "pytorch_variables.pth"):
            archive.writestr(name, weights.getvalue())
    forged(there, "model.zip", evil.read_bytes())
    assert biped_train.main(["-e", "on", "--preset", "smoke", "--log_dir", str(logs), "--load_model", ADDRESS]) == 2
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("there")
def test_what_was_fetched_and_changed_since_is_never_overwritten(logs: Path) -> None:
    model = local_model(ADDRESS, logs)
    assert model is not None
    mine = model.with_name("eval.json")
    mine.write_text("mine")
    assert f"{mine} was changed since it was fetched" in refused(MachineError, logs)
    assert mine.read_text() == "mine"


def test_a_repository_of_something_else_is_neither_used_nor_added_to(
    there: Repository, logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del there.files["manifest.json"]
    assert "hf://me/walk is no policy of this project: it has no manifest.json" in refused(UsageError, logs)
    assert push(logs) == 2
    assert "hf://me/walk holds something else (config.json)" in capsys.readouterr().err


@pytest.mark.usefixtures("there")
def test_a_download_that_breaks_off_leaves_nothing_and_is_fetched_the_next_time(hub: HubServer, logs: Path) -> None:
    hub.behaviour = "cuts downloads"
    assert "model.zip of hf://me/walk cannot be fetched" in refused(MachineError, logs)
    assert "model.zip" not in kept(logs)
    hub.behaviour = "good"
    local_model(ADDRESS, logs)
    assert "model.zip" in kept(logs)


@pytest.mark.usefixtures("there")
def test_a_training_learns_on_from_a_shared_policy(logs: Path) -> None:
    small = ["--preset", "cpu", "--sim", "mujoco", "--num_envs", "8", "--total_timesteps", "192", "--eval_freq", "0"]
    small += ["--set", "train.draw_overview=false"]
    words = ["-e", "on", "--log_dir", str(logs), "--load_model", ADDRESS, *small]
    assert biped_train.main(words) == 0
    assert (logs / "on" / "model_final.zip").is_file()


@pytest.mark.usefixtures("there")
def test_a_robots_program_opens_a_policy_by_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert biped_run.main([ADDRESS]) == 2
    assert "name the robot's wiring" in capsys.readouterr().err  # which is asked for once the policy is open
    assert kept(tmp_path / "logs") == ["manifest.json", "policy.onnx"]
