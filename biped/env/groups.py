"""Observations as one tensor, or as a dictionary of named groups."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from torch import Tensor

from biped.config.run import ESTIMATES
from biped.config.task import EnvConfig
from biped.mdp.observations import TERMS, ObservationLayout

Observations = Tensor | dict[str, Tensor]
"""(num_envs, width), or a dictionary of such tensors: `policy` and `critic`."""
Arrays = np.ndarray | dict[str, np.ndarray]
"""The same as numpy arrays."""


def observation_space(layout: ObservationLayout, critic: ObservationLayout | None, bound: float) -> gymnasium.Space:
    """Return the space of one robot's observation: one box, or two if the critic has its own group."""

    def box(group: ObservationLayout) -> gymnasium.spaces.Box:
        return gymnasium.spaces.Box(-bound, bound, (group.width,), np.float32)

    return box(layout) if critic is None else gymnasium.spaces.Dict({"policy": box(layout), "critic": box(critic)})


def estimate_scales(cfg: EnvConfig) -> tuple[float, ...]:
    """Return the factor on each number that a velocity head predicts, as in the critic's group, (4,)."""
    return tuple(TERMS[name].scale(cfg) for name in ESTIMATES for _ in range(TERMS[name].width(cfg)))


def sensed(observations: Observations) -> Tensor:
    """Return the actor's group, (num_envs, width)."""
    return observations["policy"] if isinstance(observations, dict) else observations


def with_sensed(observations: Observations, part: Tensor) -> Observations:
    """Return observations with the actor's group replaced."""
    return {**observations, "policy": part} if isinstance(observations, dict) else part


def in_groups(side_by_side: Tensor, widths: Mapping[str, int]) -> Observations:
    """Return observations (num_envs, sum of `widths`) as groups; a group alone is a tensor."""
    if len(widths) == 1:
        return side_by_side
    return dict(zip(widths, side_by_side.split(list(widths.values()), dim=1), strict=True))


def as_numpy(tensors: Any) -> Any:
    """Convert a tensor, or a dictionary of tensors, to numpy."""
    if isinstance(tensors, dict):
        return {name: as_numpy(value) for name, value in tensors.items()}
    return tensors.cpu().numpy()


def row(observations: Arrays, index: int) -> Arrays:
    """Return the observation of one environment."""
    if isinstance(observations, dict):
        return {name: group[index] for name, group in observations.items()}
    return observations[index]
