"""The environment's contract, on a real Genesis scene."""

from collections.abc import Iterator
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from biped.config.robot import ControlConfig
from biped.config.task import CommandConfig, TerminationConfig
from biped.env.env import BipedEnv, make_env
from biped.mdp.commands import widened
from biped.mdp.episode_stats import EpisodeSummary

COUNT, JOINTS = 8, 9


def zeros() -> torch.Tensor:
    return torch.zeros(COUNT, JOINTS)


def actions(seed: int, steps: int, size: float = 1.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [size * torch.randn(COUNT, JOINTS, generator=generator) for _ in range(steps)]


def test_pd_control_holds_the_default_pose_for_five_seconds(make) -> None:
    env = make()
    env.reset(seed=1)
    for _ in range(250):
        _, _, terminated, truncated, _ = env.step(zeros())
        assert not (terminated | truncated).any()
    assert env.state.base_height_m.min() > 0.35
    assert env.state.projected_gravity_b[:, 2].max() < -0.99


def test_it_is_a_gymnasium_vector_environment_on_tensors(make) -> None:
    env = make()
    assert isinstance(env, gymnasium.vector.VectorEnv)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert env.single_observation_space.shape == (43,)
    assert env.single_action_space.shape == (JOINTS,)
    assert env.observation_space.shape == (COUNT, 43)
    observation, infos = env.reset(seed=0)
    assert infos == {}
    observation, reward, terminated, truncated, infos = env.step(zeros())
    assert observation.shape == (COUNT, 43)
    assert observation.dtype == reward.dtype == torch.float32
    assert reward.shape == terminated.shape == truncated.shape == (COUNT,)
    assert terminated.dtype == truncated.dtype == torch.bool
    assert env.single_observation_space.contains(observation[0].numpy())
    assert infos["final_obs"].shape == (COUNT, 43)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(make) -> None:
    def run(seed: int) -> torch.Tensor:
        env = make()
        observation, _ = env.reset(seed=seed)
        seen = [observation, *(env.step(action)[0] for action in actions(5, 60, 2.0))]
        return torch.stack(seen)

    assert torch.equal(run(3), run(3))
    assert not torch.equal(run(3)[0], run(4)[0])


def test_a_list_of_seeds_is_refused(make) -> None:
    with pytest.raises(ValueError, match="one seed"):
        make().reset(seed=[1, 2])


def test_episodes_start_at_rest_near_the_default_pose_with_any_phase(make) -> None:
    env = make()
    observation, _ = env.reset(seed=2)
    seen = {name: observation[:, where] for name, where in env.layout.slices().items()}
    assert seen["joint_pos_rad"].abs().max() <= env.cfg.reset.joint_noise_rad
    assert seen["joint_pos_rad"].std() > 0
    assert seen["joint_vel_rad_s"].abs().max() == seen["previous_action"].abs().max() == 0
    assert seen["gait_phase"].std(dim=0).min() > 0.1
    commands = seen["command_lin_vel_x_b"] / env.cfg.observation.command_scale[0]
    assert -0.2 <= commands.min() < commands.max() <= 0.6


def test_the_clock_is_shown_while_walking_is_asked_for_and_is_still_while_standing_is(make) -> None:
    env = make()
    env.reset(seed=2)
    commands = torch.zeros(COUNT, 3)
    commands[:4, 0] = 0.4
    observation = env.hold_commands(commands)
    clock = env.layout.slices()["gait_phase"]
    torch.testing.assert_close(observation[:4, clock].norm(dim=1), torch.ones(4))
    assert (observation[4:, clock] == 0).all()


def test_a_robot_that_stands_still_makes_no_progress_and_does_not_widen_its_commands(make) -> None:
    env = make(command=CommandConfig(standing_fraction=0.0))
    env.reset(seed=1)
    for _ in range(50):
        env.step(zeros())
    progress = env.stats.drain().progress
    assert abs(progress) < 0.1
    assert widened(0.5, progress, env.cfg.command) == 0.5


def test_commands_are_drawn_from_the_share_that_is_set_and_from_everything_unless_told(make) -> None:
    env = make(command=CommandConfig((0.0, 0.8), (0.0, 0.0), (0.0, 0.0), standing_fraction=0.0, turning_fraction=0.0))
    seen = []
    for env.command_share in (1.0, 0.25):
        env.reset(seed=1)
        seen.append(env.command[:, 0].clone())
    assert seen[0].max() > 0.55
    assert 0.3 <= seen[1].min() <= seen[1].max() <= 0.5
    assert make().command_share == 1.0


def test_commands_too_small_to_ask_for_motion_are_held_as_zero(make) -> None:
    env = make()
    env.reset(seed=1)
    env.hold_commands(torch.tensor([[0.05, 0.0, 0.0]]).expand(COUNT, 3))
    assert (env.command == 0).all()


def test_commands_that_are_held_outlast_the_timer(make) -> None:
    env = make(command=CommandConfig(resample_s=0.1))
    env.reset(seed=2)
    commands = torch.tensor([0.3, 0.1, -0.2]).expand(COUNT, 3)
    observation = env.hold_commands(commands)
    first, last = (env.layout.slices()[name] for name in ("command_lin_vel_x_b", "command_ang_vel_b"))
    asked = torch.tensor([0.3, 0.1, -0.2]) * torch.tensor(env.cfg.observation.command_scale)
    for _ in range(20):
        torch.testing.assert_close(env.command, commands)
        torch.testing.assert_close(observation[:, first.start : last.stop], asked.expand(COUNT, 3))
        observation, *_ = env.step(zeros())


def test_a_fall_ends_the_episode_and_the_next_begins_in_the_same_step(make) -> None:
    env = make()
    env.reset(seed=0)
    height, gravity = (env.layout.slices()[name] for name in ("base_height_m", "projected_gravity_b"))
    for action in actions(1, 200, 3.0):
        observation, reward, terminated, truncated, infos = env.step(action)
        if terminated.any():
            break
    assert torch.equal(infos["_final_obs"], terminated | truncated)
    last, first = infos["final_obs"][terminated], observation[terminated]
    fallen = (last[:, height].squeeze(1) < 0.30) | (-last[:, gravity][:, 2] < 0.7072)
    assert fallen.all()
    assert (first[:, height] > 0.40).all()
    assert (infos["episode_length"][terminated] > 1).all()
    assert (reward[terminated] < -1.5).all(), "a fall costs its penalty"
    running = ~terminated
    torch.testing.assert_close(observation[running][:, height], infos["final_obs"][running][:, height])


def test_the_time_out_truncates_every_20_seconds(make) -> None:
    env = make(termination=TerminationConfig(episode_s=0.1))
    env.reset(seed=0)
    ends = [env.step(zeros())[2:4] for _ in range(10)]
    truncated = [cut.all().item() for _, cut in ends]
    assert truncated == [False, False, False, False, True] * 2
    assert not any(over.any() for over, _ in ends)


def test_a_new_episode_forgets_the_contacts_and_the_action_of_the_old_one(make) -> None:
    env = make(termination=TerminationConfig(episode_s=0.2))
    env.reset(seed=0)
    for _ in range(10):
        first, *_, infos = env.step(torch.full((COUNT, JOINTS), 0.1))
    for name in ("foot_contact", "previous_action"):
        where = env.layout.slices()[name]
        assert (infos["final_obs"][:, where] > 0).all()
        assert (first[:, where] == 0).all()


def test_final_observations_are_the_last_of_the_old_episode(make) -> None:
    """At a time-out the final observation is what the observation would have been without one."""
    sequence = actions(2, 5)
    short, long = make(termination=TerminationConfig(episode_s=0.1)), None
    short.reset(seed=7)
    for action in sequence:
        first_of_next, *_, infos = short.step(action)
    long = make()
    long.reset(seed=7)
    for action in sequence:
        expected, *_ = long.step(action)
    torch.testing.assert_close(infos["final_obs"], expected)
    assert not torch.allclose(first_of_next, expected)


def test_one_step_of_latency_applies_the_action_before(make) -> None:
    sequence = actions(4, 12)
    direct, late = make(), make(control=ControlConfig(latency_share=1.0))
    late.reset(seed=5)
    delayed = [(late.step(action), late.state.joint_pos_rad)[1] for action in sequence]
    direct.reset(seed=5)
    shifted = [(direct.step(action), direct.state.joint_pos_rad)[1] for action in [zeros(), *sequence[:-1]]]
    for got, expected in zip(delayed, shifted, strict=True):
        torch.testing.assert_close(got, expected)


def test_each_episode_is_late_or_not_as_a_whole(make) -> None:
    env = make(control=ControlConfig(latency_share=0.5))
    env.reset(seed=5)
    default = torch.tensor(env.cfg.robot.default_joint_pos_rad)
    previous, kinds = zeros(), set()
    for action in actions(4, 12, 0.2):
        env.step(action)
        direct = env.scene._targets == default + 0.25 * action
        late = env.scene._targets == default + 0.25 * previous
        assert (direct.all(dim=1) ^ late.all(dim=1)).all()
        kinds.add(tuple(late.all(dim=1).tolist()))
        previous = action
    (kind,) = kinds
    assert 0 < sum(kind) < COUNT


def test_actions_are_clipped_and_scaled_around_the_default_pose(make) -> None:
    env = make()
    env.reset(seed=0)
    observation, *_ = env.step(torch.full((COUNT, JOINTS), 1e6))
    where = env.layout.slices()["previous_action"]
    assert (observation[:, where] == env.cfg.control.action_clip).all()
    expected = torch.tensor(env.cfg.robot.default_joint_pos_rad) + 0.25 * 4.0
    torch.testing.assert_close(env.scene._targets, expected.expand(COUNT, JOINTS))


def test_one_broken_robot_is_reset_alone_and_counted(make) -> None:
    """Two runs, one with a NaN put into one robot: the others never notice."""

    def run(break_at: int | None) -> tuple[list, object]:
        env = make()
        env.reset(seed=6)
        env.stats.drain()
        rows = []
        for step, action in enumerate(actions(8, 20, 0.3)):
            if step == break_at:
                poison = env.scene._robot.get_qpos()
                poison[2] = torch.nan
                only = torch.zeros(COUNT, dtype=torch.bool)
                only[2] = True
                env.scene._robot.set_qpos(poison, envs_idx=only, skip_forward=True)
            rows.append(env.step(action))
        return rows, env.stats.drain()

    broken, summary = run(break_at=10)
    healthy, _ = run(break_at=None)
    assert (summary.episodes, summary.errors) == (1, 1)
    assert summary.causes == {"height": 0.0, "tilt": 0.0, "error": 1.0, "time_out": 0.0}
    _, reward, terminated, truncated, infos = broken[10]
    assert terminated.tolist() == [index == 2 for index in range(COUNT)]
    assert not truncated.any()
    for observation, reward, *_, infos in broken:
        assert observation.isfinite().all()
        assert reward.isfinite().all()
        assert infos["final_obs"].isfinite().all()
    others = [index for index in range(COUNT) if index != 2]
    for got, expected in zip(broken, healthy, strict=True):
        torch.testing.assert_close(got[0][others], expected[0][others], atol=1e-4, rtol=1e-4)


@pytest.fixture(params=["genesis", "mujoco"])
def in_engine(request: pytest.FixtureRequest, make, env_config) -> Iterator[BipedEnv]:
    """An environment in each engine."""
    if request.param == "genesis":
        yield make()
        return
    env = make_env(env_config, "cpu", sim="mujoco")
    yield env
    env.close()


BAD_NUMBERS = [torch.nan, torch.inf, -torch.inf]


@pytest.mark.parametrize("bad", BAD_NUMBERS, ids=str)
def test_an_action_that_is_not_finite_is_an_error_of_its_robot_alone(in_engine: BipedEnv, bad: float) -> None:
    """Two runs, one with a bad number in one joint of one robot; the others never notice."""
    env = in_engine

    def run(number: float) -> tuple[list, EpisodeSummary]:
        env.reset(seed=6)
        env.stats.drain()
        rows = []
        for step, action in enumerate(actions(8, 12, 0.3)):
            action[2, 4] = number if step == 5 else action[2, 4]
            rows.append(env.step(action))
        return rows, env.stats.drain()

    (broken, summary), (healthy, _) = run(bad), run(0.1)
    assert (summary.episodes, summary.errors, summary.causes["error"]) == (1, 1, 1.0)
    assert np.isfinite([summary.mean_return, summary.reward_per_step, *summary.reward_rates.values()]).all()
    assert [row[2].any().item() for row in broken] == [step == 5 for step in range(12)]
    assert broken[5][2].tolist() == [robot == 2 for robot in range(COUNT)]
    for observation, reward, *_, infos in broken:
        assert torch.cat((observation, reward[:, None], infos["final_obs"]), dim=1).isfinite().all()
    others = [robot for robot in range(COUNT) if robot != 2]
    for got, expected in zip(broken, healthy, strict=True):
        torch.testing.assert_close(got[0][others], expected[0][others], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("bad", BAD_NUMBERS, ids=str)
def test_a_command_that_is_not_finite_is_an_error_of_its_robot_alone(in_engine: BipedEnv, bad: float) -> None:
    env = in_engine
    env.reset(seed=6)
    env.stats.drain()
    commands = torch.zeros(COUNT, 3)
    commands[:, 0], commands[3, 1] = 0.3, bad
    assert env.hold_commands(commands).isfinite().all()
    observation, reward, terminated, _, infos = env.step(zeros())
    assert terminated.tolist() == [robot == 3 for robot in range(COUNT)]
    assert env.command.isfinite().all()
    assert (env.command[[0, 1, 2, 4], 0] == 0.3).all(), "the others keep theirs"
    assert torch.cat((observation, reward[:, None], infos["final_obs"]), dim=1).isfinite().all()
    summary = env.stats.drain()
    assert (summary.errors, np.isfinite(summary.mean_return), np.isnan(summary.progress)) == (1, True, False)


@pytest.mark.parametrize(("count", "stops"), [(4, False), (5, True)])
def test_training_stops_when_the_physics_fails_in_more_than_its_share_of_robots(make, count: int, stops: bool) -> None:
    env = make()
    env.reset(seed=6)
    env.stats.drain()
    poison = env.scene._robot.get_qpos()
    poison[:count] = torch.nan
    env.scene._robot.set_qpos(poison, envs_idx=torch.arange(COUNT) < count, skip_forward=True)
    env.step(zeros())
    if stops:
        with pytest.raises(FloatingPointError, match="5 times in 8 environments"):
            env.end_rollout(max_error_share=0.5)
    else:
        assert env.end_rollout(max_error_share=0.5).errors == count


@pytest.mark.parametrize("foot", [0, 1], ids=["left", "right"])
def test_a_foot_that_is_lifted_and_put_down_is_seen_to_step(make, foot: int) -> None:
    """Hand-made targets lift one foot of a standing robot for a quarter of a second; it rocks, and stays up."""
    env = make()
    env.reset(seed=0)
    contact = env.layout.slices()["foot_contact"]
    for _ in range(25):
        observation, *_ = env.step(zeros())
    assert (observation[:, contact] == 1).all()
    lifted_at_first, steps = torch.zeros(2), torch.zeros(2)
    for step in range(28):
        lift = zeros()
        lift[:, 4 * foot + 1 : 4 * foot + 4] = torch.tensor([-0.8, 1.6, -0.8]) * min(1.0, max(0.0, (13 - step) / 3))
        observation, _, terminated, _, _ = env.step(lift)
        assert not terminated.any()
        if step < 6:
            lifted_at_first += (observation[:, contact] == 0).sum(dim=0)
        steps += env.events.valid_step.sum(dim=0)
    assert lifted_at_first[foot] >= 3 * COUNT
    assert lifted_at_first[1 - foot] == 0
    assert steps[foot] == COUNT
    assert steps[1 - foot] == 0


def test_the_scene_must_have_as_many_robots_as_the_configuration(scene, env_config) -> None:
    from biped.env.env import BipedEnv

    with pytest.raises(ValueError, match="8 robots"):
        BipedEnv(replace(env_config, num_envs=9), scene)
