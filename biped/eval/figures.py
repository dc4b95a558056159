"""Figures of recorded episodes: survival, command tracking, gait, and load on the servos.

Every figure is a pure function of a `Recording`; NaN if there is nothing to measure, which passes no bar. The start
of an episode, `SETTLE_S`, is left out. The constants are those of the biped; they are scaled to other robots' size.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from biped.config.robot import RobotConfig
from biped.config.scale import Scale
from biped.eval.recording import Bools, Recording
from biped.robot.actuators import Motors, available_torque
from biped.robot.state import GRAVITY_M_S2

SETTLE_S = 2.0
"""Start of an episode that figures leave out (s)."""
WALKING_M_S = 0.1
"""Horizontal speed from which a command asks to walk (m/s)."""
CHATTER_S = 0.06
"""A shorter time in the air is a bounce of the contact sensor, not a swing (s)."""
STEPPING_HZ = (0.7, 3.0)
"""Range of touchdowns per second and foot that counts as walking (Hz)."""

Figure = Callable[[Recording, RobotConfig], float]
"""Computes a figure from recorded episodes and the robot."""


def walking_m_s(scale: Scale) -> float:
    """Return the horizontal speed from which a command asks a robot of this size to walk, m/s."""
    return round(WALKING_M_S * scale.factor("m/s"), 3)


def walking_from(robot: RobotConfig) -> float:
    """Return `walking_m_s` of a robot."""
    return walking_m_s(Scale.of(robot.leg_length_m))


def walking(record: Recording) -> Bools:
    """Return the episodes whose command asks to walk, (num_envs,)."""
    return _speed(record) >= walking_m_s(record.scale)


def turning(record: Recording) -> Bools:
    """Return the episodes whose command asks to turn on the spot, (num_envs,)."""
    return (_speed(record) < walking_m_s(record.scale)) & (record.command[:, 2] != 0.0)


def standing(record: Recording) -> Bools:
    """Return the episodes whose command asks to stand, (num_envs,)."""
    return ~(walking(record) | turning(record))


def rewards_by_command(record: Recording) -> dict[str, float]:
    """Return the mean reward per second of a running episode by the kind of its command, of the kinds there are."""
    kinds = {"walking": walking(record), "turning": turning(record), "standing": standing(record)}
    sums, steps = record.rewards.sum(axis=(0, 2), dtype=np.float64), record.running.sum(axis=0)
    return {
        kind: float(sums[chosen].sum() / (record.dt_s * max(1, steps[chosen].sum())))
        for kind, chosen in kinds.items()
        if chosen.any()
    }


def _speed(record: Recording) -> NDArray:
    # Rounded to millimetres per second, because 0.1 m/s has no exact binary representation.
    return np.linalg.norm(record.command[:, :2], axis=1).round(3)


def measured(record: Recording) -> Bools:
    """Return the control steps used by figures, (num_steps, num_envs): after settling, while the episode is running."""
    settled = np.arange(len(record.running)) >= round(SETTLE_S * record.scale.factor("s") / record.dt_s)
    return record.running & settled[:, None]


def _mean(values: Any) -> float:
    return float(np.mean(values, dtype=np.float64)) if np.size(values) else math.nan


def _median(values: NDArray) -> float:
    return float(np.median(values)) if values.size else math.nan


# Falls and tracking


def survival(record: Recording, _: RobotConfig) -> float:
    """Share of the episodes that last until the time limit."""
    return _mean(~record.fell)


def error_lin_vel_x(record: Recording, _: RobotConfig) -> float:
    """Mean absolute error of the instantaneous forward velocity, m/s."""
    return _mean(tracking_errors(record)[measured(record)][:, 0])


def error_lin_vel_y(record: Recording, _: RobotConfig) -> float:
    """Mean absolute error of the instantaneous velocity to the left, m/s."""
    return _mean(tracking_errors(record)[measured(record)][:, 1])


def error_ang_vel(record: Recording, _: RobotConfig) -> float:
    """Mean absolute error of the instantaneous yaw rate, rad/s."""
    return _mean(tracking_errors(record)[measured(record)][:, 2])


def tracking_errors(record: Recording) -> NDArray:
    """Return |command - velocity|, (num_steps, num_envs, 3): m/s, m/s, rad/s."""
    achieved = np.concatenate((record.base_lin_vel_b[..., :2], record.base_ang_vel_b[..., 2:]), axis=-1)
    return np.abs(record.command - achieved)


# Gait


@dataclass(frozen=True)
class Runs:
    """Uninterrupted stretches of True in a mask (num_steps, num_envs, 2) that begin and end inside it."""

    first: NDArray[np.int64]
    """First step, (num_runs,)."""
    end: NDArray[np.int64]
    """The step after the last, (num_runs,)."""
    env: NDArray[np.int64]
    """Index of the environment, (num_runs,)."""
    foot: NDArray[np.int64]
    """Index of the foot, (num_runs,)."""


def complete_runs(mask: Bools) -> Runs:
    """Return the uninterrupted stretches of True that neither begin at the first step nor end at the last.

    Args:
        mask: the mask, (num_steps, num_envs, 2).
    """
    by_column = np.pad(mask.transpose(1, 2, 0), ((0, 0), (0, 0), (1, 1))).astype(np.int8)
    change = np.diff(by_column, axis=-1)
    env, foot, first = np.nonzero(change == 1)
    end = np.nonzero(change == -1)[2]
    inside = (first > 0) & (end < len(mask))
    return Runs(first[inside], end[inside], env[inside], foot[inside])


def steady_contacts(record: Recording) -> Bools:
    """Return the contacts (num_steps, num_envs, 2) with bounces, gaps shorter than `CHATTER_S`, filled."""
    contacts = record.contacts.copy()
    air = complete_runs(~contacts)
    for steps in range(1, round(CHATTER_S * record.scale.factor("s") / record.dt_s)):
        short = air.end - air.first == steps
        for offset in range(steps):
            contacts[air.first[short] + offset, air.env[short], air.foot[short]] = True
    return contacts


def _swings(record: Recording) -> Runs:
    """Return the swings that begin and end in measured steps."""
    air = complete_runs(~steady_contacts(record))
    on = measured(record)
    inside = on[air.first, air.env] & on[air.end, air.env]
    return Runs(air.first[inside], air.end[inside], air.env[inside], air.foot[inside])


def alternation(record: Recording, _: RobotConfig) -> float:
    """Share of the touchdowns that follow a touchdown of the other foot; both feet at once do not alternate."""
    swings = _swings(record)
    order = np.lexsort((swings.foot, swings.end, swings.env))
    env, foot, end = swings.env[order], swings.foot[order], swings.end[order]
    follows = env[1:] == env[:-1]
    alternates = (foot[1:] != foot[:-1]) & (end[1:] != end[:-1])
    return _mean(alternates[follows])


def swing_apex_left(record: Recording, _: RobotConfig) -> float:
    """Median over swings of the greatest height of the left sole's centre above the ground, m."""
    return _swing_apex(record, 0)


