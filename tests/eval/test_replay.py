"""Replays: a simulator does what a robot did, if the robot is the same, and does not if it is another."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from biped.eval.replay import (
    Measured,
    Replay,
    Window,
    as_measured,
    growth,
    joint_errors,
    joint_motions,
    replay,
    tilt_error,
    turning_errors,
)
from tests.eval.replays import biped, measured, simulated_log

HALF_A_SECOND = 25


@pytest.fixture(scope="module")
def log() -> Measured:
    """What a simulated robot's sensors said."""
    return measured(simulated_log())


def errors(log: Measured, sim: str = "mujoco", late_steps: int = 0) -> tuple[np.ndarray, Replay, Replay]:
    windows = log.windows(HALF_A_SECOND)
    found, told = replay(biped(), sim, log, windows, late_steps), as_measured(log, windows)
    return joint_errors(found, told), found, told


def test_the_same_robot_in_the_same_engine_does_the_same(log: Measured) -> None:
    error, found, told = errors(log)
    assert joint_motions(told)[[2, 6, 8]].min() > 0.05, "the robot moved"
    assert error.max() < 2e-3
    assert tilt_error(found, told) < 4e-3
    assert turning_errors(found, told).max() < 0.05
    assert found.failed == 0


@pytest.mark.genesis
def test_the_same_robot_in_the_other_engine_does_nearly_the_same(log: Measured) -> None:
    error, found, told = errors(log, "genesis")
    assert error.max() < 5e-3
    assert tilt_error(found, told) < 1e-2
    # Where windows begin, joints move: one that began at rest would lag behind at once.
    assert np.abs(told.vel_rad_s[1:, 0]).max() > 1.0
    assert np.nanmax(np.abs(found.pos_rad[:, 1] - told.pos_rad[:, 1])) < 4e-3


def test_a_robot_with_weaker_motors_does_something_else(log: Measured) -> None:
    same, weak = errors(log)[0], errors(measured(simulated_log(strength=0.5)))[0]
    assert weak.max() > 10.0 * same.max()
    assert weak.max() > 0.02


def test_targets_that_were_late_are_replayed_late() -> None:
    late = measured(simulated_log(late_steps=2))
    assert errors(late, late_steps=2)[0].max() < 3e-3
    assert errors(late)[0].max() > 0.01


def test_windows_begin_on_what_was_measured_and_end_where_they_should(log: Measured) -> None:
    _, found, told = errors(log)
    assert [(window.first, window.steps) for window in found.windows] == [
        (0, 25),
        (25, 25),
        (50, 25),
        (75, 25),
        (100, 19),
    ]
    np.testing.assert_array_equal(found.pos_rad[:, 0], log.pos_rad[[0, 25, 50, 75, 100]])
    np.testing.assert_array_equal(told.pos_rad[0, -1], told.pos_rad[1, 0])
    assert np.isfinite(found.pos_rad[:, :20]).all()
    assert np.isnan(found.pos_rad[4, 20:]).all()
    assert np.isnan(told.pos_rad[4, 20:]).all()


def blank(steps: int, **changes: np.ndarray) -> Measured:
    """Return a log of a robot that stands still."""
    still, gravity = np.zeros((steps, 9)), np.tile((0.0, 0.0, -1.0), (steps, 1))
    log = Measured(
        0.02, 0.02 * np.arange(steps), still, still, still, gravity, 0 * gravity, 0 * gravity, np.ones(steps, bool)
    )
    return replace(log, **changes)


def spoilt(values: np.ndarray, *rows: int) -> np.ndarray:
    values = values.copy()
    values[list(rows)] = np.nan
    return values


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda log: log, [(0, 4), (4, 4), (8, 1)]),
        (lambda log: replace(log, targets_rad=spoilt(log.targets_rad, 2)), [(0, 2), (3, 4), (7, 2)]),
        (lambda log: replace(log, pos_rad=spoilt(log.pos_rad, 0, 4)), [(1, 4), (5, 4)]),
        (lambda log: replace(log, gravity_b=spoilt(log.gravity_b, 4, 5)), [(0, 4), (6, 3)]),
        (
            lambda log: replace(log, time_s=np.where(np.arange(10) < 3, log.time_s, log.time_s + 0.02)),
            [(0, 2), (3, 4), (7, 2)],
        ),
        (lambda log: replace(log, gravity_b=log.gravity_b * (np.arange(10) != 0)[:, None]), [(1, 4), (5, 4)]),
        (lambda log: replace(log, gravity_b=9.81 * log.gravity_b), []),
        (lambda log: replace(log, time_s=np.full(10, 3.0)), []),
        (lambda log: replace(log, time_s=np.where(np.arange(10) < 5, log.time_s, log.time_s - 1.0)), [(0, 4), (5, 4)]),
        (lambda log: replace(log, is_chosen=np.arange(10) >= 6), [(6, 3)]),
        (lambda log: replace(log, is_chosen=np.zeros(10, bool)), []),
    ],
    ids=[
        "all",
        "no target",
        "no position",
        "no gravity",
        "a step is missing",
        "dead IMU",
        "m/s2",
        "clock stands",
        "clock goes back",
        "other phases",
        "none",
    ],
)
def test_windows_leave_out_what_is_not_known(
    spoil: Callable[[Measured], Measured], expected: list[tuple[int, int]]
) -> None:
    assert [(window.first, window.steps) for window in spoil(blank(10)).windows(4)] == expected


def test_a_servo_that_was_silent_for_a_moment_is_left_out_of_its_joints_error(log: Measured) -> None:
    position = log.pos_rad.copy()
    position[7, 3] = np.nan
    _, whole, told = errors(log)
    gap = as_measured(replace(log, pos_rad=position), whole.windows)
    mine, all_of_them = joint_errors(whole, gap), joint_errors(whole, told)
    assert np.isfinite(mine).all()
    np.testing.assert_array_equal(np.delete(mine, 3), np.delete(all_of_them, 3))
    silent = as_measured(replace(log, pos_rad=np.full_like(position, np.nan)), whole.windows)
    assert np.isnan(joint_errors(whole, silent)).all()


def test_figures_are_what_they_say() -> None:
    windows = (Window(0, 2), Window(2, 2))
    told = as_measured(blank(5), windows)
    off = np.zeros((2, 3, 9))
    off[0, 1, 0], off[1, 2, 0] = 0.3, 0.4
    tilted = np.tile((np.sin(0.1), 0.0, -np.cos(0.1)), (2, 3, 1))
    found = Replay(
        "mujoco", windows, told.pos_rad + off, told.vel_rad_s, tilted, told.ang_vel_b + np.array((0, 0, 2.0))
    )
    np.testing.assert_allclose(joint_errors(found, told), [0.25, *[0.0] * 8])  # sqrt((0.09 + 0.16) / 4)
    np.testing.assert_allclose(growth(found, told), [0.0, 0.3 / np.sqrt(18), 0.4 / np.sqrt(18)])
    assert tilt_error(found, told) == pytest.approx(0.1)
    np.testing.assert_allclose(turning_errors(found, told), [0.0, 0.0, 2.0])
    moving = as_measured(blank(5, pos_rad=np.tile(np.arange(5.0)[:, None], 9)), windows)
    np.testing.assert_allclose(joint_motions(moving), np.sqrt((1 + 4) / 2))
