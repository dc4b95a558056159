"""Rules that need the log alone: each is a function from a log to what it has found, if anything.

They look at what a program or a bus does wrong, which leaves exact traces, and at power and heat.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biped.deploy.contract_file import PolicyContract
from biped.deploy.run_log import UNDER_TORQUE, RunLog

Array = NDArray[np.float64]

RATE_SHARE, CLOCK_SHARE = 0.05, 0.03
"""How far the loop's rate and the gait clock's may be off."""
GRAVITY_SHARE, SCALE_SHARE = 0.05, 0.05
"""How far the length of gravity may be from 1, and the scale of a term from the contract's."""
LOST_SHARE, FROZEN_S, FROZEN_RAD = 0.03, 0.25, 0.15
"""Share of answers that may be lost, twice that of one servo; how long a sensor may say the same (s) while a joint's
target moves by this (rad): friction holds joints too."""
SAG_SHARE, HOT_C, WEAKER = 0.15, 70.0, 0.8
"""By how much the voltage may drop; temperature from which a servo protects itself, and the torque it then lacks."""
GYRO_OFF = 1.4
"""Factor by which a gyroscope's scale must be off."""
_TURNS_RAD_S = 0.15
SPAN = 4
"""Steps over which gravity's turning is measured."""
_EXACT = 0.01
_PUSHED_RAD = 0.05
_NO_LENGTH = 1e-6


@dataclass(frozen=True)
class Finding:
    """A cause, and why it is thought to be one."""

    cause: str
    """Its name: a key of `biped.deploy.diagnosis.CAUSES`."""
    what: str
    """What of the robot it is about; may be empty."""
    evidence: str
    """The numbers, in one phrase."""
    strength: float
    """From 0 to 1: how sure it is."""


def directions(vectors: Array) -> Array:
    """Return unit vectors, (n, 3); NaN where a vector has no length or is not finite."""
    vectors = np.asarray(vectors, float)
    vectors = np.where(np.isfinite(vectors), vectors, np.nan)
    size = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(size > _NO_LENGTH, size, np.nan)


Rule = Callable[[RunLog, PolicyContract], Iterator[Finding]]


def wrong_rate(log: RunLog, contract: PolicyContract) -> Iterator[Finding]:
    """The loop is slower or faster than the policy was trained for."""
    # Between two phases a program may pause: servos are switched on, a person is waited for.
    together = (np.diff(log["phase"]) == 0) & log.during(*UNDER_TORQUE)[1:]
    steps = np.diff(log["time_s"])[together]
    steps = steps[np.isfinite(steps)]
    if len(steps) < 10:
        return
    if (back := int((steps < 0.0).sum())) or not steps.any():
        text = f"time_s goes back in {back} of {len(steps)} steps" if back else "time_s stands still"
        yield Finding("wrong rate", "the log's clock", text, 1.0)
        return
    mean = float(steps.mean())
    late = float((steps > 1.5 * contract.dt_s).mean())
    if abs(mean / contract.dt_s - 1.0) > RATE_SHARE:
        yield Finding(
            "wrong rate",
            "the loop",
            f"it runs at {1.0 / mean:.1f} Hz, the policy was trained at {1.0 / contract.dt_s:.0f} Hz; "
            f"{100.0 * late:.0f}% of the steps take over 1.5 times too long",
            1.0,
        )


def wrong_clock(log: RunLog, contract: PolicyContract) -> Iterator[Finding]:
    """The gait clock does not advance as the contract says."""
    phase = _term(log, contract, "gait_phase")
    if phase is None:
        return
    angle = np.arctan2(phase[:, 0], phase[:, 1])
    moves = np.abs(np.hypot(phase[:, 0], phase[:, 1]) - 1.0) < 0.05
    both = moves[1:] & moves[:-1]
    if both.sum() < 10:
        return
    turned = (np.diff(angle) + np.pi) % (2.0 * np.pi) - np.pi
    found = float(np.median(turned[both])) / (2.0 * np.pi * contract.dt_s)
    if abs(found / contract.frequency_hz - 1.0) > CLOCK_SHARE:
        text = f"its clock makes {found:.2f} strides per second, the contract says {contract.frequency_hz:.2f}"
        yield Finding("wrong rate", "the gait clock", text, 1.0)


