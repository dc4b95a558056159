"""What belongs to a shared policy: names, sizes and SHA-256 hashes of its files.

Standard library only, because a robot's computer checks what it downloads too.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biped.base.errors import MachineError, UsageError

MANIFEST = "manifest.json"
"""Name of the file in which a manifest is stored."""
MODEL, CONFIG, POLICY = "model.zip", "config.json", "policy.onnx"
"""Names of the checkpoint, of its configuration and of the exported policy."""
RESULTS = ("eval.json", "robustness.json")
"""Names of the results."""
ROBOT = "robot"
"""Folder of the files of a robot that does not ship with this project."""

_FORMAT, _VERSION = "biped-walking policy", 1
_LARGEST = 1024**2
_NAME = re.compile(r"\w(?:[\w.+ -]*\w)?(?:/\w(?:[\w.+ -]*\w)?)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Part:
    """One file."""

    sha256: str
    """Its SHA-256 hash, in hexadecimal."""
    size: int
    """Its size (bytes)."""

    @classmethod
    def of(cls, file: Path) -> "Part":
        """Measure a file.

        Raises:
            OSError: it cannot be read.
        """
        with file.open("rb") as opened:
            return cls(hashlib.file_digest(opened, "sha256").hexdigest(), file.stat().st_size)


@dataclass(frozen=True)
class Manifest:
    """The files of a shared policy."""

    parts: Mapping[str, Part]
    """Files by name, with slashes between folders."""
    about: Mapping[str, Any]
    """Origin of the policy: steps, version of this project, and the robot's model with its hash if it ships."""

    @classmethod
    def of(cls, folder: Path, names: Iterable[str], about: Mapping[str, Any]) -> "Manifest":
        """Measure files of a folder.

        Raises:
            UsageError: a file's name cannot be shared.
            OSError: a file cannot be read.
        """
        for name in names:
            if not is_name(name):
                raise UsageError(f"{name} cannot be shared under this name: use letters, digits, '.', '_', '+' and '-'")
        return cls({name: Part.of(folder / name) for name in names}, about)

    @classmethod
    def read(cls, file: Path, source: str) -> "Manifest":
        """Read a manifest.

        Args:
            file: the manifest.
            source: where it is from, for messages.

        Raises:
            UsageError: it is not a manifest, of a newer version, or has a name that could lead outside its folder.
        """
        try:
            if file.stat().st_size > _LARGEST:
                raise ValueError("it is too large")
            raw = json.loads(file.read_text(encoding="utf-8"))
            if raw["format"] != _FORMAT:
                raise ValueError("it is of something else")
            if (version := int(raw["version"])) > _VERSION:
                raise UsageError(f"{source} is of version {version} of the format: update this project")
            parts = {str(name): Part(str(part["sha256"]), int(part["bytes"])) for name, part in raw["files"].items()}
            about = dict(raw["about"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{source} is no policy of this project: its {MANIFEST} cannot be read") from error
        for name, part in parts.items():
            if not is_name(name):
                raise UsageError(f"{source} has a file with the name {name!r}, which could lead elsewhere: not used")
            if not _SHA256.fullmatch(part.sha256):
                raise UsageError(f"{source} has no checksum of {name}: not used")
        return cls(parts, about)

    def as_json(self) -> str:
        """Return the manifest as indented JSON."""
        files = {name: {"sha256": part.sha256, "bytes": part.size} for name, part in self.parts.items()}
        content = {"format": _FORMAT, "version": _VERSION, "about": dict(self.about), "files": files}
        return json.dumps(content, indent=2) + "\n"

    def verify(self, name: str, file: Path, source: str) -> None:
        """Check that a downloaded file is what was shared.

        Raises:
            MachineError: it is not.
            OSError: it cannot be read.
        """
        if Part.of(file) != self.parts[name]:
            raise MachineError(
                f"{name} of {source} is not what its {MANIFEST} says (wrong SHA-256), and is not used: "
                f"delete {file} to fetch it again, or ask who shared it"
            )


def is_name(name: str) -> bool:
    """Return whether a name stays inside its folder: relative, and no part begins or ends with a dot."""
    return len(name) <= 255 and _NAME.fullmatch(name) is not None
