"""Observations in two groups: one for the actor, and one for the critic, which is used only in training.

Pinto et al. 2018, "Asymmetric actor critic for image-based robot learning" (arXiv:1710.06542). In gymnasium and
Stable-Baselines3 they are a `Dict` of two boxes; actor and critic share any other kind of observation.
"""

import gymnasium

ACTOR, CRITIC = "policy", "critic"
"""Keys of the groups, as in Isaac Lab and rsl_rl."""


def group_space(space: gymnasium.Space, group: str) -> gymnasium.Space:
    """Return the space of the actor's or the critic's observations.

    Args:
        space: space of the whole observation.
        group: `ACTOR` or `CRITIC`.

    Raises:
        ValueError: the observation is a dictionary with other keys than the two groups.
    """
    if not isinstance(space, gymnasium.spaces.Dict):
        return space
    if set(space.spaces) != {ACTOR, CRITIC}:
        raise ValueError(f"observations have {', '.join(space.spaces)}, but the groups must be {ACTOR} and {CRITIC}")
    return space[group]
