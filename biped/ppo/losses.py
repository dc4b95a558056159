"""The losses of PPO as pure functions, and the exact KL divergence between Gaussians."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class PolicyLoss(NamedTuple):
    """The clipped surrogate loss and values to log: scalars on the device."""

    loss: Tensor
    """Clipped surrogate loss."""
    clip_fraction: Tensor
    """Share of probability ratios outside the clipping range."""
    approx_kl: Tensor
    """Estimate of KL(old ‖ new) from the ratios: http://joschu.net/blog/kl-approx.html."""


def policy_loss(
    log_prob: Tensor, old_log_prob: Tensor, advantages: Tensor, clip_range: float, weights: Tensor | None = None
) -> PolicyLoss:
    """Return the clipped surrogate loss of a minibatch: Schulman et al. 2017, equation 7. Tensors are (n,).

    `weights` apply only to the KL estimate; see `weighted_mean`.
    """
    log_ratio = log_prob - old_log_prob
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    loss = -torch.min(advantages * ratio, advantages * clipped).mean()
    with torch.no_grad():
        clip_fraction = (ratio != clipped).float().mean()
        approx_kl = weighted_mean(ratio - 1.0 - log_ratio, weights)
    return PolicyLoss(loss, clip_fraction, approx_kl)


def weighted_mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean of values (n,) with weights (n,) of sum 1; with equal weights if there are none."""
    return values.mean() if weights is None else (values * weights).sum()


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip_range: float | None) -> Tensor:
    """Return the mean squared error of values (n,), changed by at most `clip_range` from `old_values` if given."""
    if clip_range is not None:
        values = old_values + (values - old_values).clamp(-clip_range, clip_range)
    return (returns - values).square().mean()


def normalised(advantages: Tensor) -> Tensor:
    """Return advantages (n,) shifted to mean 0 and scaled to standard deviation 1; a single one is unchanged."""
    if len(advantages) < 2:
        return advantages
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)


def gaussian_log_prob(actions: Tensor, means: Tensor, log_std: Tensor) -> Tensor:
    """Return the log-density (n,) of actions (n, width) under Gaussians: means (n, width), log_std (width,)."""
    deviations = (actions - means) * (-log_std).exp()
    return -0.5 * deviations.square().sum(dim=1) - (log_std + HALF_LOG_TWO_PI).sum()


def gaussian_entropy(log_std: Tensor) -> Tensor:
    """Return the entropy, nats, of a Gaussian with log standard deviations (width,): a scalar."""
    return (log_std + HALF_LOG_TWO_PI + 0.5).sum()


def gaussian_kl(old_means: Tensor, old_log_std: Tensor, means: Tensor, log_std: Tensor) -> Tensor:
    """Return KL(old ‖ new) of Gaussians, (n,), nats; means are (n, width), log standard deviations (width,)."""
    variance = (2.0 * log_std).exp()
    spread = ((2.0 * old_log_std).exp() + (old_means - means).square()) / (2.0 * variance)
    return (log_std - old_log_std + spread - 0.5).sum(dim=-1)


def explained_variance(values: Tensor, returns: Tensor) -> Tensor:
    """Return the share of the returns' variance that the values explain, a scalar; NaN if there is no variance."""
    variance = returns.var(correction=0)
    share = 1.0 - (returns - values).var(correction=0) / variance
    return torch.where(variance > 0.0, share, torch.nan)
