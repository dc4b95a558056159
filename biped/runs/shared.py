"""Shared policies on this machine: fetched, checked and kept under logs/shared.

```
logs/shared/<user>--<repository>@<revision>/
    manifest.json       names and SHA-256 hashes of the files
    model.zip           the checkpoint, with config.json
    eval.json, ...      results
    robot/              the robot, if it does not ship with this project
    policy.onnx         only if it was asked for
```

Only files that the manifest lists are fetched, and only those whose hash is right are kept. Standard library only, but
for the service's own, because a robot's computer fetches policies too.
"""

import json
import tempfile
from pathlib import Path
from typing import Any, Protocol

from biped.base.errors import MachineError, UsageError, disk_error, say, warn
from biped.base.files import write_whole
from biped.base.shipped import ASSETS, located
from biped.runs.address import Address
from biped.runs.hub import HubRevision
from biped.runs.manifest import CONFIG, MANIFEST, MODEL, POLICY, RESULTS, ROBOT, Manifest, Part
from biped.runs.wandb_artifacts import ArtifactVersion

SHARED = "shared"
"""Folder of fetched policies, among the logs."""


class Revision(Protocol):
    """One revision of a shared policy, at a service."""

    version: str
    """A short name of it that never means another one."""
    manifest: Path
    """The downloaded manifest."""

    def get(self, name: str, scratch: Path, /) -> Path:
        """Return a downloaded file; `scratch` is a folder for it."""
        ...


def local_model(model: Path | str | None, logs: Path) -> Path | None:
    """Return the path of a checkpoint that a path or an address names, with its config.json beside it.

    Args:
        model: a path, unchanged; an address, whose policy is fetched; or None.
        logs: the folder of all runs.

    Raises:
        UsageError: there is no such policy, or its robot is not here.
        MachineError: it cannot be fetched, or is not what was shared.
    """
    if not isinstance(model, str):
        return model
    folder = _fetch(Address.parse(model), logs, MODEL)
    _check_robot(folder, model)
    return folder / MODEL


def local_policy(policy: Path | str, logs: Path) -> Path:
    """Return the path of an exported policy that a path or an address names.

    Raises:
        UsageError: there is no such policy.
        MachineError: it cannot be fetched, or is not what was shared.
    """
    return policy if isinstance(policy, Path) else _fetch(Address.parse(policy), logs, POLICY) / POLICY


def _fetch(address: Address, logs: Path, wanted: str) -> Path:
    """Fetch what belongs to a checkpoint, or only an exported policy; return the folder."""
    try:
        if (fixed := address.fixed_version) is not None:
            folder = logs / SHARED / address.folder_name(fixed)
            if (folder / MANIFEST).is_file() and _is_complete(folder, wanted):
                return folder
        with tempfile.TemporaryDirectory() as scratch:
            found = _find(address, Path(scratch))
            manifest = Manifest.read(found.manifest, str(address))
            names = _belonging(manifest, wanted, str(address))
            folder = logs / SHARED / address.folder_name(found.version)
            _keep(found.manifest, folder / MANIFEST, Part.of(found.manifest))
            for name in names:
                if not _is_kept(folder / name, manifest.parts[name]):
                    file = found.get(name, Path(scratch))
                    manifest.verify(name, file, str(address))
                    _keep(file, folder / name, manifest.parts[name])
    except OSError as error:
        raise disk_error(error.filename or logs / SHARED, error) from error
    say(f"{address} is in {folder}")
    return folder


def _is_complete(folder: Path, wanted: str) -> bool:
    """Return whether all that is wanted is in a folder already, as it was shared."""
    manifest = Manifest.read(folder / MANIFEST, str(folder))
    return all(_is_kept(folder / name, manifest.parts[name]) for name in _belonging(manifest, wanted, str(folder)))


def _belonging(manifest: Manifest, wanted: str, source: str) -> list[str]:
    """Return the names of the files to fetch.

    Raises:
        UsageError: the wanted file, or the configuration of a checkpoint, is not among those that were shared.
    """
    needed = (POLICY,) if wanted == POLICY else (MODEL, CONFIG)
    if missing := [name for name in needed if name not in manifest.parts]:
        remedy = f"export one with: python biped_export.py --model {source}" if wanted == POLICY else "share it anew"
        raise UsageError(f"{source} has no {missing[0]}: {remedy}")
    if wanted == POLICY:
        return [POLICY]
    return [name for name in manifest.parts if name in (*needed, *RESULTS) or name.startswith(f"{ROBOT}/")]


def _find(address: Address, scratch: Path) -> Revision:
    return HubRevision(address) if address.service == "hf" else ArtifactVersion(address, scratch)


def _is_kept(file: Path, part: Part) -> bool:
    """Return whether a file is here already.

    Raises:
        MachineError: another file is in its place, which is never overwritten.
    """
    if not file.exists():
        return False
    if Part.of(file) != part:
        raise MachineError(f"{file} was changed since it was fetched: move it away, and it is fetched again")
    return True


def _keep(source: Path, file: Path, part: Part) -> None:
    if not _is_kept(file, part):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, source.read_bytes())


def _check_robot(folder: Path, source: str) -> None:
    """Check that the robot's model is in the folder, or ships with this project.

    Raises:
        UsageError: it is neither.
    """
    try:
        model = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["env"]["robot"]["model_path"]
        about: Any = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["about"].get("robot_sha256")
    except (ValueError, KeyError, TypeError, AttributeError):
        return  # whoever reads the configuration says so
    if str(model).startswith(f"{ROBOT}/"):
        if not (folder / model).is_file():
            raise UsageError(f"the robot of {source} was not shared: put its model at {folder / model}")
        return
    file = located(Path(str(model))).resolve()
    if not (file.is_relative_to(ASSETS) and file.is_file()):
        raise UsageError(f"{source} needs the robot's model {model}, which does not ship with this version")
    if about is not None and Part.of(file).sha256 != about:
        warn(f"{source} learned on another version of {model}: it may walk differently here")
