"""Accounts for tests at services of our own, and a run to share."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from biped.runs.shared import local_model
from tests.conftest import ROOT
from tests.hub_server import TOKEN, HubServer

POLICIES = ROOT / "assets" / "policies"
NOWHERE = "http://127.0.0.1:9"
"""Where nothing answers."""


def hub_account(monkeypatch: pytest.MonkeyPatch, folder: Path, server: HubServer, **variables: str) -> None:
    """Give huggingface_hub an account at a server of our own, with a cache in a folder; other variables come on top."""
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HOME", str(folder / "hf"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")  # the server has none
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    forget_hub()


def forget_hub() -> None:
    """Have huggingface_hub be imported anew: it reads its variables once."""
    for name in [name for name in sys.modules if name.split(".")[0] == "huggingface_hub"]:
        del sys.modules[name]


def make_run(logs: Path, name: str = "walk") -> Path:
    """Make a run of the shipped robust policy, as if it had been trained, judged and exported there."""
    run = logs / name
    run.mkdir(parents=True)
    source = POLICIES / "robust"
    shutil.copy(source / "biped_robust.zip", run / "model_final.zip")
    for file in ("config.json", "eval.json", "robustness.json"):
        shutil.copy(source / file, run)
    (run / "export").mkdir()
    shutil.copy(source / "policy.onnx", run / "export")
    return run


def refusal(kind: type[Exception], logs: Path, address: str) -> str:
    """Fetch a policy that cannot be had; return the one line that says why."""
    with pytest.raises(kind) as error:
        local_model(address, logs)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)
