"""An IMU and encoders, by hand-computed readings."""

import math

import pytest
import torch

from biped.config.sensors import EncoderConfig, ImuConfig
from biped.mdp.sensors import Encoders, Imu
from biped.robot.state import BipedState
from tests.mdp.states import standing_state

MANY, DT_S = 4000, 0.02
ALL = torch.ones(MANY, dtype=torch.bool)


def started(cfg: ImuConfig, state: BipedState, seed: int = 0) -> tuple[Imu, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    return Imu.initial(state).reset(torch.ones(len(state.error), dtype=torch.bool), state, cfg, generator), generator


def joints_at(position_rad: float, velocity_rad_s: float = 0.0, count: int = 1) -> BipedState:
    return standing_state(
        count,
        joint_pos_rad=torch.full((count, 9), position_rad),
        joint_vel_rad_s=torch.full((count, 9), velocity_rad_s),
    )


def test_without_errors_they_say_what_is() -> None:
    state = standing_state(3, base_ang_vel_b=torch.randn(3, 3), joint_vel_rad_s=torch.randn(3, 9))
    imu, _ = started(ImuConfig(), state)
    gravity, rate = imu.sensed()
    torch.testing.assert_close(gravity, state.projected_gravity_b)
    assert torch.equal(rate, state.base_ang_vel_b)
    position, velocity = Encoders.initial(state).feel(state, DT_S, EncoderConfig()).sensed()
    assert torch.equal(position, state.joint_pos_rad)
    assert torch.equal(velocity, state.joint_vel_rad_s)


def test_a_bias_is_constant_in_an_episode_within_its_range_and_another_in_the_next() -> None:
    state = standing_state(MANY)
    cfg = ImuConfig(gyro_bias_rad_s=0.1)
    imu, generator = started(cfg, state)
    first = imu.sensed()[1]
    assert 0.09 < first.abs().max() <= 0.1
    assert first.mean(dim=0).abs().max() < 0.01
    assert torch.equal(imu.feel(state, DT_S, cfg, generator).sensed()[1], first)
    half = torch.arange(MANY) < MANY // 2
    again = imu.reset(half, state, cfg, generator).sensed()[1]
    assert torch.equal(again[~half], first[~half])
    assert (again[half] != first[half]).all()


def test_an_imu_that_is_turned_sees_gravity_and_rates_turned() -> None:
    state = standing_state(1, base_ang_vel_b=torch.tensor([[0.0, 0.0, 2.0]]))
    imu, _ = started(ImuConfig(mounting_rad=0.1), state)
    x, y, _ = imu.mounting_rad[0].tolist()
    gravity, rate = imu.sensed()
    # A small rotation (x, y, z) turns a vector v by (x, y, z) x v; gravity is (0, 0, -1) and the rate (0, 0, 2).
    length = math.sqrt(1.0 + x * x + y * y)
    assert gravity[0].tolist() == pytest.approx([-y / length, x / length, -1.0 / length], abs=1e-6)
    assert rate[0].tolist() == pytest.approx([2.0 * y, -2.0 * x, 2.0], abs=1e-6)


def test_the_filters_error_keeps_its_spread_and_becomes_another_in_its_time() -> None:
    cfg, state = ImuConfig(tilt_drift_rad=0.02, tilt_drift_s=0.5), standing_state(MANY)
    imu, generator = started(cfg, state)
    first = imu.drift_rad
    for _ in range(25):  # 0.5 s
        imu = imu.feel(state, DT_S, cfg, generator)
    assert imu.drift_rad.std() == pytest.approx(0.02, rel=0.03)
    kept = float((first * imu.drift_rad).mean() / first.square().mean())
    assert kept == pytest.approx(math.exp(-1.0), abs=0.03)
    tilt = imu.sensed()[0][:, :2].std()
    assert tilt == pytest.approx(0.02, rel=0.03)


def test_a_late_imu_says_what_was_a_step_before() -> None:
    cfg = ImuConfig(late_share=0.5)
    imu, generator = started(cfg, standing_state(MANY))
    assert imu.is_late.float().mean() == pytest.approx(0.5, abs=0.03)
    for step in (1.0, 2.0):
        imu = imu.feel(standing_state(MANY, base_ang_vel_b=torch.full((MANY, 3), step)), DT_S, cfg, generator)
    said = imu.sensed()[1][:, 0]
    assert set(said[imu.is_late].tolist()) == {1.0}
    assert set(said[~imu.is_late].tolist()) == {2.0}


def test_positions_come_in_counts() -> None:
    cfg, generator = EncoderConfig(counts_per_turn=4), torch.Generator()  # a count is a quarter of a turn
    encoders = Encoders.initial(joints_at(0.0)).reset(torch.tensor([True]), joints_at(0.0), cfg, generator)
    quarter = 0.5 * math.pi
    for position, said in ((0.7, 0.0), (0.9, quarter), (-2.0, -quarter), (3.2, 2.0 * quarter)):
        read, _ = encoders.feel(joints_at(position), DT_S, cfg).sensed()
        assert read[0].tolist() == pytest.approx([said] * 9)


def test_the_shaft_follows_once_the_play_is_used_up() -> None:
    cfg, encoders = EncoderConfig(play_rad=0.1), Encoders.initial(joints_at(0.0))
    for position, said in ((0.04, 0.0), (0.20, 0.15), (0.16, 0.15), (0.05, 0.10)):
        encoders = encoders.feel(joints_at(position), DT_S, cfg)
        assert encoders.sensed()[0][0].tolist() == pytest.approx([said] * 9)


def test_the_servos_velocity_is_the_smoothed_difference_of_positions_one_sample_late() -> None:
    cfg, encoders = EncoderConfig(servo_velocity=True, velocity_smoothing=0.5), Encoders.initial(joints_at(0.0))
    said = []
    for position in (0.02, 0.04, 0.06, 0.06, 0.06):  # 1 rad/s for three samples, then rest
        encoders = encoders.feel(joints_at(position, velocity_rad_s=9.0), DT_S, cfg)
        said.append(encoders.sensed()[1][0, 0].item())
    assert said == pytest.approx([0.0, 0.5, 0.75, 0.875, 0.4375])


def test_late_encoders_say_what_was_a_step_before_and_an_episode_begins_with_its_start() -> None:
    cfg, generator = EncoderConfig(late_share=1.0), torch.Generator()
    both = torch.ones(2, dtype=torch.bool)
    start = joints_at(0.5, 0.1, count=2)
    encoders = Encoders.initial(joints_at(0.0, count=2)).reset(both, start, cfg, generator)
    assert encoders.sensed()[0].unique().tolist() == [0.5]
    encoders = encoders.feel(joints_at(0.7, 0.3, count=2), DT_S, cfg)
    assert encoders.sensed()[0].unique().tolist() == [0.5]
    encoders = encoders.feel(joints_at(0.9, 0.4, count=2), DT_S, cfg)
    position, velocity = encoders.sensed()
    assert position.unique().tolist() == pytest.approx([0.7])
    assert velocity.unique().tolist() == pytest.approx([0.3])
    only_first = torch.tensor([True, False])
    again = encoders.reset(only_first, start, cfg, generator).sensed()[0]
    assert again[:, 0].tolist() == pytest.approx([0.5, 0.7])
