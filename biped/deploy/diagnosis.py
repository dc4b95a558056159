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
    guesses_of_tilt,
    guesses_of_wiring,
)
from biped.deploy.diagnosis_log import RULES, Finding, directions
from biped.deploy.diagnosis_policy import Policy, findings_of_policy
from biped.deploy.run_log import PHASES, UNDER_TORQUE, RunLog
from biped.deploy.safety import tilt_of


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
        "unknown": Cause(
            "the log does not fit the robot's model, and no single mistake explains it",
            "check that the model is this robot's, then its wiring joint by joint",
            2,
        ),
    }
)
"""Name to cause."""

GAIN_OF_GUESS: Mapping[str, float] = MappingProxyType(
    {
        "IMU axes": 0.25,
        "IMU sign": 0.25,
        "IMU tilt": 0.3,
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
FEWEST_STEPS = 10
"""Steps of a log below which nothing can be examined."""
LEAST_LATENCY_S = 0.045
"""Latency from which it is a fault (s): policies are trained with up to two steps."""
FITS, FITS_BADLY, CLEAR_GAIN, CLEAR_RINGING = 0.55, 0.8, 1.0, 0.6
"""Misfit below which a log is explained, sound robots have up to 0.45; up to the second it is if a guess lowers the log
odds by so much. Ringing motors fit badly with any gain."""
_LEAST_DROP = 0.03
_FIRST_ROWS, _CANDIDATES, _TILTS = 16, 6, 3
SLOPES_APART_RAD = 0.055
"""How much soles may slope against each other (rad)."""
_FEWEST_STANDING, _STEADY_RAD, _SMALL_RAD, _AS_GOOD, _ALIKE, _CLEARER = 5, 0.04, 0.02, 0.12, 0.35, 0.6


def diagnose(log: RunLog, body: Body | None = None, policy: Policy | None = None) -> tuple[Finding, ...]:
    """Return what is wrong, most certain first; empty if nothing is found.

    Args:
        log: the log of a run.
        body: the robot's model; None: rules of the log alone.
        policy: the policy that is said to have driven; None: actions are not compared.

    Raises:
        UsageError: the log's contract is damaged.
    """
    contract, log = log.policy, _without_infinities(log)
    found = [finding for rule in RULES for finding in rule(log, contract)]
    if policy is not None:
        found += findings_of_policy(log, policy)
    if body is not None and all(CAUSES[finding.cause].tier > 0 for finding in found):
        found += findings_of_physics(log, contract, body)
    return ranked(found)


def _without_infinities(log: RunLog) -> RunLog:
    """Return a log in which all that is no number is NaN."""
    columns = {
        name: np.where(np.isfinite(column), column, np.nan) if column.dtype.kind == "f" else column
        for name, column in log.columns.items()
    }
    return replace(log, columns=columns)


def ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings, most certain first, without those that another one explains."""
    order = list(CAUSES)
    rows = sorted(findings, key=lambda one: (CAUSES[one.cause].tier, -one.strength, order.index(one.cause)))
    return tuple(row for row in rows if CAUSES[row.cause].tier == CAUSES[rows[0].cause].tier)


def findings_of_physics(log: RunLog, contract: PolicyContract, body: Body) -> Iterator[Finding]:
    """Say which mistake makes the log fit the robot's model, if one does."""
    motion = Motion.of(log)
    if motion is None:
        return
    limits = np.array([motor.torque_limit_nm for motor in contract.motors])
    names = contract.joint_names
    guesses = [
        *guesses_of_imu(motion, contract.dt_s),
        *guesses_of_tilt(),
        *guesses_of_wiring(names),
        *guesses_of_offsets(names, (-0.12, 0.12)),
        *guesses_of_play(names, (0.06, 0.12, 0.2)),
        *guesses_of_motors(names, limits),
    ]
    physics = Physics(contract, motion, body)
    plain = physics.misfit(Guess())
    tried = sorted(
        ((physics.misfit(guess), guess) for guess in _best(contract, motion, body, guesses)), key=lambda row: row[0]
    )
    misfit, best, others = _preferred(tried)
    gain = _log_odds(plain) - _log_odds(misfit)
    is_clear = gain >= GAIN_OF_GUESS[best.cause] and plain - misfit >= _LEAST_DROP
    is_latency = best.cause == "latency" and best.latency_s < LEAST_LATENCY_S
    clear_gain = CLEAR_RINGING if best.cause == "gain too high" else CLEAR_GAIN
    is_explained = misfit < FITS or (misfit < FITS_BADLY and gain >= clear_gain)
    sloping = _sloping(contract, motion, body, physics)
    if sloping is not None and not (is_clear and gain >= _CLEARER and best.cause != "joint offset"):
        yield sloping
    elif is_clear and is_explained and not is_latency:
        what = best.what + "".join(f", or else {other.cause} of {other.what}" for other in others)
        yield Finding(best.cause, what, _evidence(best, plain, misfit), 1.0 - misfit / plain)
    elif min(plain, misfit) >= FITS and has_fallen(log, contract):
        text = f"misfit with the laws of motion {plain:.2f}, and {misfit:.2f} with the best guess"
        yield Finding("unknown", "", text, 0.1)


def has_fallen(log: RunLog, contract: PolicyContract) -> bool:
    """Return whether the robot was falling at the end: one that walks on has no fault that needs a name."""
    gravity_b = log["gravity_b"].astype(float)
    seen = gravity_b[np.isfinite(gravity_b).all(axis=1)]
    return bool(len(seen)) and tilt_of(seen[-1]) > 0.5 * contract.max_tilt_rad


def _preferred(tried: list[tuple[float, Guess]]) -> tuple[float, Guess, list[Guess]]:
    """Return the best of some guesses, its misfit, and what else explains as much.

    Args:
        tried: misfits and guesses, the best first.

    A tilted IMU and a hip's offset to the side look alike. Of a tilt and two exchanged joints that fit alike, it is the
    tilt: exchanging what is right does harm, and few exchanges come close to a tilt by chance.
    """
    misfit, best = tried[0]

    def near(cause: str, apart: float) -> list[tuple[float, Guess]]:
        return [row for row in tried if row[1].cause == cause and _log_odds(row[0]) - _log_odds(misfit) < apart]

    if best.cause == "joint offset":
        tilts = [guess for _, guess in near("IMU tilt", _ALIKE) if guess.is_sideways]
        return misfit, best, tilts[:1]
    if tilts := near("IMU tilt", _AS_GOOD):
        offsets = {guess.what: guess for _, guess in near("joint offset", _ALIKE if tilts[0][1].is_sideways else 0.0)}
        return (*tilts[0], list(offsets.values())[:2])
    return misfit, best, []


def _sloping(contract: PolicyContract, motion: Motion, body: Body, physics: Physics) -> Finding | None:
    """Say that one sole seems to stand on a slope and the other does not."""
    slope, carries = slopes(motion, body)
    if min(carries.sum(axis=0)) < _FEWEST_STANDING:
        return None
    found = np.array([np.median(slope[np.flatnonzero(carries[:, foot]), foot]) for foot in (0, 1)])
    spread = max(np.median(np.abs(slope[np.flatnonzero(carries[:, foot]), foot] - found[foot])) for foot in (0, 1))
    if spread > _STEADY_RAD:
        return None
    in_words = f"under load the left sole slopes by {_degrees(found[0])}, the right one by {_degrees(found[1])}"
    if abs(found[0] - found[1]) < SLOPES_APART_RAD:
        return None
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
    turned = [guess for guess in first if guess.cause in ("IMU axes", "IMU sign")][:_CANDIDATES]
    tilted = [guess for guess in first if guess.cause == "IMU tilt"][:_TILTS]
    moved = [guess for guess in first if guess.cause == "joint offset"][:_TILTS]
    others = [guess for guess in [*turned, *tilted, *moved] if all(guess is not one for one in first[:_CANDIDATES])]
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
        "IMU tilt": f"by about {np.degrees(guess.size):.0f}°",
        "play": f"about {np.degrees(guess.size):.0f}°",
        "torque limit": f"about {100.0 * guess.size:.0f}% of the contract's",
        "gain too low": f"about {guess.size:.2g} times the contract's",
        "gain too high": f"about {guess.size:.2g} times the contract's",
        "latency": f"about {1000.0 * guess.size:.0f} ms",
    }.get(guess.cause, "")
    laws = f"misfit with the laws of motion {plain:.2f}, and {misfit:.2f} once corrected"
    return f"{size}; {laws}" if size else laws


def as_lines(findings: tuple[Finding, ...], log: RunLog) -> tuple[str, ...]:
    """Return what to print; where nothing was found, also what could not be examined, and why."""
    if not findings:
        return (_nothing(log),)
    lines = []
    for number, finding in enumerate(findings):
        cause = CAUSES[finding.cause]
        what = f" ({finding.what})" if finding.what else ""
        lines.append(f"{'also: ' if number else ''}{finding.cause}: {cause.meaning}{what}: {finding.evidence}")
        lines.append(f"    remedy: {cause.remedy}")
    return tuple(lines)


def _nothing(log: RunLog) -> str:
    steps = f"{len(log)} step{'' if len(log) == 1 else 's'}"
    known, held = log.during(*PHASES), log.during(*UNDER_TORQUE)
    if len(log) < FEWEST_STEPS:
        return f"not examined: the log has {steps}, and {FEWEST_STEPS} are the fewest that tell anything"
    if not known.any():
        return f"not examined: none of the {steps} is in a phase that this program knows"
    if not held.any():
        return f"not examined: the servos are limp throughout the {steps}"
    if Motion.of(_without_infinities(log)) is None:
        ground = log.during("standing", "walking")
        if ground.sum() < FEWEST_STEPS:
            why = f"{int(ground.sum())} steps of standing or walking are too few"
        else:
            gravity = np.isfinite(directions(log["gravity_b"][ground])).all(axis=1)
            silent = "IMU" if gravity.sum() < FEWEST_STEPS else "servos or IMU"
            why = f"readings of the {silent} are missing"
        return f"nothing found in {steps} by rules of the log alone; the laws of motion were not examined: {why}"
    return f"nothing found in {steps}"
