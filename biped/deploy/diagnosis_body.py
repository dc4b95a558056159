"""What the physics says about a log: would the robot have moved so, with these joints, this IMU and these motors?

Newton's law must hold for the whole robot: its inverse dynamics equals the torques of the contract's motors plus forces
that push at the soles. A log of a miswired robot breaks it, and keeps it once the mistake is undone: each `Guess` is a
mistake, and the one whose undoing fits best is the cause.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations, permutations, product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from biped.deploy.contract_file import PolicyContract
from biped.deploy.run_log import RunLog

Array = NDArray[np.float64]

ROWS = 50
"""How many steps of a log are looked at: the calmest."""
_FALLEN_RAD, _FEWEST = 0.6, 8
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
    source: Array | None = None
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
    def of(cls, log: RunLog, rate_factor: float = 1.0) -> "Motion | None":
        """Cut out of a log what is on the ground and not fallen; None if that is too short."""
        ground = np.flatnonzero(log.during("standing", "walking"))
        gravity = log["gravity_b"].astype(float)
        size = np.linalg.norm(gravity, axis=1, keepdims=True)
        gravity = gravity / np.where(size > 0.0, size, 1.0)
        if len(ground) < _FEWEST:
            return None
        first, last = ground[0], ground[-1]
        fallen = np.flatnonzero(_angles(gravity[ground], np.nanmedian(gravity[: first + 5], axis=0)) > _FALLEN_RAD)
        if len(fallen) and fallen[0] > _FEWEST:
            last = ground[fallen[0]]
        cut = slice(max(0, first - 1), last + 1)
        pos, vel = log["pos_rad"][cut].astype(float), log["vel_rad_s"][cut].astype(float)
        rate = rate_factor * log["ang_vel_b"][cut].astype(float)
        rows = _calm(pos, vel, rate, gravity[cut])
        if len(rows) < _FEWEST:
            return None
        return cls(pos, vel, gravity[cut], rate, log["target_rad"][: last + 1].astype(float), rows)


def _angles(vectors: Array, other: Array) -> Array:
    return np.arccos(np.clip(vectors @ other / np.linalg.norm(other), -1.0, 1.0))


def _calm(pos: Array, vel: Array, rate: Array, gravity: Array) -> NDArray[np.int64]:
    """Return the rows whose neighbours are there, the calmest of them: impacts are no one's mistake."""
    all_there = np.isfinite(np.hstack((pos, vel, rate, gravity))).all(axis=1)
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
        height = float(contract.raw["robot"]["default_base_height_m"])
        mass = float(getattr(body, "mass_kg", 1.698))
        self._spread = _SPREAD_NM * mass * 9.81 * height / _OF_NM
        self._as_read = self._dynamics(Guess())

    def misfit(self, guess: Guess) -> float:
        """Return how badly a guess fits, from 0, perfect, to 1; each row counts at most 1 / n (Geman and McClure)."""
        forces, pushes, outside = self._as_read if guess.is_of_motors else self._dynamics(guess)
        torque = self._undone(self._torques(guess), guess)
        lacking = forces.copy()
        lacking[:, 6:] -= torque
        weight = np.ones(lacking.shape[1])
        weight[:3] = _FORCE_WEIGHT_M
        columns, wanted = pushes * weight[:, None], lacking * weight
        rest = wanted - np.matmul(columns, not_negative(columns, wanted)[..., None])[..., 0]
        size = np.linalg.norm(rest, axis=1) + outside
        return float(np.mean(size**2 / (size**2 + self._spread**2)))

    def _undone(self, columns: Array, guess: Guess) -> Array:
        columns = columns if guess.source is None else columns[:, guess.source.astype(int)]
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
    ahead = np.array((1.0, 0.0, 0.0)) - up * up[:, :1]
    ahead = ahead / np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)
    return np.stack((ahead, np.cross(up, ahead), up), axis=1)


def _quat(rotation: Array) -> Array:
    """Return unit quaternions, wxyz, (n, 4), of rotations by less than half a turn, (n, 3, 3)."""
    twice_w = np.sqrt(np.maximum(1e-9, 1.0 + np.trace(rotation, axis1=1, axis2=2)))
    axis = [rotation[:, j, i] - rotation[:, i, j] for i, j in ((1, 2), (2, 0), (0, 1))]
    return np.stack((0.5 * twice_w, *(0.5 * part / twice_w for part in axis)), axis=1)


def signed_axes() -> Iterator[Array]:
    """Yield all 48 ways to mistake the axes of a sensor, as matrices (3, 3)."""
    for order, signs in product(permutations(range(3)), product((1.0, -1.0), repeat=3)):
        matrix = np.zeros((3, 3))
        matrix[range(3), order] = signs
        yield matrix


def consistency(motion: Motion, dt_s: float, gravity_from: Array, rate_from: Array) -> float:
    """Return how much of gravity's motion in the base frame the angular velocity leaves unexplained, 0 to about 2.

    A vector that is fixed in the world moves in the base frame as dg/dt = -w x g.
    """
    gravity, rate = motion.gravity @ gravity_from.T, motion.rate @ rate_from.T
    # A difference over four steps against the mean rate of these: gravity is measured with noise.
    there = np.isfinite(gravity).all(axis=1) & np.isfinite(rate).all(axis=1)
    if len(gravity) < 6 or not there.all():
        return np.nan
    moved = (gravity[4:] - gravity[:-4]) / (4.0 * dt_s)
    turning = np.cross(-rate, gravity)
    said = (turning[4:] + turning[:-4] + 2.0 * (turning[3:-1] + turning[2:-2] + turning[1:-3])) / 8.0
    return float(((moved - said) ** 2).sum() / ((moved**2).sum() + 1e-9))


