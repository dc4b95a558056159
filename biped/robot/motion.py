"""Motion clips: a robot's base and joints over time, at any rate, and as the mirror image.

A clip is what motion capture becomes once it is retargeted to a robot, or what a policy did. Frames: `_w` is the world
(z up). Quaternions are wxyz and rotate from the base to the world.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from biped.base.errors import UsageError
from biped.robot.symmetry import MirrorRule

Array = NDArray[np.float64]
POSITION, ROTATION = ("base_x", "base_y", "base_z"), ("base_qw", "base_qx", "base_qy", "base_qz")
TIME = "time"
"""Columns of a CSV: time (s), position (m) and orientation of the base, then the joints (rad) by their names."""
SHORTEST = 3
"""Fewest frames of a clip: two steps, so that there is a pair of successive ones."""
_OFF_UNIT = 0.05
"""Largest difference of a quaternion's length from 1: more is not rounding."""
_SHORTEST_STEP_S, _LONGEST_STEP_S = 1e-5, 1.0
"""Bounds of the time between two frames (s): what happens in more of it, no line between them tells."""
_FARTHEST = 1e5
"""Largest size of any number of a clip: m or rad."""


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

    @property
    def upright(self) -> Array:
        """How much of each frame's z axis of the base points up, (T,): 1 upright, 0 lying, -1 upside down."""
        _, x, y, _ = self.base_quat_w.T
        return 1.0 - 2.0 * (x * x + y * y)

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
        return replace(
            self,
            time_s=self.time_s[kept],
            base_pos_w=self.base_pos_w[kept],
            base_quat_w=self.base_quat_w[kept],
            joint_pos_rad=self.joint_pos_rad[kept],
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

    def falls(self, min_height_m: float, max_tilt_rad: float) -> list[str]:
        """Return where an episode would end, one line each for height and tilt: the worst frame.

        Args:
            min_height_m: height of the base below which it ends (m).
            max_tilt_rad: tilt of the base beyond which it ends (rad).
        """
        found = []
        lowest, most_tilted = int(self.base_pos_w[:, 2].argmin()), int(self.upright.argmin())
        if (height := self.base_pos_w[lowest, 2]) < min_height_m:
            found.append(
                f"the base is at {height:.3f} m in frame {lowest} ({self.time_s[lowest]:.3f} s): an episode ends below "
                f"{min_height_m:.3f} (termination.min_base_height_m)"
            )
        if (tilt := np.arccos(np.clip(self.upright[most_tilted], -1.0, 1.0))) > max_tilt_rad:
            found.append(
                f"the base leans by {tilt:.2f} rad in frame {most_tilted} ({self.time_s[most_tilted]:.3f} s): an "
                f"episode ends beyond {max_tilt_rad:.2f} (termination.max_tilt_rad)"
            )
        return found

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


def checked(motion: Motion) -> Motion:
    """Return a clip from a file with quaternions of length 1, each in the half of the sphere of the one before.

    Raises:
        ValueError: it has too few frames, numbers that no robot reaches, steps of time that are none or too long,
            quaternions that are none, or names that are no joints'.
    """
    _check_names(motion.joint_names)
    if len(motion) < SHORTEST:
        raise ValueError(f"it has {len(motion)} frames, and {SHORTEST} are needed")
    for name, column in columns_of(motion).items():
        if len(wrong := np.flatnonzero(~np.isfinite(column))):
            raise ValueError(f"{name} is no number in frame {wrong[0]}")
        if name != TIME and len(far := np.flatnonzero(np.abs(column) > _FARTHEST)):
            raise ValueError(f"{name} is {column[far[0]]:.3g} in frame {far[0]}, where no robot is")
    steps = np.diff(motion.time_s)
    if len(late := np.flatnonzero(steps < _SHORTEST_STEP_S)):
        raise ValueError(f"time does not rise from frame {late[0]} to frame {late[0] + 1}")
    if len(apart := np.flatnonzero(steps > _LONGEST_STEP_S)):
        gap = f"frames {apart[0]} and {apart[0] + 1} are {steps[apart[0]]:.3g} s apart"
        raise ValueError(f"{gap}: cut the clip there, or add frames (at most {_LONGEST_STEP_S:g} s)")
    lengths = np.linalg.norm(motion.base_quat_w, axis=1)
    if len(off := np.flatnonzero(np.abs(lengths - 1.0) > _OFF_UNIT)):
        raise ValueError(f"the quaternion of frame {off[0]} has length {lengths[off[0]]:.3g}, and should have 1")
    return replace(motion, base_quat_w=_unit(motion.base_quat_w))


def _check_names(joint_names: Sequence[str]) -> None:
    for name in joint_names:
        if not (name and name == name.strip() and name.isprintable()):
            raise ValueError(f"it names a joint {name!r}")
        if name in (TIME, *POSITION, *ROTATION):
            raise ValueError(f"it names a joint {name}, which is the name of something else")
    if twice := [name for name in joint_names if joint_names.count(name) > 1]:
        raise ValueError(f"it names {twice[0]} more than once")


def columns_of(motion: Motion) -> Mapping[str, Array]:
    """Return the columns of a CSV by name."""
    return {
        TIME: motion.time_s,
        **dict(zip(POSITION, motion.base_pos_w.T, strict=True)),
        **dict(zip(ROTATION, motion.base_quat_w.T, strict=True)),
        **dict(zip(motion.joint_names, motion.joint_pos_rad.T, strict=True)),
    }


def _unit(quats: Array) -> Array:
    """Return quaternions of length 1, each in the half of the sphere of the one before."""
    units = quats / np.linalg.norm(quats, axis=1, keepdims=True)
    turns = np.sign((units[1:] * units[:-1]).sum(axis=1))
    return units * np.cumprod([1.0, *np.where(turns == 0.0, 1.0, turns)])[:, None]
