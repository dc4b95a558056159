import math
from dataclasses import replace

import numpy as np
import pytest

from biped.eval.trials import count_trials, episode_errors, succeeded
from tests.eval.walks import walk


def test_a_trial_succeeds_when_it_survives_and_tracks() -> None:
    good = walk(num_envs=4)
    velocity, rate = good.base_lin_vel_b.copy(), good.base_ang_vel_b.copy()
    velocity[:, 1, 0] += 0.09  # over the bar of 0.08 m/s
    velocity[:, 2, 0] += 0.07
    rate[:, 3, 2] += 0.3  # over the bar of 0.25 rad/s
    record = replace(good, base_lin_vel_b=velocity, base_ang_vel_b=rate)
    assert succeeded(record).tolist() == [True, False, True, False]
    trials = count_trials(record)
    assert (trials.num_trials, trials.success_trials, trials.fail_trials, trials.success_rate) == (4, 2, 2, 0.5)
    assert trials.success_precision == pytest.approx(0.035, rel=1e-4)  # the mean of 0 and 0.07
    assert count_trials(replace(record, fell=np.ones(4, dtype=bool))).success_trials == 0


def test_errors_are_each_episodes_own() -> None:
    good = walk(num_envs=2, command=(0.3, 0.1, 0.2), velocity=(0.25, 0.1, -0.1))
    assert episode_errors(good) == pytest.approx(np.array([[0.05, 0.0, 0.3]] * 2), abs=1e-5)


def test_where_nothing_was_measured_nothing_succeeds() -> None:
    good = walk(num_envs=2)
    gone = replace(good, running=np.zeros_like(good.running))
    assert np.isnan(episode_errors(gone)).all()
    trials = count_trials(gone)
    assert trials.success_trials == 0
    assert math.isnan(trials.success_precision)
