import math

import pytest
import torch

from biped.mdp.episode_stats import EpisodeStats
from biped.mdp.terminations import Terminations

CPU = torch.device("cpu")
DT_S = 0.02


ZEROS, NOBODY = torch.zeros(3), torch.zeros(3, dtype=torch.bool)


def ends(**causes: list[bool]) -> Terminations:
    no = [False, False, False]
    return Terminations(
        **{name: torch.tensor(causes.get(name, no)) for name in ("height", "tilt", "error", "time_out")}
    )


def test_sums_over_episodes_by_hand() -> None:
    stats = EpisodeStats(3, ("a", "b"), DT_S, CPU)
    shares = torch.tensor([[1.0, -0.5], [2.0, 0.0], [3.0, 0.0]])
    rewards = shares.sum(dim=1)
    stats.add(rewards, torch.ones(3), shares, ZEROS, NOBODY, ends())
    two = torch.full((3,), 2.0)
    over = ends(height=[True, False, False], time_out=[False, True, False])
    stats.add(2.0 * rewards, two, shares, ZEROS, NOBODY, over)
    third = torch.tensor([0.5, 2.0, 9.0])
    stats.add(third, torch.tensor([1.0, 1.0, 3.0]), shares, ZEROS, NOBODY, ends(tilt=[True, False, False]))
    stats.count(3 * 3)

    summary = stats.drain()
    assert summary.episodes == 3
    assert summary.mean_return == pytest.approx((1.0 + 4.0 + 0.5) / 3)
    assert summary.max_return == 4.0
    assert summary.mean_length == pytest.approx((2 + 2 + 1) / 3)
    assert summary.reward_per_step == pytest.approx((0.5 + 2.0 + 3.0) / 3)
    assert summary.reward_rates == pytest.approx({"a": 2.0 / DT_S, "b": -0.5 / 3 / DT_S})
    assert summary.causes == pytest.approx({"height": 1 / 3, "tilt": 1 / 3, "error": 0.0, "time_out": 1 / 3})


def test_draining_starts_the_sums_anew() -> None:
    stats = EpisodeStats(3, ("a",), DT_S, CPU)
    one = torch.ones(3)
    stats.add(one, one, one[:, None], ZEROS, NOBODY, ends(time_out=[True, True, True]))
    stats.drain()
    summary = stats.drain()
    assert summary.episodes == 0
    assert math.isnan(summary.mean_return)
    assert summary.reward_per_step == 0.0
    stats.add(one, 2.0 * one, one[:, None], ZEROS, NOBODY, ends(time_out=[True, True, True]))
    assert stats.drain().mean_length == 2.0


def test_progress_is_averaged_over_the_steps_that_asked_for_motion() -> None:
    stats = EpisodeStats(3, (), DT_S, CPU)
    nothing = torch.zeros(3, 0)
    stats.add(ZEROS, ZEROS, nothing, torch.tensor([0.5, 0.9, math.nan]), torch.tensor([True, False, False]), ends())
    stats.add(ZEROS, ZEROS, nothing, torch.tensor([1.0, 0.6, 0.9]), torch.tensor([True, True, False]), ends())
    assert stats.drain().progress == pytest.approx((0.5 + 1.0 + 0.6) / 3)
    stats.add(ZEROS, ZEROS, nothing, ZEROS, NOBODY, ends())
    assert math.isnan(stats.drain().progress)