def lost_packets(log: RunLog, contract: PolicyContract) -> Iterator[Finding]:
    """Servos do not answer."""
    lost = ~np.isfinite(log["pos_rad"])
    if not len(lost):
        return
    shares = lost.mean(axis=0)
    share, longest = float(lost.any(axis=1).mean()), _longest(np.asarray(lost.any(axis=1)))
    if shares.mean() <= LOST_SHARE and shares.max() <= 2.0 * LOST_SHARE and longest <= contract.max_held_steps:
        return
    worst = int(np.argmax(shares))
    name, is_one = contract.joint_names[worst], shares[worst] > 3.0 * (np.median(shares) + 0.002)
    too_much = []
    if shares.mean() > LOST_SHARE:
        too_much.append(f"{100.0 * shares.mean():.1f}% of all answers are missing")
    if shares[worst] > 2.0 * LOST_SHARE:
        too_much.append(f"{100.0 * shares[worst]:.1f}% of the answers of {name} are missing")
    if longest > contract.max_held_steps:
        too_much.append(f"{longest} steps in a row lack an answer, the policy bears {contract.max_held_steps}")
    text = f"{'; '.join(too_much)} ({100.0 * share:.1f}% of the steps lack one)"
    yield Finding("lost packets", name if is_one else "the bus", text, 1.0)


def gravity_scale(log: RunLog, _: PolicyContract) -> Iterator[Finding]:
    """Gravity is no unit vector, or none at all."""
    length = np.linalg.norm(log["gravity_b"].astype(float), axis=1)
    length = length[np.isfinite(length)]
    if not len(length):
        return
    if (dead := float((length <= _NO_LENGTH).mean())) > LOST_SHARE:
        text = f"gravity_b is 0 long in {100.0 * dead:.0f}% of the steps: the IMU is dead, or was not read"
        yield Finding("gravity scale", "the IMU", text, 1.0)
    elif abs((found := float(np.median(length))) - 1.0) > GRAVITY_SHARE:
        unit = ", as if in m/s²" if 9.0 < found < 10.6 else ""
        yield Finding("gravity scale", "the IMU", f"gravity_b is {found:.2f} long{unit}; it must be 1", 1.0)


def gravity_not_down(log: RunLog, _: PolicyContract) -> Iterator[Finding]:
    """Gravity points elsewhere although the robot is held upright."""
    rows = log.during("to pose") if log.during("to pose").sum() > 10 else log.during("standing")
    gravity = directions(log["gravity_b"][rows])
    gravity = gravity[np.isfinite(gravity).all(axis=1)]
    if not len(gravity):
        return
    mean = np.median(gravity, axis=0)
    axis = int(np.argmax(np.abs(mean)))
    if axis == 2 and mean[2] < 0.0:
        return
    pointing = f"{'+' if mean[axis] > 0 else '-'}{'xyz'[axis]}"
    text = f"gravity_b is {_numbers(mean)} while the robot takes its pose: it points to {pointing}, not to -z"
    yield Finding("IMU sign" if axis == 2 else "IMU axes", "the IMU", text, 0.95)


def gyro_scale(log: RunLog, contract: PolicyContract) -> Iterator[Finding]:
    """The angular velocity is not that of gravity in the base frame: dg/dt = -w x g, but for a factor."""
    factor = gyro_factor(log, contract)
    if factor is None or 1.0 / GYRO_OFF < factor < GYRO_OFF:
        return
    unit = ", as if in deg/s" if 45.0 < factor < 70.0 else ""
    text = f"the angular velocity is {factor:.3g} times that with which gravity turns in the base frame{unit}"
    yield Finding("gyroscope scale", "the IMU", text, 1.0)


