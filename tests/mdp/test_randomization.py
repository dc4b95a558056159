"""What differs from robot to robot, by hand and by its properties."""

import math
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biped.base.errors import ConfigError
from biped.config.randomization import (
    ContactSensorConfig,
    PushConfig,
    RandomizationConfig,
    Randomized,
)
from biped.config.robot import RobotConfig
from biped.mdp.disturbances import ContactSensors, Pushes
from biped.mdp.randomization import (
    is_drawn_at_reset,
    is_nominal,
    redrawn,
    sample_dynamics,
)
from biped.robot.actuators import Actuation
from biped.robot.dynamics import DynamicsSample
from biped_config import cpu_preset, randomization_preset

ROBOT = RobotConfig()
MANY = 4000


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_without_randomization_every_robot_is_the_model_and_nothing_is_drawn() -> None:
    generator = draws()
    before = generator.get_state()
    sample = sample_dynamics(RandomizationConfig(), ROBOT, 5, generator)
    assert torch.equal(generator.get_state(), before)
    for name in ("friction", "strength", "damping", "armature"):
        assert (getattr(sample, name) == 1.0).all()
    for name in ("torso_mass_kg", "torso_com_m", "joint_friction_nm", "latency_steps", "backlash_rad"):
        assert (getattr(sample, name) == 0.0).all()
    assert sample.gravity_direction.tolist() == [[0.0, 0.0, -1.0]] * 5


def test_draws_fill_their_ranges_evenly() -> None:
    sample = sample_dynamics(randomization_preset("full"), ROBOT, MANY, draws())
    for name, low, high in (
        ("friction", 0.4, 1.2),
        ("torso_mass_kg", -0.34, 0.34),
        ("torso_com_m", -0.02, 0.02),
        ("strength", 0.8, 1.2),
        ("damping", 0.8, 1.2),
        ("joint_friction_nm", -0.04, 0.05),
        ("armature", 0.8, 1.2),
        ("backlash_rad", 0.0, 0.02),
    ):
        values = getattr(sample, name).flatten()
        assert low <= values.min() < low + 0.02 * (high - low), name
        assert high - 0.02 * (high - low) < values.max() <= high + 1e-6, name
        assert values.mean().item() == pytest.approx(0.5 * (low + high), abs=0.03 * (high - low)), name
    assert torch.bincount(sample.latency_steps).tolist() == pytest.approx([MANY / 3] * 3, rel=0.1)
    # Each joint and each robot has a draw of its own.
    assert sample.strength.unique().numel() > 0.99 * sample.strength.numel()


def test_a_slope_leans_gravity_by_its_angle_in_every_direction() -> None:
    gravity = sample_dynamics(randomization_preset("full"), ROBOT, MANY, draws()).gravity_direction
    torch.testing.assert_close(gravity.norm(dim=1), torch.ones(MANY))
    lean = torch.acos(-gravity[:, 2]).rad2deg()
    assert 4.9 < lean.max() < 5.01
    assert gravity[:, :2].mean(dim=0).abs().max() < 0.003
    headings = torch.atan2(gravity[:, 1], gravity[:, 0])
    assert torch.histc(headings, 8, -math.pi, math.pi).min() > 0.8 * MANY / 8


