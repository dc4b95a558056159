"""A robot hung by its base: delay, play and gravity by hand, limbs that do not move each other."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biped.config.task import EnvConfig
from biped.robot.actuators import Actuation
from biped.sim.mujoco_hung import PARAMETERS, Array, Excited, HungRobot, driven_through, held_mean, split_damping
from tests.deploy.excited_robot import contract_of, limits_of

CFG = EnvConfig()
POSE = np.array(CFG.robot.default_joint_pos_rad)
DT_S = 0.02
FACE_DOWN = np.array((1.0, 0.0, 0.0))
ANKLE = CFG.robot.joint_names.index("left_ankle")
GAIN, DAMPING, FRICTION, ARMATURE, DELAY, PLAY = range(len(PARAMETERS))


def log_of(targets: Array, gravity_b: Array = FACE_DOWN) -> Excited:
    return Excited(DT_S * np.arange(len(targets), dtype=float), targets, targets.copy(), gravity_b, DT_S)


def set_of(robot: HungRobot, **values: float) -> Array:
    parameters = robot.nominal
    for name, value in values.items():
        parameters[:, PARAMETERS.index(name)] = value
    return parameters


def test_a_track_through_play_is_what_the_environment_makes_of_it() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = 0.05 * torch.randn(50, 3, generator=generator, dtype=torch.float64).cumsum(0)
    play = torch.tensor([0.0, 0.03, 0.2], dtype=torch.float64)
    actuation, rows = Actuation.at(targets[:1], 1), []
    for target in targets:
        actuation = actuation.driven_to(target[None], play)
        rows.append(actuation.joint_targets_rad[0])
    np.testing.assert_array_equal(driven_through(targets.numpy(), play.numpy()), torch.stack(rows).numpy())


def test_the_mean_of_a_held_track_by_hand() -> None:
    edges = np.array((0.0, 0.01, 0.02, 0.03, 0.05))
    # It jumps from 1 to 3 at 0.025 s, in the middle of a step, and to 5 at 0.045 s, after three quarters of one.
    found = held_mean(np.array((0.0, 0.025, 0.045)), np.array((1.0, 3.0, 5.0)), edges)
    np.testing.assert_allclose(found, (1.0, 1.0, 2.0, (0.015 * 3.0 + 0.005 * 5.0) / 0.02))


@given(late=st.floats(0.0, 0.05), more=st.floats(1e-6, 1e-4))
def test_a_delay_changes_targets_smoothly(late: float, more: float) -> None:
    time_s, track = 0.02 * np.arange(10.0), np.sin(np.arange(10.0))
    edges = 0.0025 * np.arange(80.0)
    one, other = (held_mean(time_s + delay, track, edges) for delay in (late, late + more))
    assert np.abs(one - other).max() <= np.abs(np.diff(track)).max() * more / 0.0025 + 1e-9


def test_the_weight_of_the_foot_bends_the_ankle_by_what_the_gain_allows() -> None:
    """Face down, gravity along the foot: 15 g at 8 mm and 60 g at 25 mm under the ankle make 0.0159 N·m."""
    robot = HungRobot(CFG, log_of(np.tile(POSE, (100, 1))), [ANKLE])
    soft, stiff = robot.positions(np.stack((set_of(robot, friction=0.0), set_of(robot, friction=0.0, gain=2.0))))
    # All joints above are held at 0, so the foot hangs at the ankle's own angle.
    at = POSE[ANKLE]
    x, z = 0.060 * 0.015, -(0.015 * 0.008 + 0.060 * 0.025)
    torque = 9.81 * (np.cos(at) * z - np.sin(at) * x)
    assert soft[-1, 0] - at == pytest.approx(torque / 20.0, rel=0.02)
    assert stiff[-1, 0] - at == pytest.approx(torque / 40.0, rel=0.02)


def test_limbs_are_the_joints_that_move_each_other_and_one_alone_moves_as_in_the_whole() -> None:
    contract = contract_of()
    rng = np.random.default_rng(0)
    steps = np.cumsum(rng.uniform(-0.03, 0.03, (60, len(POSE))), axis=0)
    targets = np.clip(POSE + steps, *limits_of(CFG))
    whole = HungRobot(CFG, log_of(targets))
    assert whole.limbs == ((0, 1, 2, 3), (4, 5, 6, 7), (8,))
    assert contract.joint_names[8] == "torso_yaw"
    moved = whole.positions(whole.nominal[None])[0]
    for limb in whole.limbs:
        part = HungRobot(CFG, log_of(targets), limb)
        np.testing.assert_allclose(part.positions(part.nominal[None])[0], moved[:, limb], atol=1e-9)


def test_a_target_acts_after_its_delay_and_not_before() -> None:
    targets = np.tile(POSE, (30, 1))
    targets[10:, ANKLE] += 0.05
    robot = HungRobot(CFG, log_of(targets), [ANKLE])
    late = [0.0, 0.02, 0.05]
    tracks = robot.positions(np.stack([set_of(robot, delay=delay) for delay in late]))[..., 0]
    at_rest = tracks[:, 10]
    for delay, track, rest in zip(late, tracks, at_rest, strict=True):
        # A row is read before its target is sent.
        acts = 10 + round(np.ceil(delay / DT_S + 1e-9))
        assert abs(track[acts - 1] - rest) < 1e-4
        assert track[acts + 1] - rest > 5e-3
    np.testing.assert_allclose(tracks[1, 1:], tracks[0, :-1], atol=1e-4)


def test_play_holds_back_half_of_itself() -> None:
    targets = np.tile(POSE, (60, 1))
    targets[5:, ANKLE] += 0.05
    robot = HungRobot(CFG, log_of(targets), [ANKLE])
    free, loose = robot.positions(np.stack((set_of(robot, friction=0.0), set_of(robot, friction=0.0, play=0.02))))
    assert free[-1, 0] - loose[-1, 0] == pytest.approx(0.01, abs=1e-4)


def test_damping_is_shared_between_controller_and_joint() -> None:
    assert split_damping(np.array([0.7]), 0.5) == (pytest.approx(0.5), pytest.approx(0.2))
    assert split_damping(np.array([0.3]), 0.5) == (pytest.approx(0.3), pytest.approx(0.0))