def swing_apex_right(record: Recording, _: RobotConfig) -> float:
    """Median over swings of the greatest height of the right sole's centre above the ground, m."""
    return _swing_apex(record, 1)


def _swing_apex(record: Recording, foot: int) -> float:
    swings = _swings(record)
    mine = swings.foot == foot
    height = record.foot_pos_w[:, :, foot, 2]
    bounds = zip(swings.first[mine], swings.end[mine], swings.env[mine], strict=True)
    return _median(np.array([height[first:end, env].max() for first, end, env in bounds]))


def step_frequency_left(record: Recording, _: RobotConfig) -> float:
    """Touchdowns of the left foot per second, Hz."""
    return _step_frequency(record, 0)


def step_frequency_right(record: Recording, _: RobotConfig) -> float:
    """Touchdowns of the right foot per second, Hz."""
    return _step_frequency(record, 1)


def _step_frequency(record: Recording, foot: int) -> float:
    time_s = measured(record).sum() * record.dt_s
    return float((_swings(record).foot == foot).sum() / time_s) if time_s else math.nan


def stepping(record: Recording, _: RobotConfig) -> float:
    """Share of the episodes in which both feet step at `STEPPING_HZ`; a mean over episodes would hide standing ones."""
    swings = _swings(record)
    time_s = measured(record).sum(axis=0) * record.dt_s
    low, high = (bound * record.scale.factor("Hz") for bound in STEPPING_HZ)
    steps = np.stack([np.bincount(swings.env[swings.foot == foot], minlength=len(time_s)) for foot in (0, 1)])
    frequency_hz = np.divide(steps, time_s, out=np.zeros(steps.shape), where=time_s > 0)
    return _mean(((low <= frequency_hz) & (frequency_hz <= high)).all(axis=0))


def duty_factor_left(record: Recording, _: RobotConfig) -> float:
    """Share of the time in which the left foot is on the ground."""
    return _mean(steady_contacts(record)[measured(record)][:, 0])


def duty_factor_right(record: Recording, _: RobotConfig) -> float:
    """Share of the time in which the right foot is on the ground."""
    return _mean(steady_contacts(record)[measured(record)][:, 1])


def flight(record: Recording, _: RobotConfig) -> float:
    """Share of the time in which both feet are in the air."""
    return _mean(~steady_contacts(record)[measured(record)].any(axis=1))


