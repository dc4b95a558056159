"""Checkpoints of a Stable-Baselines3 model: written completely or not at all, and read without unpickling.

The file is the zip that `model.save` writes, so stock `load` opens it. Stock `load` also unpickles parts of it, which
can run untrusted code; the functions here only read weights with `weights_only=True`, and numbers as JSON.
"""

import contextlib
import hashlib
import io
import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import update_learning_rate

from biped.base.files import being_written

OTHER_SHAPE = "the checkpoint is of a network of another shape or for other observations"
"""Why a sound checkpoint does not fit."""
_COUNTERS = ("num_timesteps", "_n_updates", "_episode_num")
_MAX_MEMBER_BYTES = 2 * 1024**3
_POLICY = "policy.pth"
_NOTES, _LIVE, _MANIFEST = "notes.json", "live.pt", "manifest.json"
"""Members of the zip that stock `load` ignores: it reads .pth files and its own names."""


class CheckpointError(Exception):
    """The file is not a checkpoint of this model; the message says why in one line."""


@dataclass(frozen=True)
class Checkpoint:
    """Everything that training needs to continue."""

    policy: dict[str, torch.Tensor]
    """Weights by parameter name."""
    optimizer: dict[str, Any]
    """The optimizer's state, including its learning rate."""
    counters: dict[str, int]
    """Steps, updates and episodes so far, under their Stable-Baselines3 names."""
    rate_scale: float = 1.0
    """Factor on the scheduled learning rate, as left by `DeviceRecurrentPPO`'s guard."""
    notes: dict[str, float] = field(default_factory=dict)
    """Further numbers of the run at that moment, such as the progress of a curriculum."""
    live: dict[str, torch.Tensor] = field(default_factory=dict)
    """State of the running training, for an exact continuation; empty in a checkpoint of weights only."""

    @property
    def num_timesteps(self) -> int:
        """Environment steps of training behind these weights."""
        return self.counters["num_timesteps"]

    @property
    def learning_rate(self) -> float:
        """The learning rate that the optimizer used last."""
        return float(self.optimizer["param_groups"][0]["lr"])


