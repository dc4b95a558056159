"""A learning rate that adapts to the KL divergence of the updates.

Schulman et al. 2017, section 4, adapt the weight of a KL penalty in this way; here it is the learning rate.
"""

import math
from dataclasses import dataclass

TOLERANCE = 2.0
"""The rate changes if the KL divergence differs from its target by more than this factor."""
STEP = 1.5
"""Factor of each change."""


@dataclass(frozen=True)
class KlSchedule:
    """Target and bounds of the adaptive learning rate."""

    desired_kl: float = 0.01
    """Target KL divergence, nats, between the policy that acted and the policy at each minibatch of an epoch."""
    minimum: float = 1e-5
    """Lower bound of the learning rate."""
    maximum: float = 1e-2
    """Upper bound of the learning rate."""


def next_learning_rate(learning_rate: float, kl: float, schedule: KlSchedule) -> float:
    """Return the learning rate after the policy has moved by `kl` nats, within the schedule's bounds.

    More than twice the target lowers the rate, less than half of it raises the rate. A divergence that is not finite
    lowers it.
    """
    if not math.isfinite(kl) or kl > schedule.desired_kl * TOLERANCE:
        learning_rate /= STEP
    elif kl < schedule.desired_kl / TOLERANCE:
        learning_rate *= STEP
    return min(schedule.maximum, max(schedule.minimum, learning_rate))
