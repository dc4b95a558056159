"""A run on a robot: limp, checked, slowly to the default pose, a step every 20 ms, and limp at the end."""

import os
import signal
from collections.abc import Callable

import numpy as np
import pytest

from biped.base.errors import UsageError
from biped.deploy.run_log import PHASES, RunLog
from biped.deploy.runtime import ENDED, POSE_RATE_RAD_S, Body, Deadlines, Outcome, Runtime
from tests.deploy.still_robot import ImuOf, StillRobot


def phases(log: RunLog) -> list[str]:
    """The phases that a run went through, each once, in order."""
    seen = [PHASES[index] for index in log["phase"]]
    return [phase for index, phase in enumerate(seen) if index == 0 or phase != seen[index - 1]]


def test_a_run_is_limp_then_goes_to_the_pose_then_walks_and_ends_limp() -> None:
    robot = StillRobot()
    outcome = robot.runtime().run(seconds=2.0)
    assert outcome.is_safe
    assert outcome.ended == "ended after 2 s"
    assert phases(outcome.log) == ["limp", "to pose", "walking"]
    assert not robot.is_stiff
    assert int(outcome.log.during("walking").sum()) == 100


def test_steps_are_twenty_milliseconds_apart_though_each_takes_time() -> None:
    robot = StillRobot()
    log = robot.runtime().run(seconds=3.0).log
    walking = log["time_s"][log.during("walking")]
    np.testing.assert_allclose(np.diff(walking), 0.02, atol=1e-9)


def test_the_way_to_the_pose_is_no_faster_than_its_rate_and_ends_there() -> None:
    robot = StillRobot()
    robot.runtime().run(seconds=0.1)
    to_pose = np.array([target for _, target in robot.sent[:-5]])
    steps = np.abs(np.diff(to_pose, axis=0)).max()
    assert steps <= POSE_RATE_RAD_S * 0.02 + 1e-12
    assert steps > 0.9 * POSE_RATE_RAD_S * 0.02
    assert np.allclose(to_pose[-1], robot.controller.contract.default_pose_rad)


