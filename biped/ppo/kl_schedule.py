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
    """KL divergence that is aimed at, nats: of the policy that acted from those that an epoch's minibatches find."""
    minimum: float = 1e-5
    """Lower bound of the rate."""
    maximum: float = 1e-2
    """Upper bound of the rate."""


def next_learning_rate(learning_rate: float, kl: float, schedule: KlSchedule) -> float:
    """Return the learning rate after the policy has moved by `kl` nats, within the schedule's bounds.

    A move of more than twice the aim lowers the rate, one of less than half of it raises it. A divergence that is not a
    number lowers it.
    """
    if not math.isfinite(kl) or kl > schedule.desired_kl * TOLERANCE:
        learning_rate /= STEP
    elif kl < schedule.desired_kl / TOLERANCE:
        learning_rate *= STEP
    return min(schedule.maximum, max(schedule.minimum, learning_rate))
