"""Observations in two groups: what the actor may see, and what the critic may see while it trains the actor.

Pinto et al. 2018, "Asymmetric actor critic for image-based robot learning" (arXiv:1710.06542). In the gymnasium and
Stable-Baselines3 convention they are a `Dict` of two boxes; any other observation is seen by both.
"""

import gymnasium

ACTOR, CRITIC = "policy", "critic"
"""Keys of the groups, as in Isaac Lab and rsl_rl."""


def group_space(space: gymnasium.Space, group: str) -> gymnasium.Space:
    """Return the space of what actor or critic sees.

    Args:
        space: of the whole observation.
        group: `ACTOR` or `CRITIC`.

    Raises:
        ValueError: the observation is a dictionary of other things than the two groups.
    """
    if not isinstance(space, gymnasium.spaces.Dict):
        return space
    if set(space.spaces) != {ACTOR, CRITIC}:
        raise ValueError(f"observations have {', '.join(space.spaces)}, but the groups must be {ACTOR} and {CRITIC}")
    return space[group]
