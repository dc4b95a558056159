"""What the physics says about a log: would the robot have moved so, with these joints, this IMU and these motors?

Newton's law must hold for the whole robot: its inverse dynamics equals the torques of the contract's motors plus forces
that push at the soles. A log of a miswired robot breaks it, and keeps it once the mistake is undone: each `Guess` is a
mistake, and the one whose undoing fits best is the cause.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from biped.base.errors import UsageError
from biped.deploy.contract_file import PolicyContract
from biped.deploy.diagnosis_log import directions
from biped.deploy.run_log import RunLog

Array = NDArray[np.float64]

ROWS = 50
"""How many steps of a log are looked at: the calmest."""
_FALLEN_RAD, _FEWEST, _BASE = 0.6, 8, 6
_SPREAD_NM, _OF_NM = 0.4, 1.698 * 9.81 * 0.404
"""Misfit that counts half (N·m), for a robot of this weight times height (N·m)."""
_FRICTION = 1.0
_NEAR_GROUND_M, _NEAR_STOP_RAD, _CARRIES_M = 0.01, 0.04, 0.006
_FORCE_WEIGHT_M = 0.3
_OUT_OF_RANGE_RAD, _OUT_COSTS_NM = 0.05, 5.0
_MOMENTS = 8
"""In how many parts the time between two steps is cut to say which target was in force."""


class Body(Protocol):
    """A robot's model; `biped.sim.mujoco_kinematics` has one."""

    ranges_rad: Array

    def soles(self, pos_rad: Array) -> Array:
        """Return corners of the soles in the base frame, (n, 2, 4, 3), m, for positions (n, num_joints)."""
        ...

    def forces(self, pos: Array, vel: Array, acc: Array) -> tuple[Array, Array]:
        """Return generalised forces (n, 6 + num_joints) and Jacobians of the corners (n, 8, 3, 6 + num_joints)."""
        ...


@dataclass(frozen=True)
class Guess:
    """A mistake, as what undoes it. The plain guess is that there is none."""

    cause: str = ""
    """Name of the cause."""
    what: str = ""
    """What of the robot it is about, in words."""
    source: NDArray[np.int64] | None = None
    """From which column of the log each joint has its numbers, (num_joints,)."""
    sign: Array | None = None
    """Factor on each joint's numbers, (num_joints,)."""
    offset_rad: Array | None = None
    """What is added to each joint's position, (num_joints,), rad."""
    play_rad: Array | None = None
    """Play of each joint's gears, (num_joints,), rad."""
    gravity_from: Array = field(default_factory=lambda: np.eye(3))
    """Gravity = this @ what the log says, (3, 3)."""
    rate_from: Array = field(default_factory=lambda: np.eye(3))
    """The same for the angular velocity."""
    gain: Array | float = 1.0
    """Factor on the gains, (num_joints,)."""
    limit_nm: Array | float = np.inf
    """Largest torque, (num_joints,), N·m, if less than the contract's."""
    latency_s: float = 0.0
    """Time until a target is in force (s)."""
    size: float = 0.0
    """How large it is, in the unit of its cause."""

    @property
    def is_sideways(self) -> bool:
        """Whether it turns gravity to the side."""
        return bool(self.gravity_from[1, 2])

    @property
    def is_of_motors(self) -> bool:
        """Whether it leaves all readings as they are."""
        given = (self.source, self.sign, self.offset_rad)
        same = np.array_equal(self.gravity_from, np.eye(3)) and np.array_equal(self.rate_from, np.eye(3))
        return same and all(part is None for part in given)


