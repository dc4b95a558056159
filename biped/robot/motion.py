"""Motion clips: a robot's base and joints over time, from files, at any rate, and as the mirror image.

A clip is what motion capture becomes once it is retargeted to a robot, or what a policy did. Frames: `_w` is the world
(z up). Quaternions are wxyz and rotate from the base to the world.
"""

import csv
import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biped.base.errors import MachineError, UsageError, disk_error, first_line
from biped.base.files import write_whole
from biped.base.shipped import located
from biped.config.settings import expanded
from biped.robot.symmetry import MirrorRule

Array = NDArray[np.float64]
POSITION, ROTATION = ("base_x", "base_y", "base_z"), ("base_qw", "base_qx", "base_qy", "base_qz")
TIME = "time"
"""Columns of a CSV: time (s), position (m) and orientation of the base, then the joints (rad) by their names."""
PARTS = ("time", "base_pos", "base_quat", "joint_names", "joint_pos")
"""Arrays of an NPZ: (T,), (T, 3), (T, 4), (J,), (T, J)."""
SHORTEST = 3
"""Fewest frames of a clip: two steps, so that there is a pair of successive ones."""
_OFF_UNIT = 0.05
"""Largest difference of a quaternion's length from 1: more is not rounding."""


@dataclass(frozen=True)
class Motion:
    """A clip of T frames of a robot with J joints."""

    time_s: Array
    """Times of the frames, (T,), s, rising."""
    base_pos_w: Array
    """Position of the base, (T, 3), m."""
    base_quat_w: Array
    """Orientation of the base, (T, 4), wxyz, of length 1, neighbours in the same half of the sphere."""
    joint_names: tuple[str, ...]
    """Names of the joints, J of them."""
    joint_pos_rad: Array
    """Positions of the joints, (T, J), rad."""

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.time_s)

    @property
    def length_s(self) -> float:
        """Time from the first frame to the last (s)."""
        return float(self.time_s[-1] - self.time_s[0])

    @property
    def joint_vel_rad_s(self) -> Array:
        """Velocities of the joints by differences, forward ones, of the steps between frames, (T - 1, J), rad/s."""
        return np.diff(self.joint_pos_rad, axis=0) / np.diff(self.time_s)[:, None]

    @property
    def base_vel_w(self) -> Array:
        """Velocities of the base by differences, of the steps between frames, (T - 1, 3), m/s in the world."""
        return np.diff(self.base_pos_w, axis=0) / np.diff(self.time_s)[:, None]

    def of_joints(self, names: Sequence[str]) -> "Motion":
        """Return the clip with these joints in this order; it may have more of them.

        Raises:
            UsageError: a joint is missing.
        """
        if missing := [name for name in names if name not in self.joint_names]:
            have = ", ".join(self.joint_names) or "none"
            raise UsageError(f"the clip has no joint {missing[0]} (it has {have}): it is of another robot")
        places = [self.joint_names.index(name) for name in names]
        return replace(self, joint_names=tuple(names), joint_pos_rad=self.joint_pos_rad[:, places])

    def resampled(self, dt_s: float) -> "Motion":
        """Return the clip with a frame every `dt_s`, from its first time on: linear between frames.

        Orientations are interpolated along the chord and brought back to length 1, which is the arc (Shoemake 1985) to
        third order of the rotation between two frames.

        Raises:
            UsageError: too short: fewer than three frames remain.
        """
        count = int(self.length_s / dt_s + 1e-6) + 1
        if count < SHORTEST:
            raise UsageError(f"the clip lasts {self.length_s:.3g} s: {SHORTEST} frames of {dt_s:.3g} s are needed")
        return self.at(self.time_s[0] + dt_s * np.arange(count))

    def at(self, times_s: Array) -> "Motion":
        """Return the clip at other times, (N,), s, within its own; its time begins at 0; see `resampled`."""
        times = np.clip(times_s, self.time_s[0], self.time_s[-1])

        def at_times(values: Array) -> Array:
            return np.stack([np.interp(times, self.time_s, column) for column in values.T], axis=1)

        return Motion(
            times_s - times_s[0],
            at_times(self.base_pos_w),
            _unit(at_times(self.base_quat_w)),
            self.joint_names,
            at_times(self.joint_pos_rad) if self.joint_names else np.empty((len(times), 0)),
        )

    def part(self, start_s: float, seconds: float | None) -> "Motion":
        """Return the frames from a time on, and for so long (s); None: to the end.

        Raises:
            UsageError: fewer than three frames are there.
        """
        since_start = self.time_s - self.time_s[0]
        kept = (since_start >= start_s - 1e-9) & (since_start <= start_s + (seconds or np.inf) + 1e-9)
        if (count := int(kept.sum())) < SHORTEST:
            raise UsageError(f"the clip lasts {self.length_s:.3g} s, and has {count} frames of what is asked for")
        return Motion(
            self.time_s[kept],
            self.base_pos_w[kept],
            self.base_quat_w[kept],
            self.joint_names,
            self.joint_pos_rad[kept],
        )

    def mirrored(self, rule: MirrorRule) -> "Motion":
        """Return the mirror image in the plane of x and z: what is left becomes right.

        Args:
            rule: how the mirror swaps the clip's joints; see `biped.robot.symmetry`.
        """
        index, sign = rule
        return replace(
            self,
            base_pos_w=self.base_pos_w * (1.0, -1.0, 1.0),
            base_quat_w=self.base_quat_w * (1.0, -1.0, 1.0, -1.0),
            joint_pos_rad=self.joint_pos_rad[:, index] * np.array(sign),
        )

    def from_origin(self) -> "Motion":
        """Return the clip moved and turned so that its base begins over the origin, heading along x; time from 0."""
        w, x, y, z = self.base_quat_w[0]
        half = -0.5 * np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))
        cos, sin = np.cos(half), np.sin(half)
        w, x, y, z = self.base_quat_w.T
        pos = self.base_pos_w - self.base_pos_w[0] * (1.0, 1.0, 0.0)
        across, along = 2.0 * cos * sin, cos**2 - sin**2
        return replace(
            self,
            time_s=self.time_s - self.time_s[0],
            base_pos_w=pos @ np.array(((along, across, 0.0), (-across, along, 0.0), (0.0, 0.0, 1.0))),
            base_quat_w=np.stack((cos * w - sin * z, cos * x - sin * y, cos * y + sin * x, cos * z + sin * w), axis=1),
        )

    def problems(self, ranges_rad: Array, speeds_rad_s: Sequence[float]) -> list[str]:
        """Return what the robot cannot do, one line per joint: the worst frame of each.

        Args:
            ranges_rad: what each joint of the clip can reach, (J, 2), rad.
            speeds_rad_s: how fast each joint can turn, J of them, rad/s.
        """
        found = []
        beyond = np.maximum(self.joint_pos_rad - ranges_rad[:, 1], ranges_rad[:, 0] - self.joint_pos_rad)
        for joint, name in enumerate(self.joint_names):
            frame = int(beyond[:, joint].argmax())
            if beyond[frame, joint] > 1e-9:
                low, high = ranges_rad[joint]
                count = int((beyond[:, joint] > 1e-9).sum())
                found.append(
                    f"{name} is at {self.joint_pos_rad[frame, joint]:.3f} rad in frame {frame} "
                    f"({self.time_s[frame]:.3f} s), beyond its range of {low:.3f} to {high:.3f} ({count} frames)"
                )
        speeds = np.abs(self.joint_vel_rad_s)
        for joint, (name, most) in enumerate(zip(self.joint_names, speeds_rad_s, strict=True)):
            frame = int(speeds[:, joint].argmax())
            if speeds[frame, joint] > most:
                found.append(
                    f"{name} turns at {speeds[frame, joint]:.2f} rad/s in frame {frame} "
                    f"({self.time_s[frame]:.3f} s), and its motor at most at {most:.2f}"
                )
        return found