def stride_time_difference(record: Recording, _: RobotConfig) -> float:
    """Difference of the two feet's mean stride times in an episode, divided by their mean; averaged over episodes."""
    swings = _swings(record)
    means = np.full((2, len(record.command)), math.nan)
    for foot in (0, 1):
        mine = swings.foot == foot
        end, env = swings.end[mine], swings.env[mine]
        same = env[1:] == env[:-1]
        strides_s, env = np.diff(end)[same] * record.dt_s, env[1:][same]
        count = np.bincount(env, minlength=means.shape[1])
        total = np.bincount(env, strides_s, minlength=means.shape[1])
        means[foot] = np.divide(total, count, out=means[foot], where=count > 0)
    difference = np.abs(means[0] - means[1]) / means.mean(axis=0)
    return _mean(difference[np.isfinite(difference)])


def duty_factor_difference(record: Recording, _: RobotConfig) -> float:
    """Difference of the two feet's duty factors in an episode; averaged over episodes."""
    on = measured(record)
    steps = on.sum(axis=0)
    duty = (steady_contacts(record) & on[..., None]).sum(axis=0) / np.maximum(steps, 1)[:, None]
    return _mean(np.abs(duty[:, 0] - duty[:, 1])[steps > 0])


def stance_slip(record: Recording, _: RobotConfig) -> float:
    """Mean horizontal speed of the centre of a sole while it is on the ground, m/s."""
    speed = np.linalg.norm(record.foot_vel_w[..., :2], axis=-1)
    return _mean(speed[record.contacts & measured(record)[..., None]])


# Body and actuators


def base_height_deviation(record: Recording, _: RobotConfig) -> float:
    """Standard deviation of the base height over all episodes, m."""
    height = record.base_pos_w[..., 2][measured(record)]
    return float(height.std(dtype=np.float64)) if height.size else math.nan


def envelope_exceeded(record: Recording, robot: RobotConfig) -> float:
    """Share of joint-steps with more torque than the motor has at its speed; see `available_torque`."""
    torque = torch.from_numpy(record.joint_torque_nm)
    motors = Motors.build(robot)
    available = available_torque(torque, torch.from_numpy(record.joint_vel_rad_s), motors)
    # Up to a thousandth of the stall torque beyond the envelope is rounding.
    exceeded = torque.abs() > available + 1e-3 * motors.stall_torque_nm
    return _mean(exceeded.numpy()[measured(record)])


def cost_of_transport(record: Recording, _: RobotConfig) -> float:
    """Positive mechanical work divided by weight and distance travelled; braking recovers no energy."""
    on = measured(record)
    power_w = np.maximum(record.joint_torque_nm * record.joint_vel_rad_s, 0.0).sum(axis=-1)[on]
    speed_m_s = np.linalg.norm(record.base_lin_vel_b[..., :2], axis=-1)[on]
    carried = record.mass_kg * GRAVITY_M_S2 * speed_m_s.sum(dtype=np.float64)
    return float(power_w.sum(dtype=np.float64) / carried) if carried else math.nan


def drift(record: Recording, _: RobotConfig) -> float:
    """Net horizontal displacement divided by time, for robots commanded to stand, m/s."""
    on = measured(record)
    steps = on.sum(axis=0)
    some = np.flatnonzero(steps > 1)
    first = on.argmax(axis=0)[some]
    start, end = record.base_pos_w[first, some, :2], record.base_pos_w[first + steps[some] - 1, some, :2]
    return _mean(np.linalg.norm(end - start, axis=-1) / ((steps[some] - 1) * record.dt_s))


def feet_on_ground(record: Recording, _: RobotConfig) -> float:
    """Share of the time in which both feet are on the ground."""
    return _mean(record.contacts[measured(record)].all(axis=-1))


# Predictions of the policy


def estimates(record: Recording) -> tuple[NDArray, NDArray]:
    """Return the policy's predictions of velocity and height, and the true values, (n, 4) each: m/s, m/s, m/s, m.

    A prediction is of the observed state, which is the state after the previous step.
    """
    if not record.estimate.shape[-1]:
        return np.zeros((0, 4)), np.zeros((0, 4))
    truth = np.concatenate((record.base_lin_vel_b, record.base_pos_w[..., 2:]), axis=-1)
    seen = measured(record)[:-1] & record.running[1:]
    return record.estimate[1:][seen], truth[:-1][seen]


def estimate_error_velocity(record: Recording, _: RobotConfig) -> float:
    """Root mean square error of the predicted horizontal velocities of the base, m/s."""
    guess, truth = estimates(record)
    return math.sqrt(_mean(np.square(guess[:, :2] - truth[:, :2])))


def estimate_error_height(record: Recording, _: RobotConfig) -> float:
    """Root mean square error of the predicted height of the base, m."""
    guess, truth = estimates(record)
    return math.sqrt(_mean(np.square(guess[:, 3] - truth[:, 3])))
