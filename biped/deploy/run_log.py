"""The log of a run on a robot: one compressed file of arrays, one row per control step, and what they belong to.

It opens with `numpy.load` alone; `READ_ME` in it lists the columns.
"""

import io
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biped.base.errors import UsageError, disk_error
from biped.base.files import write_whole
from biped.deploy.contract_file import PolicyContract

FORMAT, VERSION = "biped-robot-log", 1
"""Name and version of the file's format."""
PHASES = ("limp", "to pose", "standing", "walking", "crouching", "exciting")
"""What the robot was doing; `phase` has the index."""
UNDER_TORQUE = tuple(phase for phase in PHASES if phase != "limp")
"""Phases in which the servos hold or move the robot."""
COLUMNS: Mapping[str, tuple[str, str]] = {
    "time_s": ("", "time of the step since the first (s)"),
    "late_s": ("", "how much later the step began than it should have (s)"),
    "read_s": ("", "time to read servos and IMU (s)"),
    "policy_s": ("", "time of the policy (s)"),
    "write_s": ("", "time to send the targets (s)"),
    "phase": ("", f"index into {PHASES}"),
    "given_command": ("3", "what the person asked for: forward m/s, left m/s, counter-clockwise rad/s"),
    "command": ("3", "what the policy was given"),
    "gravity_b": ("3", "unit vector along gravity in the base frame, from the IMU"),
    "ang_vel_b": ("3", "angular velocity in the base frame, from the IMU (rad/s)"),
    "imu_age_s": ("", "age of the IMU's measurement (s)"),
    "pos_rad": ("joints", "joint positions (rad); NaN: the servo did not answer"),
    "vel_rad_s": ("joints", "joint velocities as the servos report them (rad/s)"),
    "current_a": ("joints", "motor currents (A)"),
    "voltage_v": ("joints", "supply voltage at each servo (V)"),
    "temperature_c": ("joints", "temperature of each servo (°C)"),
    "faults": ("joints", "hardware error status of each servo"),
    "observation": ("width", "what the policy was given; NaN while it did not run"),
    "action": ("joints", "what the policy returned; NaN while it did not run"),
    "target_rad": ("joints", "joint targets that were sent (rad); NaN while limp"),
    "estimate": ("4", "the policy's guess of velocity (m/s, base frame) and height (m); NaN without one"),
}
"""Name to shape of a row and meaning. All are float32, but `phase` and `faults`, which are int32, and float64 times."""
_TIMES, _INTEGERS = ("time_s",), ("phase", "faults")


