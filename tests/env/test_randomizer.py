"""Randomisation in the environment: what the policy sees and what the robot does, in real simulators."""

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from biped.config.randomization import (
    BumpsConfig,
    ContactSensorConfig,
    NoiseConfig,
    PushConfig,
    RandomizationConfig,
    Randomized,
    StartConfig,
)
from biped.config.robot import ControlConfig
from biped.config.task import EnvConfig
from biped.env.env import BipedEnv, make_env
from biped.robot.rotations import leaning, quat_from_yaw, quat_rotate, quat_rotate_inverse
from biped.sim.scene import make_scene
from biped_config import cpu_preset, randomization_preset
from tests.conftest import one_group, side_by_side

COUNT = 16


def build(randomization: RandomizationConfig, sim: str = "mujoco", seed: int = 0) -> BipedEnv:
    cfg = replace(
        cpu_preset().env, num_envs=COUNT, control=ControlConfig(latency_share=0.0), randomization=randomization
    )
    return make_env(one_group(cfg), "cpu", sim=sim, seed=seed)


def walk(env: BipedEnv, steps: int, seed: int = 3) -> list[torch.Tensor]:
    actions = torch.randn(steps, COUNT, 9, generator=torch.Generator().manual_seed(seed))
    return [side_by_side(env.step(action)[0]) for action in actions]


def test_noise_is_on_the_channels_that_have_it_and_of_its_size() -> None:
    noise = NoiseConfig(base_ang_vel_rad_s=0.2, joint_pos_rad=0.01)
    env, exact = build(RandomizationConfig(noise=noise)), build(RandomizationConfig())
    exact_start, _ = exact.reset(seed=1)
    env.reset(seed=1)
    many = torch.stack([env._observe(env.randomizer.noise()) for _ in range(500)])
    slices, std = env.layout.slices(), many.std(dim=0).mean(dim=0)
    scale = env.cfg.observation.ang_vel_scale
    assert std[slices["base_ang_vel_b"]].tolist() == pytest.approx([0.2 * scale] * 3, rel=0.05)
    assert std[slices["joint_pos_rad"]].tolist() == pytest.approx([0.01] * 9, rel=0.05)
    rest = [
        index
        for name, part in slices.items()
        for index in range(part.start, part.stop)
        if name not in ("base_ang_vel_b", "joint_pos_rad")
    ]
    assert (std[rest] == 0).all()
    torch.testing.assert_close(many.mean(dim=0)[:, rest], exact_start[:, rest])


def test_contact_switches_fool_the_policy_and_not_the_rewards() -> None:
    blind = RandomizationConfig(contact_sensors=ContactSensorConfig(miss_rate=1.0))
    env, sound = build(blind), build(RandomizationConfig())
    for each in (env, sound):
        each.reset(seed=1)
        each.hold_commands(torch.zeros(COUNT, 3))
    for _ in range(20):
        seen, reward, *_ = env.step(torch.zeros(COUNT, 9))
        truth, same, *_ = sound.step(torch.zeros(COUNT, 9))
    part = env.layout.slices()["foot_contact"]
    assert env.contacts.all()
    assert (seen[:, part] == 0).all()
    assert (truth[:, part] == 1).all()
    torch.testing.assert_close(reward, same)


@pytest.mark.parametrize("sim", ["genesis", "mujoco"])
def test_a_push_changes_the_velocity_of_the_base_at_once(sim: str) -> None:
    push = RandomizationConfig(push=PushConfig(interval_s=0.2, velocity_m_s=1.0))
    env = build(push, sim)
    env.reset(seed=1)
    still, jumps = torch.zeros(COUNT, 9), []
    for _ in range(14):
        before = env.state.base_lin_vel_b[:, :2]
        env.step(still)
        jumps.append((env.state.base_lin_vel_b[:, :2] - before).norm(dim=1))
    # Each robot is pushed after 0.1 to 0.3 s; standing on its feet it loses part of the push within the step.
    largest = torch.stack(jumps).max(dim=0).values
    assert (largest > 0.05).float().mean() > 0.7
    assert largest.max() < 1.5
    env.command_share = env.cfg.command.start_share
    assert env.difficulty == 0.0
    env.close()


