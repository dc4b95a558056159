"""Windows of rollouts with a known illness."""

from typing import Any

from biped.config.task import RewardWeights
from biped.train.reward_doctor import examine

WELL = {
    "rewards/alive_bonus": 0.3,
    "rewards/tracking_lin_vel_x": 0.6,
    "rewards/tracking_lin_vel_y": 0.4,
    "rewards/foot_alternation": 0.5,
    "rewards/fall_penalty": 0.0,
    "curriculum/progress": 0.8,
}
WALKS = {"gate/survival": 1.0, "gate/step_frequency_left_hz": 1.4, "gate/step_frequency_right_hz": 1.4}


def findings(rollouts: list[dict[str, float]], **figures: float) -> list[str]:
    changed: Any = {**WALKS, **{f"gate/{name}": value for name, value in figures.items()}}
    return [finding.key for finding in examine(rollouts, changed, RewardWeights())]


def test_a_walk_that_is_paid_for_in_many_ways_is_well() -> None:
    assert findings([WELL, WELL]) == []


def test_a_reward_that_nobody_earns_is_dead_and_a_penalty_that_nobody_pays_is_not() -> None:
    assert findings([{**WELL, "rewards/foot_alternation": 0.0}] * 2) == ["dead foot_alternation"]
    assert findings([{**WELL, "rewards/foot_alternation": 0.0}, WELL]) == []


def test_a_term_over_seventy_percent_of_the_whole_dominates_whatever_its_sign() -> None:
    # The others come to 1.8 a second: 4.2 is 70% of the whole.
    assert findings([{**WELL, "rewards/fall_penalty": -4.3}]) == ["dominant fall_penalty"]
    assert findings([{**WELL, "rewards/fall_penalty": -4.1}]) == []
    assert findings([{**WELL, "rewards/tracking_lin_vel_x": 2.9}]) == ["dominant tracking_lin_vel_x"]


def test_standing_still_under_a_command_is_seen_and_falling_is_not_taken_for_it() -> None:
    still = {**WELL, "curriculum/progress": 0.05}
    assert findings([still, still]) == ["standing still"]
    assert findings([still, still], survival=0.1) == []


def test_a_foot_that_hardly_steps_is_a_limp_and_no_steps_at_all_are_none() -> None:
    assert findings([WELL], step_frequency_right_hz=0.6) == ["one-legged"]
    assert findings([WELL], step_frequency_right_hz=0.8) == []
    assert findings([WELL], step_frequency_left_hz=0.0, step_frequency_right_hz=0.2) == []


def test_without_a_rollout_there_is_nothing_to_say() -> None:
    assert findings([]) == []
