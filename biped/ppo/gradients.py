"""The gradient of PPO's loss on a minibatch; actor and critic run in parallel if they share nothing."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.distributions import DiagGaussianDistribution, Distribution
from torch import Tensor

from biped.ppo.buffer import Minibatch
from biped.ppo.distributed import Team
from biped.ppo.estimator import Estimator
from biped.ppo.losses import (
    gaussian_entropy,
    gaussian_kl,
    gaussian_log_prob,
    normalised,
    policy_loss,
    value_loss,
    weighted_mean,
)
from biped.ppo.precision import Precision
from biped.ppo.recurrent_pass import (
    are_independent,
    evaluate_actor,
    evaluate_critic,
    evaluate_sequences,
)
from biped.ppo.side_by_side import SideBySide

VALUE, POLICY, ENTROPY, ESTIMATE, CLIP_FRACTION, APPROX_KL, KL = range(7)
"""Columns of the values logged per minibatch: losses, of them the mean squared error of the estimator (0 without one),
and the KL divergence (estimated, and exact for Gaussians)."""
LOSSES = slice(VALUE, CLIP_FRACTION)
"""The columns that the loss is a weighted sum of."""
USED = KL + 1
"""One more column: loss and gradient were finite, and `target_kl` had not ended the update before."""


@dataclass(frozen=True)
class PpoGradient:
    """PPO's loss (Schulman et al. 2017, equation 9) for a recurrent policy, and its gradient."""

    policy: RecurrentActorCriticPolicy
    """The networks."""
    old_log_std: Tensor | None
    """Log standard deviations (action_width,) of the acting Gaussian; None for any other distribution."""
    clip_range: float
    """Clipping range of the probability ratio."""
    clip_range_vf: float | None
    """Largest change of a value from its value in the rollout; None: unlimited."""
    ent_coef: float
    """Weight of the entropy bonus."""
    vf_coef: float
    """Weight of the value loss."""
    normalize_advantage: bool
    """Whether to normalise advantages over the minibatch."""
    precision: Precision
    """Precision of the networks up to their heads."""
    team: Team | None = None
    """The processes whose minibatches are one; None: this one alone."""

    def add(self, minibatch: Minibatch, halves: SideBySide) -> Tensor:
        """Add the gradient of a minibatch's loss to the parameters; return the values to log, (7,)."""
        what = (minibatch.observations, minibatch.blocks)
        if are_independent(self.policy):

            def actor() -> Tensor:
                distribution, _, estimates = evaluate_actor(self.policy, *what, minibatch.states.pi, self.precision)
                error = self._estimate_loss(estimates, minibatch)
                loss, logged = self._actor_loss(distribution, minibatch, error)
                loss.backward()
                return logged

            def critic() -> Tensor:
                values, _ = evaluate_critic(self.policy, *what, minibatch.states.vf, self.precision)
                loss = self._critic_loss(values, minibatch)
                loss.backward(torch.full_like(loss, self.vf_coef))
                return loss.detach()[None]

            logged, value = halves.run(actor, critic)
        else:
            distribution, values, _ = evaluate_sequences(self.policy, *what, minibatch.states, self.precision)
            loss, logged = self._actor_loss(distribution, minibatch, None)
            value = self._critic_loss(values, minibatch)
            (loss + self.vf_coef * value).backward()
            value = value.detach()[None]
        row = torch.cat((value, logged))
        return row if self.team is None else self.team.average(self.policy.parameters(), row)

    def _normalised(self, advantages: Tensor) -> Tensor:
        return normalised(advantages) if self.team is None else self.team.normalised(advantages)

    def totals(self, table: np.ndarray) -> np.ndarray:
        """Return the losses (n,) of logged values (n, USED + 1)."""
        weighted = self.vf_coef * table[:, VALUE] + self.ent_coef * table[:, ENTROPY]
        return table[:, POLICY] + weighted + self._estimate_coef * table[:, ESTIMATE]

    def _actor_loss(
        self, distribution: Distribution, minibatch: Minibatch, estimate_error: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the loss without the value loss, and all columns to log but the first, (6,)."""
        log_prob, entropy, kl = self._action_terms(distribution, minibatch)
        advantages = self._normalised(minibatch.advantages) if self.normalize_advantage else minibatch.advantages
        surrogate = policy_loss(log_prob, minibatch.old_log_prob, advantages, self.clip_range, minibatch.weights)
        # Without an analytical entropy, minus the log-probability is used, as in stock.
        entropy_loss = log_prob.mean() if entropy is None else -entropy
        loss = surrogate.loss + self.ent_coef * entropy_loss
        if estimate_error is None:
            estimate_error = torch.zeros_like(loss)
        else:
            loss = loss + self._estimate_coef * estimate_error
        with torch.no_grad():
            divergences = (surrogate.approx_kl, surrogate.approx_kl if kl is None else kl)
            row = torch.stack((surrogate.loss, entropy_loss, estimate_error, surrogate.clip_fraction, *divergences))
        return loss, row

    @property
    def _estimate_coef(self) -> float:
        estimator = getattr(self.policy, "estimator", None)
        return 0.0 if estimator is None else estimator.coef

    def _estimate_loss(self, estimates: Tensor | None, minibatch: Minibatch) -> Tensor | None:
        """Return the mean squared error of the estimator's predictions; None without an estimator."""
        if estimates is None:
            return None
        truth = cast("Estimator", self.policy.estimator).truth(minibatch.observations)
        return minibatch.without_padding(estimates - truth).square().mean()

    def _critic_loss(self, values: Tensor, minibatch: Minibatch) -> Tensor:
        values = minibatch.without_padding(values)
        return value_loss(values, minibatch.old_values, minibatch.returns, self.clip_range_vf)

    def _action_terms(
        self, distribution: Distribution, minibatch: Minibatch
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return log-probabilities (n_transitions,), and the means of entropy and KL divergence if known exactly.

        Padding is removed only from the heads' outputs: the gradient of a row selection is expensive where rows are
        wide.
        """
        choose = minibatch.without_padding
        old_means, old_log_std = minibatch.old_means, self.old_log_std
        if old_means is None or old_log_std is None:
            log_prob, entropy = distribution.log_prob(minibatch.actions), distribution.entropy()
            return choose(log_prob), None if entropy is None else choose(entropy).mean(), None
        # These formulas for a Gaussian take a third of the operations of torch.distributions.
        means, log_std = cast("DiagGaussianDistribution", distribution).distribution.mean, self.policy.log_std
        log_prob = choose(gaussian_log_prob(minibatch.actions, means, log_std))
        with torch.no_grad():
            # For a mirrored observation the old policy had other means; that is no change of the policy.
            kl = weighted_mean(gaussian_kl(old_means, old_log_std, choose(means), log_std), minibatch.weights)
        return log_prob, gaussian_entropy(log_std), kl


def mean_of_used(table: np.ndarray) -> np.ndarray:
    """Return the mean of each column over the rows that were finite and came before the update ended."""
    used = table[table[:, USED] > 0]
    return used.mean(axis=0) if len(used) else np.full(table.shape[1], np.nan)


def with_used(rows: list[Tensor], used: list[Tensor]) -> Tensor:
    """Return the logged values of minibatches, (7,) each, with their USED, (), as a table (n, USED + 1)."""
    return torch.cat((torch.stack(rows), torch.stack(used)[:, None].to(rows[0])), dim=1)


def summarise(table: np.ndarray, totals: np.ndarray, last_epoch: int, has_estimates: bool = False) -> dict[str, float]:
    """Return an update's statistics under Stable-Baselines3's names.

    Args:
        table: (n_minibatches, USED + 1), one row per minibatch, in order.
        totals: the loss of each minibatch, (n_minibatches,).
        last_epoch: first row of the last epoch; the KL divergences are averaged from it on.
        has_estimates: whether the policy has a `biped.ppo.estimator`.
    """
    used, of_last_epoch = mean_of_used(table), mean_of_used(table[last_epoch:])
    last_loss = next(iter(totals[table[:, USED] > 0][-1:]), np.nan)
    return {
        "entropy_loss": used[ENTROPY],
        "policy_gradient_loss": used[POLICY],
        "value_loss": used[VALUE],
        "approx_kl": of_last_epoch[APPROX_KL],
        "kl": of_last_epoch[KL],
        "clip_fraction": used[CLIP_FRACTION],
        "loss": last_loss,
        **({"estimate_loss": used[ESTIMATE]} if has_estimates else {}),
    }
