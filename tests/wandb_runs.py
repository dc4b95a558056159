"""Real W&B runs for tests: without an account, or with one on a server of our own; offline ones are read back."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb

from biped.config.run import WandbConfig
from biped.runs.directory import RunDirectory
from biped.runs.wandb_writer import start_wandb
from biped.train.metrics import METRICS
from tests import processes
from tests.processes import PATIENCE_S
from tests.wandb_server import KEY, WandbServer

WANDB = str(Path(sys.executable).with_name("wandb"))
"""W&B's command line."""


def forget_account(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Leave wandb without an account, without variables and without settings files."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)  # so that what a run sets is undone
    monkeypatch.setenv("NETRC", str(folder / "no-netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(folder / "no-settings"))
    monkeypatch.setenv("WANDB__SERVICE_WAIT", str(PATIENCE_S))
    wandb.teardown()  # it reads the environment once in a process


@contextlib.contextmanager
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """Give wandb an account on a server of our own."""
    started = WandbServer()
    monkeypatch.setenv("WANDB_BASE_URL", started.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    wandb.teardown()
    yield started
    started.behaviour = "good"
    wandb.teardown()
    started.close()


def stream(
    logs: Path, cfg: WandbConfig, steps: range = range(3), init_s: float = PATIENCE_S, name: str = "demo"
) -> list[Path]:
    """Stream rows to a run; return the folders that W&B made."""
    run = RunDirectory(logs / name)
    run.path.mkdir(parents=True, exist_ok=True)
    writer = start_wandb(run, cfg, {"seed": 3}, METRICS, init_s, PATIENCE_S)
    assert writer is not None
    for step in steps:
        writer.write({"time/fps": 100 + step}, {}, step)
    writer.close()
    return list(run.path.glob("wandb/*run-*"))


def records(run: Path) -> list[dict[str, Any]]:
    """Read every record of the offline runs in a folder's wandb/, oldest first."""
    found = []
    for folder in sorted((run / "wandb").glob("offline-run-*")):
        command = [WANDB, "leet", "inspect", "--json", str(folder)]
        text = processes.run(command, check=True).stdout
        found += [json.loads(line) for line in text.splitlines()]
    return found


def recorded_runs(run: Path) -> list[dict[str, Any]]:
    """Return what the offline runs in a folder's wandb/ say of themselves, oldest first."""
    return [record["run"] for record in records(run) if record["type"] == "run"]


def rows(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows among records."""
    return [record["history"] for record in found if record["type"] == "history"]
