"""What several seeds say: hand-computed means and intervals."""

import numpy as np
import pytest

from biped.eval.reliability import held, interquartile_interval, interquartile_mean, share_interval


def test_the_interquartile_mean_leaves_out_a_quarter_at_either_end() -> None:
    values = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [6.0], [100.0]])
    assert interquartile_mean(values) == pytest.approx([(2 + 3 + 4 + 5) / 4])
    assert interquartile_mean(np.array([[1.0, 5.0], [3.0, 7.0]])) == pytest.approx([2.0, 6.0]), (
        "two are too few to trim"
    )


def test_an_interval_holds_the_mean_and_is_narrow_where_all_agree() -> None:
    low, high = interquartile_interval(np.full((5, 3), 0.7))
    assert low == pytest.approx([0.7] * 3)
    assert high == pytest.approx([0.7] * 3)
    values = np.random.default_rng(1).normal(size=(400, 1))
    low, high = interquartile_interval(values)
    assert low < interquartile_mean(values) < high
    # The mean of the middle half of n normal values has a variance of 1.19 / n.
    assert (high - low)[0] == pytest.approx(2 * 1.96 * (1.19 / 400) ** 0.5, rel=0.2)


def test_a_shares_interval_is_wilsons() -> None:
    # Wilson: (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), z = 1.959964.
    assert share_interval(9, 10) == pytest.approx((0.5958, 0.9821), abs=1e-4)
    low, high = share_interval(10, 10)
    assert low == pytest.approx(1 / (1 + 3.8415 / 10), abs=1e-4)
    assert high == pytest.approx(1.0)


def test_a_curve_is_held_between_its_points_and_after_its_end() -> None:
    steps, values = np.array([10, 20, 30]), np.array([1.0, 2.0, 3.0])
    assert held(np.array([0.0, 10, 19, 20, 29, 99]), steps, values).tolist() == [1, 1, 1, 2, 2, 3]
    assert held(np.array([1.0, 2.0]), np.array([], np.int64), np.array([])).tolist() == [0.0, 0.0]
