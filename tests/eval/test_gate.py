"""The gate on hand-made trajectories: a sound walk passes, each way not to walk fails the line that is meant for it."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biped.config.robot import RobotConfig
from biped.eval import figures as fig
from biped.eval.gate import GATE, Verdict, as_json, as_table, judge
from biped.eval.recording import Recording
from tests.eval.walks import DT_S, walk

ROBOT = RobotConfig()


def failed(verdict: Verdict) -> set[str]:
    return {judged.line.name for judged in verdict.lines if not judged.passed}


def test_a_sound_walk_passes_every_line() -> None:
    verdict = judge(walk(), ROBOT)
    assert failed(verdict) == set()
    assert verdict.passed
    assert verdict.score == 1.0


def test_figures_of_a_sound_walk_are_those_it_was_made_with() -> None:
    figures = judge(walk(), ROBOT).figures()
    assert figures["survival"] == 1.0
    assert figures["alternation"] == 1.0
    assert figures["swing_apex_left_m"] == pytest.approx(0.04 * math.sin(math.pi * 7.5 / 16))
    # Touchdowns come every 0.8 s.
    assert figures["step_frequency_left_hz"] == pytest.approx(1.25, abs=0.07)
    assert figures["duty_factor_left"] == pytest.approx(0.6, abs=0.01)
    assert figures["duty_factor_right"] == pytest.approx(0.6, abs=0.01)
    assert figures["flight"] == 0.0
    assert figures["stride_time_difference"] == pytest.approx(0.0, abs=1e-9)
    assert figures["stance_slip_m_s"] == 0.0
    assert figures["base_height_deviation_m"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("bad", "lines"),
    [
        # One leg is on the ground for 75% of the time, the other for 55%.
        (walk(swing_steps=(10, 18)), {"duty_factor_difference"}),
        # Both feet leave the ground and land together.
        (walk(right_foot_delay_steps=0), {"alternation", "flight"}),
        # The feet hardly lift.
        (walk(apex_m=(0.01, 0.04)), {"swing_apex_left_m"}),
        (walk(apex_m=(0.04, 0.01)), {"swing_apex_right_m"}),
        # The standing foot slides.
        (walk(slip_m_s=0.2), {"stance_slip_m_s"}),
        # Running: both feet are in the air after each stance.
        (walk(swing_steps=(24, 24)), {"duty_factor_left", "duty_factor_right", "flight"}),
        # The wrong way.
        (walk(velocity=(0.15, 0.0, 0.0)), {"error_lin_vel_x_m_s"}),
        (walk(velocity=(0.3, 0.1, 0.0)), {"error_lin_vel_y_m_s"}),
        (walk(velocity=(0.3, 0.0, -0.3)), {"error_ang_vel_rad_s"}),
    ],
    ids=["limp", "hop", "left shuffle", "right shuffle", "slide", "run", "slow", "sideways", "turn"],
)
def test_each_way_not_to_walk_fails_its_line(bad: Recording, lines: set[str]) -> None:
    assert failed(judge(bad, ROBOT)) == lines


def test_standing_still_under_a_command_to_walk_fails_every_gait_line_that_needs_a_step() -> None:
    still = failed(judge(walk(steps=False, velocity=(0.0, 0.0, 0.0)), ROBOT))
    assert still >= {"error_lin_vel_x_m_s", "alternation", "swing_apex_left_m", "swing_apex_right_m"}
    assert still >= {"stepping_episodes", "step_frequency_left_hz", "duty_factor_left", "stride_time_difference"}


def test_standing_still_is_what_a_zero_command_asks_for() -> None:
    verdict = judge(walk(command=(0.0, 0.0, 0.0), steps=False), ROBOT)
    assert verdict.passed
    names = set(verdict.figures())
    assert names == {
        "survival", "envelope_exceeded", "standing_survival", "standing_drift_m_s", "standing_feet_on_ground",
    }  # fmt: skip


def test_stepping_in_place_under_a_zero_command_fails() -> None:
    assert failed(judge(walk(command=(0.0, 0.0, 0.0)), ROBOT)) == {"standing_feet_on_ground"}


def test_drifting_under_a_zero_command_fails() -> None:
    drifting = walk(command=(0.0, 0.0, 0.0), steps=False, velocity=(0.06, 0.0, 0.0))
    verdict = judge(drifting, ROBOT)
    assert failed(verdict) == {"standing_drift_m_s"}
    assert verdict.figures()["standing_drift_m_s"] == pytest.approx(0.06, rel=1e-4)


def test_turning_on_the_spot_has_lines_of_its_own() -> None:
    turning = walk(command=(0.0, 0.0, 0.5), velocity=(0.0, 0.0, 0.1))
    verdict = judge(turning, ROBOT)
    assert failed(verdict) == {"turning_error_ang_vel_rad_s"}
    assert verdict.figures()["turning_error_ang_vel_rad_s"] == pytest.approx(0.4)


def test_falls_count_in_the_whole_and_in_their_kind_of_command() -> None:
    fallen = np.zeros(40, dtype=bool)
    fallen[0] = True
    assert judge(replace(walk(num_envs=40), fell=fallen), ROBOT).passed  # 39 of 40 are 97.5%
    fallen[1] = True
    assert failed(judge(replace(walk(num_envs=40), fell=fallen), ROBOT)) == {"survival"}
    stood = walk(num_envs=40, command=(0.0, 0.0, 0.0), steps=False)
    assert failed(judge(replace(stood, fell=fallen), ROBOT)) == {"survival", "standing_survival"}


def test_what_comes_after_the_end_of_an_episode_does_not_count() -> None:
    good = walk()
    running = good.running.copy()
    running[500:] = False
    foot_vel_w, velocity = good.foot_vel_w.copy(), good.base_lin_vel_b.copy()
    foot_vel_w[500:], velocity[500:] = 9.0, 9.0
    cut = replace(good, running=running, foot_vel_w=foot_vel_w, base_lin_vel_b=velocity)
    assert judge(cut, ROBOT).passed


def test_the_first_two_seconds_do_not_count() -> None:
    good = walk()
    velocity = good.base_lin_vel_b.copy()
    velocity[:100] = 9.0
    assert judge(replace(good, base_lin_vel_b=velocity), ROBOT).passed
    velocity[100] = 900.0
    assert failed(judge(replace(good, base_lin_vel_b=velocity), ROBOT)) >= {"error_lin_vel_x_m_s"}


def test_an_episode_that_falls_at_once_passes_nothing_that_needs_measuring() -> None:
    good = walk()
    gone = replace(good, running=np.zeros_like(good.running), fell=np.ones_like(good.fell))
    verdict = judge(gone, ROBOT)
    asked_of_walks = {line.name for line in GATE if line.of not in (fig.turning, fig.standing)}
    without_bar = {"cost_of_transport", "estimate_error_velocity_m_s", "estimate_error_height_m"}
    assert failed(verdict) == asked_of_walks - without_bar


def test_what_a_policy_takes_its_velocity_to_be_is_compared_with_what_it_was_when_it_looked() -> None:
    count = round(20.0 / DT_S)
    guess = np.zeros((count, 3, 4), dtype=np.float32)
    # It walks at 0.3 m/s, 0.4 m high; robot 1 is thought 0.3 m/s too fast and robot 2 0.03 m too high.
    guess[..., 0], guess[..., 3] = 0.3, 0.4
    guess[:, 1, 0] += 0.3
    guess[:, 2, 3] += 0.03
    record = walk(estimate=guess)
    # The mean is over three robots, and of a velocity over two numbers.
    assert fig.estimate_error_velocity(record, ROBOT) == pytest.approx(0.3 / math.sqrt(6.0), rel=1e-5)
    assert fig.estimate_error_height(record, ROBOT) == pytest.approx(0.03 / math.sqrt(3.0), rel=1e-4)
    # A guess is about the state before the step that it is recorded with: one that knows the future is wrong.
    speeds = np.linspace(0.0, 2.0, count, dtype=np.float32)
    varying = record.base_lin_vel_b.copy()
    varying[..., 0] = speeds[:, None]
    right = guess.copy()
    right[1:, :, 0] = speeds[:-1, None]
    assert fig.estimate_error_velocity(replace(record, base_lin_vel_b=varying, estimate=right), ROBOT) < 1e-6
    assert judge(record, ROBOT).passed, "it is reported, and no bar"
    silent = {judged.line.name: judged.episodes for judged in judge(walk(), ROBOT).lines}
    assert silent["estimate_error_velocity_m_s"] == 0


def test_episodes_that_stand_still_among_others_that_walk_are_not_hidden_by_the_means() -> None:
    sound, still = walk(num_envs=4), walk(num_envs=4, steps=False)
    mixed = {}
    for name in ("contacts", "foot_pos_w", "foot_vel_w"):
        mixed[name] = getattr(sound, name).copy()
        mixed[name][:, 0] = getattr(still, name)[:, 0]
    mixed = replace(sound, **mixed)
    assert fig.stepping(mixed, ROBOT) == 0.75
    assert failed(judge(mixed, ROBOT)) == {"stepping_episodes"}


def test_a_bounce_of_the_contact_sensor_is_no_step() -> None:
    good = walk()
    assert fig.alternation(good, ROBOT) == 1.0
    # The left foot stands from 296 to 319: two steps without contact within are a bounce, three a swing.
    contacts = good.contacts.copy()
    contacts[305:307, :, 0] = False
    assert fig.alternation(replace(good, contacts=contacts), ROBOT) == 1.0
    contacts[305:308, :, 0] = False
    assert fig.alternation(replace(good, contacts=contacts), ROBOT) < 1.0


def test_torque_beyond_the_envelope_is_counted_by_joint_and_step() -> None:
    good = walk()
    torque, speed = good.joint_torque_nm.copy(), good.joint_vel_rad_s.copy()
    # At half the no-load speed 1.5 N·m are left to drive; braking, all 3.0.
    speed[..., 0], torque[..., 0] = 4.03, 1.6
    speed[..., 1], torque[..., 1] = 4.03, 1.4
    speed[..., 2], torque[..., 2] = 4.03, -2.9
    speed[..., 3], torque[..., 3] = -4.03, -1.6
    record = replace(good, joint_torque_nm=torque, joint_vel_rad_s=speed)
    assert fig.envelope_exceeded(record, ROBOT) == pytest.approx(2 / 9)


def test_cost_of_transport_is_positive_work_over_weight_and_distance() -> None:
    good = walk()  # 2 kg at 0.3 m/s
    torque, speed = np.zeros_like(good.joint_torque_nm), np.zeros_like(good.joint_vel_rad_s)
    torque[..., 0], speed[..., 0] = 1.5, 2.0  # 3 W
    torque[..., 1], speed[..., 1] = -1.5, 2.0  # braking
    record = replace(good, joint_torque_nm=torque, joint_vel_rad_s=speed)
    assert fig.cost_of_transport(record, ROBOT) == pytest.approx(3.0 / (2.0 * 9.81 * 0.3), rel=1e-4)


def test_stride_times_are_compared_foot_by_foot() -> None:
    # Left every 40 steps, right every 40 too, but one right step of four is left out: its strides are 4/3 as long.
    good = walk(seconds=40.0)
    contacts = good.contacts.copy()
    for start in range(20, 2000, 160):
        contacts[start : start + 16, :, 1] = True
    difference = fig.stride_time_difference(replace(good, contacts=contacts), ROBOT)
    assert difference == pytest.approx((4 / 3 - 1) / ((4 / 3 + 1) / 2), rel=0.03)


@given(st.integers(0, 2**32 - 1))
def test_complete_runs_are_the_stretches_that_touch_no_edge(seed: int) -> None:
    mask = np.random.default_rng(seed).random((12, 2, 2)) < 0.5
    found = fig.complete_runs(mask)
    expected = set()
    for env in range(2):
        for foot in range(2):
            column = mask[:, env, foot]
            for first in range(1, 12):
                if column[first] and not column[first - 1]:
                    end = first + list(column[first:]).index(False) if not column[first:].all() else 12
                    if end < 12:
                        expected.add((first, end, env, foot))
    got = set(zip(found.first, found.end, found.env, found.foot, strict=True))
    assert got == expected


@given(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3), st.floats(-1, 1))
def test_every_command_is_of_exactly_one_kind(vx: float, vy: float, wz: float) -> None:
    record = walk(num_envs=1, seconds=0.1, command=(vx, vy, wz))
    assert int(fig.walking(record)[0]) + int(fig.turning(record)[0]) + int(fig.standing(record)[0]) == 1


def test_a_command_of_a_tenth_of_a_metre_a_second_asks_to_walk() -> None:
    assert fig.walking(walk(num_envs=1, seconds=0.1, command=(0.1, 0.0, 0.0)))[0]
    assert fig.turning(walk(num_envs=1, seconds=0.1, command=(0.05, 0.0, 0.3)))[0]
    assert fig.standing(walk(num_envs=1, seconds=0.1, command=(0.05, 0.0, 0.0)))[0]


def test_the_score_rises_with_every_line_and_towards_each_bar() -> None:
    good, slow, slower = walk(), walk(velocity=(0.2, 0.0, 0.0)), walk(velocity=(0.15, 0.0, 0.0))
    scores = [judge(record, ROBOT).score for record in (good, slow, slower)]
    assert scores[0] > scores[1] > scores[2]


def test_what_is_written_is_strict_json_and_names_the_bars() -> None:
    verdict = judge(walk(steps=False), ROBOT)
    text = json.dumps(as_json(verdict), allow_nan=False)
    lines = json.loads(text)["lines"]
    assert lines["alternation"] == {
        "value": None, "unit": "1", "low": 0.97, "high": None, "episodes": 3, "passed": False,
    }  # fmt: skip
    assert lines["duty_factor_left"]["high"] == 0.8


def test_the_table_says_what_failed() -> None:
    text = as_table(judge(walk(slip_m_s=0.2), ROBOT))
    assert "FAILED in 1 line" in text
    (line,) = [line for line in text.splitlines() if line.startswith("stance_slip_m_s")]
    assert "0.2000" in line
    assert "at most 0.08 m/s" in line
    assert line.endswith("FAILED")
    assert "walking gate: passed" in as_table(judge(walk(), ROBOT))


def test_the_control_step_is_what_times_are_counted_in() -> None:
    good = walk()
    assert fig.step_frequency_left(replace(good, dt_s=2 * DT_S), ROBOT) == pytest.approx(0.625, abs=0.04)
