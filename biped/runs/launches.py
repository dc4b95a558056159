"""A record of how a run was started: command line, code, files, versions and machine."""

import importlib.metadata
import platform
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from biped.base.files import REPOSITORY
from biped.base.machine import describe_machine
from biped.base.shipped import IS_INSTALLED, PROJECT, as_stored, version
from biped.runs.manifest import Part

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
"""Packages whose versions are recorded."""

_GIT_TIMEOUT_S = 5.0
_FILES = "files"
"""Name in a record of what `fingerprints` returned."""


def describe_launch(
    command: Sequence[str], resumed_after_step: int | None, files: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Any]:
    """Return a description of this process and its machine, ready for JSON.

    Args:
        command: the command line.
        resumed_after_step: steps of the checkpoint that it continues from; None for a new run.
        files: what `fingerprints` returned of the files that it reads.
    """
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": list(command),
        "resumed_after_step": resumed_after_step,
        "code": describe_code(None if IS_INSTALLED else REPOSITORY),
        _FILES: dict(files),
        "versions": {
            "python": platform.python_version(),
            PROJECT: version(),
            **{name: _version(name) for name in PACKAGES},
        },
        "machine": describe_machine(),
    }


def describe_code(root: Path | None) -> dict[str, Any]:
    """Return the git commit checked out in `root`, and whether files differ from it; None where unknown.

    An installed wheel has no `root`: a repository around it would be somebody else's.
    """
    commit = None if root is None else _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain") if root and commit else None
    return {"commit": commit, "is_dirty": None if changes is None else bool(changes)}


def fingerprints(files: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 hashes of files by path; those that cannot be read are left out."""
    found = {}
    for file in files:
        with suppress(OSError):
            found[as_stored(file)] = Part.of(file).sha256
    return found


def changed_files(launches: Sequence[Mapping[str, Any]], files: Mapping[str, str]) -> list[str]:
    """Return which files have another hash than at the last of these launches that read them."""
    known: dict[str, Any] = {}
    for launch in launches:
        recorded = launch.get(_FILES)
        known |= recorded if isinstance(recorded, dict) else {}
    return [name for name, digest in files.items() if known.get(name, digest) != digest]


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