def test_starts_lean_and_move_within_their_ranges() -> None:
    env = build(RandomizationConfig(start=StartConfig(lin_vel_m_s=0.2, ang_vel_rad_s=0.3, tilt_rad=0.05)))
    env.reset(seed=1)
    lean = env.state.projected_gravity_b[:, :2].abs()
    assert 0.01 < lean.max() < 0.06
    assert 0.1 < env.state.base_lin_vel_b[:, :2].abs().max() <= 0.2
    assert 0.1 < env.state.base_ang_vel_b.abs().max() <= 0.3
    # What the scene has is what the state says: after a step it is nearly the same.
    before = env.state
    env.step(torch.zeros(COUNT, 9))
    torch.testing.assert_close(env.state.base_lin_vel_b[:, :2], before.base_lin_vel_b[:, :2], atol=0.25, rtol=0.0)
    assert (env.state.base_lin_vel_b[:, 1] * before.base_lin_vel_b[:, 1] > 0).float().mean() > 0.7


def test_nominal_robots_are_left_alone_and_the_others_are_not() -> None:
    harsh = replace(
        randomization_preset("full"),
        nominal_share=0.25,
        contact_sensors=ContactSensorConfig(miss_rate=1.0),
        push=PushConfig(interval_s=0.2, velocity_m_s=1.0, force_n=20.0),
    )
    env = build(harsh)
    nominal = torch.arange(COUNT) % 4 == 0
    env.reset(seed=1)
    assert (env.state.base_lin_vel_b[nominal] == 0).all()
    assert (env.state.base_lin_vel_b[~nominal].abs().sum(dim=1) > 0).all()
    assert (env.state.projected_gravity_b[nominal, :2].abs() < 1e-6).all()
    assert (env.randomizer.dynamics.latency_steps[nominal] == 0).all()
    noise = env._observe(env.randomizer.noise()) - env._observe(env.randomizer.noise())
    assert (noise[nominal] == 0).all()
    assert (noise[~nominal].abs().sum(dim=1) > 0).all()
    env.hold_commands(torch.zeros(COUNT, 3))
    for _ in range(40):
        seen, *_ = env.step(torch.zeros(COUNT, 9))
    # Who is left alone stands still and feels the ground; the others have been pushed over.
    assert (env.state.base_lin_vel_b[nominal].norm(dim=1) < 0.05).all()
    assert (env.state.base_lin_vel_b[~nominal].norm(dim=1) > 0.05).float().mean() > 0.9
    part = env.layout.slices()["foot_contact"]
    assert (seen[nominal][:, part] == 1).all()
    assert (seen[~nominal][:, part] == 0).all()


def test_nominal_robots_have_the_latency_of_the_control_section() -> None:
    late = RandomizationConfig(latency_steps=Randomized("reset", (2.0, 2.0)), nominal_share=0.5)
    cfg = replace(cpu_preset().env, num_envs=200, control=ControlConfig(latency_share=0.5), randomization=late)
    env = make_env(cfg, "cpu", sim="mujoco", seed=0)
    env.reset(seed=1)
    steps = env.randomizer.dynamics.latency_steps
    assert (steps[1::2] == 2).all()
    assert torch.bincount(steps[::2]).tolist() == pytest.approx([50, 50], abs=20)


def test_late_actions_move_the_robot_later() -> None:
    late = RandomizationConfig(latency_steps=Randomized("startup", (2.0, 2.0)))
    env, prompt = build(late), build(RandomizationConfig())
    moved = []
    for each in (env, prompt):
        each.reset(seed=1)
        first = each.state.joint_pos_rad[:, 2].clone()
        path = []
        for _ in range(4):
            each.step(torch.full((COUNT, 9), 2.0))
            path.append((each.state.joint_pos_rad[:, 2] - first).abs().mean().item())
        moved.append(path)
    slow, fast = moved
    assert max(slow[:2]) < 0.3 * fast[0] + 0.02
    assert slow[2] == pytest.approx(fast[0], rel=0.3)


