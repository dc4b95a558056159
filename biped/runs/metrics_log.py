"""All metrics of a run as JSON lines: written during training, read as curves."""

import contextlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.logger import KVWriter

from biped.base.errors import UsageError, disk_error


class JsonLinesWriter(KVWriter):
    """Appends every dump to a file, one JSON object per line; `read_curves` reads it.

    A line has `step`, `time` (seconds since 1970) and the metrics under their canonical names; null where a value is
    not finite. A process that resumes a run first writes the line `{"resumed_after_step": ...}`. Existing lines are
    never changed.
    """

    def __init__(self, file: Path, resume_after_step: int | None) -> None:
        """Open the file for appending.

        Args:
            file: metrics.jsonl of a run.
            resume_after_step: steps of the checkpoint that training continues from; None for a new run.

        Raises:
            MachineError: the disk refuses the write.
        """
        try:
            is_torn = file.exists() and file.stat().st_size > 0 and not file.read_bytes().endswith(b"\n")
            self._file = file.open("a", encoding="utf-8")
            if is_torn:  # a kill truncated a line; start a new one
                self._file.write("\n")
            if resume_after_step is not None:
                self._append({"resumed_after_step": resume_after_step, "time": time.time()})
        except OSError as error:
            raise disk_error(file, error) from error

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Append one line; `step` is the number of environment steps so far."""
        del key_excluded
        numbers = {
            name: float(value) if math.isfinite(value) else None
            for name, value in sorted(key_values.items())
            if isinstance(value, int | float | np.number)
        }
        self._append({"step": step, "time": time.time(), **numbers})

    def close(self) -> None:
        """Close the file; failed writes have already been reported."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _append(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()


@dataclass(frozen=True)
class Curve:
    """One metric over a run."""

    steps: NDArray[np.int64]
    """Environment steps of each point, (points,), ascending."""
    values: NDArray[np.float64]
    """The metric, (points,); NaN where it was not finite."""


def read_curves(file: Path) -> dict[str, Curve]:
    """Return a run's curves under the metrics' canonical names; a resumed run reads as one run.

    Values written after the checkpoint from which a later process resumed are left out, and so is a line that a kill
    truncated.

    Raises:
        UsageError: the file cannot be read.
    """
    points: dict[str, dict[int, float]] = {}
    for line in _lines_of(file):
        after = line.pop("resumed_after_step", None)
        if isinstance(after, int):
            points = {name: {s: v for s, v in curve.items() if s <= after} for name, curve in points.items()}
            continue
        step, _ = line.pop("step"), line.pop("time", None)
        for name, value in line.items():
            points.setdefault(name, {})[step] = math.nan if value is None else value
    return {
        name: Curve(np.array(sorted(curve), np.int64), np.array([curve[step] for step in sorted(curve)]))
        for name, curve in points.items()
        if curve
    }


def _lines_of(file: Path) -> Iterator[dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}): name a run that has one") from error
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            read = json.loads(line)
            if isinstance(read, dict) and ("step" in read or "resumed_after_step" in read):
                yield read