def gyro_factor(log: RunLog, contract: PolicyContract) -> float | None:
    """Return the factor on the angular velocity, by the sizes of both turnings; None where too little turns.

    Sizes do not know which way: axes are for `diagnosis_body`.
    """
    gravity, rate = directions(log["gravity_b"]), log["ang_vel_b"].astype(float)
    if len(gravity) < 20:
        return None
    moved = np.linalg.norm(gravity[SPAN:] - gravity[:-SPAN], axis=1) / (SPAN * contract.dt_s)
    mean = (rate[SPAN:] + rate[:-SPAN] + 2.0 * (rate[3:-1] + rate[2:-2] + rate[1:-3])) / 8.0
    turning = np.linalg.norm(np.cross(mean, gravity[2:-2]), axis=1)
    chosen = (moved > _TURNS_RAD_S) & np.isfinite(turning)  # one reading that is lost takes its spans alone
    if chosen.sum() < 10:
        return None
    return float(np.median(turning[chosen] / moved[chosen]))


def wrong_observation(log: RunLog, contract: PolicyContract) -> Iterator[Finding]:
    """What the policy was given is not what the contract says of the readings."""
    for term in contract.terms:
        seen, value = log["observation"][:, term.where].astype(float), _reading(log, contract, term.name)
        if value is None:
            continue
        rows = (
            np.isfinite(seen).all(axis=1) & np.isfinite(value).all(axis=1) & (np.abs(seen) < contract.clip).all(axis=1)
        )
        size = float(np.square(value[rows]).sum())
        if rows.sum() < 5 or size < 1e-6 or _agree(seen[rows], term.scale * value[rows]):
            continue
        factor = float((seen[rows] * value[rows]).sum() / size)
        if (
            _agree(seen[rows], factor * value[rows])
            and abs(factor / term.scale - 1.0) > SCALE_SHARE
            and abs(factor) > 1e-6
        ):
            text = f"its scale is {factor:.4g}, the contract says {term.scale:.4g}"
            yield Finding("observation scale", term.name, text, 1.0)
        elif (other := _place_of(log, contract, term.scale * value, np.asarray(rows), term.name)) is not None:
            yield Finding("observation order", term.name, f"it stands where {other} belongs", 1.0)


def _place_of(log: RunLog, contract: PolicyContract, wanted: Array, rows: NDArray[np.bool_], name: str) -> str | None:
    """Return the term of the same width in whose place the numbers are."""
    for other in contract.terms:
        seen = log["observation"][:, other.where].astype(float)
        if other.name != name and seen.shape == wanted.shape:
            scale = float((seen[rows] * wanted[rows]).sum() / np.square(wanted[rows]).sum())
            if scale > 0.0 and _agree(seen[rows], scale * wanted[rows]):
                return other.name
    return None


def deaf(log: RunLog, contract: PolicyContract) -> Iterator[Finding]:
    """The person commands, and the policy stands."""
    asked = np.array([contract.command.followed(given) for given in log["given_command"]]).reshape(-1, 3)
    rows = log.during("walking") & asked.any(axis=1)
    if rows.sum() < 10:
        return
    got = log["command"][rows].astype(float)
    seen = [_term(log, contract, name) for name in _COMMANDS]
    observed = (
        np.hstack([column[rows] for column in seen if column is not None]) if any(s is not None for s in seen) else got
    )
    silent = float(np.mean(~np.nan_to_num(got).any(axis=1))), float(np.mean(~np.nan_to_num(observed).any(axis=1)))
    if max(silent) > 0.5:
        what = "command" if silent[0] > 0.5 else "observation's command"
        text = f"the person asked for {_numbers(np.median(asked[rows], axis=0))}, and the policy's {what} is zero"
        yield Finding("command", "", f"{text} in {100.0 * max(silent):.0f}% of those steps", 1.0)


