"""Stock Stable-Baselines3 and sb3-contrib on our environment, as anybody would use them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from biped.config.task import TerminationConfig
from biped.env.env import BipedVecEnv
from biped.runs.checkpoint import save_checkpoint
from biped_env import NumpyVectorEnv

COUNT, JOINTS = 8, 9


@pytest.fixture
def env(make) -> BipedVecEnv:
    return BipedVecEnv(make(termination=TerminationConfig(episode_s=0.4)))


def test_stock_ppo_learns_under_monitor_and_normalisation(env: BipedVecEnv) -> None:
    wrapped = VecNormalize(VecMonitor(env))
    model = PPO("MlpPolicy", wrapped, n_steps=32, batch_size=64, n_epochs=1, device="cpu", seed=0)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(512)
    after = model.policy.state_dict()
    assert any((after[name] != before[name]).any() for name in before)
    assert all(value.isfinite().all() for value in after.values())
    assert len(model.ep_info_buffer) > 0
    assert wrapped.obs_rms.count > 500


def test_evaluate_policy_counts_whole_episodes(env: BipedVecEnv) -> None:
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=64, device="cpu", seed=0)
    returns, lengths = evaluate_policy(model, VecMonitor(env), n_eval_episodes=16, return_episode_rewards=True)
    assert len(returns) == 16
    assert max(lengths) <= 20


def test_stock_recurrent_ppo_opens_our_checkpoint_and_trains_on(env: BipedVecEnv, tmp_path) -> None:
    from biped.train.learner import make_model
    from biped_config import smoke_preset

    config = replace(smoke_preset(), env=env.env.cfg, policy=replace(smoke_preset().policy, velocity_head=False))
    model = make_model(config, env, seed=0).learn(256)
    save_checkpoint(model, tmp_path / "model.zip")
    stock = RecurrentPPO.load(tmp_path / "model.zip", env=env, device="cpu")
    observation = env.reset()
    starts, ours_state, stock_state = np.ones(COUNT, dtype=bool), None, None
    for _ in range(5):
        ours, ours_state = model.predict(observation, ours_state, starts, deterministic=True)
        theirs, stock_state = stock.predict(observation, stock_state, starts, deterministic=True)
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
        observation, _, starts, _ = env.step(ours)
    assert stock.num_timesteps == 256
    stock.learn(256, reset_num_timesteps=False)
    assert stock.num_timesteps == 512


def test_time_outs_and_falls_are_told_apart_and_carry_their_last_observation(env: BipedVecEnv) -> None:
    env.seed(3)
    env.reset()
    rng = np.random.default_rng(0)
    ends = []
    for step in range(1, 60):
        size = 0.0 if step <= 20 else 4.0
        observation, rewards, dones, infos = env.step(size * rng.standard_normal((COUNT, JOINTS)))
        assert observation.dtype == rewards.dtype == np.float32
        for index in range(COUNT):
            assert dones[index] == ("terminal_observation" in infos[index])
            if dones[index]:
                info = infos[index]
                assert not np.array_equal(info["terminal_observation"], observation[index])
                ends.append((step, info["TimeLimit.truncated"], info["episode"]["l"]))
    assert [end for end in ends if end[0] == 20] == [(20, True, 20)] * COUNT
    assert any(not truncated and length < 20 for _, truncated, length in ends)


def test_the_seed_call_seeds_the_next_reset(env: BipedVecEnv) -> None:
    def first(seed: int) -> np.ndarray:
        env.seed(seed)
        return env.reset()

    np.testing.assert_array_equal(first(5), first(5))
    assert not np.array_equal(first(5), first(6))
    assert not np.array_equal(first(5), env.reset()), "a second reset draws on"


def test_attributes_and_methods_reach_the_batch(env: BipedVecEnv) -> None:
    assert env.get_attr("num_envs") == [COUNT] * COUNT
    assert env.get_attr("num_envs", indices=[0, 2]) == [COUNT] * 2
    env.set_attr("note", "hello")
    assert env.env.note == "hello"
    with pytest.raises(ValueError, match="one batch"):
        env.set_attr("note", "x", indices=[1])
    observations, _ = env.env_method("reset", seed=1)[0]
    assert observations.shape == (COUNT, 43)
    with pytest.raises(ValueError, match="one batch"):
        env.env_method("reset", indices=0)
    assert env.env_is_wrapped(VecMonitor) == [False] * COUNT


def test_the_face_knows_how_fast_pictures_follow_each_other(env: BipedVecEnv) -> None:
    assert env.metadata["render_fps"] == VecMonitor(env).unwrapped.metadata["render_fps"] == 50
    assert env.render_mode == "rgb_array"


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_actions_in_numpy_and_as_tensors_do_the_same(make, dtype: type) -> None:
    actions = np.ones((COUNT, JOINTS), dtype)
    results = []
    for kind in (actions, torch.from_numpy(actions)):
        env = make(seed=4)
        env.reset(seed=4)
        results.append(env.step(kind)[0])
    torch.testing.assert_close(*results, rtol=0.0, atol=1e-4)


def test_a_sample_of_the_action_space_is_an_action(make) -> None:
    env = make()
    assert env.step(env.action_space.sample())[0].dtype == torch.float32


@pytest.mark.parametrize("shape", [(JOINTS,), (COUNT, JOINTS + 1), (1, JOINTS), (COUNT, JOINTS, 1), ()])
def test_actions_of_another_shape_are_refused_in_one_line(env: BipedVecEnv, shape: tuple[int, ...]) -> None:
    for step in (env.env.step, env.step, env.step_tensor, NumpyVectorEnv(env.env).step):
        with pytest.raises(ValueError, match=r"^actions are \(.*\), but must be \(8, 9\)$"):
            step(np.zeros(shape, np.float32))


def test_waiting_without_actions_is_an_error(env: BipedVecEnv) -> None:
    with pytest.raises(RuntimeError, match="step_async"):
        env.step_wait()


def test_stock_rendering_shows_the_first_robot(env_config) -> None:
    from biped.env.env import make_env

    env = BipedVecEnv(make_env(env_config, camera=True))
    first, *others = env.env.render()
    assert isinstance(env.env.render(), tuple)
    assert others == [None] * (env.num_envs - 1)
    picture = env.render(mode="rgb_array")
    assert picture.shape == first.shape
    assert picture.shape == (720, 960, 3)
    assert picture.std() > 10, "an empty picture"
    env.close()
