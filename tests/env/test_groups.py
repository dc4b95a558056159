"""An environment whose actor sees what a robot can measure, and whose critic sees the truth."""

from collections.abc import Iterator
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from biped.config.randomization import NoiseConfig, RandomizationConfig
from biped.config.sensors import EncoderConfig, ImuConfig
from biped.config.task import TerminationConfig
from biped.env.env import BipedEnv, BipedVecEnv, make_env
from biped_config import cpu_preset, randomization_preset
from biped_env import NumpyVectorEnv
from tests.conftest import one_group

COUNT, JOINTS = 8, 9


def build(randomization: RandomizationConfig | None = None, episode_s: float = 20.0, seed: int = 0) -> BipedEnv:
    cfg = replace(
        cpu_preset().env,
        num_envs=COUNT,
        randomization=randomization or RandomizationConfig(),
        termination=TerminationConfig(episode_s=episode_s),
    )
    return make_env(cfg, "cpu", sim="mujoco", seed=seed)


@pytest.fixture
def env() -> Iterator[BipedEnv]:
    built = build(episode_s=0.4)
    yield built
    built.close()


def test_it_shows_two_groups_by_name(env: BipedEnv) -> None:
    widths = {"policy": env.layout.width, "critic": env.critic_layout.width}
    assert isinstance(env.single_observation_space, Dict)
    assert {name: space.shape for name, space in env.single_observation_space.spaces.items()} == {
        name: (width,) for name, width in widths.items()
    }
    assert env.observation_space["critic"].shape == (COUNT, widths["critic"])
    observations, _ = env.reset(seed=0)
    assert {name: tuple(group.shape) for name, group in observations.items()} == {
        name: (COUNT, width) for name, width in widths.items()
    }
    assert env.single_observation_space.contains({name: group[0].numpy() for name, group in observations.items()})
    assert isinstance(make_env(one_group(env.cfg), sim="mujoco").single_observation_space, Box)


def test_final_observations_have_both_groups(env: BipedEnv) -> None:
    env.reset(seed=0)
    for _ in range(20):
        first, _, _, truncated, infos = env.step(torch.zeros(COUNT, JOINTS))
    assert truncated.all()
    for name in ("policy", "critic"):
        assert infos["final_obs"][name].shape == first[name].shape
        assert not torch.equal(infos["final_obs"][name], first[name])


def test_the_critic_sees_what_is_and_the_actor_what_sensors_say() -> None:
    noise = NoiseConfig(joint_pos_rad=0.1, base_ang_vel_rad_s=0.5)
    env = build(RandomizationConfig(noise=noise))
    observations, _ = env.reset(seed=0)
    position = env.critic_layout.slices()["joint_pos_rad"]
    truth = env.state.joint_pos_rad - torch.tensor(env.cfg.robot.default_joint_pos_rad)
    torch.testing.assert_close(observations["critic"][:, position], truth)
    said = observations["policy"][:, env.layout.slices()["joint_pos_rad"]]
    assert 0.05 < (said - truth).std() < 0.2
    env.close()


def test_sensors_err_and_the_robot_moves_as_before() -> None:
    """What is measured changes neither the physics nor the rewards."""
    wrong = RandomizationConfig(
        imu=ImuConfig(gyro_bias_rad_s=0.2, mounting_rad=0.1, tilt_drift_rad=0.1, late_share=0.5),
        encoders=EncoderConfig(256, 0.02, True, 0.3, 0.5),
    )
    envs = build(wrong), build()
    for each in envs:
        each.reset(seed=1)
    state = envs[1].get_state()
    kept = {name: value for name, value in envs[0].get_state().items() if name.startswith(("imu", "encoders"))}
    envs[0].set_state({**state, **kept})
    generator = torch.Generator().manual_seed(2)
    for _ in range(15):
        actions = torch.randn(COUNT, JOINTS, generator=generator)
        (seen, rewards, *_), (truth, same, *_) = (each.step(actions) for each in envs)
        torch.testing.assert_close(rewards, same)
        torch.testing.assert_close(seen["critic"], truth["critic"])
    where = envs[0].layout.slices()
    for name in ("projected_gravity_b", "base_ang_vel_b", "joint_pos_rad", "joint_vel_rad_s"):
        assert not torch.equal(seen["policy"][:, where[name]], truth["policy"][:, where[name]]), name
    for name in ("previous_action", "command_lin_vel_x_b"):
        assert torch.equal(seen["policy"][:, where[name]], truth["policy"][:, where[name]]), name
    for each in envs:
        each.close()


