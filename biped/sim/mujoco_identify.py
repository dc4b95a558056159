"""Finds what a robot's actuators are from the log of an excitation: `python -m biped identify LOG --out NEW.json`.

The whole log is simulated at once and compared with the encoders alone (an output-error method: Ljung, "System
Identification", 1999, chapter 7). A driven joint forgets its start within a fraction of a second, so nothing has to be
started anew in between, and no noise of a measured speed gets into a start. The optimiser is MuJoCo's own Gauss-Newton
with bounds, `mujoco.minimize`: it is installed with MuJoCo, while `mujoco.sysid`, which calls it too, needs further
packages, compiles the model anew for each change, and knows neither play nor a target that acts late.
"""

import importlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biped.base.errors import UsageError
from biped.config.task import EnvConfig
from biped.sim.mujoco_hung import PARAMETERS, Array, Excited, HungRobot

FITTED = 0.7
"""Share of the log that is fitted; the rest is held out."""
SHORTEST_S = 10.0
"""Shortest log (s)."""
GAP, MOST_LOST = 10.0, 0.5
"""Time without a row that ends a stretch, in control steps, and the largest share of positions that may be missing."""
SHORTEST_GRAVITY, SAME_WAY = 0.01, 0.5
"""Length of a measured gravity, and of the mean of unit vectors, below which it points nowhere."""
FORGOTTEN_S = 0.5
"""Time at the beginning that is not compared: the robot's speed there is unknown (s)."""
ENDS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "gain": (0.2, 3.0),
        "damping": (0.05, 10.0),
        "friction": (0.0, 20.0),
        "armature": (0.1, 10.0),
        "delay": (0.0, 4.0),
        "play": (0.0, 10.0),
    }
)
"""Smallest and largest value of each parameter, in scales of `Fit.scale`."""
BY_LOGARITHM = ("gain", "damping", "armature")
"""Parameters whose logarithm is sought: they are never 0, and a step too far does not end at one."""
GAIN_KNOWN_TO = 0.2
"""How well the logarithm of the gain is known beforehand (standard deviation), where a joint carries no weight.

Without a known torque, such as the weight of a link, gain, damping, friction and armature of a joint could all be
larger by one factor, and its motion would be the same.
"""
NOISE_MRAD = 0.44
"""Error of a position (mrad): what rounding to 4096 steps per turn makes; it weighs the log against `GAIN_KNOWN_TO`."""
BLOCK_S = 1.0
"""Length of the blocks whose scatter makes the intervals (s)."""
CONFIDENT = 1.96
"""Half of a 95% interval, in standard deviations."""
_STEP = 1e-3
"""Step of the numeric derivatives, in scales."""
_MM = 1e3
"""Residuals are in mrad: the optimiser's tolerances are absolute."""
_ROUNDS = 30
ROUGH_S = 14.0
"""Length of the part that is fitted first (s)."""
ROUGHLY, CLOSE = 2e-2, 3e-3
"""Relative size of a step that ends the fit of that part, and of all."""


@dataclass(frozen=True)
class Identified:
    """What was found, and how well it explains the log; arrays of parameters are (num_joints, num_parameters)."""

    joint_names: tuple[str, ...]
    """The joints."""
    values: Array
    """What was found."""
    intervals: Array
    """Half of each 95% interval."""
    nominal: Array
    """What the robot's file said."""
    log: Excited
    """What was explained."""
    before_rad: Array
    """Positions by the robot's file, (num_steps, num_joints), rad."""
    after_rad: Array
    """Positions by what was found, (num_steps, num_joints), rad."""
    held_out: NDArray[np.bool_]
    """Which steps were not fitted, (num_steps,)."""

    def rmse_rad(self, simulated_rad: Array) -> Array:
        """Return the root mean square error of each joint in the held-out part, (num_joints,), rad."""
        return np.sqrt(np.nanmean((simulated_rad - self.log.pos_rad)[self.held_out] ** 2, axis=0))


