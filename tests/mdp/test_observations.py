from dataclasses import fields, replace
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biped.base.errors import ConfigError
from biped.config.observation import ESTIMATED, SENSED, SIMULATED, ObservationConfig, Term
from biped.config.randomization import NoiseConfig, RandomizationConfig
from biped.config.robot import JOINT_NAMES, RobotConfig
from biped.config.task import EnvConfig
from biped.mdp.observations import MEASURED, TERMS, ObservationInputs, ObservationLayout, group_widths
from biped.mdp.observer import Observer
from biped.robot.dynamics import DynamicsSample
from tests.conftest import one_group
from tests.mdp.states import observed, standing_state

OLD = one_group(EnvConfig())
"""What version 0.10 observed."""
SWITCHES = EnvConfig(robot=RobotConfig(foot_switches=True))
PRIVILEGED_STATE = ("base_pos_w", "base_lin_vel_b", "foot_pos_w", "foot_vel_w", "foot_force_n", "joint_torque_nm")
"""What of a state no sensor of a small robot gives."""


def seen_by(layout: ObservationLayout, inputs: ObservationInputs) -> torch.Tensor:
    return Observer.build((layout,), EnvConfig().observation, torch.device("cpu"))(inputs)


def parts(layout: ObservationLayout, inputs: ObservationInputs) -> dict[str, list[float]]:
    observation = seen_by(layout, inputs)
    assert observation.shape == (len(inputs.command), layout.width)
    return {name: observation[0, where].tolist() for name, where in layout.slices().items()}


def test_a_policy_sees_what_a_robot_with_imu_and_encoders_measures_and_no_more() -> None:
    layout = ObservationLayout.build(EnvConfig())
    assert [term.name for term in layout.terms] == [name for name in SENSED if name != "foot_contact"]
    assert layout.width == 3 + 3 + 3 + 9 + 9 + 9 + 2
    assert {TERMS[term.name].source for term in layout.terms} == {"imu", "joint encoders", "controller"}
    with_switches = ObservationLayout.build(SWITCHES)
    assert with_switches.width == layout.width + 2
    assert {TERMS[term.name].source for term in with_switches.terms} == MEASURED


def test_a_critic_sees_everything_there_is() -> None:
    critic = ObservationLayout.of_critic(EnvConfig())
    assert critic is not None
    names = [term.name for term in critic.terms]
    assert len(set(names)) == len(names)
    # A velocity of three numbers tells all that the one of two does.
    assert set(names) == set(get_args(Term)) - {"base_lin_vel_xy_b"}
    assert {item.name for item in fields(DynamicsSample)} <= {*names, "gravity_direction", "bump_field"}
    assert group_widths(EnvConfig()) == {"policy": 38, "critic": critic.width}
    assert group_widths(OLD) == {"policy": 43}


def test_the_observation_of_version_0_10_is_what_it_was() -> None:
    layout = ObservationLayout.build(OLD)
    assert [term.name for term in layout.terms] == list(ESTIMATED)
    covered = [index for where in layout.slices().values() for index in range(where.start, where.stop)]
    assert covered == list(range(layout.width)) == list(range(43))
    assert ObservationLayout.of_critic(OLD) is None


def test_each_value_stands_in_its_place_with_its_scale() -> None:
    default = torch.tensor(EnvConfig().robot.default_joint_pos_rad)
    state = standing_state(
        base_ang_vel_b=torch.tensor([[1.0, 2.0, 4.0]]),
        base_lin_vel_b=torch.tensor([[0.3, 0.1, 9.0]]),
        base_pos_w=torch.tensor([[5.0, 5.0, 0.39]]),
        joint_pos_rad=default[None] + 0.2,
        joint_vel_rad_s=torch.full((1, len(JOINT_NAMES)), 3.0),
    )
    seen = parts(ObservationLayout.build(OLD), observed(state=state))
    assert seen["projected_gravity_b"] == [0.0, 0.0, -1.0]
    assert seen["base_ang_vel_b"] == pytest.approx([0.5, 1.0, 2.0])
    assert seen["base_lin_vel_xy_b"] == pytest.approx([0.6, 0.2])
    assert seen["base_height_m"] == pytest.approx([0.39])
    assert seen["command_lin_vel_x_b"] == pytest.approx([1.0])
    assert seen["command_lin_vel_y_b"] == pytest.approx([-0.6])
    assert seen["command_ang_vel_b"] == pytest.approx([0.8])
    assert seen["joint_pos_rad"] == pytest.approx([0.2] * 9)
    assert seen["joint_vel_rad_s"] == pytest.approx([0.15] * 9)
    assert seen["foot_contact"] == [1.0, 0.0]
    assert seen["previous_action"] == pytest.approx([0.7] * 9)
    assert seen["gait_phase"] == pytest.approx([1.0, 0.0], abs=1e-6)


