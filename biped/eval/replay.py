"""How well a simulator does what a robot did: recorded joint targets, open loop, from recorded states.

Open loop a biped diverges within a second or two, as it is unstable. Therefore the log is cut into short windows, each
of which starts where the robot was; the windows are robots of one batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from biped.config.task import EnvConfig
from biped.env.open_loop import Motion, OpenLoop
from biped.robot.rotations import quat_from_gravity

Array = NDArray[np.float64]

GAP = 1.5
"""Time between two rows, in control steps, from which on a step is missing between them."""

UNIT = 0.05
"""How far the length of gravity may be from 1 where a window starts."""


@dataclass(frozen=True)
class Measured:
    """What a robot was told and what its sensors said, one row per control step; NaN where it is not known."""

    dt_s: float
    """Length of a control step (s)."""
    time_s: Array
    """Time of each row, (num_steps,), s."""
    targets_rad: Array
    """Joint targets that were sent in the step, (num_steps, num_joints), rad."""
    pos_rad: Array
    """Joint positions before it, (num_steps, num_joints), rad."""
    vel_rad_s: Array
    """Joint velocities before it, (num_steps, num_joints), rad/s."""
    gravity_b: Array
    """Direction of gravity in the base frame, (num_steps, 3)."""
    ang_vel_b: Array
    """Angular velocity in the base frame, (num_steps, 3), rad/s."""
    lin_vel_b: Array
    """Velocity in the base frame as the policy took it to be, (num_steps, 3), m/s."""
    is_chosen: NDArray[np.bool_]
    """Rows that are to be replayed, (num_steps,)."""

    @classmethod
    def of(cls, columns: Mapping[str, Any], dt_s: float, is_chosen: NDArray[np.bool_]) -> "Measured":
        """Take what is needed from the columns of a log of `biped_run.py`."""
        return cls(
            dt_s,
            time_s=np.asarray(columns["time_s"], float),
            targets_rad=np.asarray(columns["target_rad"], float),
            pos_rad=np.asarray(columns["pos_rad"], float),
            vel_rad_s=np.asarray(columns["vel_rad_s"], float),
            gravity_b=np.asarray(columns["gravity_b"], float),
            ang_vel_b=np.asarray(columns["ang_vel_b"], float),
            lin_vel_b=np.asarray(columns["estimate"], float)[:, :3],
            is_chosen=is_chosen,
        )

    @property
    def has_velocity(self) -> bool:
        """Whether the base's velocity is known at all."""
        return bool(np.isfinite(self.lin_vel_b).any())

    def windows(self, steps: int) -> list["Window"]:
        """Cut the chosen rows into windows of at most `steps` steps.

        A window needs joint positions and gravity of length 1 where it starts, and a target in each step. It ends
        before a step that is missing in the log, and where its times do not rise.
        """
        told = self.is_chosen & np.isfinite(self.targets_rad).all(axis=1)
        is_unit = np.abs(np.linalg.norm(self.gravity_b, axis=1) - 1.0) < UNIT
        known = told & np.isfinite(self.pos_rad).all(axis=1) & is_unit
        passed_s = np.diff(np.where(np.isfinite(self.time_s), self.time_s, np.nan))
        follows = (passed_s > 0.0) & (passed_s < GAP * self.dt_s)
        found, row = [], 0
        while row < len(self.time_s) - 1:
            length = 0
            while length < steps and row + length < len(follows) and told[row + length] and follows[row + length]:
                length += 1
            if known[row] and length:
                found.append(Window(row, length))
            row += length if known[row] and length else 1
        return found


@dataclass(frozen=True)
class Window:
    """A part of a log: it starts from the state in row `first`, and its step k leads to row `first + k`."""

    first: int
    """Row that it starts from."""
    steps: int
    """Number of control steps."""


@dataclass(frozen=True)
class Replay:
    """What came out, beside what was measured: (num_windows, longest + 1, ...), first the start, NaN after the end."""

    sim: str
    """Name of the simulator; empty for the measurements themselves."""
    windows: tuple[Window, ...]
    """The windows, one per row."""
    pos_rad: Array
    """Joint positions, (..., num_joints), rad."""
    vel_rad_s: Array
    """Joint velocities, (..., num_joints), rad/s."""
    gravity_b: Array
    """Direction of gravity in the base frame, (..., 3)."""
    ang_vel_b: Array
    """Angular velocity in the base frame, (..., 3), rad/s."""

    @property
    def failed(self) -> int:
        """Number of windows in which the physics failed."""
        lasted = np.isfinite(self.pos_rad).all(axis=2).sum(axis=1)
        return int((lasted < [window.steps + 1 for window in self.windows]).sum()) if self.sim else 0


