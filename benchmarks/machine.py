"""A description of a benchmark's circumstances: machine, versions, commit and date."""

import datetime
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from biped.base.command_line import LOGS

PACKAGES = ("genesis-world", "quadrants", "torch", "stable_baselines3", "sb3_contrib", "numpy", "rsl-rl-lib")


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return the circumstances of a measurement as builtin types."""
    description: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "commit": _output("git", "rev-parse", "--short", "HEAD"),
        "uncommitted_changes": bool(_output("git", "status", "--porcelain")),
        "device": device.type,
        "cpu": _cpu_name(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }
    if device.type == "cuda":
        description["gpu"] = torch.cuda.get_device_name(device)
        description["driver"] = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return description


def record_file(out: Path | None, name: str) -> Path:
    """Return the path of a record; by default it is in the logs, so that published records are not overwritten."""
    if out is None:
        out = LOGS / "benchmarks" / f"{name}.json"
        out.parent.mkdir(parents=True, exist_ok=True)
    return out


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(models)} x {models[0]}" if models else platform.processor()


def _output(*command: str) -> str:
    try:
        here = Path(__file__).parent
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=here).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
