"""Joint targets that tell what the servos are: `biped_run.py --excite SECONDS` plays them on a robot hung by its trunk.

Each joint goes through four kinds of motion, and neighbours through different ones at the same time:

- a multisine from slow to fast: inertia, damping, gain (Schroeder 1970 for its phases; Ljung, "System Identification",
  1999, chapter 13, for why many frequencies);
- slow ramps that turn back at random points: dry friction, play, and the weight of the links, which fixes the scale of
  all torques;
- small steps at random times: delay;
- bursts of small fast waves: play against friction, which look alike in slow motion.

Numpy alone: this runs on the robot's computer.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from biped.base.errors import UsageError
from biped.deploy.contract_file import PolicyContract

Array = NDArray[np.float64]

SHORTEST_S = 10.0
"""Shortest excitation (s)."""
RAMP_S = 1.0
"""Time over which the amplitude grows from 0, and shrinks to it again (s)."""
PIECE_S = 3.0
"""Time that a joint spends in one kind of motion (s)."""
BLEND_S = 0.8
"""Time from one kind of motion to the next (s)."""
LARGEST_SWING_RAD = 0.6
"""Largest distance from the middle of a joint's motion (rad)."""
ROOM = 0.9
"""Share of the way to the nearer limit that is used."""
TORQUE_SHARE, SPEED_SHARE = 0.4, 0.4
"""Shares of a motor's torque and speed limits that one step of the targets may ask for."""
WAVES_HZ = (0.15, 6.0)
"""Slowest and fastest wave of a multisine (Hz)."""
NUM_WAVES = 12
"""Waves of a multisine."""
FAST_HZ = (1.5, 7.0)
"""Slowest and fastest of the small fast waves (Hz)."""
RAMP_RAD_S = (0.1, 0.8)
"""Slowest and fastest ramp (rad/s)."""
STEP_S = (0.12, 0.5)
"""Shortest and longest time between two steps (s)."""
_DIGITS = 6


def excitation(
    contract: PolicyContract,
    lower_rad: Sequence[float] | Array,
    upper_rad: Sequence[float] | Array,
    seconds: float,
    seed: int = 0,
) -> Array:
    """Return joint targets (num_steps, num_joints), rad, one row per control step; the same arguments, the same bytes.

    They begin and end in the default pose, stay within the limits, and change per step by no more than `largest_step`;
    where that makes the way back take longer, there are some steps more.

    Args:
        contract: the robot's motors, default pose and control step.
        lower_rad: smallest target of each joint, (num_joints,), rad.
        upper_rad: largest target of each joint, (num_joints,), rad.
        seconds: length (s).
        seed: of all random choices.

    Raises:
        UsageError: it is too short, or no number, or the default pose is not within the limits.
    """
    pose, step = contract.default_pose_rad, largest_step(contract)
    lower, upper = np.asarray(lower_rad, float), np.asarray(upper_rad, float)
    if not SHORTEST_S <= seconds < np.inf:
        raise UsageError(f"an excitation of {seconds:g} s tells too little: let it last {SHORTEST_S:g} s or longer")
    for name, low, at, high in zip(contract.joint_names, lower, pose, upper, strict=True):
        if not low < at < high:
            raise UsageError(f"{name} stands at {at:g} rad, which is not within its limits {low:g} and {high:g} rad")
    swing = np.minimum(0.5 * ROOM * (upper - lower), LARGEST_SWING_RAD)
    middle = np.clip(pose, lower + swing, upper - swing)
    count = round(seconds / contract.dt_s)
    rng = np.random.default_rng(seed)
    columns = [
        middle[joint] + _motion(rng, joint, count, contract.dt_s, swing[joint], step[joint])
        for joint in range(len(pose))
    ]
    time_s = contract.dt_s * np.arange(count)
    grown = np.clip(np.minimum(time_s, time_s[-1] - time_s) / RAMP_S, 0.0, 1.0)[:, None]
    return _slowed(pose + grown * (np.stack(columns, axis=1) - pose), lower, upper, step)


def largest_step(contract: PolicyContract) -> Array:
    """Return the largest change of each target per control step, (num_joints,), rad.

    A step must not ask for a torque or a speed at which limits, which are known badly, would rule.
    """
    torque = np.array([TORQUE_SHARE * motor.torque_limit_nm / motor.kp_nm_per_rad for motor in contract.motors])
    speed = np.array([SPEED_SHARE * motor.velocity_limit_rad_s * contract.dt_s for motor in contract.motors])
    return np.minimum(torque, speed)