def as_measured(measured: Measured, windows: Sequence[Window]) -> Replay:
    """Return the measurements in the shape of a replay."""
    rows = _rows(windows)
    ends = np.array([window.first + window.steps for window in windows])[:, None]
    parts = (measured.pos_rad, measured.vel_rad_s, measured.gravity_b, measured.ang_vel_b)
    cut = [np.where((rows <= ends)[..., None], part[np.minimum(rows, ends)], np.nan) for part in parts]
    return Replay("", tuple(windows), *cut)


def replay(cfg: EnvConfig, sim: str, measured: Measured, windows: Sequence[Window], late_steps: int = 0) -> Replay:
    """Give a simulated robot per window what the robot was given.

    Velocities that are not known start at zero.

    Args:
        cfg: robot and time steps.
        sim: name of the simulator.
        measured: the log.
        windows: parts of it, at least one.
        late_steps: by how many control steps each target takes effect later than it was sent.

    Raises:
        MachineError: the simulator cannot be used on this machine.
    """
    first = [window.first for window in windows]
    start = Motion(
        quat_from_gravity(_tensor(measured.gravity_b[first])),
        _tensor(np.nan_to_num(measured.lin_vel_b[first])),
        _tensor(np.nan_to_num(measured.ang_vel_b[first])),
        _tensor(measured.pos_rad[first]),
        _tensor(np.nan_to_num(measured.vel_rad_s[first])),
    )
    sent = _sent(measured, windows, late_steps)
    told = as_measured(measured, windows)
    states: list[tuple[Array, ...]] = [
        (told.pos_rad[:, 0], start.joint_vel_rad_s.numpy(), told.gravity_b[:, 0], start.ang_vel_b.numpy())
    ]
    steps = np.array([window.steps for window in windows])
    loop, is_fine = OpenLoop(cfg, sim, start), np.ones(len(windows), bool)
    try:
        for step in range(sent.shape[1]):
            state = loop.step(_tensor(sent[:, step]))
            is_fine &= ~state.error.numpy()
            parts = (state.joint_pos_rad, state.joint_vel_rad_s, state.projected_gravity_b, state.base_ang_vel_b)
            shown = (is_fine & (step < steps))[:, None]
            states.append(tuple(np.where(shown, part.numpy().astype(float), np.nan) for part in parts))
    finally:
        loop.close()
    return Replay(sim, tuple(windows), *(np.stack(part, axis=1) for part in zip(*states, strict=True)))


def joint_errors(found: Replay, told: Replay) -> Array:
    """Return the root mean square difference of each joint's position over all windows, (num_joints,), rad."""
    return _root_mean_square(found.pos_rad[:, 1:] - told.pos_rad[:, 1:], (0, 1))


def joint_motions(told: Replay) -> Array:
    """Return how far each joint is from where its window started (root mean square), (num_joints,), rad.

    A simulator in which nothing moves would have these errors.
    """
    return _root_mean_square(told.pos_rad[:, 1:] - told.pos_rad[:, :1], (0, 1))


def tilt_error(found: Replay, told: Replay) -> float:
    """Return the root mean square angle between simulated and measured gravity over all windows, rad."""
    apart = np.linalg.norm(np.cross(found.gravity_b[:, 1:], told.gravity_b[:, 1:]), axis=2)
    along = (found.gravity_b[:, 1:] * told.gravity_b[:, 1:]).sum(axis=2)
    return float(_root_mean_square(np.arctan2(apart, along), (0, 1)))


def turning_errors(found: Replay, told: Replay) -> Array:
    """Return the root mean square difference of the angular velocities over all windows, (3,), rad/s."""
    return _root_mean_square(found.ang_vel_b[:, 1:] - told.ang_vel_b[:, 1:], (0, 1))


def growth(found: Replay, told: Replay) -> Array:
    """Return the root mean square difference over all joints by steps since the start, (longest + 1,), rad."""
    return _root_mean_square(found.pos_rad - told.pos_rad, (0, 2))


def _root_mean_square(differences: Array, axes: tuple[int, ...]) -> Array:
    is_known = np.isfinite(differences)
    total = np.square(np.where(is_known, differences, 0.0)).sum(axis=axes)
    count = is_known.sum(axis=axes)
    return np.sqrt(np.where(count, total, np.nan) / np.maximum(count, 1))


def _rows(windows: Sequence[Window]) -> NDArray[np.int64]:
    """Return the row of each step of each window, (num_windows, longest + 1)."""
    longest = max(window.steps for window in windows)
    return np.array([window.first for window in windows])[:, None] + np.arange(longest + 1)


def _sent(measured: Measured, windows: Sequence[Window], late_steps: int) -> Array:
    """Return the targets that take effect in each step, (num_windows, longest, num_joints), rad."""
    last = np.array([window.first + window.steps - 1 for window in windows])[:, None]
    rows = np.clip(np.minimum(_rows(windows)[:, :-1], last) - late_steps, 0, None)
    first = measured.targets_rad[[window.first for window in windows]][:, None]
    return np.where(np.isfinite(measured.targets_rad[rows]), measured.targets_rad[rows], first)


def _tensor(values: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).float()
