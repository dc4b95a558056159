"""A running normaliser of observations as a module: it is saved, resumed and exported with its policy."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

Merge = Callable[[int, Tensor, Tensor], tuple[int, Tensor, Tensor]]
"""Returns count, mean and variance of a batch and of other processes' batches; see `biped.ppo.distributed`."""
CLIP = 10.0
"""Normalised observations are clipped to ± this value."""


class RunningNormalizer(nn.Module):
    """Shifts and scales observations to mean 0 and variance 1 over everything passed to `observe`."""

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, width: int) -> None:
        """Start as the identity, apart from the clipping.

        Args:
            width: width of the flattened observation.
        """
        super().__init__()
        self.register_buffer("mean", torch.zeros(width, dtype=torch.float32))
        self.register_buffer("variance", torch.ones(width, dtype=torch.float32))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def forward(self, observations: Tensor) -> Tensor:
        """Normalise observations (n, width)."""
        return ((observations - self.mean) * (self.variance + 1e-8).rsqrt()).clamp(-CLIP, CLIP)

    @torch.no_grad()
    def observe(self, observations: Tensor, merge: Merge | None = None) -> None:
        """Update the statistics with observations (n, width): the pairwise update of Chan et al. 1979."""
        seen, (batch_variance, batch_mean) = len(observations), torch.var_mean(observations, dim=0, correction=0)
        if merge is not None:
            seen, batch_mean, batch_variance = merge(seen, batch_mean, batch_variance)
        total = self.count + seen
        share = (seen / total).to(self.mean.dtype)
        shift = batch_mean - self.mean
        merged = self.variance * (1.0 - share) + batch_variance * share + shift.square() * share * (1.0 - share)
        # A batch with non-finite values is ignored, because they would stay in the mean for ever.
        good = merged.isfinite().all()
        self.mean.copy_(torch.where(good, self.mean + shift * share, self.mean))
        self.variance.copy_(torch.where(good, merged, self.variance))
        self.count.copy_(torch.where(good, total, self.count))


@runtime_checkable
class Observer(Protocol):
    """A policy with statistics of the observations; the learner passes it each rollout after its update."""

    def observe(self, observations: Tensor, merge: Merge | None = None) -> None:
        """Update the statistics with observations (n, ...)."""
        ...
