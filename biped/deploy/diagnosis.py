"""Says what is wrong with a robot whose policy walks in simulation, from the log of a run.

`python -m biped diagnose` prints it; docs/diagnose.md has the method.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from biped.deploy.contract_file import PolicyContract
from biped.deploy.diagnosis_body import Body, Guess, Motion, Physics, slopes
from biped.deploy.diagnosis_guesses import (
    guesses_of_imu,
    guesses_of_motor,
    guesses_of_motors,
    guesses_of_offsets,
    guesses_of_play,
    guesses_of_wiring,
)
from biped.deploy.diagnosis_log import RULES, Finding, gyro_factor
from biped.deploy.diagnosis_policy import Policy, findings_of_policy
from biped.deploy.run_log import RunLog


@dataclass(frozen=True)
class Cause:
    """Something that can be wrong."""

    meaning: str
    """What is wrong, in a few words."""
    remedy: str
    """What to do."""
    tier: int
    """Causes of a lower tier explain away all of a higher one."""


CAUSES: Mapping[str, Cause] = MappingProxyType(
    {
        "lost packets": Cause(
            "servos do not answer", "check plugs and cables, lower the baud rate, and shorten the bus", 0
        ),
        "frozen sensor": Cause("a sensor repeats itself", "read it anew in each step, and check its cable", 0),
        "another policy": Cause(
            "the log is not of this policy", "run and diagnose with the same policy.onnx and its own contract", 0
        ),
        "memory": Cause(
            "the policy's memory is not carried over", "give it h_out and c_out of the step before as h and c", 0
        ),
        "observation order": Cause("the observation is in another order", "lay it out as observation.terms says", 0),
        "observation scale": Cause("a term of the observation has another scale", "take scale from the contract", 0),
        "gravity scale": Cause("gravity is no unit vector", "divide it by its length", 0),
        "gyroscope scale": Cause("the angular velocity is not in rad/s", "convert it to rad/s in the IMU's driver", 0),
        "command": Cause("the command does not reach the policy", "pass it on, within the contract's ranges", 0),
        "wrong rate": Cause(
            "the time between steps is not the policy's", "run loop and gait clock at the contract's rates", 0
        ),
        "foot switch": Cause("a foot switch is stuck", "check the switch and its cable", 0),
        "voltage sag": Cause("the battery gives way", "charge or change it, and use shorter, thicker cables", 1),
        "overheating": Cause("a servo is hot and protects itself", "let it cool, and lighten its load", 1),
        "IMU axes": Cause("the IMU's axes are exchanged", "correct its mounting matrix in the wiring", 2),
        "IMU sign": Cause("the IMU has a wrong sign", "correct its mounting matrix in the wiring", 2),
        "IMU tilt": Cause("the IMU is mounted at an angle", "mount it level, or correct its mounting matrix", 2),
        "joint order": Cause("two joints are exchanged", "exchange their ids in the wiring", 2),
        "joint direction": Cause("a joint turns the other way", "change its direction in the wiring", 2),
        "joint offset": Cause("a joint's zero is wrong", "set its zero again in the wiring", 2),
        "torque limit": Cause("motors give less than the contract's torque", "raise the servos' current limit", 2),
        "gain too low": Cause("servos are softer than the contract's", "raise their P gain", 2),
        "gain too high": Cause("servos are stiffer than the contract's, and ring", "lower their P gain", 2),
        "latency": Cause("targets take effect late", "shorten the bus's return delay, and read and write in bulk", 2),
        "play": Cause("a joint has play", "tighten or replace horn, bearing and bracket", 2),
    }
)
"""Name to cause."""

GAIN_OF_GUESS: Mapping[str, float] = MappingProxyType(
    {
        "IMU axes": 0.25,
        "IMU sign": 0.25,
        "joint order": 0.3,
        "joint direction": 0.3,
        "joint offset": 0.35,
        "torque limit": 0.5,
        "gain too low": 0.4,
        "gain too high": 0.25,
        "latency": 0.5,
        "play": 0.3,
    }
)
"""By how much a guess must lower the log odds of the misfit to count; sound robots reach 0.2."""
LEAST_LATENCY_S = 0.045
"""Latency from which it is a fault (s): policies are trained with up to two steps."""
_LEAST_DROP = 0.03
_FIRST_ROWS, _CANDIDATES = 16, 6
SLOPES_APART_RAD, SLOPE_RAD = 0.055, 0.09
"""How much soles may slope against each other, and both against gravity (rad): floors slope, and IMUs are tilted."""
_FEWEST_STANDING, _STEADY_RAD, _SMALL_RAD, _AS_GOOD, _CLEARER = 5, 0.04, 0.02, 0.12, 0.6


def diagnose(log: RunLog, body: Body | None = None, policy: Policy | None = None) -> tuple[Finding, ...]:
    """Return what is wrong, most certain first; empty if nothing is found.

    Args:
        log: the log of a run.
        body: the robot's model; None: rules of the log alone.
        policy: the policy that is said to have driven; None: actions are not compared.

    Raises:
        UsageError: the log's contract is damaged.
    """
    contract = log.policy
    found = [finding for rule in RULES for finding in rule(log, contract)]
    if policy is not None:
        found += findings_of_policy(log, policy)
    if body is not None and all(CAUSES[finding.cause].tier > 0 for finding in found):
        found += findings_of_physics(log, contract, body)
    return ranked(found)


def ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings, most certain first, without those that another one explains."""
    order = list(CAUSES)
    rows = sorted(findings, key=lambda one: (CAUSES[one.cause].tier, -one.strength, order.index(one.cause)))
    return tuple(row for row in rows if CAUSES[row.cause].tier == CAUSES[rows[0].cause].tier)


