"""Small environments that need memory, and learners on them."""

from typing import Any

import gymnasium
import numpy as np
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv

from biped.ppo.recurrent_ppo import DeviceRecurrentPPO


class WithoutVelocities(gymnasium.ObservationWrapper):
    """CartPole's positions alone: what moves has to be remembered."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.observation_space = gymnasium.spaces.Box(-10.0, 10.0, (2,), np.float32)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        return observation[::2].astype(np.float32)


def cart_poles(n_envs: int = 8, max_episode_steps: int = 14) -> VecEnv:
    """Untrained, poles fall after 9 steps or more: with 14 allowed, some episodes terminate and some time out."""

    def make() -> gymnasium.Env:
        return WithoutVelocities(gymnasium.make("CartPole-v1", max_episode_steps=max_episode_steps))

    return make_vec_env(make, n_envs)


def pendulums(n_envs: int = 4, max_episode_steps: int = 10) -> VecEnv:
    """Continuous actions; every episode times out."""
    return make_vec_env(lambda: gymnasium.make("Pendulum-v1", max_episode_steps=max_episode_steps), n_envs)


class Boxed(gymnasium.Wrapper):
    """An environment with one action, as the sum of a box of two rows of three; the first row counts double."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.action_space = gymnasium.spaces.Box(-0.5, np.float32([[0.1] * 3, [0.4] * 3]), (2, 3), np.float32)

    def step(self, action: np.ndarray) -> Any:
        assert action.shape == (2, 3)
        assert self.action_space.contains(action)
        return self.env.step(np.array([2.0 * action[0].sum() + action[1].sum()], np.float32))


def boxed(n_envs: int = 4) -> VecEnv:
    """Continuous actions with two axes; every episode times out."""
    return make_vec_env(lambda: Boxed(gymnasium.make("Pendulum-v1", max_episode_steps=10)), n_envs)


SMALL: dict[str, Any] = {
    "n_steps": 16,
    "n_epochs": 2,
    "gamma": 0.9,
    "gae_lambda": 0.8,
    "seed": 3,
    "device": "cpu",
    "policy_kwargs": {"lstm_hidden_size": 8, "n_lstm_layers": 2, "net_arch": [8]},
}


def silenced(model: RecurrentPPO) -> Any:
    """Give a model a logger that keeps what was recorded: it is never dumped."""
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


def learner(env: VecEnv, policy: Any = "MlpLstmPolicy", **changes: Any) -> DeviceRecurrentPPO:
    return silenced(DeviceRecurrentPPO(policy, env, **{**SMALL, **changes}))


def stock(env: VecEnv, policy: Any = "MlpLstmPolicy", **changes: Any) -> RecurrentPPO:
    return silenced(RecurrentPPO(policy, env, **{**SMALL, **changes}))


def learn(model: Any, rollouts: int = 1, callback: Any = None) -> Any:
    never: Any = None  # keep the records: dumping clears them
    return model.learn(rollouts * model.n_steps * model.n_envs, callback, log_interval=never)
