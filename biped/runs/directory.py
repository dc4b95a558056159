"""The files under logs/<exp_name>/. Only this module knows their names.

The only files ever deleted are a run's own surplus checkpoints, and files that a killed process left half written.

```
logs/<exp_name>/
    config.json                     the configuration; read by this project
    cfgs.pkl                        the same as builtin types, for other tools; never read here
    biped_model_<steps>_steps.zip   checkpoints
    model_final.zip                 the model at the end of training
    best_model.zip, best_model.json the best model by the walking gate, and its results
    model_final.<n>.zip, ...        a model with more steps than the one that replaced it
    RecurrentPPO_1/                 TensorBoard
    overview.png                    the run on one page
    videos/walk_<steps>_steps.gif   videos of evaluations, if enabled
    profile/                        where the time went, if --profile asked for it
    metrics.jsonl                   all metrics, one line per dump, appended by each training process
    run_info.json                   each start: command line, configuration, code, files, versions, machine
    wandb_id.txt, wandb/            the W&B run, if there is one
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
from biped.base.files import locked, say_once, write_whole
from biped.config.run import Config
from biped.config.serial import (
    from_json,
    to_dict,
    to_json,
)
from biped.config.settings import with_settings
from biped.runs.manifest import ROBOT
from biped.runs.metrics_log import Curve, read_curves

DEFAULT_EXP_NAME = "biped-walking-sb3-recurrentppo"
"""Default name of a run."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_CHECKPOINT = re.compile(r"biped_model_(\d+)_steps\.zip")
_MODELS = r"(biped_model_\d+_steps|model_final|best_model|average_model)\.zip"
_OTHERS = r"config\.json|cfgs\.pkl|run_info\.json|wandb_id\.txt|best_model\.json"
_LEFTOVER = re.compile(rf"\.({_MODELS}|{_OTHERS})\.part|\.{_MODELS}\.\d+\.upload")


