"""Checks rewards and gait for common problems of reward design."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from biped.config.task import RewardWeights

DOMINANT_SHARE = 0.7
"""A term with a larger share of the sum of all terms' magnitudes leaves the others without effect."""
STILL_PROGRESS = 0.1
"""Robots that achieve less than this share of the commanded velocity stand still or march in place."""
STILL_SURVIVAL = 0.5
"""Share of episodes that must reach the time limit for standing still to be a finding; otherwise robots just fall."""
LIMP_RATIO = 0.5
"""A foot with less than this share of the other foot's steps is dragged or held up."""
LIMP_LEAST_HZ = 0.3
"""Step frequency of the busier foot (Hz) below which the robots do not walk at all."""


@dataclass(frozen=True)
class Finding:
    """A probable problem."""

    key: str
    """Identifies the problem: the same problem has the same key."""
    text: str
    """One line: the observation, and what it may mean."""


def examine(
    rates: Sequence[Mapping[str, float]], figures: Mapping[str, float], weights: RewardWeights
) -> list[Finding]:
    """Return the findings about the rollouts since the last evaluation.

    Args:
        rates: metrics of each rollout by canonical name; uses `rewards/<term>` and `curriculum/progress`.
        figures: metrics of the evaluation, by canonical name.
        weights: weights of the terms. A penalty that is always zero is not a finding.
    """
    if not rates:
        return []
    terms = {name.removeprefix("rewards/") for name in rates[0] if name.startswith("rewards/")}
    means = {term: sum(rate[f"rewards/{term}"] for rate in rates) / len(rates) for term in terms}
    found = [
        Finding(f"dead {term}", f"the reward {term} was zero throughout: no robot earned it, so it taught nothing")
        for term in sorted(terms)
        if getattr(weights, term) > 0 and all(rate[f"rewards/{term}"] == 0.0 for rate in rates)
    ]
    total = sum(map(abs, means.values()))
    found += [
        Finding(
            f"dominant {term}",
            f"the reward {term} is {abs(mean) / total:.0%} of all rewards and penalties: the other terms hardly count",
        )
        for term, mean in sorted(means.items())
        if total and abs(mean) > DOMINANT_SHARE * total
    ]
    return [*found, *_gait_findings(rates, figures)]


def _gait_findings(rates: Sequence[Mapping[str, float]], figures: Mapping[str, float]) -> list[Finding]:
    found = []
    progress = [value for rate in rates if math.isfinite(value := rate.get("curriculum/progress", math.nan))]
    mean = sum(progress) / len(progress) if progress else 1.0
    if mean < STILL_PROGRESS and figures.get("gate/survival", 0.0) >= STILL_SURVIVAL:
        text = f"robots commanded to move reach {max(mean, 0.0):.0%} of the command: standing still pays enough"
        found.append(Finding("standing still", text))
    steps = {foot: figures.get(f"gate/step_frequency_{foot}_hz", 0.0) for foot in ("left", "right")}
    lame, busy = sorted(steps, key=lambda foot: steps[foot])
    if steps[busy] >= LIMP_LEAST_HZ and steps[lame] < LIMP_RATIO * steps[busy]:
        text = f"the {lame} foot steps {steps[lame]:.2f} times/s and the {busy} foot {steps[busy]:.2f}: the robot limps"
        found.append(Finding("one-legged", text))
    return found