def excited(columns: Mapping[str, Any], chosen: NDArray[np.bool_], dt_s: float) -> Excited:
    """Return the longest stretch without a gap of what a robot did while it was excited.

    Args:
        columns: `time_s`, `target_rad`, `pos_rad` and `gravity_b` of a log, one row per control step.
        chosen: which rows are of the excitation, (num_steps,).
        dt_s: time between control steps as planned (s).

    Raises:
        UsageError: the log has no excitation, or too short a one, a clock that does not run, or a servo or an IMU that
            hardly ever answered.
    """
    chosen = chosen & np.isfinite(columns["target_rad"]).all(axis=1)
    if not np.isfinite(columns["time_s"][chosen]).all() or (np.diff(columns["time_s"][chosen]) <= 0.0).any():
        raise UsageError("the log's clock stands still or goes back during the excitation: record another log")
    names = ("time_s", "target_rad", "pos_rad", "gravity_b")
    time_s, target_rad, pos_rad, gravity_b = (np.asarray(columns[name], float)[chosen] for name in names)
    cuts = (np.flatnonzero(np.diff(time_s) > GAP * dt_s) + 1).tolist()
    ends = zip([0, *cuts], [*cuts, len(time_s)], strict=True)
    part = slice(*max(ends, key=lambda pair: pair[1] - pair[0]))
    time_s, pos_rad = time_s[part], pos_rad[part]
    if len(time_s) * dt_s < SHORTEST_S:
        raise UsageError(
            f"the log has {len(time_s) * dt_s:.1f} s of excitation, and {SHORTEST_S:g} are needed: record one with "
            "biped_run.py --excite 60"
        )
    if (lost := np.isnan(pos_rad).mean(axis=0)).max() > MOST_LOST:
        raise UsageError(f"joint number {int(lost.argmax()) + 1} was not read in {lost.max():.0%} of the steps")
    return Excited(time_s - time_s[0], target_rad[part], pos_rad, _direction(gravity_b[part]), dt_s)


def _direction(gravity_b: Array) -> Array:
    """Return the mean direction of gravity of some rows, (3,).

    Raises:
        UsageError: they have none: how a robot hangs must be known.
    """
    size = np.linalg.norm(np.where(np.isfinite(gravity_b), gravity_b, np.nan), axis=1)
    there = size > SHORTEST_GRAVITY
    mean = (gravity_b[there] / size[there, None]).mean(axis=0) if there.any() else np.zeros(3)
    if there.mean() < 1.0 - MOST_LOST or np.linalg.norm(mean) < SAME_WAY:
        raise UsageError(
            "gravity_b has no direction during the excitation, so how the trunk hangs is unknown: check the IMU, and "
            "record another log"
        )
    return mean / np.linalg.norm(mean)


def identify(cfg: EnvConfig, log: Excited, say: Callable[[str], None] = print) -> Identified:
    """Fit the actuators of a robot to the first part of a log, and judge them by the rest.

    Args:
        cfg: the robot as its file says.
        log: what it did.
        say: gets lines of progress.

    Raises:
        MachineError: MuJoCo or the robot's model is missing, or cannot be built.
    """
    names = cfg.robot.joint_names
    count = int(FITTED * len(log.time_s))
    robot = HungRobot(cfg, log)
    values, intervals = np.empty_like(robot.nominal), np.empty_like(robot.nominal)
    for limb in robot.limbs:
        say(f"fitting {', '.join(names[joint] for joint in limb)}")
        chosen = list(limb)
        fit, rough = Fit(HungRobot(cfg, _first(log, count), limb)), round(ROUGH_S / log.dt_s)
        start = fit.start
        if count > rough:  # a part of the log is enough to come close, in a third of the time
            start = Fit(HungRobot(cfg, _first(log, rough), limb)).improved(start, ROUGHLY, say)
        sought = fit.improved(start, CLOSE, say)
        values[chosen], intervals[chosen] = fit.values(sought), fit.intervals(sought)
    before, after = robot.positions(np.stack((robot.nominal, values)))
    held_out = np.arange(len(log.time_s)) >= count
    return Identified(names, values, intervals, robot.nominal, log, before, after, held_out)


def _first(log: Excited, count: int) -> Excited:
    return Excited(log.time_s[:count], log.targets_rad[:count], log.pos_rad[:count], log.gravity_b, log.dt_s)


