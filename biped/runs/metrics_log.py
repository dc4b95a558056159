"""Every number of a run as JSON lines: written by training, read by whoever looks at it."""

import contextlib
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.logger import KVWriter

from biped.base.errors import disk_error


class JsonLinesWriter(KVWriter):
    """Appends every dump to a file, one JSON object a line; `biped.runs.directory.read_metrics` reads it.

    A line holds `step`, `time` (seconds since 1970) and the numbers by their canonical names; null where one is not
    finite. A process that goes on with a run first writes a line of its own, `{"resumed_after_step": ...}`. Nothing
    that was written is ever changed.
    """

    def __init__(self, file: Path, resume_after_step: int | None) -> None:
        """Open the file for appending.

        Args:
            file: metrics.jsonl of a run.
            resume_after_step: the steps of the checkpoint that training goes on from; None for a new run.

        Raises:
            MachineError: the disk does not let us.
        """
        try:
            is_torn = file.exists() and file.stat().st_size > 0 and not file.read_bytes().endswith(b"\n")
            self._file = file.open("a", encoding="utf-8")
            if is_torn:  # by a kill in the middle of a line: what follows must not become part of it
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
        """Close the file; what could not be written was said when it was."""
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