def _motion(rng: np.random.Generator, joint: int, count: int, dt_s: float, swing_rad: float, step_rad: float) -> Array:
    """Return one joint's way from the middle of its motion, (count,), rad."""
    kinds = (_multisine, _ramps, _fast_waves, _steps)
    length = round(PIECE_S / dt_s)
    share = np.clip(dt_s * np.arange(length) / BLEND_S, 0.0, 1.0)
    fading = 0.5 + 0.5 * np.cos(np.pi * share)
    pieces: list[Array] = []
    order = list(rng.permutation(len(kinds)))
    for number in range(-(-count // length)):
        # The order is drawn anew when all had their turn, so that no two joints stay in the same kinds together.
        if number % len(kinds) == 0:
            order = list(rng.permutation(len(kinds)))
        kind = kinds[order[(number + joint) % len(kinds)]]
        piece = kind(rng, length, dt_s, swing_rad, step_rad)
        # A jump to where a piece begins would ask for more torque than there is: it is taken over a while.
        gap = pieces[-1][-1] - piece[0] if pieces else 0.0
        pieces.append(piece + gap * fading)
    return np.clip(np.concatenate(pieces)[:count], -swing_rad, swing_rad)


def _multisine(rng: np.random.Generator, length: int, dt_s: float, swing_rad: float, step_rad: float) -> Array:
    """Return waves of equal speed: the slow ones are large, the fast ones small."""
    low, high = np.log(WAVES_HZ)
    grid = np.linspace(low, high, NUM_WAVES + 1)
    frequencies = np.exp(rng.uniform(grid[:-1], grid[1:]))
    phases = rng.uniform(0.0, 2.0 * np.pi, NUM_WAVES)
    angles = 2.0 * np.pi * frequencies * dt_s * np.arange(length)[:, None] + phases
    return _within((np.sin(angles) / frequencies).sum(axis=1), swing_rad, 0.8 * step_rad)


def _fast_waves(rng: np.random.Generator, length: int, dt_s: float, swing_rad: float, step_rad: float) -> Array:
    """Return a fast wave whose size changes from burst to burst, about a random place."""
    low, high = np.log(FAST_HZ)
    sizes = np.exp(rng.uniform(np.log(0.1), 0.0, 8))
    size = np.interp(np.linspace(0.0, 7.0, length), np.arange(8), sizes)
    frequency = np.exp(np.interp(np.linspace(0.0, 3.0, length), np.arange(4), rng.uniform(low, high, 4)))
    wave = np.sin(2.0 * np.pi * np.cumsum(frequency) * dt_s) / frequency * size
    return 0.6 * swing_rad * rng.uniform(-1.0, 1.0) + _within(wave, 0.4 * swing_rad, 0.8 * step_rad)


def _ramps(rng: np.random.Generator, length: int, dt_s: float, swing_rad: float, step_rad: float) -> Array:
    """Return slow ramps that turn back at random points."""
    corners, at, place = [0.0], [0.0], 0.0
    side = 1.0 if rng.uniform() < 0.5 else -1.0
    while at[-1] < length * dt_s:
        new = side * swing_rad * rng.uniform(-0.2, 1.0)
        speed = min(np.exp(rng.uniform(*np.log(RAMP_RAD_S))), step_rad / dt_s)
        at.append(at[-1] + max(abs(new - place) / speed, 2.0 * dt_s))
        corners.append(new)
        place, side = new, -side
    return np.interp(dt_s * np.arange(length), at, corners)


def _steps(rng: np.random.Generator, length: int, dt_s: float, swing_rad: float, step_rad: float) -> Array:
    """Return steps to random places, most of them as large as one control step may be."""
    track, place = np.zeros(length), 0.0
    index = 0
    while index < length:
        hold = max(1, round(rng.uniform(*STEP_S) / dt_s))
        track[index : index + hold] = place
        index += hold
        size = step_rad * rng.uniform(0.3, 1.0)
        side = 1.0 if rng.uniform() < 0.5 * (1.0 - place / swing_rad) else -1.0
        place = float(np.clip(place + side * size, -swing_rad, swing_rad))
    return track


def _within(wave: Array, swing_rad: float, step_rad: float) -> Array:
    """Return a wave as large as limits of place and of change per step allow, (length,)."""
    return wave * min(swing_rad / np.abs(wave).max(), step_rad / np.abs(np.diff(wave)).max())


def _slowed(targets: Array, lower: Array, upper: Array, step: Array) -> Array:
    """Return targets that never change by more than a step per row and stay within the limits, (num_steps, num_joints).

    Rows are added until the last targets are reached.

    They are rounded, so that another machine's sine gives the same bytes.
    """
    slow = np.empty_like(targets)
    slow[0] = targets[0]
    for row in range(1, len(targets)):
        slow[row] = slow[row - 1] + np.clip(targets[row] - slow[row - 1], -step, step)
    lag = np.abs(targets[-1] - slow[-1])
    late = np.arange(1, 1 + int(np.ceil((lag / step - 1e-9).max())))[:, None]
    way = np.minimum(late * step, lag) * np.sign(targets[-1] - slow[-1])
    slow = np.concatenate((slow, slow[-1] + way))
    # Rounding outward at a limit would cross it.
    return np.clip(np.round(slow, _DIGITS), lower, upper)
