"""A learning rate that the KL divergence of the updates steers.

Schulman et al. 2017, section 4, adapt the weight of a KL penalty in this way; here it is the rate.
"""

import math
from dataclasses import dataclass

TOLERANCE = 2.0
"""The rate moves when the KL divergence is off its aim by more than this factor."""
STEP = 1.5
"""The factor by which it moves."""


@dataclass(frozen=True)
class KlSchedule:
    """Where the rate starts, what it aims at and how far it may go."""

    initial: float = 1e-4
    """The rate before the first update."""
    desired_kl: float = 0.01
    """KL divergence between the policies before and after an update that is aimed at, nats."""
    minimum: float = 1e-5
    """Lower bound of the rate."""
    maximum: float = 1e-2
    """Upper bound of the rate."""


def next_learning_rate(learning_rate: float, kl: float, schedule: KlSchedule) -> float:
    """Return the learning rate after an update that moved the policy by `kl` nats.

    A move of more than twice the aim lowers the rate, one of less than half of it raises it, within the bounds. A
    divergence that is not a number lowers it.
    """
    if not math.isfinite(kl) or kl > schedule.desired_kl * TOLERANCE:
        return max(schedule.minimum, learning_rate / STEP)
    if kl < schedule.desired_kl / TOLERANCE:
        return min(schedule.maximum, learning_rate * STEP)
    return learning_rate


class AdaptiveRate:
    """A Stable-Baselines3 learning-rate schedule whose value follows `next_learning_rate`.

    Stable-Baselines3 writes its schedule's value into the optimizer before every update. This object is that schedule,
    so the rate it holds is the one that is used, and nothing undoes it.
    """

    def __init__(self, schedule: KlSchedule, learning_rate: float | None = None) -> None:
        """Start from `learning_rate`, or from the schedule's initial rate."""
        self.schedule = schedule
        self.value = schedule.initial if learning_rate is None else learning_rate

    def __call__(self, progress_remaining: float) -> float:
        """Return the rate in force; progress does not matter."""
        del progress_remaining
        return self.value

    def update(self, kl: float) -> None:
        """Take the KL divergence of the last update into account."""
        self.value = next_learning_rate(self.value, kl, self.schedule)