def test_what_only_a_simulator_knows_stands_in_its_place_with_its_scale() -> None:
    layout = ObservationLayout.of_critic(EnvConfig())
    assert layout is not None
    plain = observed()
    dynamics = replace(
        plain.dynamics,
        friction=torch.tensor([0.6]),
        torso_mass_kg=torch.tensor([0.1]),
        torso_com_m=torch.tensor([[0.01, 0.02, -0.01]]),
        strength=torch.full((1, 9), 0.9),
        joint_friction_nm=torch.full((1, 9), 0.05),
        backlash_rad=torch.full((1, 9), 0.01),
        latency_steps=torch.tensor([2]),
    )
    state = standing_state(foot_force_n=torch.tensor([[6.0, 15.0]]))
    hidden = {"dynamics": dynamics, "push_force_b": torch.tensor([[3.0, 0.0, 0.0]])}
    seen = parts(layout, observed(state=state, bump_height_m=torch.tensor([0.02]), **hidden))
    assert seen["foot_force"] == pytest.approx([0.4, 1.0])
    assert seen["push_force_b"] == pytest.approx([0.2, 0.0, 0.0])
    assert seen["ground_normal_b"] == [0.0, 0.0, 1.0]
    assert seen["friction"] == pytest.approx([-0.8])
    assert seen["torso_mass_kg"] == pytest.approx([0.3])
    assert seen["torso_com_m"] == pytest.approx([0.5, 1.0, -0.5])
    assert seen["strength"] == pytest.approx([-0.5] * 9)
    assert seen["joint_friction_nm"] == pytest.approx([1.0] * 9)
    assert seen["backlash_rad"] == pytest.approx([0.5] * 9)
    assert seen["latency_steps"] == [2.0]
    assert seen["bump_height_m"] == pytest.approx([1.0])
    untouched = parts(layout, plain)
    for name in ("friction", "torso_mass_kg", "strength", "damping", "armature", "push_force_b", "bump_height_m"):
        assert set(untouched[name]) == {0.0}, "the model itself is 0"


def test_observations_are_clipped() -> None:
    state = standing_state(base_ang_vel_b=torch.tensor([[1e6, -1e6, 0.0]]))
    assert parts(ObservationLayout.build(EnvConfig()), observed(state=state))["base_ang_vel_b"] == [100.0, -100.0, 0.0]


@given(st.integers(0, 2**32 - 1))
def test_nothing_that_only_a_simulator_knows_moves_what_the_policy_sees(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def noise(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator) if like.is_floating_point() else torch.ones_like(like)

    plain = observed(3)
    changed = {name: noise(getattr(plain.state, name)) for name in PRIVILEGED_STATE}
    dynamics = DynamicsSample(
        **{item.name: noise(getattr(plain.dynamics, item.name)) for item in fields(DynamicsSample)}
    )
    other = replace(
        plain,
        state=replace(plain.state, **changed),
        contacts=~plain.contacts,
        dynamics=dynamics,
        push_force_b=noise(plain.push_force_b),
        into_ground_b=noise(plain.into_ground_b),
        bump_height_m=noise(plain.bump_height_m),
    )
    cfg = EnvConfig()
    layout, critic = ObservationLayout.build(cfg), ObservationLayout.of_critic(cfg)
    assert critic is not None
    assert torch.equal(seen_by(layout, plain), seen_by(layout, other))
    assert not torch.equal(seen_by(critic, plain), seen_by(critic, other))
    # The proof that this can fail: with one privileged term it does.
    leaky = replace(cfg, observation=ObservationConfig(policy=(*SENSED, "base_lin_vel_xy_b")))
    leak = ObservationLayout.build(leaky)
    assert not torch.equal(seen_by(leak, plain), seen_by(leak, other))


def test_only_the_policy_gets_noise() -> None:
    cfg = replace(SWITCHES, randomization=RandomizationConfig(noise=NoiseConfig(base_ang_vel_rad_s=0.2)))
    critic = ObservationLayout.of_critic(cfg)
    assert critic is not None
    policy = ObservationLayout.build(cfg)
    cpu = torch.device("cpu")
    assert policy.noise(cpu)[policy.slices()["base_ang_vel_b"]].tolist() == pytest.approx([0.1] * 3)
    assert policy.noise(cpu).count_nonzero() == 3
    assert critic.noise(cpu).count_nonzero() == 0


def test_groups_are_named_or_listed_and_each_term_once() -> None:
    assert ObservationConfig(policy="privileged").policy == ESTIMATED  # pyright: ignore[reportArgumentType]
    assert ObservationConfig(critic="policy").critic == ()  # pyright: ignore[reportArgumentType]
    assert ObservationConfig().critic == SIMULATED
    with pytest.raises(ConfigError, match=r"policy is 'all', .* measured or privileged, or a list of terms"):
        ObservationConfig(policy="all")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match=r"critic is .* a list that names each term once"):
        ObservationConfig(critic=("friction", "friction"))
    with pytest.raises(ConfigError, match=r"policy is .*smell.*"):
        ObservationConfig(policy=("smell",))  # pyright: ignore[reportArgumentType]
