"""Advantages and losses, against numbers worked out by hand and against torch's own distributions."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Independent, Normal, kl_divergence

from biped.ppo.buffer import generalised_advantages
from biped.ppo.losses import explained_variance, gaussian_entropy, gaussian_kl, gaussian_log_prob, ppo_loss


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


def loss(**changes):
    arguments = {
        "log_prob": torch.tensor([0.0, 0.0]),
        "old_log_prob": torch.tensor([0.0, 0.0]),
        "advantages": torch.tensor([1.0, -2.0]),
        "values": torch.tensor([1.0, 3.0]),
        "old_values": torch.tensor([0.0, 0.0]),
        "returns": torch.tensor([2.0, 1.0]),
        "entropy": torch.tensor([0.5, 0.7]),
        "clip_range": 0.2,
        "clip_range_vf": None,
        "ent_coef": 0.1,
        "vf_coef": 0.5,
        "normalize_advantage": False,
    }
    return ppo_loss(**{**arguments, **changes})


def test_the_loss_of_an_unchanged_policy() -> None:
    result = loss()
    assert result.policy.item() == pytest.approx(0.5)  # -(1 - 2) / 2
    assert result.value.item() == pytest.approx(2.5)  # (1 + 4) / 2
    assert result.entropy.item() == pytest.approx(-0.6)
    assert result.total.item() == pytest.approx(0.5 - 0.06 + 1.25)
    assert result.clip_fraction.item() == result.approx_kl.item() == 0.0


def test_ratios_are_clipped_where_that_lowers_the_objective_and_only_there() -> None:
    up = math.log(2.0)
    assert loss(log_prob=torch.tensor([up, 0.0])).policy.item() == pytest.approx(-(1.2 - 2.0) / 2)
    assert loss(log_prob=torch.tensor([0.0, up])).policy.item() == pytest.approx(-(1.0 - 4.0) / 2)
    assert loss(log_prob=torch.tensor([-up, 0.0])).policy.item() == pytest.approx(-(0.5 - 2.0) / 2)
    assert loss(log_prob=torch.tensor([0.0, -up])).policy.item() == pytest.approx(-(1.0 - 1.6) / 2)
    assert loss(log_prob=torch.tensor([up, 0.1])).clip_fraction.item() == 0.5
    assert loss(log_prob=torch.tensor([up, 0.0])).approx_kl.item() == pytest.approx((1 - up) / 2)


def test_a_clipped_value_moves_at_most_by_the_range() -> None:
    assert loss(clip_range_vf=0.5).value.item() == pytest.approx((1.5**2 + 0.5**2) / 2)


def test_normalised_advantages_have_mean_zero_and_spread_one() -> None:
    # (1 - -0.5) / (3 / sqrt 2) = 1 / sqrt 2, and its negative: the mean vanishes.
    assert loss(normalize_advantage=True).policy.item() == pytest.approx(0.0, abs=1e-6)
    scaled = loss(normalize_advantage=True, log_prob=torch.tensor([0.1, 0.0])).policy.item()
    assert scaled == pytest.approx(-(math.exp(0.1) - 1) / math.sqrt(2) / 2, rel=1e-5)


def test_without_an_analytical_entropy_the_log_probability_stands_in() -> None:
    assert loss(entropy=None, log_prob=torch.tensor([0.1, 0.3])).entropy.item() == pytest.approx(0.2)


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