def test_sensors_of_nominal_robots_do_not_err() -> None:
    env = build(replace(randomization_preset("full"), nominal_share=0.5))
    env.reset(seed=1)
    for _ in range(10):
        seen, *_ = env.step(torch.zeros(COUNT, JOINTS))
    nominal = env.randomizer.is_nominal
    for name in ("projected_gravity_b", "base_ang_vel_b", "joint_pos_rad", "joint_vel_rad_s"):
        said = seen["policy"][:, env.layout.slices()[name]]
        truth = seen["critic"][:, env.critic_layout.slices()[name]]
        assert torch.equal(said[nominal], truth[nominal]), name
        assert not torch.isclose(said[~nominal], truth[~nominal]).all(dim=1).any(), name
    env.close()


def test_stock_ppo_learns_from_both_groups_under_monitor_and_normalisation(env: BipedEnv) -> None:
    wrapped = VecNormalize(VecMonitor(BipedVecEnv(env)))
    model = PPO("MultiInputPolicy", wrapped, n_steps=32, batch_size=64, n_epochs=1, device="cpu", seed=0)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(512)
    after = model.policy.state_dict()
    assert any((after[name] != before[name]).any() for name in before)
    assert all(value.isfinite().all() for value in after.values())
    assert len(model.ep_info_buffer) > 0
    assert {name: rms.count > 500 for name, rms in wrapped.obs_rms.items()} == {"policy": True, "critic": True}
    returns, lengths = evaluate_policy(model, wrapped, n_eval_episodes=8, return_episode_rewards=True)
    assert len(returns) == 8
    assert max(lengths) <= 20


def test_stock_recurrent_ppo_opens_our_checkpoint_acts_as_ours_and_trains_on(env: BipedEnv, tmp_path) -> None:
    from biped.runs.checkpoint import save_checkpoint
    from biped.train.learner import make_model
    from biped_config import smoke_preset

    vec = BipedVecEnv(env)
    model = make_model(smoke_preset(), vec, seed=0).learn(256)
    assert model.policy.estimator is not None
    save_checkpoint(model, tmp_path / "model.zip")
    stock = RecurrentPPO.load(tmp_path / "model.zip", env=vec, device="cpu")
    observation = vec.reset()
    starts, ours_state, stock_state = np.ones(COUNT, dtype=bool), None, None
    for _ in range(5):
        ours, ours_state = model.predict(observation, ours_state, starts, deterministic=True)
        theirs, stock_state = stock.predict(observation, stock_state, starts, deterministic=True)
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
        observation, _, starts, _ = vec.step(ours)
    stock.learn(256, reset_num_timesteps=False)
    assert stock.num_timesteps == 512


def test_gymnasium_wrappers_find_both_groups_on_numpy(env: BipedEnv) -> None:
    wrapped = NumpyVectorEnv(env)
    observation, _ = wrapped.reset(seed=0)
    assert {name: group.dtype for name, group in observation.items()} == {"policy": np.float32, "critic": np.float32}
    wrapped = gymnasium.wrappers.vector.RecordEpisodeStatistics(wrapped)
    wrapped.reset(seed=0)
    for _ in range(20):
        observation, *_, infos = wrapped.step(wrapped.action_space.sample())
    assert infos["final_obs"]["critic"].shape == observation["critic"].shape


def test_a_state_with_sensors_is_gone_on_from_bit_by_bit() -> None:
    first, second = build(randomization_preset("full"), seed=1), build(randomization_preset("full"), seed=2)
    generator = torch.Generator().manual_seed(0)
    actions = torch.randn(40, COUNT, JOINTS, generator=generator)
    for action in actions[:20]:
        first.step(action)
    second.set_state(first.get_state())
    for action in actions[20:]:
        one, two = first.step(action)[0], second.step(action)[0]
        assert torch.equal(one["policy"], two["policy"])
        assert torch.equal(one["critic"], two["critic"])
    first.close()
    second.close()