@dataclass(frozen=True)
class Motion:
    """The part of a log that is looked at, on the ground and before a fall."""

    pos: Array
    """(n, num_joints), rad."""
    vel: Array
    """(n, num_joints), rad/s."""
    gravity: Array
    """Unit vectors, (n, 3)."""
    rate: Array
    """(n, 3), rad/s."""
    targets: Array
    """Joint targets from the first step of the log to the last of these, (m, num_joints), rad."""
    rows: NDArray[np.int64]
    """Which of the n are compared."""

    @property
    def before(self) -> int:
        """How many targets come before the first of the n rows."""
        return len(self.targets) - len(self.pos)

    @classmethod
    def of(cls, log: RunLog) -> "Motion | None":
        """Cut out of a log what is on the ground and not fallen; None if that is too short."""
        ground = np.flatnonzero(log.during("standing", "walking"))
        gravity = directions(log["gravity_b"])
        told: NDArray[np.bool_] = np.asarray(np.isfinite(gravity).all(axis=1))
        if min(len(ground), told.sum()) < _FEWEST:
            return None
        first, last = ground[0], ground[-1]
        begin = gravity[told & (np.arange(len(told)) < max(first + 5, np.flatnonzero(told)[_FEWEST - 1] + 1))]
        fallen = np.flatnonzero(_angles(gravity[ground], np.median(begin, axis=0)) > _FALLEN_RAD)
        if len(fallen) and fallen[0] > _FEWEST:
            last = ground[fallen[0]]
        cut = slice(max(0, first - 1), last + 1)
        pos, vel = log["pos_rad"][cut].astype(float), log["vel_rad_s"][cut].astype(float)
        rate = log["ang_vel_b"][cut].astype(float)
        rows = _calm(pos, vel, rate, gravity[cut])
        if len(rows) < _FEWEST:
            return None
        return cls(pos, vel, gravity[cut], rate, log["target_rad"][: last + 1].astype(float), rows)


def _angles(vectors: Array, other: Array) -> Array:
    return np.arccos(np.clip(vectors @ other / max(float(np.linalg.norm(other)), 1e-9), -1.0, 1.0))


def _calm(pos: Array, vel: Array, rate: Array, gravity: Array) -> NDArray[np.int64]:
    """Return the rows whose neighbours are there, the calmest of them: impacts are no one's mistake."""
    all_there = np.asarray(np.isfinite(np.hstack((pos, vel, rate, gravity))).all(axis=1))
    rows = np.arange(2, len(pos) - 2)
    rows = rows[np.all([all_there[rows + shift] for shift in (-2, -1, 0, 1, 2)], axis=0)] if len(rows) else rows
    if len(rows) > 2 * _FEWEST:
        rows = rows[rows >= 4]  # a robot that is let go falls a few millimetres
    if len(rows) <= ROWS:
        return rows
    jolts = np.abs(_rate_of(np.hstack((vel, 0.5 * rate)), 1.0))[rows].max(axis=1)
    # From all parts of the log alike: the calmest of each part.
    parts = np.array_split(np.arange(len(rows)), ROWS)
    return rows[[part[np.argmin(jolts[part])] for part in parts]]


def _rate_of(values: Array, dt_s: float) -> Array:
    """Return central differences along the first axis; 0 at the ends."""
    found = np.zeros_like(values)
    found[1:-1] = (values[2:] - values[:-2]) / (2.0 * dt_s)
    return found


