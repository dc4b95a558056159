"""Observations of several groups, made together: a few large operations cost less than many small ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from biped.config.observation import ObservationConfig
from biped.mdp.observations import TERMS, ObservationInputs, ObservationLayout


@dataclass(frozen=True)
class Observer:
    """Computes the observations of groups side by side, such as the actor's and the critic's."""

    layouts: tuple[ObservationLayout, ...]
    """The terms of each group."""
    scales: Tensor
    """Factor on each value, (width of all groups,)."""
    offsets: Tensor
    """What is added to each value after that, (width of all groups,)."""
    clip: float
    """Bound of what comes out."""

    @classmethod
    def build(cls, layouts: Sequence[ObservationLayout], cfg: ObservationConfig, device: torch.device) -> "Observer":
        """Look up the scales of all terms."""
        terms = [term for layout in layouts for term in layout.terms]
        scales = torch.tensor([term.scale for term in terms for _ in range(term.width)], dtype=torch.float32)
        zeros = torch.tensor([zero for term in terms for zero in term.zeros], dtype=torch.float32)
        return cls(
            layouts=tuple(layouts),
            scales=scales.to(device),
            offsets=(-scales * zeros).to(device),
            clip=cfg.clip,
        )

    def __call__(self, *inputs: ObservationInputs) -> Tensor:
        """Concatenate, scale and clip the values of all terms into (num_envs, width of all groups).

        Args:
            *inputs: what the terms of each group are computed from.
        """
        groups = zip(self.layouts, inputs, strict=True)
        values = [TERMS[term.name].value(known) for layout, known in groups for term in layout.terms]
        side_by_side = torch.cat([value if value.dim() == 2 else value[:, None] for value in values], dim=-1)
        return torch.addcmul(self.offsets, side_by_side, self.scales).clamp(-self.clip, self.clip)
