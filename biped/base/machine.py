"""Devices, processor and memory of this machine."""

import contextlib
import ctypes
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from biped.base.errors import MachineError
from biped.base.packages import how_to_check
from biped.base.platforms import usable_cores

CPU_ONLY = ("mujoco",)
"""Simulators for which `auto` selects the CPU, even on a machine with a GPU."""


def choose_device(wanted: str, sim: str) -> str:
    """Resolve `auto`, `cuda` or `cpu` to `cuda` or `cpu`, for the simulator named `sim`.

    Raises:
        MachineError: CUDA was requested but is absent, or this simulator does not run on it.
    """
    if wanted == "cuda" and sim in CPU_ONLY:
        raise MachineError(f"--sim {sim} runs on the CPU: use it with --device cpu")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise MachineError(f"CUDA was asked for but torch finds no CUDA device: use --preset cpu, or {how_to_check()}")
    has_use = wanted != "cpu" and sim not in CPU_ONLY
    return "cuda" if has_use and torch.cuda.is_available() else "cpu"


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory, because the next minibatch needs it again.

    By default large blocks return to the system when freed, and each page of the next block costs a page fault: up to
    a tenth of an update's time on a CPU (benchmarks/README.md). Does nothing with another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_max, 0)


MIB, GIB = 2**20, 2**30
_CGROUP_ROOT = Path("/sys/fs/cgroup")
_CGROUPS = (("", "memory.max", "memory.current"), ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"))
"""Folder of the controller, limit and usage: cgroup version 2, then version 1."""


def gib(size: float) -> str:
    """Format a size in bytes as GiB."""
    return f"{size / GIB:,.1f} GiB"


def free_bytes(device: str) -> int:
    """Return the free memory (bytes): the GPU's, or the host's within the limits of this process's container."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    return min(psutil.virtual_memory().available, *_container_bytes(_CGROUP_ROOT, _own_groups()), 2**63)


def _own_groups() -> list[str]:
    """Return the control groups of this process, as set up by a batch system or a service manager."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    return [line.split(":", 2)[2].strip("/") for line in lines if line.startswith("0::") or ":memory:" in line]


def _container_bytes(root: Path, groups: Sequence[str]) -> Iterator[int]:
    """Yield the free memory (bytes) under each limit between the root and this process's groups."""
    for kind, limit, usage in _CGROUPS:
        folders = {root / kind} | {root / kind / part for group in groups for part in (group, *Path(group).parents)}
        for folder in folders:
            with contextlib.suppress(OSError, ValueError):  # the limit does not exist
                used = int((folder / usage).read_text())
                # Cached file pages count as used, but the kernel frees them on demand.
                lines = (folder / "memory.stat").read_text().splitlines()
                cached = next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)
                yield max(0, int((folder / limit).read_text()) - used + cached)


def describe_machine() -> dict[str, Any]:
    """Return a description of processor, memory and GPU."""
    has_gpu = torch.cuda.is_available()
    gpu = torch.cuda.get_device_properties(0) if has_gpu else None
    return {
        "system": platform.platform(),
        "cpu": _cpu_name(),
        "cpu_cores": usable_cores(),
        "memory_gib": round(psutil.virtual_memory().total / GIB, 1),
        "gpu": None if gpu is None else gpu.name,
        "gpu_memory_gib": None if gpu is None else round(gpu.total_memory / GIB, 1),
        "cuda": torch.version.cuda if has_gpu else None,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
