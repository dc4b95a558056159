"""What is on disk under logs/<exp_name>/. Only this module knows the names of the files.

Nothing is ever deleted but a run's own checkpoints beyond those that it keeps, and what a kill left half written.

```
logs/<exp_name>/
    config.json                     the configuration; what we read
    cfgs.pkl                        the same, as builtin types, for tools that expect it; never read
    biped_model_<steps>_steps.zip   checkpoints
    model_final.zip                 the model at the end of training
    best_model.zip, best_model.json the best model by the walking gate, and its figures
    model_final.<n>.zip, ...        one that had more steps than what came in its place
    RecurrentPPO_1/                 TensorBoard
    overview.png                    the run on one page
    videos/walk_<steps>_steps.gif   films of evaluations, where they are asked for
    metrics.jsonl                   every number, one line a dump, appended to by each process that trains
    run_info.json                   every start: command line, configuration, code, versions, machine
    wandb_id.txt, wandb/            the W&B run, when there is one
```
"""

import contextlib
import errno
import json
import os
import pickle
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from biped.base.errors import ConfigError, UsageError, disk_error
from biped.base.files import lock, say_once, write_whole
from biped.config.run import Config
from biped.config.serial import (
    from_json,
    to_dict,
    to_json,
)
from biped.config.settings import with_settings
from biped.runs.metrics_log import Curve, read_curves

