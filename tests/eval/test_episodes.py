"""From an agent and an environment to a recording."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from biped.base.errors import ConfigError
from biped.config.task import CommandConfig, TerminationConfig
from biped.eval import figures as fig
from biped.eval.episodes import record_episodes, trial_commands
from tests.eval.walks import walk

COUNT, JOINTS = 8, 9


def kinds(commands: torch.Tensor) -> tuple[int, int, int]:
    """How many stand, turn on the spot and walk, as the gate sees it."""
    record = replace(walk(num_envs=len(commands), seconds=0.1), command=commands.numpy())
    return tuple(int(kind(record).sum()) for kind in (fig.standing, fig.turning, fig.walking))


def test_an_eighth_stands_an_eighth_turns_and_the_others_walk_over_the_trained_range() -> None:
    cfg = CommandConfig()
    commands = trial_commands(800, cfg, seed=1)
    assert kinds(commands) == (100, 100, 600)
    walks = commands[200:]
    for column, (low, high) in zip(walks.T, (cfg.lin_vel_x_m_s, cfg.lin_vel_y_m_s, cfg.ang_vel_rad_s), strict=True):
        assert low <= column.min() < low + 0.02
        assert high - 0.02 < column.max() <= high
    turns = commands[100:200, 2].abs()
    assert turns.min() >= cfg.moving_threshold_m_s / cfg.turning_lever_m
    assert turns.max() > 0.55


def test_what_was_not_trained_is_not_tried() -> None:
    forward = CommandConfig((0.2, 0.6), (0.0, 0.0), (0.0, 0.0), standing_fraction=0.0, turning_fraction=0.0)
    assert kinds(trial_commands(64, forward, seed=1)) == (0, 0, 64)
    no_turning = CommandConfig((0.2, 0.6), (0.0, 0.0), (0.0, 0.0))
    assert kinds(trial_commands(64, no_turning, seed=1)) == (8, 0, 56)
    standing = CommandConfig((0.0, 0.0), (0.0, 0.0), (0.0, 0.0))
    assert kinds(trial_commands(64, standing, seed=1)) == (64, 0, 0)
    turning = CommandConfig((0.0, 0.0), (0.0, 0.0), (-0.6, 0.6))
    assert kinds(trial_commands(64, turning, seed=1)) == (8, 56, 0)
    only_turning = replace(turning, standing_fraction=0.0)
    assert kinds(trial_commands(64, only_turning, seed=1)) == (0, 64, 0)


def test_ranges_that_hardly_ask_for_motion_are_refused_before_anything_is_run() -> None:
    with pytest.raises(ConfigError, match=r"env\.command"):
        trial_commands(64, CommandConfig((-0.1001, 0.1001), (0.0, 0.0), (0.0, 0.0), turning_fraction=0.0), seed=1)


def test_an_evaluation_ends_once_everybody_has_fallen(make) -> None:
    env = make()
    record = record_episodes(env, lambda *_: torch.full((COUNT, JOINTS), 4.0), torch.zeros(COUNT, 3), seed=1)
    assert record.fell.all()
    assert len(record.running) < 200


def test_the_same_seed_draws_the_same_commands() -> None:
    assert torch.equal(trial_commands(32, CommandConfig(), 3), trial_commands(32, CommandConfig(), 3))
    assert not torch.equal(trial_commands(32, CommandConfig(), 3), trial_commands(32, CommandConfig(), 4))


def test_an_episode_is_recorded_until_the_robot_falls_and_not_beyond(make) -> None:
    env = make(termination=TerminationConfig(episode_s=2.0))
    commands = torch.zeros(COUNT, 3)
    commands[:, 0] = torch.linspace(0.1, 0.6, COUNT)
    thrown = torch.zeros(COUNT, JOINTS)
    thrown[:2] = 4.0  # the first two lose their balance

    record = record_episodes(env, lambda *_: thrown, commands, seed=1)
    assert record.fell.tolist() == [True, True, *[False] * (COUNT - 2)]
    assert record.running.shape == (100, COUNT)
    assert (np.diff(record.running.astype(int), axis=0) <= 0).all(), "an episode that has ended is over"
    assert record.running[:, 2:].sum(axis=0).tolist() == [99] * (COUNT - 2)  # its last step is the time-out
    assert record.running[:, 0].sum() < 60
    np.testing.assert_allclose(record.command, commands.numpy())
    upright = record.base_pos_w[record.running][:, 2]
    assert upright.min() > 0.3
    assert abs(record.mass_kg - 1.70) < 0.01  # assets/biped/README.md
    assert record.contacts[50:99, 2:].all()


def test_the_same_seed_records_the_same(make) -> None:
    env = make(termination=TerminationConfig(episode_s=1.0))
    commands = trial_commands(COUNT, CommandConfig(), 1)
    one, again, other = (
        record_episodes(env, lambda *_: torch.zeros(COUNT, JOINTS), commands, seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.base_pos_w, again.base_pos_w)
    assert not np.array_equal(one.base_pos_w, other.base_pos_w)