class Physics:
    """Compares a log with what its guesses would have it be."""

    def __init__(self, contract: PolicyContract, motion: Motion, body: Body) -> None:
        """Prepare the comparison."""
        self._contract, self._motion, self._body = contract, motion, body
        self._kp = np.array([motor.kp_nm_per_rad for motor in contract.motors])
        self._kd = np.array([motor.kd_nm_s_per_rad for motor in contract.motors])
        self._limit = np.array([motor.torque_limit_nm for motor in contract.motors])
        try:
            height = float(contract.raw["robot"]["default_base_height_m"])
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError("the log's contract is damaged: it lacks robot.default_base_height_m") from error
        mass = float(getattr(body, "mass_kg", 1.698))
        self._spread = _SPREAD_NM * mass * 9.81 * height / _OF_NM
        self._as_read = self._dynamics(Guess())

    def misfit(self, guess: Guess) -> float:
        """Return how badly a guess fits, from 0, perfect, to 1; each row counts at most 1 / n (Geman and McClure)."""
        forces, pushes, outside = self._as_read if guess.is_of_motors else self._dynamics(guess)
        torque = self._undone(self._torques(guess), guess)
        lacking = forces.copy()
        lacking[:, _BASE:] -= torque
        weight = np.ones(lacking.shape[1])
        weight[:3] = _FORCE_WEIGHT_M
        columns, wanted = pushes * weight[:, None], lacking * weight
        rest = wanted - np.matmul(columns, not_negative(columns, wanted)[..., None])[..., 0]
        size = np.linalg.norm(rest, axis=1) + outside
        return float(np.mean(size**2 / (size**2 + self._spread**2)))

    def _undone(self, columns: Array, guess: Guess) -> Array:
        columns = columns if guess.source is None else columns[:, guess.source]
        return columns if guess.sign is None else columns * guess.sign

    def _torques(self, guess: Guess) -> Array:
        """Return what the motors gave around each row, (n, num_joints), N·m, by the contract's law."""
        motion, dt, rows = self._motion, self._contract.dt_s, self._motion.rows
        steps, pos = rows + motion.before, motion.pos[rows]
        targets = motion.targets if guess.play_rad is None else played(motion.targets, guess.play_rad)
        limit = np.minimum(self._limit, guess.limit_nm)
        moments = (np.arange(2 * _MOMENTS) + 0.5) / _MOMENTS - 1.0
        sent = np.floor(steps + moments[:, None] - guess.latency_s / dt + 1e-9).astype(int)
        target = targets[np.clip(sent, 0, len(targets) - 1)]
        torque = np.nan_to_num(self._kp * guess.gain * (target - pos) - self._kd * motion.vel[rows])
        return np.clip(torque, -limit, limit).mean(axis=0)

    def _dynamics(self, guess: Guess) -> tuple[Array, Array, Array]:
        """Return the forces that the motion takes, what may push, and how far joints are outside of their ranges."""
        motion, dt, rows = self._motion, self._contract.dt_s, self._motion.rows
        pos, vel = self._undone(motion.pos, guess), self._undone(motion.vel, guess)
        pos = pos if guess.offset_rad is None else pos + guess.offset_rad
        gravity, rate = motion.gravity @ guess.gravity_from.T, motion.rate @ guess.rate_from.T
        to_world = _to_world(gravity)
        # Only rows that are compared, and their neighbours.
        near = np.stack([rows + shift for shift in (-2, -1, 0, 1, 2)])
        needed, place = np.unique(near, return_inverse=True)
        place = place.reshape(near.shape)
        corners = self._body.soles(np.nan_to_num(pos[needed])).reshape(len(needed), 8, 3)
        height = -np.einsum("nck,nk->nc", corners, gravity[needed])[place[2]]
        low = np.argmin(height, axis=1)

        def seen(at: int) -> Array:
            """How fast the lowest corner seems to move, in the world, (n, 3), m/s."""
            moved = (corners[place[at + 1], low] - corners[place[at - 1], low]) / (2.0 * dt)
            turned = np.cross(rate[near[at]], corners[place[at], low])
            return -np.einsum("nij,nj->ni", to_world[near[at]], moved + turned)

        # The lowest corner stands still, so the base moves as this corner seems to, backwards.
        linear = seen(2)
        spin = np.einsum("nj,nj->n", to_world[rows, 2], rate[rows])[:, None] * (0.0, 0.0, 1.0)
        rising = (seen(3) - seen(1)) / (2.0 * dt) + np.cross(spin, linear)
        forces, jacobians = self._body.forces(
            np.hstack((_quat(to_world), pos))[rows],
            np.hstack((linear, rate[rows], vel[rows])),
            np.hstack((rising, _rate_of(np.hstack((rate, vel)), dt)[rows])),
        )
        return forces, self._pushes(jacobians, height, pos[rows]), self._outside(pos[rows])

    def _pushes(self, jacobians: Array, height: Array, pos: Array) -> Array:
        """Return what may push, (n, 6 + num_joints, m): each corner near the ground, within friction, and stops."""
        cone = np.array([[_FRICTION, 0, 1], [-_FRICTION, 0, 1], [0, _FRICTION, 1], [0, -_FRICTION, 1]])
        near = np.exp(-(height - height.min(axis=1, keepdims=True)) / _NEAR_GROUND_M)
        feet = np.einsum("dk,nckj->njcd", cone, jacobians) * near[:, None, :, None]
        joints = pos.shape[1]
        stops = np.zeros((len(pos), 6 + joints, 2 * joints))
        at = np.arange(joints)
        low, high = self._body.ranges_rad.T
        stops[:, 6 + at, at] = pos - low < _NEAR_STOP_RAD
        stops[:, 6 + at, joints + at] = -1.0 * (high - pos < _NEAR_STOP_RAD)
        return np.concatenate((feet.reshape(len(pos), 6 + joints, -1), stops), axis=2)

    def _outside(self, pos: Array) -> Array:
        low, high = self._body.ranges_rad.T
        out = np.maximum(low - pos, 0.0) + np.maximum(pos - high, 0.0)
        return _OUT_COSTS_NM * np.maximum(out - _OUT_OF_RANGE_RAD, 0.0).sum(axis=1)


