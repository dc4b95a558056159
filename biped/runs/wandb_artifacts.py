"""Shared policies on Weights & Biases, as artifacts of type `model`."""

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biped.base.errors import MachineError, UsageError, first_line, say
from biped.runs.address import NEWEST, Address
from biped.runs.manifest import MANIFEST, is_name

_TIMEOUT_S = 20
"""How long W&B may take for an answer (s)."""


class ArtifactVersion:
    """One version of an artifact."""

    def __init__(self, address: Address, scratch: Path) -> None:
        """Find the version that an address means.

        Args:
            address: the artifact.
            scratch: a folder for its manifest.

        Raises:
            UsageError: there is no such artifact, or it is none of this project.
            MachineError: the library or an account is missing, or W&B cannot be reached.
        """
        wandb = _library()
        self._address = address
        say(f"asking W&B for {address}; without a network it gives up after a minute or two")
        try:
            api = wandb.Api(timeout=_TIMEOUT_S)
            self._artifact = api.artifact(f"{address.path}:{address.revision or NEWEST['wandb']}")
            names = set(self._artifact.manifest.entries)
        except Exception as error:
            raise _known(error, address) from error
        if MANIFEST not in names:
            raise UsageError(f"{address} is no policy of this project: it has no {MANIFEST}")
        if strange := sorted(name for name in names if not is_name(name)):
            raise UsageError(f"{address} has a file with the name {strange[0]!r}, which could lead elsewhere: not used")
        self.version: str = self._artifact.version
        self.manifest = self.get(MANIFEST, scratch)

    def get(self, name: str, scratch: Path) -> Path:
        """Return a file, downloaded into a folder.

        Raises:
            MachineError: it cannot be downloaded.
        """
        try:
            return Path(self._artifact.get_entry(name).download(root=str(scratch), skip_cache=True))
        except Exception as error:
            why = "it has no such file" if isinstance(error, KeyError) else first_line(error)
            raise MachineError(f"{name} of {self._address} cannot be fetched ({why}): try again") from error


def upload(folder: Path, address: Address, metadata: Mapping[str, Any]) -> str:
    """Log a folder's files as a new version of an artifact, by a run of its own; return the version's address.

    Raises:
        MachineError: the library or an account is missing, or W&B cannot be reached.
    """
    wandb = _library()
    entity, project, name = address.path.split("/")
    try:
        if not wandb.login(prompt=False, verify=False):
            raise MachineError("W&B has no account on this machine: set WANDB_API_KEY, or run: wandb login")
        settings = wandb.Settings(console="off", silent=True, init_timeout=_TIMEOUT_S, disable_git=True)
        place = {"entity": entity, "project": project, "dir": str(folder.parent)}
        artifact = wandb.Artifact(name, type="model", metadata=dict(metadata))
        artifact.add_dir(str(folder))
        with wandb.init(**place, job_type="share", mode="online", settings=settings) as run:
            run.log_artifact(artifact).wait()
        return f"wandb://{address.path}:{artifact.version}"
    except MachineError:
        raise
    except Exception as error:
        raise MachineError(f"{address} cannot be sent ({first_line(error)}): try again") from error


def _known(error: Exception, address: Address) -> Exception:
    """Return what an error of the library means for the user."""
    text = first_line(error)
    if isinstance(error, ValueError) or "not found" in text.lower():
        return UsageError(f"there is no artifact {address}, or it is not for this account ({text})")
    if "api key" in text.lower() or "401" in text or "permission" in text.lower():
        return MachineError(f"W&B refuses {address} ({text}): set WANDB_API_KEY, or run: wandb login")
    return MachineError(f"W&B cannot be reached for {address} ({text}): try again")


def _library() -> Any:
    """Return the library.

    Raises:
        MachineError: it is not installed.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise MachineError("addresses with wandb:// need wandb: pip install wandb") from error
