"""Looks at what a policy is paid for, and how it moves, for the usual ways in which a reward goes wrong."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from biped.config.task import RewardWeights

DOMINANT_SHARE = 0.7
"""A term with a larger share of the sum of all terms' sizes leaves nothing for the others to say."""
STILL_PROGRESS = 0.1
"""Robots that make good less of the commanded velocity stand still, or march in place."""
STILL_SURVIVAL = 0.5
"""Share of episodes that must run to their full time before standing still is a habit rather than falling."""
LIMP_RATIO = 0.5
"""A foot that steps less often than this share of the other's steps is dragged or held up."""
LIMP_LEAST_HZ = 0.3
"""Steps of the busier foot (Hz) under which nobody walks at all."""


@dataclass(frozen=True)
class Finding:
    """Something that is probably wrong."""

    key: str
    """What it is about: the same finding has the same key."""
    text: str
    """One line: what was seen, and what it may mean."""


def examine(
    rates: Sequence[Mapping[str, float]], figures: Mapping[str, float], weights: RewardWeights
) -> list[Finding]:
    """Return what is wrong with the rollouts since the last evaluation.

    Args:
        rates: of each rollout the metrics by canonical name; `rewards/<term>` and `curriculum/progress` are looked at.
        figures: of the evaluation, by canonical name.
        weights: the prices of the terms. A penalty that is never paid is no finding.
    """
    if not rates:
        return []
    terms = {name.removeprefix("rewards/") for name in rates[0] if name.startswith("rewards/")}
    means = {term: sum(rate[f"rewards/{term}"] for rate in rates) / len(rates) for term in terms}
    found = [
        Finding(f"dead {term}", f"the reward {term} was zero throughout: nobody earns it, so nobody learns it")
        for term in sorted(terms)
        if getattr(weights, term) > 0 and all(rate[f"rewards/{term}"] == 0.0 for rate in rates)
    ]
    total = sum(map(abs, means.values()))
    found += [
        Finding(
            f"dominant {term}",
            f"the reward {term} is {abs(mean) / total:.0%} of all that is paid and charged: the others hardly count",
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
        text = f"robots that are told to move make good {max(mean, 0.0):.0%} of it: they earn enough by standing still"
        found.append(Finding("standing still", text))
    steps = {foot: figures.get(f"gate/step_frequency_{foot}_hz", 0.0) for foot in ("left", "right")}
    lame, busy = sorted(steps, key=lambda foot: steps[foot])
    if steps[busy] >= LIMP_LEAST_HZ and steps[lame] < LIMP_RATIO * steps[busy]:
        text = f"the {lame} foot steps {steps[lame]:.2f} times a second and the {busy} foot {steps[busy]:.2f}: it limps"
        found.append(Finding("one-legged", text))
    return found