def findings_of_physics(log: RunLog, contract: PolicyContract, body: Body) -> Iterator[Finding]:
    """Say which mistake makes the log fit the robot's model, if one does."""
    factor = gyro_factor(log, contract) or 1.0
    motion = Motion.of(log, 1.0 if 0.7 < factor < 1.4 else 1.0 / factor)
    if motion is None:
        return
    limits = np.array([motor.torque_limit_nm for motor in contract.motors])
    names = contract.joint_names
    guesses = [
        *guesses_of_imu(motion, contract.dt_s),
        *guesses_of_wiring(names),
        *guesses_of_offsets(names, (-0.12, 0.12)),
        *guesses_of_play(names, (0.06, 0.12, 0.2)),
        *guesses_of_motors(names, limits),
    ]
    physics = Physics(contract, motion, body)
    plain = physics.misfit(Guess())
    tried = _best(contract, motion, body, guesses)
    misfit, best = min(((physics.misfit(guess), guess) for guess in tried), key=lambda row: row[0])
    gain = _log_odds(plain) - _log_odds(misfit)
    is_clear = gain >= GAIN_OF_GUESS[best.cause] and plain - misfit >= _LEAST_DROP
    sloping = _sloping(contract, motion, body, physics)
    if sloping is not None and not (is_clear and gain >= _CLEARER and best.cause != "joint offset"):
        yield sloping
    elif is_clear and (best.cause != "latency" or best.latency_s >= LEAST_LATENCY_S):
        yield Finding(best.cause, best.what, _evidence(best, plain, misfit), 1.0 - misfit / plain)


