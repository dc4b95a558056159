import math
from dataclasses import replace

import pytest
import torch

from biped.base.errors import ConfigError
from biped.config.task import CommandConfig
from biped.mdp.commands import (
    CommandState,
    advance_commands,
    command_progress,
    command_speed,
    is_moving,
    widened,
)

CPU = torch.device("cpu")
CFG = CommandConfig(
    lin_vel_x_m_s=(-0.2, 0.6),
    lin_vel_y_m_s=(-0.1, 0.1),
    ang_vel_rad_s=(0.3, 0.6),
    standing_fraction=0.0,
    turning_fraction=0.0,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn_commands(cfg: CommandConfig, seed: int = 0, share: float = 1.0) -> torch.Tensor:
    """Return the commands of many episodes that begin."""
    begun = CommandState.initial(20_000, CPU)
    return advance_commands(begun, 0.02, cfg, generator(seed), share)[0].velocity


def test_commands_fill_their_ranges() -> None:
    drawn = drawn_commands(CFG)
    for column, (low, high) in zip(drawn.T, (CFG.lin_vel_x_m_s, CFG.lin_vel_y_m_s, CFG.ang_vel_rad_s), strict=True):
        assert low <= column.min() < low + 0.01
        assert high - 0.01 < column.max() <= high
        assert column.mean().item() == pytest.approx((low + high) / 2, abs=0.01)


def test_the_standing_share_is_exactly_zero() -> None:
    cfg = replace(CFG, standing_fraction=0.25)
    still = (drawn_commands(cfg) == 0).all(dim=1)
    assert still.float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_the_turning_share_turns_on_the_spot() -> None:
    cfg = replace(CFG, standing_fraction=0.25, turning_fraction=0.5)
    drawn = drawn_commands(cfg)
    turning = (drawn[:, :2] == 0).all(dim=1) & (drawn[:, 2] != 0)
    assert turning.float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert 0.3 <= drawn[turning, 2].min() < 0.31
    assert (drawn == 0).all(dim=1).float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_commands_too_small_to_ask_for_motion_are_made_zero() -> None:
    cfg = CommandConfig(standing_fraction=0.0, turning_fraction=0.3)
    drawn = drawn_commands(cfg)
    zero = (drawn == 0).all(dim=1)
    assert (is_moving(drawn, cfg) == ~zero).all()
    assert 0.02 < zero.float().mean() < 0.3


def test_shares_of_more_than_everything_are_refused() -> None:
    with pytest.raises(ConfigError, match="turning_fraction"):
        CommandConfig(standing_fraction=0.6, turning_fraction=0.5)


def test_commands_stay_until_their_time_is_up_and_then_change() -> None:
    cfg, draws = CommandConfig(resample_s=0.1, standing_fraction=0.0), generator()
    state, _ = advance_commands(CommandState.initial(4, CPU), 0.02, cfg, draws)
    first = state.velocity
    for _ in range(4):
        state, _ = advance_commands(state, 0.02, cfg, draws)
        torch.testing.assert_close(state.velocity, first)
    state, _ = advance_commands(state, 0.0201, cfg, draws)
    assert (state.velocity != first).all()


def test_a_new_episode_has_a_new_command_and_leaves_the_others_alone() -> None:
    draws = generator()
    state, _ = advance_commands(CommandState.initial(4, CPU), 0.02, CFG, draws)
    restart = torch.tensor([False, True, False, False])
    begun = replace(state, time_left_s=state.time_left_s.masked_fill(restart, 0.0))
    after, _ = advance_commands(begun, 0.02, CFG, draws)
    changed = (after.velocity != state.velocity).any(dim=1)
    assert changed.tolist() == restart.tolist()
    assert after.time_left_s[1] == CFG.resample_s


def test_the_same_seed_draws_the_same() -> None:
    torch.testing.assert_close(drawn_commands(CFG, 3), drawn_commands(CFG, 3))
    assert not torch.equal(drawn_commands(CFG, 3), drawn_commands(CFG, 4))


def test_size_of_a_command_counts_yaw_by_its_lever() -> None:
    commands = torch.tensor([[0.3, 0.4, 0.0], [0.0, 0.0, 0.4], [0.05, 0.0, 0.0]])
    torch.testing.assert_close(command_speed(commands, CFG), torch.tensor([0.5, 0.2, 0.05]))
    assert is_moving(commands, CFG).tolist() == [True, True, False]


def test_the_share_narrows_each_range_around_its_middle() -> None:
    drawn = drawn_commands(CFG, share=0.5)
    for column, (low, high) in zip(drawn.T, ((0.0, 0.4), (-0.05, 0.05), (0.375, 0.525)), strict=True):
        assert low <= column.min() < low + 0.01
        assert high - 0.01 < column.max() <= high


def test_commands_widen_after_a_rollout_that_tracked_well_up_to_everything() -> None:
    cfg = CommandConfig(widen_by=0.3, widen_above=0.6)
    assert widened(0.5, 0.59, cfg) == 0.5
    assert widened(0.5, 0.6, cfg) == pytest.approx(0.8)
    assert widened(0.8, 0.9, cfg) == 1.0
    assert widened(0.5, math.nan, cfg) == 0.5


def test_progress_is_the_share_of_the_command_that_is_made_good() -> None:
    wanted = torch.tensor([[0.4, 0.0, 0.0]] * 4 + [[0.0, 0.0, 0.0]])
    got = torch.tensor([[0.4, 0, 0], [0.2, 0.5, 0], [0.0, 0.0, 3.0], [-0.4, 0, 0], [0.4, 0, 0]])
    torch.testing.assert_close(
        command_progress(torch.stack((wanted, got), dim=1), CFG), torch.tensor([1.0, 0.5, 0.0, -1.0, 0.0])
    )