class Fit:
    """The least-squares problem of one limb: parameters in scales or as logarithms of that, residuals in mrad."""

    def __init__(self, robot: HungRobot) -> None:
        """Choose scales and a start."""
        self._robot, self._log = robot, robot.log
        log = robot.log
        nominal = robot.nominal
        column = dict(zip(PARAMETERS, nominal.T, strict=True))
        torque = robot.torque_limit_nm
        scale = {
            "gain": np.ones(len(nominal)),
            "damping": np.maximum(column["damping"], 0.01 * torque),
            "friction": np.maximum(column["friction"], 0.01 * torque),
            "armature": np.maximum(column["armature"], 1e-4),
            "delay": np.full(len(nominal), log.dt_s),
            "play": np.full(len(nominal), 0.01),
        }
        self.scale = np.stack([scale[name] for name in PARAMETERS], axis=1)
        self._is_log = np.array([name in BY_LOGARITHM for name in PARAMETERS])
        ends = np.array([ENDS[name] for name in PARAMETERS]).T
        self._ends = [np.tile(self._sought(end), len(nominal)) for end in ends]
        start = nominal / self.scale
        start[:, PARAMETERS.index("delay")] = start[:, PARAMETERS.index("play")] = 0.5
        self.start = self._sought(np.clip(start, *ends)).ravel()
        """What the optimiser changes, at the robot's file, (num_joints * num_parameters,)."""
        self._compared = np.isfinite(log.pos_rad) & (log.time_s >= FORGOTTEN_S)[:, None]
        self._jacobian: Array = np.empty(0)

    def improved(self, sought: Array, close: float, say: Callable[[str], None]) -> Array:
        """Return a better fit, (num_joints * num_parameters,).

        Args:
            sought: where to begin.
            close: relative size of the step that is the last.
            say: gets a line per step.
        """
        minimize = importlib.import_module("mujoco.minimize")

        def report(trace: list[Any]) -> None:
            rms = np.sqrt(2.0 * float(trace[-1].objective) / self._compared.sum())
            say(f"{self._log.time_s[-1]:.0f} s, step {len(trace)}: positions explained to {rms:.3f} mrad")

        found, _ = minimize.least_squares(
            sought,
            self._residuals,
            bounds=self._ends,
            jacobian=self._derivatives,
            verbose=minimize.Verbosity.SILENT,
            output=io.StringIO(),
            iter_callback=report,
            max_iter=_ROUNDS,
            xtol=close,
        )
        return found

    def intervals(self, sought: Array) -> Array:
        """Return half of each 95% interval, (num_joints, num_parameters), after `improved`."""
        blocks = (self._log.time_s / BLOCK_S).astype(int)
        block = np.broadcast_to(blocks[:, None], self._compared.shape)[self._compared]
        residual = self._residuals(sought[:, None])[:, 0]
        deviations = deviations_of(residual, self._jacobian, block).reshape(self.scale.shape)
        return CONFIDENT * deviations * np.where(self._is_log, self.values(sought), self.scale)

    def values(self, sought: Array) -> Array:
        """Return the parameters, (num_joints, num_parameters)."""
        return self._values(sought.reshape(self.scale.shape))

    def _sought(self, scaled: Array) -> Array:
        """Return what the optimiser changes, from values in scales, (..., num_parameters)."""
        return np.where(self._is_log, np.log(np.maximum(scaled, 1e-9)), scaled)

    def _values(self, sought: Array) -> Array:
        """Return parameters from what the optimiser changes, (..., num_joints, num_parameters)."""
        return self.scale * np.where(self._is_log, np.exp(np.minimum(sought, 10.0)), sought)

    def _residuals(self, sought: Array) -> Array:
        """Return the errors of sets of parameters: positions (mrad), then gains; (num_residuals, num_sets).

        Args:
            sought: what the optimiser changes, (num_joints * num_parameters, num_sets).
        """
        sets = sought.T.reshape(-1, *self.scale.shape)
        errors = self._robot.positions(self._values(sets)) - self._log.pos_rad
        return np.concatenate((_MM * errors[:, self._compared], self._prior(sets)), axis=1).T

    def _prior(self, sets: Array) -> Array:
        return NOISE_MRAD / GAIN_KNOWN_TO * sets[..., PARAMETERS.index("gain")]

    def _derivatives(self, sought: Array, at: Array) -> Array:
        """Return the Jacobian (num_residuals, num_joints * num_parameters), by forward differences."""
        moved = self._residuals(sought + _STEP * np.eye(len(sought)))
        self._jacobian = (moved - at) / _STEP
        return self._jacobian


def deviations_of(residual: Array, jacobian: Array, block: NDArray[np.int64]) -> Array:
    """Return the standard deviation of each parameter of a least-squares fit, (num_parameters,).

    The larger of two: by independent errors of one size, and by the scatter between blocks of the log (White 1980, "A
    heteroskedasticity-consistent covariance matrix estimator", over clusters), which sees errors that last.

    Args:
        residual: errors of the log, then of what was known beforehand, (num_residuals,).
        jacobian: its derivatives, (num_residuals, num_parameters).
        block: block of each error of the log, (num_errors,), from 0 on.
    """
    count = len(block)
    of_log, of_prior = jacobian[:count], jacobian[count:]
    inverse = np.linalg.pinv(jacobian.T @ jacobian, hermitian=True)
    sums = np.zeros((int(block.max()) + 1, jacobian.shape[1]))
    np.add.at(sums, block, of_log * residual[:count, None])
    size = float(residual[:count] @ residual[:count]) / max(1, count - jacobian.shape[1])
    known = NOISE_MRAD**2 * of_prior.T @ of_prior
    variances = [
        np.diag(inverse @ (scatter + known) @ inverse) for scatter in (size * of_log.T @ of_log, sums.T @ sums)
    ]
    return np.sqrt(np.maximum(*variances))