class RunDirectory:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        """Refer to a directory that need not exist; `create` and `open` check it."""
        self.path = path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the directory against other training processes; the lock ends at the latest with the process.

        Raises:
            UsageError: another process is training in it.
            MachineError: the disk refuses the lock.
        """
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(locked(self.path))
                if not os.access(self.path, os.W_OK | os.X_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            except BlockingIOError as error:
                raise UsageError(f"another process is training in {self.path}: wait for it, or use -e NAME") from error
            except OSError as error:
                raise disk_error(self.path, error) from error
            yield

    @classmethod
    def create(cls, logs: Path, exp_name: str, *, keep_old_as_numbered: bool = False) -> "RunDirectory":
        """Make the directory of a new run.

        Args:
            logs: the folder of all runs.
            exp_name: the run's name.
            keep_old_as_numbered: rename an existing run of that name to <exp_name>.1, .2, ... instead of raising.

        Raises:
            UsageError: the name is invalid, or a run of that name exists.
            MachineError: the disk refuses the write.
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
            UsageError: the name is invalid, or a run of that name exists and `may_exist` is False.
            MachineError: the disk refuses the write.
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
        """Find the directory of an existing run.

        Raises:
            UsageError: the name is invalid, or there is no such run.
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
        """The file of all metrics, as JSON lines."""
        return self.path / "metrics.jsonl"

    def read_metrics(self) -> dict[str, Curve]:
        """Return the run's curves under the metrics' canonical names; a resumed run reads as one run.

        Values written after the checkpoint from which a later process resumed are left out, and so is a line that a
        kill truncated.

        Raises:
            UsageError: the run has no metrics file.
        """
        return read_curves(self.metrics)

    @property
    def overview(self) -> Path:
        """The picture with the run on one page."""
        return self.path / "overview.png"

    @property
    def videos(self) -> Path:
        """The folder of videos."""
        return self.path / "videos"

    @property
    def profile(self) -> Path:
        """The folder of a profile."""
        return self.path / "profile"

    def add_launch(self, launch: Mapping[str, Any]) -> None:
        """Add a training process to run_info.json.

        Raises:
            MachineError: the disk refuses the write.
        """
        try:
            write_whole(self._info, json.dumps({"starts": [*self.read_launches(), launch]}, indent=2).encode())
        except OSError as error:
            raise disk_error(self._info, error) from error

    def read_launches(self) -> list[dict[str, Any]]:
        """Return the entries of `add_launch`, oldest first; empty if the file is missing or damaged."""
        try:
            return list(json.loads(self._info.read_text(encoding="utf-8"))["starts"])
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
        """The mean of the last checkpoints, written by `biped.runs.average`."""
        return self.path / "average_model.zip"

    @property
    def best_model(self) -> Path:
        """The model with the best score in the walking gate so far."""
        return self.path / "best_model.zip"

    def read_best(self) -> str:
        """Return the text that `write_best` wrote.

        Raises:
            OSError: there is no such file, or it cannot be read.
        """
        return self._best_figures.read_text(encoding="utf-8")

    def write_best(self, figures: str) -> None:
        """Write the results of the best model next to it.

        Raises:
            OSError: the disk refuses the write.
        """
        write_whole(self._best_figures, figures.encode())

    @property
    def _best_figures(self) -> Path:
        return self.path / "best_model.json"

    def checkpoint(self, steps: int) -> Path:
        """Return the path of the checkpoint after this number of environment steps."""
        return self.path / f"biped_model_{steps}_steps.zip"

    def checkpoints(self) -> list[Path]:
        """Return the paths of the checkpoints, most steps first."""
        found = [path for path in self.path.iterdir() if _CHECKPOINT.fullmatch(path.name)]
        return sorted(found, key=steps_in_name, reverse=True)

    def models(self) -> list[Path]:
        """Return all models that training can continue from; among equal steps the first is preferred."""
        others = (self.final_model, self.best_model, self.average_model)
        return [*self.checkpoints(), *(path for path in others if path.is_file())]

    def prune_checkpoints(self, keep: int, steps: int) -> None:
        """Delete all checkpoints except the `keep` newest up to `steps`, the newest one; 0 keeps all.

        Checkpoints with more steps are kept: this run resumed from an older one because they were damaged.

        Checkpoints that cannot be deleted, for instance because they are open on a network share, are kept too.
        """
        ours = [path for path in self.checkpoints() if steps_in_name(path) <= steps]
        for path in ours[keep:] if keep else ():
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                say_once("prune", f"{path} cannot be deleted ({error.strerror}): it stays, and others may")

    def remove_leftovers(self) -> None:
        """Delete files that a killed process left half written; call it only while the run is locked.

        Raises:
            MachineError: the disk refuses the deletion.
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
            MachineError: the disk refuses the write.
        """
        try:
            write_whole(self.path / "config.json", to_json(config).encode())
            write_whole(self.path / "cfgs.pkl", pickle.dumps(to_dict(config)))
        except OSError as error:
            raise disk_error(self.path, error) from error

    def read_config(self) -> Config:
        """Read config.json; a robot's model that lies in the directory, as in that of a shared policy, is found there.

        Raises:
            UsageError: it is damaged, or from another version.
        """
        file = self.path / "config.json"
        try:
            text = file.read_text(encoding="utf-8")
            config = from_json(text)
            # Versions without this field kept all checkpoints; keep them.
            changes: list[tuple[str, Any]] = [] if '"keep_checkpoints"' in text else [("train.keep_checkpoints", 0)]
            if (model := config.env.robot.model_path).startswith(f"{ROBOT}/"):
                changes.append(("env.robot.model_path", str((self.path / model).resolve())))
            return with_settings(config, changes) if changes else config
        except (OSError, UnicodeDecodeError, ConfigError) as error:
            raise UsageError(f"{file} cannot be used ({error}): restore it, or use another run") from error

    def keep_wandb_id(self, wandb_id: str) -> None:
        """Store the id that W&B has given the run, if it changed.

        Raises:
            MachineError: the disk refuses the write.
        """
        if wandb_id != self.wandb_id():
            try:
                write_whole(self.path / "wandb_id.txt", wandb_id.encode())
            except OSError as error:
                raise disk_error(self.path, error) from error

    def wandb_id(self, wished: str | None = None) -> str:
        """Return the run's id in W&B; the first call creates and stores it, as `wished` or at random.

        Raises:
            MachineError: the disk refuses the access.
        """
        file = self.path / "wandb_id.txt"
        try:
            if not file.exists():
                write_whole(file, (wished or secrets.token_hex(4)).encode())
            return file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise disk_error(file, error) from error


def run_path(logs: Path, exp_name: str) -> Path:
    """Return the directory of a run, given its name or its path inside `logs`.

    Raises:
        UsageError: the name could lead outside `logs`.
    """
    folder = Path(exp_name)
    # No system has files with a NUL in their names, and Python raises where one is looked for.
    if "/" in exp_name and "\0" not in exp_name and folder.parent.resolve() == logs.resolve():
        exp_name = folder.name
    if not _NAME.fullmatch(exp_name):
        raise UsageError(
            f"{exp_name!r} is not a name for a run: use letters, digits, '.', '_' and '-', a letter or digit first"
        )
    return logs / exp_name


def steps_in_name(checkpoint: Path) -> int:
    """Return the number of environment steps in a periodic checkpoint's name."""
    return int(checkpoint.name.split("_")[2])


def _is_taken(path: Path) -> bool:
    """Return whether the path exists and is not an empty folder."""
    return path.exists() and (not path.is_dir() or any(path.iterdir()))


def _free_name(path: Path) -> Path:
    number = 1
    while (candidate := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    return candidate