@given(st.floats(0.0, 1.0), st.integers(1, 300))
def test_nominal_robots_are_their_share_spread_evenly(share: float, num_envs: int) -> None:
    nominal = is_nominal(share, num_envs, torch.device("cpu"))
    assert abs(nominal.sum().item() - share * num_envs) <= 1.0 + 1e-3
    assert abs(nominal[: num_envs // 2].sum().item() - share * (num_envs // 2)) <= 1.0 + 1e-3


def test_nominal_robots_are_the_model_and_the_others_differ_as_before() -> None:
    cfg = randomization_preset("full")
    sample = sample_dynamics(replace(cfg, nominal_share=0.25), ROBOT, 32, draws())
    model, without = (
        sample_dynamics(RandomizationConfig(), ROBOT, 32, draws()),
        sample_dynamics(cfg, ROBOT, 32, draws()),
    )
    nominal = torch.arange(32) % 4 == 0
    assert (without.bump_field >= 0).sum() == 2
    for item in fields(DynamicsSample):
        found = getattr(sample, item.name)
        assert torch.equal(found[nominal], getattr(model, item.name)[nominal]), item.name
        # None of those who start on bumps is taken for the model.
        assert torch.equal(found[~nominal], getattr(without, item.name)[~nominal]), item.name
    assert (sample.bump_field >= 0).sum() == 2


@given(st.lists(st.booleans(), min_size=4, max_size=4))
def test_only_what_is_drawn_an_episode_changes_and_only_where_one_begins(begins: list[bool]) -> None:
    cfg = randomization_preset("full")
    mask = torch.tensor(begins)
    old, new = sample_dynamics(cfg, ROBOT, 4, draws(1)), sample_dynamics(cfg, ROBOT, 4, draws(2))
    after = redrawn(old, new, mask, cfg)
    for item in fields(DynamicsSample):
        found, before, fresh = (getattr(sample, item.name) for sample in (after, old, new))
        again = item.name in ("latency_steps", "backlash_rad", "bump_field")
        assert is_drawn_at_reset(item.name, cfg) == again
        for index, begin in enumerate(begins):
            assert torch.equal(found[index], (fresh if begin and again else before)[index]), item.name


@pytest.mark.parametrize("share", ["none", "mild", "full"])
def test_presets_are_off_half_or_whole(share: str) -> None:
    cfg = randomization_preset(share)
    size = {"none": 0.0, "mild": 0.5, "full": 1.0}[share]
    assert cfg.changes_dynamics == (share != "none")
    assert cfg.strength.range == pytest.approx((1 - 0.2 * size, 1 + 0.2 * size))
    assert cfg.friction.range == pytest.approx((1 - 0.6 * size, 1 + 0.2 * size))
    assert (cfg.noise.base_ang_vel_rad_s, cfg.push.velocity_m_s) == pytest.approx((0.1 * size, 0.8 * size))


@pytest.mark.parametrize(
    ("name", "bad"),
    [("friction", (0.0, 1.0)), ("strength", (0.0, 1.0)), ("slope_rad", (0.0, 2.0)), ("latency_steps", (0.0, 9.0))],
)
def test_ranges_that_make_no_sense_are_refused(name: str, bad: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match=name):
        replace(RandomizationConfig(), **{name: Randomized("startup", bad)})
    with pytest.raises(ConfigError, match="low first"):
        Randomized("startup", (1.0, 0.0))


def test_an_action_takes_effect_as_many_steps_late_as_the_robot_has() -> None:
    actuation = Actuation.at(torch.zeros(3, 1), depth=3)
    late = torch.tensor([0, 1, 2])
    seen = []
    for action in (1.0, 2.0, 3.0, 4.0):
        actuation = actuation.with_action(torch.full((3, 1), action))
        seen.append(actuation.delayed(late)[:, 0].tolist())
    assert seen == [[1, 0, 0], [2, 1, 0], [3, 2, 1], [4, 3, 2]]


def test_backlash_holds_the_output_until_the_play_is_used_up() -> None:
    actuation = Actuation.at(torch.zeros(1, 1), depth=2)
    play = torch.full((1, 1), 0.2)
    found = []
    for target in (0.05, 0.3, 0.25, 0.1, -0.2):
        actuation = actuation.driven_to(torch.full((1, 1), target), play)
        found.append(round(actuation.joint_targets_rad.item(), 6))
    # Free play of ± 0.1: up to 0.2, held there, then taken back to 0.2 and to -0.1.
    assert found == [0.0, 0.2, 0.2, 0.2, -0.1]
    exact = Actuation.at(torch.zeros(1, 1), depth=2).driven_to(torch.full((1, 1), 0.3), torch.zeros(1, 1))
    assert exact.joint_targets_rad.item() == pytest.approx(0.3)


def test_contact_sensors_miss_fire_and_lag_as_often_as_they_are_told() -> None:
    cfg = ContactSensorConfig(miss_rate=0.1, false_rate=0.05, late_share=0.5)
    generator = draws()
    sensors = ContactSensors.initial(MANY, torch.device("cpu")).reset(
        torch.ones(MANY, dtype=torch.bool), cfg, generator
    )
    assert sensors.is_late.float().mean().item() == pytest.approx(0.5, abs=0.03)
    down, up = torch.ones(MANY, 2, dtype=torch.bool), torch.zeros(MANY, 2, dtype=torch.bool)
    sensors = sensors.feel(up, cfg, generator)
    assert sensors.felt.float().mean().item() == pytest.approx(0.05, abs=0.01)
    sensors = sensors.feel(down, cfg, generator)
    on_time, late = sensors.felt[~sensors.is_late].float().mean(), sensors.felt[sensors.is_late].float().mean()
    assert (on_time.item(), late.item()) == pytest.approx((0.9, 0.05), abs=0.02)
    sensors = sensors.feel(down, cfg, generator)
    assert sensors.felt.float().mean().item() == pytest.approx(0.9, abs=0.02)


def test_pushes_come_at_their_interval_in_all_directions_up_to_their_size() -> None:
    cfg = PushConfig(interval_s=1.0, velocity_m_s=0.5)
    generator = draws()
    pushes = Pushes.initial(MANY, torch.device("cpu")).reset(torch.ones(MANY, dtype=torch.bool), cfg, generator)
    count, sizes = torch.zeros(MANY), []
    for _ in range(500):  # 10 s
        pushes, jumps, change = pushes.advance(0.02, cfg, 0.8, generator)
        count += jumps
        sizes.append(change[jumps])
        assert (pushes.force_w == 0).all()
    # The first after a second on average, the last before the end.
    assert count.mean().item() == pytest.approx(9.5, rel=0.02)
    found = torch.cat(sizes)
    assert 0.39 < found.norm(dim=1).max() <= 0.4 + 1e-6
    assert (found[:, 2] == 0).all()
    assert found.mean(dim=0).abs().max() < 0.01


def test_a_force_lasts_its_time_and_either_kind_of_push_is_as_likely() -> None:
    cfg = PushConfig(interval_s=1.0, velocity_m_s=0.5, force_n=5.0, force_s=0.2)
    generator = draws()
    pushes = Pushes.initial(MANY, torch.device("cpu")).reset(torch.ones(MANY, dtype=torch.bool), cfg, generator)
    pulled, jumped = torch.zeros(MANY), torch.zeros(MANY)
    for _ in range(500):
        pushes, jumps, _ = pushes.advance(0.02, cfg, 1.0, generator)
        pulled += (pushes.force_w != 0).any(dim=1)
        jumped += jumps
        assert pushes.force_w.norm(dim=1).max() <= 5.0 + 1e-5
    assert jumped.mean().item() == pytest.approx(9.5 / 2, rel=0.03)
    assert 0.02 * pulled.mean().item() == pytest.approx(9.5 / 2 * 0.2, rel=0.05)


def test_the_cpu_preset_randomises_nothing_unless_it_is_asked_to() -> None:
    assert cpu_preset().env.randomization == RandomizationConfig()
    none, off = (
        sample_dynamics(cfg, ROBOT, 3, draws()) for cfg in (randomization_preset("none"), RandomizationConfig())
    )
    assert all(torch.equal(getattr(none, item.name), getattr(off, item.name)) for item in fields(DynamicsSample))