def _sloping(contract: PolicyContract, motion: Motion, body: Body, physics: Physics) -> Finding | None:
    """Say that one sole seems to stand on a slope and the other does not, or that both do."""
    slope, carries = slopes(motion, body)
    if min(carries.sum(axis=0)) < _FEWEST_STANDING:
        return None
    found = np.array([np.median(slope[np.flatnonzero(carries[:, foot]), foot]) for foot in (0, 1)])
    spread = max(np.median(np.abs(slope[np.flatnonzero(carries[:, foot]), foot] - found[foot])) for foot in (0, 1))
    if spread > _STEADY_RAD:
        return None
    in_words = f"under load the left sole slopes by {_degrees(found[0])}, the right one by {_degrees(found[1])}"
    if abs(found[0] - found[1]) < SLOPES_APART_RAD:
        if abs(found.mean()) < SLOPE_RAD:
            return None
        return Finding("IMU tilt", "the IMU", f"{in_words}: so would both on a tilted IMU", 0.5)
    foot = int(np.argmax(np.abs(found)))
    fits = []
    for joint, name in enumerate(contract.joint_names):
        moved = motion.pos[motion.rows] + _SMALL_RAD * (np.arange(motion.pos.shape[1]) == joint)
        turned = (
            np.median((slopes(motion, body, moved)[0] - slope)[np.flatnonzero(carries[:, foot])], axis=0) / _SMALL_RAD
        )[foot]
        if abs(turned) > 0.5:
            size = (found[1 - foot] - found[foot]) / turned
            guess = Guess("joint offset", name, offset_rad=size * (np.arange(motion.pos.shape[1]) == joint), size=size)
            fits.append((physics.misfit(guess), guess))
    if not fits:
        return None
    fits.sort(key=lambda row: row[0])
    first = fits[0][1]
    close = [g.what for misfit, g in fits[1:] if _log_odds(misfit) - _log_odds(fits[0][0]) < _AS_GOOD]
    what = first.what + (f", or else {' or '.join(close)}" if close else "")
    return Finding("joint offset", what, f"by about {_degrees(first.size)}; {in_words}", 0.9)


def _degrees(angle_rad: float) -> str:
    return f"{np.degrees(angle_rad):+.0f}°"


def _best(contract: PolicyContract, motion: Motion, body: Body, guesses: list[Guess]) -> list[Guess]:
    """Return the guesses that fit a few rows best: one in three rows says which are worth a second look."""
    few = motion.rows[:: max(1, len(motion.rows) // _FIRST_ROWS)]
    physics = Physics(contract, replace(motion, rows=few), body)
    first = sorted(guesses, key=physics.misfit)
    # An IMU is seen only where the robot turns: there may be few such rows.
    turned = [guess for guess in first if guess.cause.startswith("IMU")][:_CANDIDATES]
    others = [guess for guess in turned if all(guess is not one for one in first[:_CANDIDATES])]
    # Which joint is clear sooner than what its motor has.
    names = contract.joint_names
    joints = [names.index(guess.what) for guess in first if guess.is_of_motors and guess.what in names][:1]
    limits = np.array([motor.torque_limit_nm for motor in contract.motors])
    more = [more for joint in joints for more in guesses_of_motor(names, limits, joint)]
    return [*first[:_CANDIDATES], *others, *more]


def _log_odds(share: float) -> float:
    share = min(max(share, 1e-4), 1.0 - 1e-4)
    return float(np.log(share / (1.0 - share)))


def _evidence(guess: Guess, plain: float, misfit: float) -> str:
    size = {
        "joint offset": f"by about {np.degrees(guess.size):+.0f}°",
        "play": f"about {np.degrees(guess.size):.0f}°",
        "torque limit": f"about {100.0 * guess.size:.0f}% of the contract's",
        "gain too low": f"about {guess.size:.2g} times the contract's",
        "gain too high": f"about {guess.size:.2g} times the contract's",
        "latency": f"about {1000.0 * guess.size:.0f} ms",
    }.get(guess.cause, "")
    laws = f"misfit with the laws of motion {plain:.2f}, and {misfit:.2f} once corrected"
    return f"{size}; {laws}" if size else laws


def as_lines(findings: tuple[Finding, ...], log: RunLog) -> tuple[str, ...]:
    """Return what to print."""
    if not findings:
        return (f"nothing found in {len(log)} steps",)
    lines = []
    for number, finding in enumerate(findings):
        cause = CAUSES[finding.cause]
        what = f" ({finding.what})" if finding.what else ""
        lines.append(f"{'also: ' if number else ''}{finding.cause}: {cause.meaning}{what}: {finding.evidence}")
        lines.append(f"    remedy: {cause.remedy}")
    return tuple(lines)
