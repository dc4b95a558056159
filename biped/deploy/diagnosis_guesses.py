"""The mistakes that `diagnosis_body` tries: wiring, offsets, the IMU's axes, and what motors may have."""

from collections.abc import Iterator
from itertools import combinations, permutations, product

import numpy as np
from numpy.typing import NDArray

from biped.deploy.diagnosis_body import Guess, Motion
from biped.deploy.diagnosis_log import SPAN

Array = NDArray[np.float64]

_FEWEST_SPANS = 2
_TILTS_RAD = (0.09, 0.14, 0.21, 0.35)


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
    if len(gravity) <= SPAN:
        return np.nan
    moved = (gravity[SPAN:] - gravity[:-SPAN]) / (SPAN * dt_s)
    turning = np.cross(-rate, gravity)
    said = (turning[SPAN:] + turning[:-SPAN] + 2.0 * (turning[3:-1] + turning[2:-2] + turning[1:-3])) / 8.0
    there = np.isfinite(moved).all(axis=1) & np.isfinite(said).all(axis=1)
    if there.sum() < _FEWEST_SPANS:
        return np.nan
    return float(((moved - said)[there] ** 2).sum() / ((moved[there] ** 2).sum() + 1e-9))


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


def guesses_of_tilt(sizes_rad: tuple[float, ...] = _TILTS_RAD) -> Iterator[Guess]:
    """Yield an IMU that is mounted at an angle, forwards, backwards and to the sides."""
    for size in sizes_rad:
        for side in (1.0, -1.0):
            cosine, sine = np.cos(size), side * np.sin(size)
            pitch = np.array(((cosine, 0.0, sine), (0.0, 1.0, 0.0), (-sine, 0.0, cosine)))
            roll = np.array(((1.0, 0.0, 0.0), (0.0, cosine, -sine), (0.0, sine, cosine)))
            for matrix, ways in ((pitch, ("forwards", "back")), (roll, ("to the right", "to the left"))):
                # What it undoes is a reading as of a robot that leans the other way.
                what = f"the IMU, as if the robot leaned {ways[side < 0.0]}"
                yield Guess("IMU tilt", what, gravity_from=matrix, rate_from=matrix, size=size)


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
        yield Guess("latency", "all joints", latency_s=float(latency), size=float(latency))


def guesses_of_motor(names: tuple[str, ...], limits_nm: Array, joint: int) -> Iterator[Guess]:
    """Yield more sizes of what the motor of one joint may have."""
    is_it, name = np.arange(len(names)) == joint, names[joint]
    for gain in (0.25, 0.55, 1.7, 3.5):
        yield Guess(_stiffness(gain), name, gain=np.where(is_it, gain, 1.0), size=gain)
    for share in (0.1, 0.15, 0.3, 0.45):
        yield Guess("torque limit", name, limit_nm=np.where(is_it, share, 1.0) * limits_nm, size=share)
    for size in (0.07, 0.16, 0.2, 0.25):
        yield Guess("play", name, play_rad=size * is_it, size=size)
