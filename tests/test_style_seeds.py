"""Styled trainings beside plain ones: `benchmarks/style_seeds.py`."""

import math

import numpy as np

from benchmarks.compare_seeds import Seed
from benchmarks.style_seeds import Row, side_by_side
from biped.runs.metrics_log import Curve
from tests.eval.walks import walk


def a_curve(*values: float) -> Curve:
    return Curve(250_000 * np.arange(1, len(values) + 1), np.array(values))


def test_two_episodes_are_shown_side_by_side_as_long_as_the_shorter_one() -> None:
    slow, fast = walk(num_envs=1, seconds=3.0), walk(num_envs=1, seconds=2.0, command=(0.5, 0.0, 0.0))
    both = side_by_side(slow, fast)
    assert both.running.shape == (100, 2)
    assert both.rewards.shape == (100, 2, 2)
    np.testing.assert_allclose(both.command[:, 0], [0.3, 0.5])
    np.testing.assert_allclose(both.base_pos_w[-1, :, 0], [0.3 * 99 * 0.02, 0.5 * 99 * 0.02], rtol=1e-5)


def test_a_row_has_the_ranges_of_the_last_half_and_none_without_a_style() -> None:
    curves = {"gate/score": a_curve(0.5, 0.8, 1.0, 1.0), "gate/passed": a_curve(0.0, 0.0, 1.0, 1.0)}
    accuracies = {
        "info/disc_agent_acc": a_curve(0.99, 0.98, 0.7, 0.6),
        "info/disc_demo_acc": a_curve(0.4, 1.0, math.nan, 0.9),
    }
    styled = Row(Seed("styled-1", curves | accuracies, (True,)), 0.02)
    assert styled.cells() == ["styled-1", "0.75 M", "1.00 M", "passed", "0.0200", "0.60 to 0.70", "0.90 to 0.90"]
    plain = Row(Seed("plain-1", curves, (True, False)), 0.06)
    assert plain.cells() == ["plain-1", "0.75 M", "1.00 M", "**failed**", "0.0600", "", ""]


def test_a_run_without_an_evaluation_says_so() -> None:
    row = Row(Seed("styled-1", {"gate/score": a_curve(0.5), "gate/passed": a_curve(0.0)}, ()), 0.02)
    assert row.cells()[1:4] == ["never", "0.25 M", "not judged"]
