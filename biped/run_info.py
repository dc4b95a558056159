"""Under what conditions a run was made: command line, code, versions, machine."""

import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

PACKAGES = (
    "genesis-world",
    "torch",
    "stable-baselines3",
    "sb3-contrib",
    "gymnasium",
    "numpy",
    "mujoco",
    "wandb",
    "tensorboard",
)
"""Packages whose versions are kept."""

_GIT_TIMEOUT_S = 5.0
_GIB = 2**30


def describe_start(command: Sequence[str], resumed_after_step: int | None) -> dict[str, Any]:
    """Return what there is to know about this process and the machine under it, as JSON has it.

    Args:
        command: the command line.
        resumed_after_step: the steps of the checkpoint that it goes on from; None for a new run.
    """
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": list(command),
        "resumed_after_step": resumed_after_step,
        "code": describe_code(Path(__file__).parents[1]),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "machine": describe_machine(),
    }


def describe_code(root: Path) -> dict[str, Any]:
    """Return the git commit that is checked out in `root`, and whether files differ from it; None where unknown."""
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain") if commit else None
    return {"commit": commit, "is_dirty": None if changes is None else bool(changes)}


def describe_machine() -> dict[str, Any]:
    """Return processor, memory and GPU."""
    has_gpu = torch.cuda.is_available()
    gpu = torch.cuda.get_device_properties(0) if has_gpu else None
    return {
        "system": platform.platform(),
        "cpu": _cpu_name(),
        "cpu_cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / _GIB, 1),
        "gpu": None if gpu is None else gpu.name,
        "gpu_memory_gib": None if gpu is None else round(gpu.total_memory / _GIB, 1),
        "cuda": torch.version.cuda if has_gpu else None,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(root: Path, *arguments: str) -> str | None:
    try:
        ended = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ended.stdout.strip()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