def test_bumps_are_for_their_share_of_the_robots_and_grow_with_the_curriculum() -> None:
    bumps = BumpsConfig(heights_m=(0.005, 0.01, 0.015, 0.02), share=0.25)
    env = build(RandomizationConfig(bumps=bumps))
    used = {}
    for difficulty in (0.0, 0.5, 1.0):
        start = env.cfg.command.start_share
        env.command_share = start + difficulty * (1.0 - start)
        fields = []
        for seed in range(12):
            env.reset(seed=seed)
            fields.append(env.randomizer.dynamics.bump_field)
            on_bumps = fields[-1] >= 0
            assert on_bumps.sum() == COUNT // 4
            assert (env.state.base_pos_w[on_bumps, 0] > 14.0).all()
            assert (env.state.base_pos_w[~on_bumps, :2].abs() < 0.51).all()
            # They start above their bumps, and land.
            assert (env.state.base_pos_w[on_bumps, 2] > env.cfg.robot.default_base_height_m + 0.005).all()
        used[difficulty] = set(torch.cat(fields).tolist())
    assert used == {0.0: {-1, 0}, 0.5: {-1, 0, 1}, 1.0: {-1, 0, 1, 2, 3}}
    for _ in range(25):
        env.step(torch.zeros(COUNT, 9))
    assert env.contacts.all()
    assert (env.state.foot_pos_w[on_bumps][..., 2] > 1e-4).any()
    env.close()


@pytest.fixture(scope="module")
def full() -> Iterator[EnvConfig]:
    yield replace(cpu_preset().env, num_envs=COUNT, randomization=randomization_preset("full"))


@pytest.mark.parametrize("sim", ["genesis", "mujoco"])
def test_everything_at_once_runs_and_goes_on_from_a_state_bit_by_bit(full: EnvConfig, sim: str) -> None:
    first, second = (BipedEnv(full, make_scene(sim, full, torch.device("cpu")), seed=seed) for seed in (1, 2))
    assert not torch.equal(first.randomizer.dynamics.strength, second.randomizer.dynamics.strength)
    seen = walk(first, 60)
    assert all(observation.isfinite().all() for observation in seen)
    second.set_state(first.get_state())
    assert torch.equal(first.randomizer.dynamics.strength, second.randomizer.dynamics.strength)
    for one, two in zip(walk(first, 40, seed=4), walk(second, 40, seed=4), strict=True):
        assert torch.equal(one, two)
    first.close()
    second.close()


def test_where_nothing_is_randomised_no_draw_is_made_for_it() -> None:
    """A run without randomisation is the run that it was before there was any."""
    plain, prepared = build(RandomizationConfig(), seed=5), build(randomization_preset("none"), seed=5)
    for one, two in zip(walk(plain, 30), walk(prepared, 30), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("is_sloped", [False, True])
def test_the_ground_and_a_push_are_seen_from_the_base(is_sloped: bool) -> None:
    slope = Randomized("startup", (0.1, 0.1)) if is_sloped else RandomizationConfig().slope_rad
    env = build(RandomizationConfig(push=PushConfig(force_n=3.0), slope_rad=slope))
    env.reset(seed=1)
    gravity_w = env.randomizer.dynamics.gravity_direction
    turned = leaning(quat_from_yaw(torch.full((COUNT,), 0.5 * math.pi)), torch.full((COUNT,), 0.1), torch.zeros(COUNT))
    state = replace(env.state, base_quat_w=turned, projected_gravity_b=quat_rotate_inverse(turned, gravity_w))
    force_w = torch.tensor([[0.0, 3.0, 0.0]]).repeat(COUNT, 1)
    env.randomizer._pushes = replace(env.randomizer._pushes, force_w=force_w)
    hidden = env.randomizer.hidden(state)
    assert hidden["push_force_b"][0].tolist() == pytest.approx([3.0, 0.0, 0.0], abs=0.02), "ahead of who looks left"
    torch.testing.assert_close(quat_rotate(turned, hidden["push_force_b"]), force_w)
    # The ground's normal is the world's z axis, whatever gravity does.
    torch.testing.assert_close(
        quat_rotate(turned, hidden["into_ground_b"]), torch.tensor([[0.0, 0.0, -1.0]]).repeat(COUNT, 1)
    )
