"""The mirror image, on paper and in a real Genesis scene."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biped.config.robot import RobotConfig
from biped.config.task import EnvConfig
from biped.mdp.commands import is_moving
from biped.mdp.gait import gait_clock, update_contacts
from biped.mdp.observations import ObservationInputs, ObservationLayout
from biped.mdp.observer import Observer
from biped.mdp.randomization import sample_dynamics
from biped.mdp.symmetry import mirror_observation
from biped.ppo.mirror import Reflection
from biped.robot.rotations import quat_from_yaw
from biped.robot.symmetry import mirror_joints
from biped.sim.scene import ResetPose, Scene
from tests.conftest import CPU, one_group

LAYOUT = ObservationLayout.build(one_group(EnvConfig()))
EVERYTHING = ObservationLayout.of_critic(EnvConfig())
assert EVERYTHING is not None
JOINTS = Reflection.build(*mirror_joints(RobotConfig()), CPU)
OBSERVATION = Reflection.build(*mirror_observation(LAYOUT, RobotConfig()), CPU)
OF_CRITIC = Reflection.build(*mirror_observation(EVERYTHING, RobotConfig()), CPU)


@given(st.integers(0, 2**32 - 1))
def test_the_mirror_image_of_a_mirror_image_is_the_thing_itself(seed: int) -> None:
    vectors = torch.randn(3, LAYOUT.width, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(OBSERVATION(OBSERVATION(vectors)), vectors)
    assert not torch.equal(OBSERVATION(vectors), vectors)


def test_legs_change_sides_and_roll_and_yaw_change_sign() -> None:
    joints = torch.arange(1.0, 10.0)[None]
    #      left: roll, hip, knee, ankle; right: roll, hip, knee, ankle; torso yaw
    assert JOINTS(joints).tolist() == [[-5.0, 6.0, 7.0, 8.0, -1.0, 2.0, 3.0, 4.0, -9.0]]


def test_an_observation_is_mirrored_term_by_term() -> None:
    seen = torch.arange(1.0, LAYOUT.width + 1.0)[None]
    mirrored, where = OBSERVATION(seen)[0], LAYOUT.slices()
    assert mirrored[where["projected_gravity_b"]].tolist() == [1.0, -2.0, 3.0]
    assert mirrored[where["base_ang_vel_b"]].tolist() == [-4.0, 5.0, -6.0]
    assert mirrored[where["base_lin_vel_xy_b"]].tolist() == [7.0, -8.0]
    assert mirrored[where["base_height_m"]].tolist() == [9.0]
    assert mirrored[where["command_lin_vel_x_b"]].tolist() == [10.0]
    assert mirrored[where["command_lin_vel_y_b"]].tolist() == [-11.0]
    assert mirrored[where["command_ang_vel_b"]].tolist() == [-12.0]
    assert mirrored[where["foot_contact"]].tolist() == [32.0, 31.0]
    assert mirrored[where["gait_phase"]].tolist() == [-42.0, -43.0]


def test_what_the_critic_sees_is_mirrored_term_by_term() -> None:
    seen = torch.arange(1.0, EVERYTHING.width + 1.0)[None]
    mirrored, where = OF_CRITIC(seen)[0], EVERYTHING.slices()

    def pair(name: str) -> tuple[list[float], list[float]]:
        return seen[0, where[name]].tolist(), mirrored[where[name]].tolist()

    for name in ("base_lin_vel_b", "ground_normal_b", "push_force_b", "torso_com_m"):
        (x, y, z), image = pair(name)
        assert image == [x, -y, z], name
    before, image = pair("foot_force")
    assert image == before[::-1]
    for name in ("strength", "damping", "joint_friction_nm", "armature", "backlash_rad"):
        before, image = pair(name)
        assert image == [*before[4:8], *before[:4], before[8]], "sizes have no direction"
    for name in ("friction", "torso_mass_kg", "latency_steps", "bump_height_m", "base_height_m"):
        before, image = pair(name)
        assert image == before


def test_a_robot_may_say_what_its_mirror_image_is() -> None:
    robot = RobotConfig(
        joint_names=("a", "b", "c"),
        default_joint_pos_rad=(0.0, 0.0, 0.0),
        mirror_joints=("b", "a", "c"),
        mirror_signs=(1.0, 1.0, -1.0),
    )
    assert mirror_joints(robot) == ([1, 0, 2], [1.0, 1.0, -1.0])


def test_a_robot_with_a_leg_too_few_is_refused() -> None:
    with pytest.raises(ValueError, match="no counterpart right_knee"):
        mirror_joints(RobotConfig(joint_names=("left_knee", "torso_yaw"), default_joint_pos_rad=(0.0, 0.0)))


def test_what_changes_when_applied_twice_is_no_reflection() -> None:
    with pytest.raises(ValueError, match="twice"):
        Reflection.build([1, 2, 0], [1.0, 1.0, 1.0], CPU)
    with pytest.raises(ValueError, match="twice"):
        Reflection.build([1, 0], [1.0, -1.0], CPU)


def test_a_mirrored_robot_under_mirrored_targets_moves_in_the_mirror(scene: Scene, env_config: EnvConfig) -> None:
    """Four robots fall about, four more do the same in the mirror: all that is observed must match."""
    half = scene.num_envs // 2
    generator = torch.Generator().manual_seed(3)
    default = torch.tensor(env_config.robot.default_joint_pos_rad)
    heading = torch.tensor((0.3, -0.2, 0.1, 0.0))
    base = torch.tensor((0.0, 0.0, env_config.robot.default_base_height_m + 0.005)).expand(scene.num_envs, 3)

    def both(joints: torch.Tensor) -> torch.Tensor:
        return torch.cat((default + joints, default + JOINTS(joints)))

    start = ResetPose(base, quat_from_yaw(torch.cat((heading, -heading))), both(torch.zeros(half, 9)))
    scene.reset(torch.ones(scene.num_envs, dtype=torch.bool), start)
    contacts = torch.zeros(scene.num_envs, 2, dtype=torch.bool)
    phase = torch.rand(half, generator=generator)
    command = torch.randn(half, 3, generator=generator)
    commands = torch.cat((command, command * torch.tensor((1.0, -1.0, -1.0))))
    dynamics = sample_dynamics(env_config.randomization, env_config.robot, 2 * half, torch.Generator())
    offset = torch.zeros(half, 9)
    largest_turn = 0.0
    for _ in range(40):
        offset = 0.9 * offset + 0.1 * torch.randn(half, 9, generator=generator)
        state = scene.step(both(offset))
        contacts = update_contacts(contacts, state.foot_force_n, env_config.gait)
        previous = torch.cat((offset, JOINTS(offset)))
        phases = torch.cat((phase, torch.remainder(phase + 0.5, 1.0)))
        inputs = ObservationInputs(
            state=state,
            command=commands,
            contacts=contacts,
            previous_action=previous,
            gait_clock=gait_clock(phases, is_moving(commands, env_config.command)),
            dynamics=dynamics,
            into_ground_b=state.projected_gravity_b,
            push_force_b=torch.zeros(2 * half, 3),
            bump_height_m=torch.zeros(2 * half),
        )
        seen = Observer.build((LAYOUT,), env_config.observation, CPU)(inputs)
        torch.testing.assert_close(OBSERVATION(seen[:half]), seen[half:], atol=5e-3, rtol=0.0)
        known = Observer.build((EVERYTHING,), env_config.observation, CPU)(inputs)
        # Forces of a foot that lands differ by more than rounding: contacts are stiff.
        torch.testing.assert_close(OF_CRITIC(known[:half]), known[half:], atol=2e-2, rtol=0.0)
        largest_turn = max(largest_turn, float(state.base_ang_vel_b[:half, 2].abs().max()))
    assert largest_turn > 0.3  # they did not just stand


def test_a_reflection_is_applied_row_by_row() -> None:
    vectors = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    swap = Reflection.build([1, 0], [1.0, 1.0], CPU)
    assert swap(vectors).tolist() == [[2.0, 1.0], [4.0, 3.0]]