@dataclass(frozen=True)
class RunLog:
    """A run, one row per control step."""

    columns: Mapping[str, NDArray[Any]]
    """Name to array, (num_steps, ...): see `COLUMNS`."""
    contract: Mapping[str, Any]
    """The contract of the policy that ran."""
    about: Mapping[str, Any]
    """What is known besides: `policy_sha256`, `wiring`, `date`, `ended` (why, in one line), `package_version`."""

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return a column."""
        return self.columns[name]

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.columns["time_s"])

    @property
    def policy(self) -> PolicyContract:
        """The contract, read."""
        return PolicyContract.of(self.contract, self.about.get("policy_sha256", ""))

    def during(self, *phases: str) -> NDArray[np.bool_]:
        """Return which steps were in one of these phases, (num_steps,)."""
        return np.isin(self.columns["phase"], [PHASES.index(phase) for phase in phases])

    @property
    def gait_phase(self) -> NDArray[np.float64]:
        """The gait clock while the policy ran, (num_steps,), from 0 to 1; 0 while it stood."""
        clock = next((term.where for term in self.policy.terms if term.name == "gait_phase"), slice(0, 0))
        seen = self["observation"][self.during("standing", "walking")][:, clock]
        if seen.shape[1] != 2:
            return np.zeros(len(seen))
        return np.nan_to_num(np.arctan2(*seen.T)) / (2.0 * np.pi) % 1.0

    def timing(self) -> str:
        """Return in one line how punctual the run was while the robot was under torque; empty if it never was."""
        ran = self.during(*UNDER_TORQUE)
        if not ran.any():
            return ""
        late_ms, lost = 1e3 * np.abs(self["late_s"][ran]), np.isnan(self["pos_rad"][ran]).any(axis=1)
        median, slow = np.quantile(late_ms, (0.5, 0.99))
        return (
            f"{int(ran.sum())} steps, late by {median:.2f} ms in the median, {slow:.2f} ms in one of a hundred, "
            f"{late_ms.max():.1f} ms at most; {int(lost.sum())} readings lost"
        )

    def save(self, path: Path) -> None:
        """Write the file completely or not at all.

        Raises:
            OSError: the disk refuses the write.
        """
        meta = {"format": FORMAT, "version": VERSION, "about": dict(self.about), "contract": dict(self.contract)}
        content = io.BytesIO()
        arrays = {name: _compact(name, self.columns[name]) for name in COLUMNS}
        texts = {"meta": json.dumps(meta), "READ_ME": "\n".join(f"{k}: {text}" for k, (_, text) in COLUMNS.items())}
        np.savez_compressed(content, **arrays, **{k: np.array(text) for k, text in texts.items()})  # type: ignore[arg-type]
        write_whole(path, content.getvalue())

    @classmethod
    def load(cls, path: Path) -> "RunLog":
        """Read a file; nothing in it is unpickled.

        Raises:
            UsageError: it is missing, no log, damaged, or of a newer version.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                meta = json.loads(str(file["meta"]))
                columns = {name: file[name] for name in COLUMNS}
        except OSError as error:
            raise UsageError(f"cannot read {path} ({error.strerror or 'no such log'})") from error
        except Exception as error:  # zipfile, zlib, json and numpy each have their own
            raise UsageError(f"{path} is no log of biped_run.py, or a damaged one") from error
        if not isinstance(meta, Mapping):
            raise UsageError(f"{path} is damaged: its description is no mapping")
        if meta.get("format") != FORMAT or meta.get("version") != VERSION:
            raise UsageError(f"{path} is of another version of the project: use that version to read it")
        contract: Any = meta.get("contract")
        about: Any = meta.get("about")
        for name, part in (("contract", contract), ("about", about)):
            if not isinstance(part, Mapping):
                raise UsageError(f"{path} is damaged: it has no {name}")
        log = cls(columns, contract, about)
        try:
            policy = log.policy
            sizes = {"joints": len(policy.motors), "width": policy.width}
            if not (sizes["joints"] > 0 and isinstance(contract["robot"], Mapping) and isinstance(policy.sha256, str)):
                raise ValueError("joints, robot or hash")
            if not (0.0 < policy.dt_s < np.inf and 0.0 < policy.frequency_hz < np.inf):
                raise ValueError("control step or gait clock")
            if any(not 0 <= term.where.start <= term.where.stop <= policy.width for term in policy.terms):
                raise ValueError("terms of the observation")
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise UsageError(f"{path} is damaged: its contract cannot be read ({error!r})") from error
        for name, (size, _) in COLUMNS.items():
            column, row = columns[name], (() if not size else (sizes[size] if size in sizes else int(size),))
            if column.dtype.kind not in "iuf" or column.ndim == 0 or column.shape[1:] != row:
                what = f"{column.dtype} of shape {column.shape}"
                raise UsageError(f"{path} is damaged: {name} is {what}, not numbers of shape {('steps', *row)}")
        if len({len(column) for column in columns.values()}) != 1:
            raise UsageError(f"{path} is damaged: its columns differ in length")
        return log


def new_file(path: Path | None, logs: Path) -> Path:
    """Return where a log goes: a file that does not exist yet, in a folder that does.

    Args:
        path: the file that is wished; None: one with date and time in `logs`, which is made.
        logs: the folder of logs.

    Raises:
        UsageError: the file exists, or its folder does not.
        MachineError: the disk refuses the folder.
    """
    if path is None:
        try:
            logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(logs, error, "--log") from error
        path = logs / time.strftime("%Y%m%d-%H%M%S.npz")
    if path.exists() or not path.parent.is_dir():
        raise UsageError(f"--log: {path} exists" if path.exists() else f"--log: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"--log: nothing can be written to {path.parent}")
    return path


class LogWriter:
    """Collects the rows of a run in memory, some 1 kB per step."""

    def __init__(self, contract: PolicyContract) -> None:
        """Begin an empty log."""
        joints = len(contract.motors)
        self._sizes = {"": (), "joints": (joints,), "width": (contract.width,), "3": (3,), "4": (4,)}
        self._contract = contract
        self._rows: list[Mapping[str, Any]] = []

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    @property
    def phase(self) -> str:
        """The phase of the newest row; limp before the first."""
        return PHASES[self._rows[-1].get("phase", 0)] if self._rows else PHASES[0]

    def add(self, **row: Any) -> None:
        """Add one step; what is not given is NaN, or 0 where it is a whole number.

        Raises:
            KeyError: there is no such column.
        """
        if unknown := row.keys() - COLUMNS.keys():
            raise KeyError(f"no column {', '.join(sorted(unknown))}")
        self._rows.append(row)

    def finish(self, about: Mapping[str, Any]) -> RunLog:
        """Return the log of the rows so far."""
        columns = {name: self._column(name, self._sizes[size]) for name, (size, _) in COLUMNS.items()}
        return RunLog(columns, self._contract.raw, {"policy_sha256": self._contract.sha256, **about})

    def _column(self, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
        empty = np.zeros(shape, np.int32) if name in _INTEGERS else np.full(shape, np.nan)
        rows = [np.asarray(row.get(name, empty)) for row in self._rows]
        return _compact(name, np.stack(rows) if rows else np.zeros((0, *shape)))


def _compact(name: str, column: NDArray[Any]) -> NDArray[Any]:
    kind = np.int32 if name in _INTEGERS else np.float64 if name in _TIMES else np.float32
    return column.astype(kind)
