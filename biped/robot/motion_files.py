"""Motion clips in files: CSV with a header, and NPZ."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biped.base.errors import MachineError, UsageError, disk_error, first_line
from biped.base.files import write_whole
from biped.base.shipped import located
from biped.config.settings import expanded
from biped.robot.motion import POSITION, ROTATION, TIME, Array, Motion, checked, columns_of

PARTS = ("time", "base_pos", "base_quat", "joint_names", "joint_pos")
"""Arrays of an NPZ: (T,), (T, 3), (T, 4), (J,), (T, J)."""
_MAGIC = b"PK"
"""What an NPZ begins with."""


def motion_file(path: str) -> Path:
    """Return where a motion of the configuration is: a relative path begins at the root of the project."""
    return located(expanded(path))


def read_motion(file: Path) -> Motion:
    """Read a clip: a CSV with a header, or an NPZ.

    Raises:
        UsageError: the file is missing, or is no clip; the message names row and column where a value is wrong.
        MachineError: it cannot be read.
    """

    def read(content: bytes) -> Motion:
        is_npz = file.suffix.lower() == ".npz"
        return checked(_from_npz(content) if is_npz else _from_csv(content.decode("utf-8-sig")))

    return read_file(file, read, f"there is no motion {file}: name a CSV or NPZ, as in docs/style.md", "no motion")


def read_file(file: Path, read: Callable[[bytes], Motion], missing: str, what: str) -> Motion:
    """Return what a function reads from the content of a file, of which nobody knows who wrote it.

    Args:
        file: the file.
        read: reads it; it may raise anything.
        missing: what is said where there is no such file.
        what: what it is said to be where it cannot be read.

    Raises:
        UsageError: the file is missing, or `read` failed.
        MachineError: the disk does not give it.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError as error:
        raise UsageError(missing) from error
    except OSError as error:
        raise MachineError(f"cannot read {file}: {error.strerror}") from error
    try:
        return read(content)
    except MemoryError:
        raise
    except Exception as error:  # zip files, arrays and tables each have their own
        raise UsageError(f"{file} is {what}: {first_line(error)}; docs/style.md says what one is") from error


def clip_of(path: str, joint_names: Sequence[str], dt_s: float | None = None) -> Motion:
    """Return a motion of the configuration with a robot's joints, at the control rate if that is given.

    Args:
        path: path of the file, relative to the root of the project or absolute.
        joint_names: the robot's joints.
        dt_s: the control step (s); None: frames stay as they are.

    Raises:
        UsageError: the file is missing, is no motion, is of another robot or too short; the message names it.
        MachineError: it cannot be read.
    """
    file = motion_file(path)
    motion = read_motion(file)
    try:
        motion = motion.of_joints(joint_names)
        return motion if dt_s is None else motion.resampled(dt_s)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from error


def write_motion(motion: Motion, file: Path) -> None:
    """Write a clip as NPZ if the name ends so, else as CSV; completely or not at all.

    Raises:
        MachineError: the disk refuses the write.
    """
    try:
        write_whole(file, _as_npz(motion) if file.suffix.lower() == ".npz" else _as_csv(motion).encode())
    except OSError as error:
        raise disk_error(file, error, "--out") from error


def _from_csv(text: str) -> Motion:
    rows = rows_of(text)
    if not rows:
        raise ValueError("it is empty")
    names = [name.strip() for name in rows[0]]
    if missing := [name for name in (TIME, *POSITION, *ROTATION) if name not in names]:
        raise ValueError(f"its first row has no column {missing[0]}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"its first row has the column {twice[0]} more than once")
    table = table_of(rows[1:], names, first_row=2)

    def of(wanted: Sequence[str]) -> Array:
        return table[:, [names.index(name) for name in wanted]]

    joints = tuple(name for name in names if name not in (TIME, *POSITION, *ROTATION))
    return Motion(of((TIME,))[:, 0], of(POSITION), of(ROTATION), joints, of(joints))


def rows_of(text: str) -> list[list[str]]:
    """Return the cells of a table, without empty lines.

    Raises:
        ValueError: they are separated by something else than commas.
    """
    rows = [row for row in csv.reader(text.splitlines()) if row]
    if rows and len(rows[0]) == 1 and (other := next((sign for sign in ";\t" if sign in rows[0][0]), None)):
        raise ValueError(f"its columns are separated by {other!r}: separate them by commas, with points in numbers")
    return rows


def table_of(rows: Sequence[Sequence[str]], names: Sequence[str], first_row: int) -> Array:
    """Return the numbers of a table, (rows, columns).

    Args:
        rows: the cells.
        names: the columns, for messages.
        first_row: the number of the first row in its file, for messages.

    Raises:
        ValueError: a row is of another length, or a cell is no number.
    """
    for number, row in enumerate(rows, start=first_row):
        if len(row) != len(names):
            raise ValueError(f"row {number} has {len(row)} values, and the first {len(names)}")
    table = np.array([[_number(text) for text in row] for row in rows]).reshape(len(rows), len(names))
    if len(wrong := np.argwhere(~np.isfinite(table))):
        row, column = wrong[0]
        raise ValueError(f"{names[column]} is {rows[row][column]!r} in row {row + first_row}, which is no number")
    return table


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _from_npz(content: bytes) -> Motion:
    file = arrays_of(content)
    if missing := [name for name in PARTS if name not in file]:
        raise ValueError(f"it has no array {missing[0]}")
    names = names_of(file["joint_names"])
    values = {name: numbers_of(file[name]) for name in PARTS if name != "joint_names"}
    count = values["time"].size
    shapes = {"time": (count,), "base_pos": (count, 3), "base_quat": (count, 4), "joint_pos": (count, len(names))}
    for name, shape in shapes.items():
        if values[name].shape != shape:
            raise ValueError(f"{name} is {values[name].shape}, and should be {shape}")
    return Motion(values["time"], values["base_pos"], values["base_quat"], names, values["joint_pos"])


def arrays_of(content: bytes) -> Mapping[str, NDArray[Any]]:
    """Return the arrays of an NPZ by name, each of which is read when it is asked for.

    Raises:
        Exception: it is none; reading an array raises where that is none, or needs pickle.
    """
    if not content.startswith(_MAGIC):
        raise ValueError("it is no NPZ")
    return np.load(io.BytesIO(content), allow_pickle=False)


def names_of(array: NDArray[Any]) -> tuple[str, ...]:
    """Return the names in an array; single ones count as one."""
    return tuple(map(str, np.atleast_1d(array).astype(np.str_)))


def numbers_of(array: NDArray[Any]) -> Array:
    """Return an array of numbers.

    Raises:
        ValueError: it holds text or complex numbers.
    """
    if not np.can_cast(array.dtype, np.float64, "same_kind"):
        raise ValueError(f"an array holds {array.dtype}, and should hold numbers")
    return array.astype(np.float64)


def _as_csv(motion: Motion) -> str:
    columns, out = columns_of(motion), io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for time_s, *row in zip(*columns.values(), strict=True):
        writer.writerow([f"{time_s:.9g}", *(f"{value:.6g}" for value in row)])
    return out.getvalue()


def _as_npz(motion: Motion) -> bytes:
    content = io.BytesIO()
    names = np.array(motion.joint_names, dtype=np.str_)
    parts = (motion.time_s, motion.base_pos_w, motion.base_quat_w, names, motion.joint_pos_rad)
    np.savez_compressed(content, allow_pickle=False, **dict(zip(PARTS, parts, strict=True)))
    return content.getvalue()
