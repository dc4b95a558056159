"""Trials: every episode of an evaluation succeeds or fails as a whole."""

import math
from dataclasses import dataclass

import numpy as np

from biped.eval import figures as fig
from biped.eval.gate import TRACKING_BARS
from biped.eval.recording import Bools, Floats, Recording


@dataclass(frozen=True)
class Trials:
    """The counts of an evaluation's episodes."""

    num_trials: int
    """Number of episodes."""
    success_trials: int
    """Number of episodes that reached the time limit and tracked within the gate's bars."""
    success_precision: float
    """Mean size of the instantaneous horizontal velocity error in successful episodes (m/s); NaN without any."""

    @property
    def fail_trials(self) -> int:
        """Number of episodes that did not succeed."""
        return self.num_trials - self.success_trials

    @property
    def success_rate(self) -> float:
        """Share of the episodes that succeeded."""
        return self.success_trials / self.num_trials


def episode_errors(record: Recording) -> Floats:
    """Return each episode's mean absolute error of vx, vy and yaw rate, (num_envs, 3); NaN without measured steps."""
    on = fig.measured(record)[..., None]
    steps = on.sum(axis=0)
    total = (fig.tracking_errors(record) * on).sum(axis=0)
    return np.divide(total, steps, out=np.full_like(total, math.nan), where=steps > 0)


def succeeded(record: Recording) -> Bools:
    """Return the episodes that reached the time limit and tracked within the gate's bars, (num_envs,)."""
    bars = [bar * record.scale.factor(unit) for bar, unit in zip(TRACKING_BARS, ("m/s", "m/s", "rad/s"), strict=True)]
    return ~record.fell & (episode_errors(record) <= np.array(bars)).all(axis=1)


def count_trials(record: Recording) -> Trials:
    """Count the successful episodes of a recording."""
    success = succeeded(record)
    good = record.episodes(success)
    length = np.linalg.norm(fig.tracking_errors(good)[..., :2], axis=-1)[fig.measured(good)]
    precision = float(length.mean(dtype=np.float64)) if length.size else math.nan
    return Trials(len(success), int(success.sum()), precision)
