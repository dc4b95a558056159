"""When a robot may start and when it must stop: each rule by itself, by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biped.deploy.dynamixel import MODELS, TorqueLaw
from biped.deploy.hardware import ImuReading, JointReading
from biped.deploy.safety import Guard, Limits, hanging, limits_for, newest, obstacles, tilt_of
from biped.deploy.wiring import JointWiring, Wiring
from tests.deploy.still_robot import StillRobot

ROBOT = StillRobot()
CONTRACT = ROBOT.controller.contract
READ_S = np.full(50, 0.003)


def joints(**changes: np.ndarray) -> JointReading:
    full = np.ones(9)
    reading = JointReading(
        CONTRACT.default_pose_rad, 0.0 * full, 0.1 * full, 12.0 * full, 40.0 * full, np.zeros(9, np.int64)
    )
    return replace(reading, **changes)


def imu(**changes: object) -> ImuReading:
    return replace(ImuReading(np.array((0.0, 0.0, -1.0)), np.zeros(3), 0.005), **changes)


def at(index: int, value: float, rest: float) -> np.ndarray:
    column = np.full(9, rest)
    column[index] = value
    return column


def reasons(
    reading: JointReading | None = None, other: ImuReading | None = None, read_s: np.ndarray = READ_S
) -> list[str]:
    return judged(ROBOT.limits(), reading or joints(), other or imu(), read_s)


def judged(limits: Limits, reading: JointReading, other: ImuReading, read_s: np.ndarray = READ_S) -> list[str]:
    newest_, answered = newest([reading] * 3)
    return list(obstacles(CONTRACT, limits, newest_, answered, other, read_s))


def test_a_robot_that_is_well_may_start() -> None:
    assert reasons() == []


@pytest.mark.parametrize(
    ("reading", "other", "read_s", "said"),
    [
        (joints(pos_rad=at(3, np.nan, 0.0)), imu(), READ_S, "no answer from left_ankle"),
        (joints(faults=at(1, 4, 0).astype(np.int64)), imu(), READ_S, "left_hip_pitch reports hardware error 4"),
        (joints(pos_rad=CONTRACT.default_pose_rad + at(2, 0.7, 0.0)), imu(), READ_S, "left_knee is 0.70 rad from"),
        (joints(voltage_v=at(5, 9.5, 12.0)), imu(), READ_S, "the supply has 9.5 V, less than 10.0 V"),
        (joints(temperature_c=at(6, 71.0, 40.0)), imu(), READ_S, "right_knee is at 71 °C"),
        (joints(), imu(age_s=0.1), READ_S, "newest measurement is 100 ms old"),
        (joints(), imu(gravity_b=np.array((0.0, 0.0, -9.81))), READ_S, "gravity has length 9.81"),
        (joints(), imu(gravity_b=np.array((np.sin(0.5), 0.0, -np.cos(0.5)))), READ_S, "is 0.50 rad from upright"),
        (joints(), imu(gravity_b=np.array((0.0, 0.0, 1.0))), READ_S, "is 3.14 rad from upright"),
        (joints(), imu(ang_vel_b=np.array((0.0, 0.9, 0.0))), READ_S, "the trunk is not still"),
        (joints(), imu(), np.full(50, 0.013), "reading takes 13.0 ms of a step's 20 ms"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    reading: JointReading, other: ImuReading, read_s: np.ndarray, said: str
) -> None:
    (reason,) = reasons(reading, other, read_s)
    assert said in reason
    assert "\n" not in reason


def test_a_joint_outside_of_its_limits_may_not_start() -> None:
    limits = replace(ROBOT.limits(), lower_rad=np.full(9, -0.2), max_pose_error_rad=9.0)
    said = judged(limits, joints(), imu())
    assert [line.split()[0] for line in said] == ["left_hip_pitch", "left_ankle", "right_hip_pitch", "right_ankle"]


@given(st.floats(0.0, np.pi), st.floats(0.0, 2.0 * np.pi), st.floats(0.1, 20.0))
def test_the_tilt_is_the_angle_from_upright_whatever_its_direction_and_length(
    tilt: float, heading: float, length: float
) -> None:
    gravity = length * np.array((np.sin(tilt) * np.cos(heading), np.sin(tilt) * np.sin(heading), -np.cos(tilt)))
    assert tilt_of(gravity) == pytest.approx(tilt, abs=1e-6)


def test_a_silent_servo_stops_the_robot_in_the_fourth_step_and_one_answer_forgives() -> None:
    guard = Guard(CONTRACT, ROBOT.limits())
    silent = joints(pos_rad=at(4, np.nan, 0.0))
    assert [guard.judge(silent, imu(), 0.0) for _ in range(3)] == [None] * 3
    assert guard.judge(joints(), imu(), 0.0) is None
    assert [guard.judge(silent, imu(), 0.0) for _ in range(3)] == [None] * 3
    stop = guard.judge(silent, imu(), 0.0)
    assert stop is not None
    assert stop.reason.startswith("no answer from right_hip_roll for 4 steps")
    assert not stop.is_gentle


def test_a_current_counts_by_its_mean_so_that_a_step_may_draw_more() -> None:
    # A mean over a second, of at most 0.8 * 2.3 A: with twice that it is reached after ln 2 s, 35 steps.
    guard = Guard(CONTRACT, ROBOT.limits())
    held = joints(current_a=at(2, -2.0 * 0.8 * 2.3, 0.1))
    steps = next(n for n in range(1, 200) if guard.judge(held, imu(), 0.0) is not None)
    assert steps == pytest.approx(np.log(2.0) / 0.02, abs=1.5)


@pytest.mark.parametrize("voltage_v", [10.5, 12.0, 14.8])
def test_a_servo_that_is_blocked_is_noticed_at_any_voltage(voltage_v: float) -> None:
    law = TorqueLaw.of([MODELS[1030]] * 9)
    still = np.zeros(9)
    _, current_a = law(still + 500.0, still, still, still + 1158.0, still, still + 885.0, voltage_v)
    blocked = joints(current_a=at(2, current_a[2], 0.1), voltage_v=np.full(9, voltage_v))
    guard = Guard(CONTRACT, ROBOT.limits(stall_voltage_v=12.0))
    stops = [guard.judge(blocked, imu(), 0.0) for _ in range(150)]
    (reason,) = {stop.reason for stop in stops if stop is not None and "holds it" in stop.reason and stops[-1] is stop}
    assert reason.startswith("left_knee draws ")
    assert stops[20] is None


def test_half_of_a_held_servos_current_is_no_fault() -> None:
    guard = Guard(CONTRACT, ROBOT.limits())
    assert all(guard.judge(joints(current_a=np.full(9, 1.2)), imu(), 0.0) is None for _ in range(500))


def test_the_newest_answer_counts_and_how_often_each_servo_answers() -> None:
    first, second = joints(pos_rad=np.arange(9.0)), joints(pos_rad=at(3, np.nan, 7.0))
    reading, answered = newest([first, second])
    np.testing.assert_allclose(reading.pos_rad, at(3, 3.0, 7.0))
    np.testing.assert_allclose(answered, at(3, 0.5, 1.0))
    assert "no answer from left_ankle in 50% of the readings" in next(
        iter(obstacles(CONTRACT, ROBOT.limits(), reading, answered, imu(), READ_S))
    )
    often, answered = newest([*[first] * 49, second])
    assert (
        list(
            obstacles(
                CONTRACT,
                ROBOT.limits(max_pose_error_rad=99.0, upper_rad=np.full(9, 99.0)),
                often,
                answered,
                imu(),
                READ_S,
            )
        )
        == []
    )


def test_a_reading_that_is_not_finite_never_passes_for_well() -> None:
    for bad in (imu(gravity_b=np.full(3, np.nan)), imu(age_s=np.nan)):
        assert reasons(other=bad)
    assert Guard(CONTRACT, ROBOT.limits()).judge(joints(), imu(age_s=np.nan), 0.0) is not None
    assert Guard(CONTRACT, ROBOT.limits()).judge(joints(), imu(), np.nan) is not None


def test_a_trunk_that_hangs_may_do_so_face_down() -> None:
    face_down, limits = imu(gravity_b=np.array((1.0, 0.0, 0.0))), hanging(ROBOT.limits())
    assert judged(limits, joints(), face_down) == []
    assert Guard(CONTRACT, limits).judge(joints(), face_down, 0.0) is None
    assert Guard(CONTRACT, ROBOT.limits()).judge(joints(), face_down, 0.0) is not None


def test_limits_come_from_the_wiring_and_a_servo_without_a_current_is_not_watched_for_it() -> None:
    wiring = Wiring("/dev/x", 1_000_000, (JointWiring("a", 1, 1, 2048, -0.5, 0.6), JointWiring("b", 2, 1, 2048, -1, 1)))
    limits = limits_for(wiring, [MODELS[1030], MODELS[1060]], 11.0)
    np.testing.assert_allclose(limits.lower_rad, (-0.5, -1.0))
    np.testing.assert_allclose(limits.upper_rad, (0.6, 1.0))
    np.testing.assert_allclose(limits.stall_current_a, (2.3, np.inf))
    assert isinstance(limits, Limits)
    assert limits.min_voltage_v == 11.0
