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
    """What the rate aims at and how far it may go."""

    desired_kl: float = 0.01
    """KL divergence between the policy that acted and the updated one that is aimed at, nats."""
    minimum: float = 1e-5
    """Lower bound of the rate."""
    maximum: float = 1e-2
    """Upper bound of the rate."""


def next_learning_rate(learning_rate: float, kl: float, schedule: KlSchedule) -> float:
    """Return the learning rate after the policy has moved by `kl` nats.

    A move of more than twice the aim lowers the rate, one of less than half of it raises it, within the bounds. A
    divergence that is not a number lowers it.
    """
    if not math.isfinite(kl) or kl > schedule.desired_kl * TOLERANCE:
        return max(schedule.minimum, learning_rate / STEP)
    if kl < schedule.desired_kl / TOLERANCE:
        return min(schedule.maximum, learning_rate * STEP)
    return learning_rate