def slopes(motion: Motion, body: Body, pos: Array | None = None) -> tuple[Array, Array]:
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


def guesses_of_wiring(names: tuple[str, ...]) -> Iterator[Guess]:
    """Yield joints exchanged and joints reversed."""
    count = len(names)
    for one, other in combinations(range(count), 2):
        source = np.arange(count)
        source[[one, other]] = other, one
        yield Guess("joint order", f"{names[one]} and {names[other]}", source=source)
    for joint, name in enumerate(names):
        yield Guess("joint direction", name, sign=np.where(np.arange(count) == joint, -1.0, 1.0))


def guesses_of_offsets(names: tuple[str, ...], sizes_rad: tuple[float, ...]) -> Iterator[Guess]:
    """Yield each joint with its zero wrong."""
    for joint, name in enumerate(names):
        for size in sizes_rad:
            yield Guess("joint offset", name, offset_rad=size * (np.arange(len(names)) == joint), size=size)


def guesses_of_play(names: tuple[str, ...], sizes_rad: tuple[float, ...]) -> Iterator[Guess]:
    """Yield play in each joint, and in all."""
    for size in sizes_rad:
        yield Guess("play", "all joints", play_rad=np.full(len(names), size), size=size)
    middle = sizes_rad[len(sizes_rad) // 2]
    for joint, name in enumerate(names):
        yield Guess("play", name, play_rad=middle * (np.arange(len(names)) == joint), size=middle)


def guesses_of_imu(motion: Motion, dt_s: float) -> Iterator[Guess]:
    """Yield mistaken axes of the IMU after which gravity and angular velocity agree, the robot about upright."""
    mean = np.nanmean(motion.gravity, axis=0)
    rows = []
    for gravity_from in signed_axes():
        if (gravity_from @ mean)[2] > -0.7:
            continue
        rows += [(consistency(motion, dt_s, gravity_from, rate), gravity_from, rate) for rate in signed_axes()]
    best = min((row[0] for row in rows), default=np.nan)
    for unexplained, gravity_from, rate_from in rows:
        is_identity = np.array_equal(gravity_from, np.eye(3)) and np.array_equal(rate_from, np.eye(3))
        if is_identity or not unexplained <= 1.3 * best + 0.05:
            continue
        whole = not np.array_equal(gravity_from, np.eye(3))
        both = np.array_equal(np.abs(gravity_from), np.eye(3)) and np.array_equal(np.abs(rate_from), np.eye(3))
        what = ("IMU" if whole else "gyroscope") + ": " + _in_words(rate_from if not whole else gravity_from)
        yield Guess("IMU sign" if both else "IMU axes", what, gravity_from=gravity_from, rate_from=rate_from)


def _in_words(matrix: Array) -> str:
    parts = []
    for axis, row in zip("xyz", matrix, strict=True):
        index = int(np.argmax(np.abs(row)))
        parts.append(f"{axis} should be {'-' if row[index] < 0 else ''}{'xyz'[index]}")
    return ", ".join(part for part in parts if part[0] != part.split()[-1])


def _stiffness(gain: float) -> str:
    return "gain too low" if gain < 1.0 else "gain too high"


def guesses_of_motors(names: tuple[str, ...], limits_nm: Array) -> Iterator[Guess]:
    """Yield gains, torque limits and latencies, of all joints and of each."""
    count = len(names)
    for gain in (0.25, 0.35, 0.5, 0.65, 1.6, 2.0, 3.0):
        yield Guess(_stiffness(gain), "all joints", gain=gain, size=gain)
    for share in (0.15, 0.2, 0.3, 0.4, 0.55):
        yield Guess("torque limit", "all joints", limit_nm=share * limits_nm, size=share)
    for joint, name in enumerate(names):
        is_it = np.arange(count) == joint
        for gain in (0.4, 2.5):
            yield Guess(_stiffness(gain), name, gain=np.where(is_it, gain, 1.0), size=gain)
        yield Guess("torque limit", name, limit_nm=np.where(is_it, 0.2, 1.0) * limits_nm, size=0.2)
    for latency in np.arange(0.01, 0.13, 0.01):
        yield replace(Guess("latency", "all joints"), latency_s=float(latency), size=float(latency))


def guesses_of_motor(names: tuple[str, ...], limits_nm: Array, joint: int) -> Iterator[Guess]:
    """Yield more sizes of what the motor of one joint may have."""
    is_it, name = np.arange(len(names)) == joint, names[joint]
    for gain in (0.25, 0.55, 1.7, 3.5):
        yield Guess(_stiffness(gain), name, gain=np.where(is_it, gain, 1.0), size=gain)
    for share in (0.1, 0.15, 0.3, 0.45):
        yield Guess("torque limit", name, limit_nm=np.where(is_it, share, 1.0) * limits_nm, size=share)
    for size in (0.07, 0.16, 0.2, 0.25):
        yield Guess("play", name, play_rad=size * is_it, size=size)
