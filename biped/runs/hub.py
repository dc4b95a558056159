"""Shared policies on Hugging Face, by huggingface_hub."""

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from biped.base.errors import MachineError, UsageError, first_line, say
from biped.runs.address import NEWEST, Address
from biped.runs.manifest import MANIFEST

_MAY_BE_THERE = {".gitattributes", "README.md", "LICENSE"}
"""Files of a repository that the website makes."""


class HubRevision:
    """One commit of a repository; files are downloaded into the library's cache."""

    def __init__(self, address: Address) -> None:
        """Find the commit that an address means now; without an answer, the one that it meant last.

        Raises:
            UsageError: there is no such repository or revision, or it is none of this project.
            MachineError: the library is missing, or nothing answers and nothing is in the cache.
        """
        self._address, self._hub = address, _library()
        revision = address.revision or NEWEST["hf"]
        self._is_cached = False
        try:
            self._hub.get_hf_file_metadata(self._hub.hf_hub_url(address.path, MANIFEST, revision=revision))
        except Exception as error:  # the library passes on what each layer below raises
            if (known := _known(error, address)) is not None:
                raise known from error
            self._is_cached, why = True, first_line(error)
        try:
            self.manifest = Path(self._download(MANIFEST, revision))
        except MachineError as error:
            if not self._is_cached:
                raise
            raise MachineError(
                f"Hugging Face cannot be reached ({why}), and {address} was never fetched here: try again later"
            ) from error
        self.version = self.manifest.parent.name
        if self._is_cached:
            short = address.folder_name(self.version).partition("@")[2]
            say(f"Hugging Face cannot be reached ({why}): {address} as of revision {short}, from the cache")

    def get(self, name: str, _: Path) -> Path:
        """Return a file, downloaded if it is not in the cache.

        Raises:
            MachineError: it cannot be downloaded.
        """
        return Path(self._download(name, self.version))

    def _download(self, name: str, revision: str) -> str:
        offline = self._is_cached
        try:
            return self._hub.hf_hub_download(self._address.path, name, revision=revision, local_files_only=offline)
        except Exception as error:
            why = "it is not in the cache" if offline else first_line(error)
            raise MachineError(f"{name} of {self._address} cannot be fetched ({why}): try again") from error


def upload(folder: Path, address: Address, *, private: bool, message: str) -> str:
    """Make a repository if there is none, and commit a folder's files to it; return the commit's address.

    Raises:
        UsageError: the repository is not the account's, or holds something else.
        MachineError: the library or an account is missing, or Hugging Face cannot be reached.
    """
    hub = _library()
    api = hub.HfApi(library_name="biped-walking")
    try:
        api.create_repo(address.path, private=private or None, exist_ok=True)
        there = set(api.list_repo_files(address.path))
        if MANIFEST not in there and (other := sorted(there - _MAY_BE_THERE)):
            raise UsageError(f"{address} holds something else ({other[0]}): name a new repository")
        return str(api.upload_folder(repo_id=address.path, folder_path=folder, commit_message=message).commit_url)
    except UsageError:
        raise
    except Exception as error:
        known = _known(error, address)
        raise known or MachineError(f"{address} cannot be sent ({first_line(error)}): try again") from error


def card_with(header: dict[str, Any], lines: str, name: str, metrics: dict[str, tuple[str, float]]) -> str:
    """Return a model card: YAML as Hugging Face reads it, with a `model-index`, and the text.

    Args:
        header: fields of `huggingface_hub.ModelCardData`.
        lines: the text below.
        name: name of the model in the `model-index`.
        metrics: a description and a value by type.
    """
    hub = _library()
    results = [
        hub.EvalResult(
            task_type="reinforcement-learning",
            task_name="reinforcement-learning",
            dataset_type="walking-gate",
            dataset_name="walking gate",
            metric_type=kind,
            metric_name=text,
            metric_value=value,
        )
        for kind, (text, value) in metrics.items()
    ]
    data = hub.ModelCardData(**header, model_name=name, eval_results=results or None)
    return f"---\n{data.to_yaml()}\n---\n\n{lines}"


_REMEDIES: Mapping[Any, str] = MappingProxyType(
    {401: "check HF_TOKEN, or run: hf auth login", 403: "use a token that may do this"}
)


def _known(error: Exception, address: Address) -> Exception | None:
    """Return what an answer of Hugging Face means for the user; None if nothing answered, or it is out of order."""
    errors = importlib.import_module("huggingface_hub.errors")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return UsageError(f"{address} is for those who have asked: ask for access on its page, and set HF_TOKEN")
    if isinstance(error, errors.RepositoryNotFoundError):
        return UsageError(f"there is no repository {address}, or it is private: check its name, or set HF_TOKEN")
    if isinstance(error, errors.RevisionNotFoundError):
        return UsageError(f"there is no revision {address.revision} of hf://{address.path}")
    if isinstance(error, errors.LocalEntryNotFoundError):
        return None
    if isinstance(error, errors.EntryNotFoundError):
        return UsageError(f"{address} is no policy of this project: it has no {MANIFEST}")
    if isinstance(error, errors.HFValidationError):
        return UsageError(f"{address} is refused by Hugging Face: {first_line(error)}")
    remedy = _REMEDIES.get(status)
    return None if remedy is None else MachineError(f"Hugging Face refuses {address} ({status}): {remedy}")


def _library() -> Any:
    """Return the library.

    Raises:
        MachineError: it is not installed.
    """
    # The files are small: bars would be longer than the download. What fails is said here, in one line.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "critical")
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise MachineError("addresses with hf:// need huggingface-hub: pip install huggingface-hub") from error
