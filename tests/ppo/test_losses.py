"""Advantages and losses, against numbers worked out by hand and against torch's own distributions."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Independent, Normal, kl_divergence

from biped.ppo.buffer import generalised_advantages
from biped.ppo.losses import (
    explained_variance,
    gaussian_entropy,
    gaussian_kl,
    gaussian_log_prob,
    normalised,
    policy_loss,
    value_loss,
)


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None]


def advantages(rewards, values, starts, last_value, last_done, gamma=0.5, lam=0.5) -> list[float]:
    result = generalised_advantages(
        column(*rewards),
        column(*values),
        column(*starts).bool(),
        torch.tensor([last_value]),
        torch.tensor([last_done]),
        gamma,
        lam,
    )
    return result[:, 0].tolist()


def test_advantages_of_an_episode_that_goes_on() -> None:
    # errors: 2+0.5*4-1 = 3, 1+0.5*6-4 = 0, 0+0.5*8-6 = -2; each takes a quarter of the next.
    assert advantages((2, 1, 0), (1.0, 4.0, 6.0), (1, 0, 0), 8.0, False) == [3 - 0.125, -0.5, -2]


def test_advantages_stop_at_a_termination() -> None:
    # The second step ends its episode: nothing after it counts, and the value there is that of another episode.
    assert advantages((2, 1, 0), (1.0, 4.0, 6.0), (1, 0, 1), 8.0, False) == [3 - 0.75, -3, -2]
    assert advantages((2, 1, 0), (1.0, 4.0, 6.0), (1, 0, 0), 8.0, True) == [3 - 0.375, 0 - 1.5, -6]


def test_advantages_of_a_time_out_are_those_of_an_episode_that_went_on() -> None:
    going_on = advantages((2, 1), (1.0, 4.0), (1, 0), 6.0, False)
    cut_off = advantages((2, 1 + 0.5 * 6), (1.0, 4.0), (1, 0), 99.0, True)
    assert cut_off == pytest.approx(going_on)


def surrogate(*log_ratios: float, advantages: tuple[float, float] = (1.0, -2.0)):
    old = torch.tensor([-0.3, 0.4])
    return policy_loss(old + torch.tensor(log_ratios), old, torch.tensor(advantages), 0.2)


def test_the_surrogate_of_an_unchanged_policy_is_minus_the_mean_advantage() -> None:
    result = surrogate(0.0, 0.0)
    assert result.loss.item() == pytest.approx(0.5)
    assert result.clip_fraction.item() == result.approx_kl.item() == 0.0


def test_ratios_are_clipped_where_that_lowers_the_objective_and_only_there() -> None:
    up = math.log(2.0)
    assert surrogate(up, 0.0).loss.item() == pytest.approx(-(1.2 - 2.0) / 2)
    assert surrogate(0.0, up).loss.item() == pytest.approx(-(1.0 - 4.0) / 2)
    assert surrogate(-up, 0.0).loss.item() == pytest.approx(-(0.5 - 2.0) / 2)
    assert surrogate(0.0, -up).loss.item() == pytest.approx(-(1.0 - 1.6) / 2)
    assert surrogate(up, 0.1).clip_fraction.item() == 0.5
    assert surrogate(up, 0.0).approx_kl.item() == pytest.approx((1 - up) / 2)


def test_the_value_loss_and_its_clip() -> None:
    values, old, returns = torch.tensor([1.0, 3.0]), torch.zeros(2), torch.tensor([2.0, 1.0])
    assert value_loss(values, old, returns, None).item() == pytest.approx(2.5)  # (1 + 4) / 2
    assert value_loss(values, old, returns, 0.5).item() == pytest.approx((1.5**2 + 0.5**2) / 2)


def test_normalised_advantages_have_mean_zero_and_spread_one() -> None:
    torch.testing.assert_close(normalised(torch.tensor([1.0, 2.0, 3.0])), torch.tensor([-1.0, 0.0, 1.0]))
    assert normalised(torch.tensor([7.0])).item() == 7.0


def gaussians(seed: int, n: int = 7, width: int = 3):
    torch.manual_seed(seed)
    return torch.randn(n, width), torch.randn(width)


@given(st.integers(0, 1000))
def test_gaussian_terms_equal_those_of_torch(seed: int) -> None:
    (means, log_std), (old_means, old_log_std) = gaussians(seed), gaussians(seed + 1)
    new, old = (
        Independent(Normal(m, s.exp().expand_as(m)), 1) for m, s in ((means, log_std), (old_means, old_log_std))
    )
    actions = torch.randn_like(means)
    torch.testing.assert_close(gaussian_log_prob(actions, means, log_std), new.log_prob(actions), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gaussian_entropy(log_std).expand(7), new.entropy())
    torch.testing.assert_close(
        gaussian_kl(old_means, old_log_std, means, log_std), kl_divergence(old, new), rtol=1e-4, atol=1e-4
    )


def test_the_kl_divergence_by_hand_and_its_direction() -> None:
    zero, one = torch.zeros(1, 1), torch.zeros(1)
    # Wide to narrow costs more than narrow to wide: ln(1/2) + 4/2 - 1/2, and ln 2 + 1/8 - 1/2.
    two = torch.full((1,), math.log(2.0))
    assert gaussian_kl(zero, two, zero, one).item() == pytest.approx(-math.log(2) + 1.5)
    assert gaussian_kl(zero, one, zero, two).item() == pytest.approx(math.log(2) - 0.375)
    assert gaussian_kl(zero, one, zero + 3, one).item() == pytest.approx(4.5)


def test_explained_variance() -> None:
    returns = torch.tensor([1.0, 2.0, 3.0])
    assert explained_variance(returns, returns).item() == 1.0
    assert explained_variance(torch.zeros(3), returns).item() == 0.0
    assert explained_variance(-returns, returns).item() == pytest.approx(-3.0)
    assert math.isnan(explained_variance(returns, torch.ones(3)).item())