def motion_file(path: str) -> Path:
    """Return where a motion of the configuration is: a relative path begins at the root of the project."""
    return located(expanded(path))


def read_motion(file: Path) -> Motion:
    """Read a clip: a CSV with a header, or an NPZ.

    Raises:
        UsageError: the file is missing, or is no clip; the message names row and column where a value is wrong.
        MachineError: it cannot be read.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError as error:
        raise UsageError(f"there is no motion {file}: name a CSV or NPZ, as in docs/style.md") from error
    except OSError as error:
        raise MachineError(f"cannot read {file}: {error.strerror}") from error
    try:
        is_npz = file.suffix.lower() == ".npz"
        return checked(_from_npz(content) if is_npz else _from_csv(content.decode("utf-8-sig")))
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"{file} is no motion: {first_line(error)}; docs/style.md says what one is") from error


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
        raise disk_error(file, error) from error


def _from_csv(text: str) -> Motion:
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if not rows:
        raise ValueError("it is empty")
    names = [name.strip() for name in rows[0]]
    if missing := [name for name in (TIME, *POSITION, *ROTATION) if name not in names]:
        raise ValueError(f"its first row has no column {missing[0]}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"its first row has the column {twice[0]} more than once")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(names):
            raise ValueError(f"row {number} has {len(row)} values, and the first {len(names)}")
    table = np.array([[number_of(text) for text in row] for row in rows[1:]]).reshape(-1, len(names))
    if len(wrong := np.argwhere(~np.isfinite(table))):
        row, column = wrong[0]
        raise ValueError(f"{names[column]} is {rows[row + 1][column]!r} in row {row + 2}, which is no number")

    def of(wanted: Sequence[str]) -> Array:
        return table[:, [names.index(name) for name in wanted]]

    joints = tuple(name for name in names if name not in (TIME, *POSITION, *ROTATION))
    return Motion(of((TIME,))[:, 0], of(POSITION), of(ROTATION), joints, of(joints))


def number_of(text: str) -> float:
    """Return the number that a cell of a table holds; NaN: it holds none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _from_npz(content: bytes) -> Motion:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        if missing := [name for name in PARTS if name not in file.files]:
            raise ValueError(f"it has no array {missing[0]}")
        time, pos, quat, names, joints = (np.asarray(file[name]) for name in PARTS)
    arrays = {"time": time, "base_pos": pos, "base_quat": quat, "joint_pos": joints}
    count = time.size
    shapes = {"time": (count,), "base_pos": (count, 3), "base_quat": (count, 4)}
    for name, shape in {**shapes, "joint_pos": (count, names.size)}.items():
        if arrays[name].shape != shape:
            raise ValueError(f"{name} is {arrays[name].shape}, and should be {shape}")
        if len(wrong := np.argwhere(~np.isfinite(arrays[name].astype(float)))):
            raise ValueError(f"{name} is no number in frame {wrong[0][0]}")
    values = {name: array.astype(np.float64) for name, array in arrays.items()}
    return Motion(values["time"], values["base_pos"], values["base_quat"], tuple(map(str, names)), values["joint_pos"])