_COMMANDS = ("command_lin_vel_x_b", "command_lin_vel_y_b", "command_ang_vel_b")


def frozen(log: RunLog, contract: PolicyContract) -> Iterator[Finding]:
    """A sensor repeats itself while the robot moves."""
    least = max(5, round(FROZEN_S / contract.dt_s))
    imu = np.hstack((log["gravity_b"], log["ang_vel_b"]))
    same = (np.diff(imu, axis=0) == 0.0).all(axis=1)
    if (run := _longest(same)) >= least:
        text = f"gravity and angular velocity are the same to the last bit in {run + 1} steps in a row"
        yield Finding("frozen sensor", "the IMU", text, 1.0)
    pos, targets = log["pos_rad"].astype(float), log["target_rad"].astype(float)
    for joint, name in enumerate(contract.joint_names):
        stuck = (np.diff(pos[:, joint]) == 0.0) & (np.diff(log["vel_rad_s"][:, joint]) == 0.0)
        for begin, end in _runs(stuck):
            if end - begin < least:
                continue
            asked = targets[begin : end - 1, joint]
            error = asked - pos[begin, joint]
            # A joint at its stop is pushed one way throughout, and does not move.
            is_pushed = max(error.min(), -error.max()) > _PUSHED_RAD and not log["vel_rad_s"][begin, joint]
            if np.ptp(asked) > FROZEN_RAD and not is_pushed:
                text = f"its position stays {pos[begin, joint]:.3f} rad for {(end - begin) * contract.dt_s:.2f} s"
                yield Finding("frozen sensor", name, f"{text} while its target moves by {np.ptp(asked):.2f} rad", 0.97)
                break


def stuck_switch(log: RunLog, contract: PolicyContract) -> Iterator[Finding]:
    """A foot switch never changes while the robot walks."""
    contact = _term(log, contract, "foot_contact")
    rows = log.during("walking")
    if contact is None or rows.sum() * contract.dt_s < 2.0 / contract.frequency_hz:
        return
    on = (contact[rows] > 0.5).mean(axis=0)
    for foot, share in zip(("left", "right"), on, strict=False):
        if share in (0.0, 1.0) and 0.0 < on.mean() < 1.0:
            state = "on" if share else "off"
            other = 100.0 * float(on.sum() - share)
            text = f"it is {state} in every step of walking, the other one in {other:.0f}% of them"
            yield Finding("foot switch", f"the {foot} foot", text, 0.95)


def sagging(log: RunLog, _: PolicyContract) -> Iterator[Finding]:
    """The voltage drops when the motors work."""
    volts = log["voltage_v"].astype(float)
    if not np.isfinite(volts).any():
        return
    usual = _row_medians(volts)
    usual = usual[np.isfinite(usual)]
    full, low = float(np.quantile(usual, 0.98)), float(np.quantile(usual, 0.05))
    if full > 0.0 and 1.0 - low / full > SAG_SHARE:
        current = np.abs(log["current_a"].astype(float)).sum(axis=1)
        text = f"the voltage falls from {full:.1f} to {low:.1f} V under load ({100.0 * (1.0 - low / full):.0f}%)"
        peak = float(np.nanmax(current)) if np.isfinite(current).any() else np.nan
        yield Finding("voltage sag", "", text + (f", at up to {peak:.1f} A in all" if np.isfinite(peak) else ""), 0.9)