def test_nothing_is_stiff_or_sent_before_the_key_is_held() -> None:
    robot = StillRobot()
    robot.is_held = False
    robot.after(5.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    outcome = robot.runtime().run()
    assert outcome.is_safe
    assert outcome.ended == ENDED
    assert robot.sent == []
    assert robot.limp_since_s == -np.inf
    assert phases(outcome.log) == ["limp"]


def test_letting_go_of_the_key_stops_the_way_to_the_pose_and_makes_a_walking_robot_stand() -> None:
    robot = StillRobot()
    robot.after(1.2, lambda: setattr(robot, "is_held", False))
    robot.after(2.2, lambda: setattr(robot, "is_held", True))
    robot.after(4.0, lambda: setattr(robot, "is_held", False))
    log = robot.runtime().run(seconds=3.0).log
    to_pose = log["target_rad"][log.during("to pose")]
    assert (np.abs(np.diff(to_pose, axis=0)).max(axis=1) == 0.0).sum() >= 45, "it waited for a second on the way"
    released = log["time_s"] > 4.1
    assert log["command"][released].any() == np.False_
    assert np.isfinite(log["action"][released]).all(), "the policy stands; it is not switched off"


def faults() -> dict[str, tuple[Callable[[StillRobot], object], str]]:
    """What goes wrong after five seconds, and what the reason must say."""
    tilted = np.array((np.sin(0.9), 0.0, -np.cos(0.9)))
    return {
        "tilt": (lambda r: setattr(r, "gravity_b", tilted), "0.90 rad from upright"),
        "one servo silent": (lambda r: r.silent.__setitem__(2, True), "no answer from left_knee"),
        "bus silent": (lambda r: r.silent.fill(True), "no answer from left_hip_roll, "),
        "bus gone": (lambda r: setattr(r, "has_gone", True), "has gone"),
        "late loop": (lambda r: setattr(r, "now_s", r.now_s + 0.09), "ms late"),
        "hot": (lambda r: setattr(r, "temperature_c", 75.0), "is at 75 °C"),
        "IMU silent": (lambda r: setattr(r, "imu_age_s", 0.2), "IMU has been silent for 200 ms"),
        "voltage": (lambda r: setattr(r, "voltage_v", 9.0), "supply has fallen to 9.0 V"),
        "hardware error": (lambda r: setattr(r, "fault", 32), "hardware error 32"),
        "beyond its limits": (lambda r: setattr(r, "pos_rad", r.pos_rad + 9.0), "beyond its limits"),
    }


@pytest.mark.parametrize("name", faults())
def test_every_fault_is_limp_within_a_tenth_of_a_second_and_says_why(name: str) -> None:
    robot, when_s = StillRobot(), []
    cause, reason = faults()[name]

    def happen() -> None:
        # A position that is too far must be read before the next target puts the servo right again.
        when_s.append(robot.now_s)
        cause(robot)

    robot.after(5.0, happen)
    outcome = robot.runtime().run(seconds=20.0)
    assert not outcome.is_safe
    assert reason in outcome.ended
    assert "\n" not in outcome.ended
    assert not robot.is_stiff
    # A loop that is late cannot have seen it earlier than it woke up.
    cause_s = when_s[0] + (0.09 if name == "late loop" else 0.0)
    assert robot.limp_since_s - cause_s <= 0.1


def test_a_current_that_lasts_stops_the_robot_within_a_tenth_of_a_second_of_being_too_much() -> None:
    robot = StillRobot()
    robot.after(5.0, lambda: setattr(robot, "current_a", 2.4))
    outcome = robot.runtime(current_window_s=0.05).run(seconds=20.0)
    # A servo that is held draws 2.3 A at 12 V; four fifths of that are 1.84 A.
    assert outcome.ended == "left_hip_roll draws 1.9 A: something holds it"
    assert robot.limp_since_s - 105.0 < 0.5


def test_a_reading_lost_now_and_then_stops_nothing() -> None:
    robot = StillRobot()
    for k in range(40):
        robot.after(3.0 + 0.1 * k, lambda: robot.silent.fill(True))
        robot.after(3.05 + 0.1 * k, lambda: robot.silent.fill(False))
    outcome = robot.runtime().run(seconds=5.0)
    assert outcome.is_safe
    lost = np.isnan(outcome.log["pos_rad"]).any(axis=1)
    assert lost.sum() > 40
    assert np.isfinite(outcome.log["target_rad"][lost]).all(), "what is lost is held, not sent as NaN"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_limp_with_the_log_and_leave_the_handlers_as_they_were(number: signal.Signals) -> None:
    robot, before = StillRobot(), signal.getsignal(number)
    robot.after(4.0, lambda: os.kill(os.getpid(), number))
    outcome = robot.runtime().run()
    assert outcome.is_safe
    assert not robot.is_stiff
    assert robot.limp_since_s - 104.0 <= 0.1
    assert len(outcome.log) > 100
    assert signal.getsignal(number) == before


def test_a_fault_of_the_program_is_limp_in_one_line_and_keeps_the_log() -> None:
    robot = StillRobot()

    def break_it() -> None:
        raise ZeroDivisionError("by nothing")

    robot.after(4.0, break_it)
    outcome = robot.runtime().run()
    assert not outcome.is_safe
    assert outcome.ended == "this program failed (ZeroDivisionError: by nothing)"
    assert "break_it" in outcome.log.about["traceback"]
    assert not robot.is_stiff
    assert len(outcome.log) > 100


def test_a_key_that_is_still_held_does_not_start_the_policy_in_somebodys_hands() -> None:
    robot = StillRobot()
    robot.is_person = True
    robot.after(6.0, lambda: setattr(robot, "is_held", False))
    robot.after(8.0, lambda: setattr(robot, "is_held", True))
    log = robot.runtime().run(seconds=2.0).log
    ran = np.isfinite(log["action"]).all(axis=1)
    assert log["time_s"][ran].min() >= 7.9
    assert robot.began_s == pytest.approx(108.0, abs=0.05)
    standing = log.during("standing")
    np.testing.assert_allclose(
        log["target_rad"][standing],
        np.broadcast_to(robot.controller.contract.default_pose_rad, (standing.sum(), 9)),
        atol=1e-6,
    )


def test_a_servo_that_is_silent_as_the_key_is_pressed_does_not_jump() -> None:
    robot = StillRobot()
    robot.is_held = False
    robot.pos_rad = robot.controller.contract.default_pose_rad + 0.5

    def press() -> None:
        robot.is_held = True
        robot.silent[4] = True

    robot.after(2.0, press)
    robot.after(2.07, lambda: robot.silent.fill(False))
    log = robot.runtime(max_pose_error_rad=0.6).run(seconds=0.1).log
    sent = log["target_rad"][np.isfinite(log["target_rad"]).all(axis=1)]
    np.testing.assert_allclose(sent[0], robot.controller.contract.default_pose_rad + 0.49, atol=1e-6)


def test_a_joint_that_moved_while_the_servos_were_switched_on_is_not_snapped_back() -> None:
    robot = StillRobot()
    stiffen = robot.stiffen

    def move_and_stiffen() -> None:
        robot.pos_rad = robot.pos_rad + 0.3
        stiffen()

    robot.stiffen = move_and_stiffen  # type: ignore[method-assign]
    log = robot.runtime().run(seconds=0.1).log
    sent = log["target_rad"][np.isfinite(log["target_rad"]).all(axis=1)]
    np.testing.assert_allclose(sent[0], robot.controller.contract.default_pose_rad + 0.49, atol=1e-6)


def test_a_robot_that_was_moved_or_got_warm_after_the_check_does_not_start() -> None:
    robot = StillRobot()
    robot.is_held = False
    robot.after(20.0, lambda: setattr(robot, "pos_rad", robot.pos_rad + 1.0))
    robot.after(25.0, lambda: setattr(robot, "is_held", True))
    outcome = robot.runtime().run()
    assert not outcome.is_safe
    assert outcome.ended.startswith("not ready: left_hip_roll is 1.20 rad from the default pose")
    assert robot.sent == []
    assert len(outcome.log) < 60, "the time that a person takes is not logged"


def test_an_imu_without_numbers_stops_the_robot_in_every_phase() -> None:
    for after_s in (1.3, 5.0):
        robot = StillRobot()
        robot.after(after_s, lambda robot=robot: setattr(robot, "gravity_b", np.full(3, np.nan)))
        outcome = robot.runtime().run(seconds=9.0)
        assert "nothing that is a number for 6 steps" in outcome.ended
        assert not robot.is_stiff


def test_signals_while_it_goes_limp_or_saves_are_waited_out() -> None:
    robot, kept = StillRobot(), []
    go_limp = robot.go_limp

    def hurried() -> None:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
            os.kill(os.getpid(), number)
        go_limp()

    robot.after(4.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    robot.after(3.9, lambda: setattr(robot, "go_limp", hurried))

    def keep(outcome: Outcome) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        kept.append(outcome)

    outcome = robot.runtime().run(keep=keep)
    assert kept == [outcome]
    assert not robot.is_stiff
    assert outcome.ended == ENDED


def test_a_terminal_that_has_gone_does_not_end_a_run() -> None:
    robot = StillRobot()

    def gone(_: str) -> None:
        raise BrokenPipeError

    robot.said = None  # type: ignore[assignment]
    runtime = Runtime(
        robot.controller,
        Body(robot, ImuOf(robot)),
        robot,
        robot.limits(),
        say=gone,
        clock=robot.clock,
        sleep=robot.sleep,
    )
    assert runtime.run(seconds=1.0).is_safe


def test_targets_are_logged_as_they_are_sent_within_the_limits() -> None:
    robot = StillRobot()
    pose = robot.controller.contract.default_pose_rad
    targets = pose + np.linspace(0.0, 0.5, 60)[:, None]
    log = robot.runtime(upper_rad=pose + 0.25).run(excitation=targets).log
    sent = log["target_rad"][log.during("exciting")]
    assert sent.max(axis=0) == pytest.approx(pose + 0.25, abs=1e-6)
    np.testing.assert_allclose(robot.sent[-1][1], pose + 0.25)


def test_a_default_pose_outside_of_the_limits_is_refused() -> None:
    robot = StillRobot()
    with pytest.raises(UsageError, match=r"^the default pose has left_knee at \+0\.70 rad, outside"):
        robot.runtime(upper_rad=np.full(9, 0.5))


def test_heat_lets_the_robot_crouch_first_if_that_is_wished() -> None:
    robot = StillRobot()
    robot.after(5.0, lambda: setattr(robot, "temperature_c", 75.0))
    outcome = robot.runtime(crouches=True).run()
    assert not outcome.is_safe
    assert phases(outcome.log)[-1] == "crouching"
    assert "is at 75 °C" in outcome.ended
    np.testing.assert_allclose(outcome.log["target_rad"][-1], 2.0 * robot.controller.contract.default_pose_rad)
    assert not robot.is_stiff


def test_a_crouch_ends_at_once_on_a_signal_and_on_a_fall() -> None:
    for change in (
        lambda _: os.kill(os.getpid(), signal.SIGINT),
        lambda robot: setattr(robot, "gravity_b", np.array((1.0, 0.0, 0.0))),
    ):
        robot = StillRobot()
        robot.after(5.0, lambda robot=robot: setattr(robot, "temperature_c", 75.0))
        robot.after(5.3, lambda robot=robot, change=change: change(robot))
        robot.runtime(crouches=True).run()
        assert robot.limp_since_s - 105.3 <= 0.1


def test_no_crouch_on_the_way_to_the_pose() -> None:
    robot = StillRobot()
    robot.after(1.3, lambda: setattr(robot, "temperature_c", 75.0))
    outcome = robot.runtime(crouches=True).run()
    assert "crouching" not in phases(outcome.log)


def test_what_is_wrong_at_the_start_is_all_said_and_nothing_moves() -> None:
    robot = StillRobot()
    robot.voltage_v, robot.temperature_c = 9.0, 80.0
    outcome = robot.runtime().run()
    assert not outcome.is_safe
    assert [line for line in robot.said if line.startswith("not ready")] == [
        "not ready: the supply has 9.0 V, less than 10.0 V: charge the battery",
        "not ready: left_hip_roll is at 80 °C: let it cool",
    ]
    assert robot.sent == []
    assert robot.limp_since_s == -np.inf


def test_an_excitation_is_played_as_given_and_ends_where_the_key_is_let_go() -> None:
    robot = StillRobot()
    targets = robot.controller.contract.default_pose_rad + 0.1 * np.sin(np.arange(200)[:, None] * np.ones(9) / 7.0)
    outcome = robot.runtime().run(excitation=targets)
    assert outcome.is_safe
    assert outcome.ended == "the excitation is complete"
    np.testing.assert_allclose(outcome.log["target_rad"][outcome.log.during("exciting")], targets, atol=1e-6)
    robot = StillRobot()
    robot.after(4.0, lambda: setattr(robot, "is_held", False))
    outcome = robot.runtime().run(excitation=targets)
    assert outcome.ended == "the key was let go"
    assert 10 < outcome.log.during("exciting").sum() < 190


def test_a_step_that_was_late_is_not_made_up_for() -> None:
    now = [0.0]
    deadlines = Deadlines(0.02, lambda: now[0], lambda s: now.__setitem__(0, now[0] + s))
    assert deadlines.wait() == 0.0
    now[0] += 0.05
    assert deadlines.wait() == pytest.approx(0.03)
    for _ in range(3):
        before = now[0]
        assert deadlines.wait() == pytest.approx(0.0)
        assert now[0] - before == pytest.approx(0.02)