def checked(motion: Motion) -> Motion:
    """Return a clip from a file with quaternions of length 1, each in the half of the sphere of the one before.

    Raises:
        ValueError: it has too few frames, its time does not rise, or its quaternions are none.
    """
    if len(motion) < SHORTEST:
        raise ValueError(f"it has {len(motion)} frames, and {SHORTEST} are needed")
    if len(late := np.flatnonzero(np.diff(motion.time_s) <= 0.0)):
        raise ValueError(f"time does not rise from frame {late[0]} to frame {late[0] + 1}")
    lengths = np.linalg.norm(motion.base_quat_w, axis=1)
    if len(off := np.flatnonzero(np.abs(lengths - 1.0) > _OFF_UNIT)):
        raise ValueError(f"the quaternion of frame {off[0]} has length {lengths[off[0]]:.3g}, and should have 1")
    return replace(motion, base_quat_w=_unit(motion.base_quat_w))


def _unit(quats: Array) -> Array:
    """Return quaternions of length 1, each in the half of the sphere of the one before."""
    units = quats / np.linalg.norm(quats, axis=1, keepdims=True)
    turns = np.sign((units[1:] * units[:-1]).sum(axis=1))
    return units * np.cumprod([1.0, *np.where(turns == 0.0, 1.0, turns)])[:, None]


def _columns(motion: Motion) -> Mapping[str, Array]:
    return {
        TIME: motion.time_s,
        **dict(zip(POSITION, motion.base_pos_w.T, strict=True)),
        **dict(zip(ROTATION, motion.base_quat_w.T, strict=True)),
        **dict(zip(motion.joint_names, motion.joint_pos_rad.T, strict=True)),
    }


def _as_csv(motion: Motion) -> str:
    columns, out = _columns(motion), io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([f"{value:.6g}" for value in row] for row in zip(*columns.values(), strict=True))
    return out.getvalue()


def _as_npz(motion: Motion) -> bytes:
    content = io.BytesIO()
    names = np.array(motion.joint_names, dtype=np.str_)
    parts = (motion.time_s, motion.base_pos_w, motion.base_quat_w, names, motion.joint_pos_rad)
    np.savez_compressed(content, allow_pickle=False, **dict(zip(PARTS, parts, strict=True)))
    return content.getvalue()
