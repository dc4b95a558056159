"""The places of evaluation results. Names state the settings, and existing results are renamed, never replaced.

A run's results are beside its checkpoints; results of a model from elsewhere are among the logs, not beside the model.

```
logs/<exp_name>/
    eval.json                       the newest checkpoint with standard settings; `--compare` reads it
    eval_mujoco_seed3.json          the same in another simulator, with another seed
    eval_best_model.json            another checkpoint of the run, given by `--model`
    eval.1.json                     the earlier eval.json, of another checkpoint
logs/evaluations/<folder>-<model>/  the same for a model from elsewhere, with a copy of its config.json
```
"""

import filecmp
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from biped.base.errors import UsageError, disk_error
from biped.base.files import being_written, write_whole

EVALUATIONS = "evaluations"
"""Folder for the results of models from elsewhere."""
COPIED = ("config.json", "run_info.json")
"""Files that a comparison reads besides the results."""
_LONGEST_TAIL = 120


@dataclass(frozen=True)
class Place:
    """The place of one model's results."""

    folder: Path
    """The folder; it need not exist."""
    label: str = ""
    """Part of file names that identifies the model."""
    tail: str = ""
    """Part of file names that identifies the settings."""
    source: Path | None = None
    """The folder of a model from elsewhere; else None."""

    @classmethod
    def of(cls, model: Path, logs: Path, *, by_name: bool) -> "Place":
        """Return the place of a model's results.

        Args:
            model: a checkpoint, with its config.json.
            logs: the folder of all runs.
            by_name: whether `--model` named it, rather than it being the newest of a run.
        """
        home = model.resolve().parent
        if not by_name:
            return cls(model.parent)
        if home.parent == logs.resolve():
            return cls(model.parent, f"_{model.stem}")
        name = f"{home.name}-{model.stem}".strip("-")
        return cls(_free_or_its(logs / EVALUATIONS / name, model.parent), source=model.parent)

    def judged(self, asked: Mapping[str, Any], episodes: int) -> "Place":
        """Return the place for results with these settings; `episodes` is the standard evaluation's number."""
        return replace(self, tail=tail_of(asked, episodes))

    def file(self, name: str, number: int = 0) -> Path:
        """Return the path of a result, such as eval.json; a number above 0 is that of an earlier result."""
        path = Path(name)
        return self.folder / f"{path.stem}{self.label}{self.tail}{f'.{number}' if number else ''}{path.suffix}"

    def make_folder(self) -> None:
        """Make the folder; for a model from elsewhere, copy the files that a comparison reads.

        Raises:
            MachineError: the disk refuses the write.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            copied = [] if self.source is None else [self.source / name for name in COPIED]
            for file in copied:
                if file.is_file():
                    (self.folder / file.name).write_bytes(file.read_bytes())
        except OSError as error:
            raise disk_error(self.folder, error) from error

    def write(self, name: str, content: Mapping[str, Any], asked: Mapping[str, Any], others: Sequence[str]) -> Path:
        """Write a result as JSON and return its path.

        An existing result of something else is first renamed with a number, together with the `others` beside it.

        Args:
            name: file name, such as eval.json.
            content: the result, including `asked`.
            asked: the settings that identify a result.
            others: names of files or folders that belong to the result.

        Raises:
            MachineError: the folder cannot be made.
            OSError: the disk refuses the write.
        """
        self.make_folder()
        out = self.file(name)
        with being_written(out) as file:
            file.write(_as_text(content).encode())
            file.flush()  # a full disk raises here, before anything is moved
            if not _is_of(out, asked):
                self._keep((name, *others))
        return out

    def robustness_reports(self, home: Path) -> list[Path]:
        """Return possible paths of the same model's robustness report, likeliest first; `home` is its folder."""
        found = [self.file("robustness.json"), replace(self, tail="").file("robustness.json")]
        return found if self.label else [*found, home / "robustness.json"]

    def _keep(self, names: Sequence[str]) -> None:
        number = 1
        while any(self.file(name, number).exists() for name in names):
            number += 1
        for name in names:
            if self.file(name).exists():
                self.file(name).rename(self.file(name, number))


def tail_of(asked: Mapping[str, Any], episodes: int) -> str:
    """Return the part of names for settings that differ from the standard evaluation's, such as _mujoco_seed3.

    Args:
        asked: `sim`, `randomize`, `seed`, `episodes`, `command` and `set`, as on the command line.
        episodes: the standard evaluation's number of episodes.
    """
    words = [asked["sim"]] if asked["sim"] != "genesis" else []
    words += [asked["randomize"]] if asked["randomize"] != "none" else []
    words += [f"seed{asked['seed']}"] if asked["seed"] else []
    words += [f"{asked['episodes']}_episodes"] if asked["episodes"] != episodes else []
    words += ["command", *(f"{value:g}" for value in asked["command"])] if asked["command"] is not None else []
    for setting in asked["set"]:
        path, _, value = setting.partition("=")
        words.append(f"{path.strip().rpartition('.')[2]}_{value.strip()}")
    tail = re.sub(r"[^A-Za-z0-9._+-]+", "-", "_".join(words))[:_LONGEST_TAIL]
    return f"_{tail}" if tail else ""


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write a result to a requested path, completely or not at all.

    Raises:
        OSError: the disk refuses the write.
    """
    if file.exists() and not file.is_file():  # a pipe or a terminal
        file.write_text(_as_text(content), encoding="utf-8")
    else:
        write_whole(file, _as_text(content).encode())


def sha256_of(model: Path) -> str:
    """Return the SHA-256 hash of a file.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        return hashlib.sha256(model.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"{model} cannot be read ({error.strerror}): name a checkpoint with --model PATH") from error


def _as_text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


def _free_or_its(folder: Path, source: Path) -> Path:
    """Return the folder, or a numbered one if it has results of a model with another configuration."""
    number, candidate = 0, folder
    while (candidate / "config.json").is_file() and not filecmp.cmp(
        candidate / "config.json", source / "config.json", shallow=False
    ):
        number += 1
        candidate = folder.with_name(f"{folder.name}.{number}")
    return candidate


def _is_of(file: Path, asked: Mapping[str, Any]) -> bool:
    """Return whether a file has a result with the same settings; the path by which the model was named is ignored."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return all(found[name] == value for name, value in asked.items() if name != "model")
    except (OSError, ValueError, KeyError, TypeError):
        return False