DEFAULT_EXP_NAME = "biped-walking-sb3-recurrentppo"
"""The name of a run that is given none."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_CHECKPOINT = re.compile(r"biped_model_(\d+)_steps\.zip")
_MODELS = r"(biped_model_\d+_steps|model_final|best_model|average_model)\.zip"
_OTHERS = r"config\.json|cfgs\.pkl|run_info\.json|wandb_id\.txt|best_model\.json"
_LEFTOVER = re.compile(rf"\.({_MODELS}|{_OTHERS})\.part|\.{_MODELS}\.\d+\.upload")


class RunDirectory:
    """One run's files."""

    def __init__(self, path: Path) -> None:
        """Refer to a directory, which need not exist; `create` and `open` check."""
        self.path = path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only process that trains in this directory; the end of the process ends it too.

        Raises:
            UsageError: another process trains in it.
            MachineError: the disk does not let us.
        """
        try:
            handle = os.open(self.path, os.O_RDONLY)
            if not os.access(self.path, os.W_OK | os.X_OK):
                os.close(handle)
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise disk_error(self.path, error) from error
        try:
            try:
                lock(handle, self.path)
            except BlockingIOError as error:
                raise UsageError(f"another process is training in {self.path}: wait for it, or use -e NAME") from error
            except OSError as error:
                raise disk_error(self.path, error) from error
            yield
        finally:
            os.close(handle)

    @classmethod
    def create(cls, logs: Path, exp_name: str, *, keep_old_as_numbered: bool = False) -> "RunDirectory":
        """Make the directory of a new run.

        Args:
            logs: the folder of all runs.
            exp_name: the run's name.
            keep_old_as_numbered: rename a run of that name to <exp_name>.1, .2, ... instead of refusing.

        Raises:
            UsageError: the name is not one, or a run of that name exists.
            MachineError: the disk does not let us.
        """
        cls.check_new(logs, exp_name, may_exist=keep_old_as_numbered)
        path = run_path(logs, exp_name)
        try:
            if _is_taken(path):
                with cls(path).locked():
                    path.rename(_free_name(path))
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(path, error) from error
        return cls(path)

    @classmethod
    def check_new(cls, logs: Path, exp_name: str, *, may_exist: bool) -> None:
        """Check that `create` would succeed, without writing anything.

        Raises:
            UsageError: the name is not one, or a run of that name exists and may not.
            MachineError: the disk does not let us.
        """
        path = run_path(logs, exp_name)
        try:
            if _is_taken(path) and not may_exist:
                raise UsageError(
                    f"{path} exists already: go on with it (--continue_training), choose another name (-e NAME), "
                    "or start anew and keep it under a numbered name (--new_run)"
                )
            parent = next(folder for folder in path.absolute().parents if folder.exists())
            if not parent.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, f"{parent} is a file")
            if not os.access(parent, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, f"{parent} is not writable")
        except OSError as error:
            raise disk_error(path, error) from error

    @classmethod
    def open(cls, logs: Path, exp_name: str) -> "RunDirectory":
        """Find the directory of a run to go on with.

        Raises:
            UsageError: the name is not one, or there is no such run.
        """
        path = run_path(logs, exp_name)
        if not (path / "config.json").is_file():
            raise UsageError(f"there is no run in {path}: name another with -e NAME, or its folder with --log_dir DIR")
        return cls(path)

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's event files."""
        return self.path / "RecurrentPPO_1"

    @property
    def metrics(self) -> Path:
        """Every number of the run, as JSON lines."""
        return self.path / "metrics.jsonl"

    def read_metrics(self) -> dict[str, Curve]:
        """Return the run's curves by the metrics' canonical names; a resumed run reads as one.

        What a process wrote after the checkpoint that a later one went on from is left out, and so is a line that a
        kill cut short.

        Raises:
            UsageError: the run has no such file.
        """
        return read_curves(self.metrics)

    @property
    def overview(self) -> Path:
        """The run on one page."""
        return self.path / "overview.png"

    @property
    def videos(self) -> Path:
        """The folder of films."""
        return self.path / "videos"

    def add_launch(self, launch: Mapping[str, Any]) -> None:
        """Add a process that trains to run_info.json.

        Raises:
            MachineError: the disk does not let us.
        """
        try:
            write_whole(self._info, json.dumps({"starts": [*self.read_launches(), launch]}, indent=2).encode())
        except OSError as error:
            raise disk_error(self._info, error) from error

    def read_launches(self) -> list[dict[str, Any]]:
        """Return what `add_launch` added, oldest first; nothing where the file is missing or damaged."""
        try:
            return list(json.loads(self._info.read_text())["starts"])
        except (OSError, ValueError, KeyError, TypeError):
            return []

    @property
    def _info(self) -> Path:
        return self.path / "run_info.json"

    @property
    def final_model(self) -> Path:
        """The model at the end of training."""
        return self.path / "model_final.zip"

    @property
    def average_model(self) -> Path:
        """The mean of the last checkpoints; `biped.runs.average` writes it."""
        return self.path / "average_model.zip"

    @property
    def best_model(self) -> Path:
        """The model with the best score in the walking gate so far."""
        return self.path / "best_model.zip"

    def read_best(self) -> str:
        """Return what `write_best` wrote.

        Raises:
            OSError: there is no such file, or it cannot be read.
        """
        return self._best_figures.read_text()

    def write_best(self, figures: str) -> None:
        """Write the figures of the best model beside it.

        Raises:
            OSError: the disk does not let us.
        """
        write_whole(self._best_figures, figures.encode())

    @property
    def _best_figures(self) -> Path:
        return self.path / "best_model.json"

    def checkpoint(self, steps: int) -> Path:
        """Where the checkpoint after so many environment steps belongs."""
        return self.path / f"biped_model_{steps}_steps.zip"

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints, the one with the most steps first."""
        found = [path for path in self.path.iterdir() if _CHECKPOINT.fullmatch(path.name)]
        return sorted(found, key=steps_in_name, reverse=True)

    def models(self) -> list[Path]:
        """Return all that can be gone on from; of several with equal steps the first is to be preferred."""
        others = (self.final_model, self.best_model, self.average_model)
        return [*self.checkpoints(), *(path for path in others if path.is_file())]

    def prune_checkpoints(self, keep: int, steps: int) -> None:
        """Delete all checkpoints but the `keep` newest up to `steps`, the one just written; 0 keeps all.

        One of more steps is not ours: a run that goes on from an older one has passed it over as damaged.

        One that cannot be deleted, such as one that a network share says somebody reads, stays.
        """
        ours = [path for path in self.checkpoints() if steps_in_name(path) <= steps]
        for path in ours[keep:] if keep else ():
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                say_once("prune", f"{path} cannot be deleted ({error.strerror}): it stays, and others may")

    def remove_leftovers(self) -> None:
        """Delete what a process that was killed left half written; call it while the run is locked.

        Raises:
            MachineError: the disk does not let us.
        """
        try:
            for path in self.path.iterdir():
                if _LEFTOVER.fullmatch(path.name) and path.is_file():
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise disk_error(self.path, error) from error

    def write_config(self, config: Config) -> None:
        """Write config.json, and cfgs.pkl for compatibility.

        Raises:
            MachineError: the disk does not let us.
        """
        try:
            write_whole(self.path / "config.json", to_json(config).encode())
            write_whole(self.path / "cfgs.pkl", pickle.dumps(to_dict(config)))
        except OSError as error:
            raise disk_error(self.path, error) from error

    def read_config(self) -> Config:
        """Read config.json.

        Raises:
            UsageError: it is damaged, or written by another version.
        """
        file = self.path / "config.json"
        try:
            text = file.read_text()
            config = from_json(text)
            # Before there was this field, all were kept: they stay.
            older = '"keep_checkpoints"' not in text
            return with_settings(config, [("train.keep_checkpoints", 0)]) if older else config
        except (OSError, UnicodeDecodeError, ConfigError) as error:
            raise UsageError(f"{file} cannot be used ({error}): restore it, or use another run") from error

    def keep_wandb_id(self, wandb_id: str) -> None:
        """Keep the id that W&B has given the run, where it is another one.

        Raises:
            MachineError: the disk does not let us.
        """
        if wandb_id != self.wandb_id():
            try:
                write_whole(self.path / "wandb_id.txt", wandb_id.encode())
            except OSError as error:
                raise disk_error(self.path, error) from error

    def wandb_id(self, wished: str | None = None) -> str:
        """Return the id of this run in W&B, made at the first call, or `wished` there, and kept.

        Raises:
            MachineError: the disk does not let us.
        """
        file = self.path / "wandb_id.txt"
        try:
            if not file.exists():
                write_whole(file, (wished or secrets.token_hex(4)).encode())
            return file.read_text().strip()
        except OSError as error:
            raise disk_error(file, error) from error


def run_path(logs: Path, exp_name: str) -> Path:
    """Return the directory that a run of this name, or in this folder of `logs`, has.

    Raises:
        UsageError: the name could lead out of `logs`.
    """
    folder = Path(exp_name)
    if "/" in exp_name and folder.parent.resolve() == logs.resolve():
        exp_name = folder.name
    if not _NAME.fullmatch(exp_name):
        raise UsageError(
            f"{exp_name!r} is not a name for a run: use letters, digits, '.', '_' and '-', a letter or digit first"
        )
    return logs / exp_name


def steps_in_name(checkpoint: Path) -> int:
    """Return the environment steps after which a periodic checkpoint was written, by its name."""
    return int(checkpoint.name.split("_")[2])


def _is_taken(path: Path) -> bool:
    """An empty folder is free; anything else of that name is somebody's."""
    return path.exists() and (not path.is_dir() or any(path.iterdir()))


def _free_name(path: Path) -> Path:
    number = 1
    while (candidate := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    return candidate