def throttled(log: RunLog, contract: PolicyContract) -> Iterator[Finding]:
    """A hot servo gives less current for the same demand."""
    heat = log["temperature_c"].astype(float)
    for joint, name in enumerate(contract.joint_names):
        column = heat[:, joint]
        if not np.isfinite(column).any() or np.nanmax(column) < HOT_C:
            continue
        demand, given = demanded(log, contract, joint), log["current_a"][:, joint].astype(float)
        hot, cool = column >= min(HOT_C + 3.0, np.nanmax(column) - 1.0), column < HOT_C
        strong = np.abs(demand) > np.nanquantile(np.abs(demand), 0.6)
        rows = [np.isfinite(demand) & np.isfinite(given) & strong & part for part in (hot, cool)]
        if min(part.sum() for part in rows) < 5:
            continue
        slopes = [_slope(demand[part], given[part]) for part in rows]
        if slopes[1] > 0.0 and slopes[0] / slopes[1] < WEAKER:
            heat_text = f"it has {np.nanmax(column):.0f} °C, and when hot gives {100.0 * slopes[0] / slopes[1]:.0f}%"
            text = f"{heat_text} of the current that it gave below {HOT_C:.0f} °C for the same demand"
            yield Finding("overheating", name, text, 0.95)


def demanded(log: RunLog, contract: PolicyContract, joint: int) -> Array:
    """Return the torque that the contract's law asks of a joint, (num_steps,), N·m, not clipped.

    A reading comes before the target of its own step: the one before is in force.
    """
    motor, target = contract.motors[joint], log["target_rad"][:, joint].astype(float)
    before = np.concatenate((target[:1], target[:-1]))
    pos, vel = log["pos_rad"][:, joint].astype(float), log["vel_rad_s"][:, joint].astype(float)
    return motor.kp_nm_per_rad * (before - pos) - motor.kd_nm_s_per_rad * vel


RULES: tuple[Rule, ...] = (
    wrong_rate,
    wrong_clock,
    lost_packets,
    gravity_scale,
    gravity_not_down,
    gyro_scale,
    wrong_observation,
    deaf,
    frozen,
    stuck_switch,
    sagging,
    throttled,
)
"""All of them."""


def _term(log: RunLog, contract: PolicyContract, name: str) -> Array | None:
    """Return a term of the observation without its scale, (num_steps, width); None if there is none, or never seen."""
    for term in contract.terms:
        if term.name == name:
            return log["observation"][:, term.where].astype(float) / term.scale
    return None


def _reading(log: RunLog, contract: PolicyContract, name: str) -> Array | None:
    """Return what a term should be before its scale, (num_steps, width); None for what the log cannot tell."""
    action = log["action"].astype(float)
    command = log["command"].astype(float)
    known = {
        "projected_gravity_b": log["gravity_b"],
        "base_ang_vel_b": log["ang_vel_b"],
        **{name: command[:, index : index + 1] for index, name in enumerate(_COMMANDS)},
        "joint_pos_rad": log["pos_rad"] - contract.default_pose_rad,
        "joint_vel_rad_s": log["vel_rad_s"],
        "previous_action": np.vstack((np.full_like(action[:1], np.nan), action[:-1])),
    }
    value = known.get(name)
    return None if value is None else np.asarray(value, float)


def _agree(one: Array, other: Array) -> bool:
    """Whether two arrays are the same but for rounding, and for a few steps in which a program began anew."""
    off = np.abs(one - other).max(axis=1) > _EXACT * (np.abs(other).max() + 1e-3)
    return bool(off.mean() < 0.05)


def _slope(x: Array, y: Array) -> float:
    return float((x * y).sum() / max(float((x * x).sum()), 1e-12))


def _row_medians(values: Array) -> Array:
    there = np.isfinite(values).any(axis=1)
    found = np.full(len(values), np.nan)
    found[there] = np.nanmedian(values[there], axis=1)
    return found


def _runs(flags: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each run of True."""
    edges = np.diff(np.concatenate(([0], np.asarray(flags, int), [0])))
    yield from zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True)


def _longest(flags: NDArray[np.bool_]) -> int:
    return max((end - begin for begin, end in _runs(flags)), default=0)


def _numbers(values: Array) -> str:
    return "(" + ", ".join(f"{value:.2f}" for value in values) + ")"
