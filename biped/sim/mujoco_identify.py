"""Finds what a robot's actuators are from the log of an excitation: `python -m biped identify LOG --out NEW.json`.

The whole log is simulated at once and compared with the encoders alone (an output-error method: Ljung, "System
Identification", 1999, chapter 7). A driven joint forgets its start within a fraction of a second, so nothing has to be
started anew in between, and no noise of a measured speed gets into a start. The optimiser is MuJoCo's own Gauss-Newton
with bounds, `mujoco.minimize`: it is installed with MuJoCo, while `mujoco.sysid`, which calls it too, needs further
packages, compiles the model anew for each change, and knows neither play nor a target that acts late.
"""

import importlib
import io
from collections.abc import Callable
from dataclasses import dataclass
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
FORGOTTEN_S = 0.5
"""Time at the beginning that is not compared: the robot's speed there is unknown (s)."""
ENDS: dict[str, tuple[float, float]] = {
    "gain": (0.2, 3.0),
    "damping": (0.0, 6.0),
    "friction": (0.0, 20.0),
    "armature": (0.05, 10.0),
    "delay": (0.0, 4.0),
    "play": (0.0, 10.0),
}
"""Smallest and largest value of each parameter, in scales of `Fit.scale`."""
GAIN_KNOWN_TO = 0.2
"""How well the gain is known beforehand (standard deviation): it decides where a joint carries no weight.

Without a known torque, such as the weight of a link, gain, damping, friction and armature of a joint could all be larger
by one factor, and its motion would be the same.
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
_ROUNDS, _CLOSE = 30, 1e-3


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


def excited(time_s: Array, target_rad: Array, pos_rad: Array, gravity_b: Array, dt_s: float) -> Excited:
    """Return the longest stretch without a gap of what a robot did while it was excited.

    Args:
        time_s: time of each control step, (num_steps,), s.
        target_rad: what was sent, (num_steps, num_joints), rad.
        pos_rad: what was read, (num_steps, num_joints), rad.
        gravity_b: from the IMU, (num_steps, 3).
        dt_s: time between control steps as planned (s).

    Raises:
        UsageError: the log has no excitation, or too short a one, or a servo that hardly ever answered.
    """
    whole = np.isfinite(target_rad).all(axis=1)
    time_s, target_rad, pos_rad, gravity_b = (part[whole] for part in (time_s, target_rad, pos_rad, gravity_b))
    cuts = np.flatnonzero(np.diff(time_s) > 10.0 * dt_s) + 1
    first, last = max(
        zip([0, *cuts], [*cuts, len(time_s)], strict=True), key=lambda ends: ends[1] - ends[0], default=(0, 0)
    )
    if (last - first) * dt_s < SHORTEST_S:
        raise UsageError(
            f"the log has {(last - first) * dt_s:.1f} s of excitation, fewer than {SHORTEST_S:g}: record one with "
            "biped_run.py --excite 60"
        )
    part = slice(first, last)
    if (lost := np.isnan(pos_rad[part]).mean(axis=0)).max() > 0.5:
        raise UsageError(f"servo number {int(lost.argmax()) + 1} did not answer in {lost.max():.0%} of the steps")
    gravity = np.nanmean(gravity_b[part], axis=0, dtype=float) if np.isfinite(gravity_b[part]).any() else (0, 0, -1)
    return Excited(
        time_s=np.asarray(time_s[part] - time_s[first], float),
        targets_rad=np.asarray(target_rad[part], float),
        pos_rad=np.asarray(pos_rad[part], float),
        gravity_b=np.asarray(gravity, float) / float(np.linalg.norm(gravity)),
        dt_s=dt_s,
    )


def identify(cfg: EnvConfig, log: Excited, say: Callable[[str], None] = print) -> Identified:
    """Fit the actuators of a robot to the first part of a log, and judge them by the rest.

    Args:
        cfg: the robot as its file says.
        log: what it did.
        say: gets lines of progress.

    Raises:
        UsageError: the log is of a robot with other joints.
        MachineError: MuJoCo or the robot's model is missing, or cannot be built.
    """
    names = cfg.robot.joint_names
    if log.num_joints != len(names):
        raise UsageError(f"the log has {log.num_joints} joints, the robot {len(names)}: name its file with --robot")
    count = int(FITTED * len(log.time_s))
    robot = HungRobot(cfg, log)
    values, intervals = np.empty_like(robot.nominal), np.empty_like(robot.nominal)
    for limb in robot.limbs:
        say(f"fitting {', '.join(names[joint] for joint in limb)}")
        chosen = list(limb)
        values[chosen], intervals[chosen] = Fit(HungRobot(cfg, _first(log, count), limb)).solve(say)
    before, after = robot.positions(np.stack((robot.nominal, values)))
    held_out = np.arange(len(log.time_s)) >= count
    return Identified(names, values, intervals, robot.nominal, log, before, after, held_out)


def _first(log: Excited, count: int) -> Excited:
    return Excited(log.time_s[:count], log.targets_rad[:count], log.pos_rad[:count], log.gravity_b, log.dt_s)


class Fit:
    """The least-squares problem: parameters in scales, residuals in mrad."""

    def __init__(self, robot: HungRobot) -> None:
        """Choose scales and begin at the robot's file."""
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
        self._ends = [np.tile([ENDS[name][side] for name in PARAMETERS], len(nominal)) for side in (0, 1)]
        start = nominal / self.scale
        start[:, PARAMETERS.index("delay")] = start[:, PARAMETERS.index("play")] = 0.5
        self._start = start.ravel()
        self._compared = np.isfinite(log.pos_rad) & (log.time_s >= FORGOTTEN_S)[:, None]
        self._jacobian: Array = np.empty(0)

    def solve(self, say: Callable[[str], None]) -> tuple[Array, Array]:
        """Return the parameters and half of their 95% intervals, (num_joints, num_parameters) each."""
        minimize = importlib.import_module("mujoco.minimize")

        def report(trace: list[Any]) -> None:
            rms = np.sqrt(2.0 * float(trace[-1].objective) / self._compared.sum())
            say(f"round {len(trace)}: positions explained to {rms:.3f} mrad")

        found, _ = minimize.least_squares(
            self._start,
            self._residuals,
            bounds=self._ends,
            jacobian=self._derivatives,
            verbose=minimize.Verbosity.SILENT,
            output=io.StringIO(),
            iter_callback=report,
            max_iter=_ROUNDS,
            xtol=_CLOSE,
        )
        shape, blocks = self.scale.shape, (self._log.time_s / BLOCK_S).astype(int)
        block = np.broadcast_to(blocks[:, None], self._compared.shape)[self._compared]
        residual = self._residuals(found[:, None])[:, 0]
        deviations = deviations_of(residual, self._jacobian, block)
        return found.reshape(shape) * self.scale, CONFIDENT * deviations.reshape(shape) * self.scale

    def _residuals(self, scaled: Array) -> Array:
        """Return the errors of sets of parameters: positions (mrad), then gains; (num_residuals, num_sets).

        Args:
            scaled: (num_joints * num_parameters, num_sets).
        """
        sets = scaled.T.reshape(-1, *self.scale.shape)
        errors = self._robot.positions(sets * self.scale) - self._log.pos_rad
        return np.concatenate((_MM * errors[:, self._compared], self._prior(sets)), axis=1).T

    def _prior(self, sets: Array) -> Array:
        return NOISE_MRAD / GAIN_KNOWN_TO * (sets[..., PARAMETERS.index("gain")] - 1.0)

    def _derivatives(self, scaled: Array, at: Array) -> Array:
        """Return the Jacobian (num_residuals, num_joints * num_parameters), by forward differences."""
        moved = self._residuals(scaled + _STEP * np.eye(len(scaled)))
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
