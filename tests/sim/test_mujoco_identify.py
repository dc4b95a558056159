"""Identification of robots with known hidden parameters, with logs of another integrator and finer steps."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from biped.base.errors import UsageError
from biped.config.task import EnvConfig
from biped.deploy.excitation import excitation, largest_step
from biped.deploy.run_log import RunLog
from biped.sim.mujoco_hung import PARAMETERS, UNITS
from biped.sim.mujoco_identify import CONFIDENT, Identified, deviations_of, excited, identify
from tests.deploy.excited_robot import TICK_RAD, Hidden, contract_of, excited_log, hidden, limits_of

Array = NDArray[np.float64]

FACE_DOWN = np.array((1.0, 0.0, 0.0))
SECONDS = 15.0


def two_joints() -> EnvConfig:
    """Return the biped with all joints held but two, so that a test takes seconds."""
    names = ("left_hip_pitch", "right_hip_pitch")
    cfg = EnvConfig()
    return replace(cfg, robot=replace(cfg.robot, joint_names=names, default_joint_pos_rad=(-0.35, -0.35)))


def logged(cfg: EnvConfig, truth: Hidden, seconds: float = SECONDS) -> RunLog:
    targets = excitation(contract_of(cfg), *limits_of(cfg), seconds)
    return excited_log(cfg, truth, targets, gravity_b=FACE_DOWN)


def as_parameters(cfg: EnvConfig, truth: Hidden) -> Array:
    kd = np.array([motor.kd_nm_s_per_rad for motor in cfg.robot.motors])
    columns = {name: getattr(truth, name) for name in PARAMETERS}
    columns["damping"] = kd + truth.damping
    return np.stack([columns[name] for name in PARAMETERS], axis=1)


def identified(cfg: EnvConfig, log: RunLog) -> Identified:
    return identify(cfg, excited(log.columns, log.during("exciting"), log.policy.dt_s), lambda _: None)


@pytest.fixture(scope="module")
def found() -> Identified:
    return identified(two_joints(), logged(two_joints(), hidden(2, 1)))


def test_known_parameters_are_found_and_the_held_out_part_is_explained_to_the_encoders_steps(
    found: Identified,
) -> None:
    truth = as_parameters(two_joints(), hidden(2, 1))
    # A quarter of a minute: all but the delay and friction of a joint are within 3%.
    np.testing.assert_allclose(found.values, truth, rtol=0.05)
    before, after = (found.rmse_rad(positions) for positions in (found.before_rad, found.after_rad))
    assert (after < 1.1 * TICK_RAD / np.sqrt(12.0)).all()
    assert (before > 10.0 * after).all()
    assert found.held_out.sum() == pytest.approx(0.3 * SECONDS / 0.02, abs=2)


def test_intervals_hold_what_is_true_and_are_not_wide(found: Identified) -> None:
    truth = as_parameters(two_joints(), hidden(2, 1))
    off = np.abs(found.values - truth) / (found.intervals / CONFIDENT)
    assert np.sqrt((off**2).mean()) < 2.0
    assert (found.intervals < 0.12 * truth).all()


def test_a_robot_that_is_as_its_file_says_is_left_as_it_is() -> None:
    cfg = two_joints()
    nominal = Hidden(
        gain=np.ones(2),
        damping=np.full(2, 0.1),
        friction=np.full(2, 0.05),
        armature=np.full(2, 0.01),
        delay=np.zeros(2),
        play=np.zeros(2),
    )
    found = identified(cfg, logged(cfg, nominal))
    np.testing.assert_allclose(found.nominal, as_parameters(cfg, nominal))
    np.testing.assert_allclose(found.values, found.nominal, rtol=0.05, atol=1e-3)


def test_the_same_log_gives_the_same_numbers(found: Identified) -> None:
    again = identified(two_joints(), logged(two_joints(), hidden(2, 1)))
    assert found.values.tobytes() == again.values.tobytes()
    assert found.intervals.tobytes() == again.intervals.tobytes()


def test_lost_readings_do_not_disturb() -> None:
    cfg, truth = two_joints(), hidden(2, 1)
    log = logged(cfg, truth)
    lost = np.random.default_rng(0).uniform(size=log["pos_rad"].shape) < 0.2
    log["pos_rad"][lost] = np.nan
    np.testing.assert_allclose(identified(cfg, log).values, as_parameters(cfg, truth), rtol=0.08)


def test_a_log_without_enough_excitation_is_refused() -> None:
    cfg = two_joints()
    log = logged(cfg, hidden(2), 12.0)
    rows = log.during("exciting")
    with pytest.raises(UsageError, match=r"0\.0 s of excitation"):
        excited(log.columns, np.zeros_like(rows), 0.02)
    with pytest.raises(UsageError, match=r"8\.0 s of excitation"):
        excited(log.columns, rows & (np.arange(len(rows)) < 400), 0.02)
    log["pos_rad"][:, 1] = np.nan
    with pytest.raises(UsageError, match="joint number 2"):
        excited(log.columns, rows, 0.02)


def test_a_log_that_does_not_say_how_the_trunk_hangs_is_refused() -> None:
    log = logged(two_joints(), hidden(2), 12.0)
    rows = log.during("exciting")
    for gravity in (0.0, np.nan, np.inf):
        with pytest.raises(UsageError, match="how the trunk hangs is unknown"):
            excited({**log.columns, "gravity_b": np.full_like(log["gravity_b"], gravity)}, rows, 0.02)
    some = np.where(np.arange(len(rows))[:, None] % 3, log["gravity_b"], 0.0)
    np.testing.assert_allclose(excited({**log.columns, "gravity_b": some}, rows, 0.02).gravity_b, FACE_DOWN)


def test_a_clock_that_does_not_run_is_refused() -> None:
    log = logged(two_joints(), hidden(2), 12.0)
    back = log["time_s"].copy()
    back[300] -= 1.0
    for time_s in (np.full_like(back, 3.0), np.full_like(back, np.nan), back):
        with pytest.raises(UsageError, match="clock stands still or goes back"):
            excited({**log.columns, "time_s": time_s}, log.during("exciting"), 0.02)


@pytest.mark.parametrize("share", [1.0, 0.05, 0.01])
def test_the_last_target_is_the_default_pose_for_weak_motors_too(share: float) -> None:
    contract = contract_of(two_joints())
    weak = replace(
        contract, motors=tuple(replace(m, torque_limit_nm=share * m.torque_limit_nm) for m in contract.motors)
    )
    targets = excitation(weak, *limits_of(two_joints()), 12.0)
    np.testing.assert_allclose(targets[-1], contract.default_pose_rad, atol=1e-6)
    assert (np.abs(np.diff(targets, axis=0)) <= largest_step(weak) + 2e-6).all()
    assert share < 1.0 or len(targets) == 600


@pytest.mark.parametrize("seconds", [np.nan, np.inf])
def test_a_length_that_is_no_number_is_refused(seconds: float) -> None:
    with pytest.raises(UsageError, match="tells too little"):
        excitation(contract_of(two_joints()), *limits_of(two_joints()), seconds)


def test_the_longest_stretch_without_a_gap_counts() -> None:
    log = logged(two_joints(), hidden(2), 12.0)
    chosen = log.during("exciting") & (np.abs(np.arange(600) - 50) > 20)
    part = excited(log.columns, chosen, 0.02)
    assert len(part.time_s) == 600 - 71
    assert part.time_s[0] == 0.0
    np.testing.assert_array_equal(part.pos_rad[0], log["pos_rad"][71])
    np.testing.assert_allclose(part.gravity_b, FACE_DOWN)


def test_deviations_are_those_of_a_mean_by_hand() -> None:
    """The mean of n errors of size s is known to s / sqrt(n); where whole blocks err alike, to s / sqrt(blocks)."""
    rng = np.random.default_rng(0)
    count, block = 4000, np.repeat(np.arange(40), 100)
    alone = deviations_of(rng.normal(size=count), np.ones((count, 1)), block)
    assert alone[0] == pytest.approx(1.0 / np.sqrt(count), rel=0.3)
    together = deviations_of(rng.normal(size=40)[block], np.ones((count, 1)), block)
    assert together[0] == pytest.approx(1.0 / np.sqrt(40), rel=0.3)


def test_every_parameter_has_a_unit() -> None:
    assert len(PARAMETERS) == len(UNITS)


@pytest.mark.slow
def test_a_minute_of_the_whole_biped_gives_every_parameter_to_a_twentieth() -> None:
    cfg = EnvConfig()
    truth = hidden(len(cfg.robot.joint_names))
    found = identified(cfg, logged(cfg, truth, 60.0))
    off = np.abs(found.values / as_parameters(cfg, truth) - 1.0)
    assert np.quantile(off, 0.9) < 0.03
    assert (off < 0.1).all()