def played(targets: Array, play_rad: Array) -> Array:
    """Return where gears with play come to stand, (n, num_joints), rad, for targets of this shape.

    The play operator: Nordin and Gutman 2002, "Controlling mechanical systems with backlash - a survey".
    """
    found, half = np.empty_like(targets), 0.5 * play_rad
    stands = targets[0]
    for row, target in enumerate(targets):
        stands = np.clip(stands, target - half, target + half)
        found[row] = stands
    return found


def not_negative(matrices: Array, wanted: Array, steps: int = 80) -> Array:
    """Return x ≥ 0, (n, m), that nearly minimises |A x - b|² for A (n, k, m) and b (n, k).

    Beck and Teboulle 2009, "A fast iterative shrinkage-thresholding algorithm for linear inverse problems".
    """
    square = np.matmul(matrices.transpose(0, 2, 1), matrices)
    linear = np.einsum("nkm,nk->nm", matrices, wanted)
    stride = 1.0 / (np.linalg.norm(square, axis=(1, 2)) + 1e-9)[:, None]
    found, ahead, pace = np.zeros_like(linear), np.zeros_like(linear), 1.0
    for _ in range(steps):
        better = np.maximum(0.0, ahead - stride * (np.matmul(square, ahead[..., None])[..., 0] - linear))
        faster = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * pace * pace))
        ahead = better + (pace - 1.0) / faster * (better - found)
        found, pace = better, faster
    return found


def _to_world(gravity: Array) -> Array:
    """Return rotations from the base to a world whose z axis is up and whose x axis is ahead, (n, 3, 3)."""
    up = -gravity
    forward = np.array((1.0, 0.0, 0.0)) - up * up[:, :1]
    ahead: Array = forward / np.maximum(np.linalg.norm(forward, axis=1, keepdims=True), 1e-9)
    axes = (ahead, np.cross(up, ahead), up)
    return np.stack([np.asarray(axis, np.float64) for axis in axes], axis=1)


def _quat(rotation: Array) -> Array:
    """Return unit quaternions, wxyz, (n, 4), of rotations by less than half a turn, (n, 3, 3)."""
    twice_w = np.sqrt(np.maximum(1e-9, 1.0 + np.einsum("nii->n", rotation)))
    axis = [rotation[:, j, i] - rotation[:, i, j] for i, j in ((1, 2), (2, 0), (0, 1))]
    return np.stack((0.5 * twice_w, *(0.5 * part / twice_w for part in axis)), axis=1)


def slopes(motion: Motion, body: Body, pos: Array | None = None) -> tuple[Array, NDArray[np.bool_]]:
    """Return how much each sole slopes forwards on its lower side, (n, 2), rad, and which foot carries, (n, 2).

    A foot that carries stands on a side of its sole, or on all of it: then the slope is the ground's. A foot counts as
    carrying if its lowest corner is as low as any.
    """
    rows = motion.rows
    corners = body.soles(motion.pos[rows] if pos is None else pos)
    height = -np.einsum("nfck,nk->nfc", corners, motion.gravity[rows])
    back, front = height[..., :2], height[..., 2:]
    length = np.linalg.norm(corners[:, :, 2:] - corners[:, :, :2], axis=3)
    side = np.argmin(back + front, axis=2)[..., None]
    slope = np.take_along_axis((back - front) / length, side, axis=2)[..., 0]
    lowest = height.min(axis=2)
    return slope, lowest - lowest.min(axis=1, keepdims=True) < _CARRIES_M
