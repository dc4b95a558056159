"""The excitation: what a robot is moved by to be identified."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from biped.base.errors import UsageError
from biped.config.task import EnvConfig
from biped.deploy.contract_file import PolicyContract
from biped.deploy.excitation import SHORTEST_S, WAVES_HZ, Array, excitation, largest_step
from tests.deploy.excited_robot import contract_of, limits_of

SECONDS = 20.0


@pytest.fixture(scope="module")
def contract() -> PolicyContract:
    return contract_of()


@pytest.fixture(scope="module")
def targets(contract: PolicyContract) -> Array:
    return excitation(contract, *limits_of(EnvConfig()), SECONDS)


def test_the_same_arguments_give_the_same_bytes_and_another_seed_other_ones(
    contract: PolicyContract, targets: Array
) -> None:
    limits = limits_of(EnvConfig())
    assert excitation(contract, *limits, SECONDS, 0).tobytes() == targets.tobytes()
    assert np.abs(excitation(contract, *limits, SECONDS, 1) - targets).max() > 0.1


def test_a_row_per_control_step_from_the_default_pose_back_to_it(contract: PolicyContract, targets: Array) -> None:
    assert targets.shape == (round(SECONDS / contract.dt_s), len(contract.motors))
    np.testing.assert_allclose(targets[0], contract.default_pose_rad, atol=1e-6)
    np.testing.assert_allclose(targets[-1], contract.default_pose_rad, atol=1e-6)


@settings(max_examples=20)
@example(room=[*[1.0] * 11, 0.071, *[1.0] * 6], seconds=19.0, seed=1)  # 0.771 in steps of 1e-6 is above 0.771
@given(
    room=st.lists(st.floats(0.02, 1.5), min_size=18, max_size=18),
    seconds=st.floats(SHORTEST_S, 25.0),
    seed=st.integers(0, 1000),
)
def test_targets_stay_within_limits_and_never_hurry(
    contract: PolicyContract, room: list[float], seconds: float, seed: int
) -> None:
    below, above = np.array(room).reshape(2, -1)
    lower, upper = contract.default_pose_rad - below, contract.default_pose_rad + above
    targets = excitation(contract, lower, upper, seconds, seed)
    assert (targets >= lower).all()
    assert (targets <= upper).all()
    assert (np.abs(np.diff(targets, axis=0)) <= largest_step(contract) + 2e-6).all()  # rounded to 1e-6


def test_a_step_asks_for_a_share_of_what_the_motor_has(contract: PolicyContract) -> None:
    # 0.4 of 3.0 N·m at 20 N·m/rad; 0.4 of 8.06 rad/s would be 0.0645 rad in 20 ms.
    np.testing.assert_allclose(largest_step(contract), 0.06)


def test_every_joint_moves_slowly_and_fast_and_turns_back_often(contract: PolicyContract, targets: Array) -> None:
    speed = np.diff(targets, axis=0) / contract.dt_s
    frequency = np.fft.rfftfreq(len(targets), contract.dt_s)
    for joint in range(targets.shape[1]):
        power = np.abs(np.fft.rfft(targets[:, joint] - targets[:, joint].mean())) ** 2
        for low, high in ((0.05, 0.5), (0.5, 2.0), (2.0, WAVES_HZ[1])):
            assert power[(frequency >= low) & (frequency < high)].sum() > 1e-4 * power.sum()
        moving = speed[np.abs(speed[:, joint]) > 1e-3, joint]
        assert (np.diff(np.sign(moving)) != 0).sum() > SECONDS
        assert np.ptp(targets[:, joint]) > 0.5


def test_joints_do_not_move_alike(targets: Array) -> None:
    alike = np.corrcoef(np.diff(targets, axis=0).T) - np.eye(targets.shape[1])
    assert np.abs(alike).max() < 0.25


def test_what_cannot_be_is_said(contract: PolicyContract) -> None:
    lower, upper = limits_of(EnvConfig())
    with pytest.raises(UsageError, match="tells too little"):
        excitation(contract, lower, upper, SHORTEST_S - 0.1)
    with pytest.raises(UsageError, match=r"left_knee stands at 0\.7 rad"):
        excitation(contract, lower, np.where(np.array(contract.joint_names) == "left_knee", 0.7, upper), SECONDS)