def save_checkpoint(
    model: BaseAlgorithm,
    path: Path,
    notes: Mapping[str, float] | None = None,
    live: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write a checkpoint to a temporary file and move it into place: a kill leaves the old file or the new one.

    Args:
        model: the model.
        path: path of the checkpoint.
        notes: numbers to store with it; see `Checkpoint.notes`.
        live: tensors to store with it; see `Checkpoint.live`.

    Raises:
        OSError: the disk is full or not writable.
    """
    with being_written(path) as file:
        model.save(file)
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(_NOTES, json.dumps(dict(notes or {})))
            if live:
                content = io.BytesIO()
                torch.save({name: tensor.cpu() for name, tensor in live.items()}, content)
                if content.tell() <= _MAX_MEMBER_BYTES:  # larger ones are not read: new episodes then
                    archive.writestr(_LIVE, content.getbuffer(), zipfile.ZIP_DEFLATED, 1)
            archive.writestr(_MANIFEST, _manifest(archive, model.num_timesteps))


def copy_with_policy(source: Path, path: Path, policy: Mapping[str, torch.Tensor]) -> None:
    """Write a copy of a checkpoint with other weights and no live state: training from it begins new episodes.

    Args:
        source: a checkpoint.
        path: path of the copy.
        policy: weights by parameter name.

    Raises:
        OSError: the disk is full or not writable.
    """
    content = io.BytesIO()
    torch.save(dict(policy), content)
    with zipfile.ZipFile(source) as old, being_written(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name in old.namelist():
            if name not in (_LIVE, _MANIFEST):
                archive.writestr(name, content.getvalue() if name == _POLICY else old.read(name))
        archive.writestr(_MANIFEST, _manifest(archive, int(json.loads(old.read("data"))["num_timesteps"])))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: the file is missing, damaged, or not a checkpoint.
    """
    with _refusing(path):
        with zipfile.ZipFile(path) as archive:
            policy = _load_tensors(archive, _POLICY)
            optimizer = _load_tensors(archive, "policy.optimizer.pth")
            data = json.loads(_read_member(archive, "data"))
            members = archive.namelist()
            notes = json.loads(_read_member(archive, _NOTES)) if _NOTES in members else {}
            live = _load_tensors(archive, _LIVE) if _LIVE in members else {}
            if _MANIFEST in members:
                _check_manifest(archive)
        counters = {name: int(data[name]) for name in _COUNTERS}
        notes = {str(name): float(value) for name, value in notes.items()}
        checkpoint = Checkpoint(policy, optimizer, counters, float(data.get("rate_scale", 1.0)), notes, live)
        if not all(math.isfinite(value) and value >= 0 for value in notes.values()):
            raise ValueError("notes make no sense")
        if not all(isinstance(value, torch.Tensor) for value in live.values()):
            raise ValueError("the live state is not of tensors")
        sound = checkpoint.learning_rate > 0 and 0 < checkpoint.rate_scale <= 1
        if not (sound and all(0 <= value < 2**62 for value in counters.values())):
            raise ValueError("counters or learning rate make no sense")
        finite = all(bool(value.isfinite().all()) for value in policy.values())
    if not finite:
        raise CheckpointError(f"{path} holds weights that are not numbers")
    return checkpoint


def read_steps(path: Path) -> int:
    """Return the environment steps stored in a checkpoint; its weights are not read.

    Raises:
        CheckpointError: the file is missing, damaged, or not a checkpoint.
    """
    with _refusing(path), zipfile.ZipFile(path) as archive:
        steps = int(json.loads(_read_member(archive, "data"))["num_timesteps"])
        if not 0 <= steps < 2**62:
            raise ValueError("the counter makes no sense")
    return steps


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no file {path}") from error
    except Exception as error:
        # A damaged or foreign file can raise any exception in the readers; to a user they all mean the same.
        raise CheckpointError(f"{path} is damaged or not a checkpoint ({type(error).__name__})") from error


def restore(model: BaseAlgorithm, checkpoint: Checkpoint, *, counters: bool = True) -> None:
    """Load a checkpoint's weights and optimizer state into a model of the same shape.

    With `counters` training continues: step count and learning rate go on. Without, it starts anew from the weights, at
    the model's own initial rate.

    Raises:
        CheckpointError: the networks have different shapes.
    """
    policy = model.policy
    assert isinstance(policy, torch.nn.Module)
    try:
        parts: Any = {"policy": checkpoint.policy, "policy.optimizer": checkpoint.optimizer}
        model.set_parameters(parts)
        _check_moments(policy.optimizer)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(OTHER_SHAPE) from error
    if counters:
        for name, value in {**checkpoint.counters, "rate_scale": checkpoint.rate_scale}.items():
            setattr(model, name, value)
    else:
        update_learning_rate(policy.optimizer, model.lr_schedule(1.0))


def _check_moments(optimizer: torch.optim.Optimizer) -> None:
    """Check what torch does not check: each running mean has the shape of its parameter.

    Raises:
        ValueError: a shape differs.
    """
    for parameter, state in optimizer.state.items():
        for value in state.values():
            if isinstance(value, torch.Tensor) and value.dim() > 0 and value.shape != parameter.shape:
                raise ValueError("an optimizer state has another shape than its parameter")


def _manifest(archive: zipfile.ZipFile, steps: int) -> str:
    """Return a JSON manifest with the hash of each member, against damaged or exchanged content."""
    sums = {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
    return json.dumps({"sha256": sums, "steps": steps, "torch": torch.__version__})


def _check_manifest(archive: zipfile.ZipFile) -> None:
    """Check the members against the manifest.

    Raises:
        ValueError: a member is missing or was changed.
    """
    for name, wanted in json.loads(_read_member(archive, _MANIFEST))["sha256"].items():
        if hashlib.sha256(_read_member(archive, name)).hexdigest() != wanted:
            raise ValueError(f"{name} is not what was written")


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > _MAX_MEMBER_BYTES:
        raise ValueError(f"{name} is too large")
    return archive.read(name)


def _load_tensors(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    """Load tensors saved by torch.

    Raises:
        ValueError: a member is compressed, or a tensor claims more values than it stores.
    """
    content = io.BytesIO(_read_member(archive, name))
    with zipfile.ZipFile(content) as inner:
        if any(member.compress_type != zipfile.ZIP_STORED for member in inner.infolist()):
            raise ValueError(f"{name} is packed twice")
    content.seek(0)
    loaded = torch.load(content, map_location="cpu", weights_only=True)
    for tensor in _tensors(loaded):
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ValueError(f"a tensor in {name} is larger than what it stores")
    return loaded


def _tensors(tree: Any) -> Iterator[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, Mapping | list | tuple):
        for part in tree.values() if isinstance(tree, Mapping) else tree:
            yield from _tensors(part)
