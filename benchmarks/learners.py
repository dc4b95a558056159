"""The learners that `benchmarks/learner.py` compares; each can update the same network with a rollout."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from biped.config.run import Config
from biped.mdp.observations import group_widths
from biped.ppo.policy import MlpIntoLstmPolicy
from biped.ppo.precision import Precision
from biped.ppo.recurrent_ppo import DeviceRecurrentPPO

OBSERVATIONS, ACTIONS = 43, 9
GROUPS = group_widths(Config().env)
"""Widths of the observation groups of the default robot's actor and critic."""
ESTIMATES = (0, 1, 2, 3)
"""Indices in the critic's group that the actor's memory predicts: as many as a velocity and a height."""


@dataclass(frozen=True)
class Size:
    """Size of a network and of a rollout."""

    name: str
    """Name in the table."""
    hidden_sizes: tuple[int, ...]
    """Widths of the MLP."""
    lstm_hidden_size: int
    """Width of the LSTM."""
    lstm_layers: int
    """Layers of the LSTM."""
    n_envs: int
    """Number of environments."""
    n_steps: int = 32
    """Steps per environment."""
    end_probability: float = 0.01
    """Probability per step that an episode ends."""
    n_minibatches: int = 4
    """Minibatches per epoch; the presets have four."""

    @property
    def policy_kwargs(self) -> dict[str, Any]:
        """Arguments of `MlpIntoLstmPolicy`."""
        return {
            "hidden_sizes": self.hidden_sizes,
            "lstm_hidden_size": self.lstm_hidden_size,
            "n_lstm_layers": self.lstm_layers,
        }


class FreeEnv(VecEnv):
    """An environment with precomputed random observations, random rewards, and random episode ends."""

    def __init__(self, n_envs: int, end_probability: float, groups: dict[str, int] | None = None) -> None:
        """Draw a stock of observations once; `groups` are the widths of observation groups, if there are any."""
        widths = groups or {"": OBSERVATIONS}
        boxes: dict[str, spaces.Space] = {name: spaces.Box(-10, 10, (width,)) for name, width in widths.items()}
        super().__init__(n_envs, spaces.Dict(boxes) if groups else boxes[""], spaces.Box(-1, 1, (ACTIONS,)))
        self._draws = np.random.default_rng(0)
        stocks = {name: self._draws.normal(size=(64, n_envs, width)) for name, width in widths.items()}
        each = ({name: stock[step].astype(np.float32) for name, stock in stocks.items()} for step in range(64))
        self._stock: list[Any] = [parts if groups else parts[""] for parts in each]
        self._end_probability = end_probability
        self._step = 0

    def reset(self) -> Any:
        """Return the first observations."""
        return self._stock[0]

    def step_async(self, actions: np.ndarray) -> None:
        """Ignore the actions."""

    def step_wait(self) -> Any:
        """Return the next observations from the stock."""
        self._step += 1
        dones = self._draws.random(self.num_envs) < self._end_probability
        rewards = self._draws.normal(size=self.num_envs).astype(np.float32)
        return self._stock[self._step % len(self._stock)], rewards, dones, [{} for _ in range(self.num_envs)]

    def close(self) -> None:
        """Do nothing: there is nothing to free."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return None for every environment."""
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Do nothing: there is nothing to set."""

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Return None for every environment, without a call."""
        return [None] * self.num_envs

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Return False for every environment."""
        return [False] * self.num_envs


class StockPassPolicy(MlpIntoLstmPolicy):
    """The network with sb3-contrib's own pass over sequences, as in stock."""

    # The parent's annotation of the states lacks the tuple.
    _process_sequence = staticmethod(RecurrentActorCriticPolicy._process_sequence)  # pyright: ignore


class _Silent(BaseCallback):
    def _on_step(self) -> bool:
        return True


def _with_rollout(model: RecurrentPPO) -> RecurrentPPO:
    _, callback = model._setup_learn(1, _Silent())
    model.set_logger(Logger(folder=None, output_formats=[]))
    assert model.env is not None
    model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
    return model


def _arguments(size: Size, device: str) -> dict[str, Any]:
    return {
        "env": FreeEnv(size.n_envs, size.end_probability),
        "learning_rate": 1e-4,
        "n_steps": size.n_steps,
        "batch_size": size.n_envs * size.n_steps // size.n_minibatches,
        "n_epochs": 1,
        "max_grad_norm": 1.0,
        "ent_coef": 0.005,
        "policy_kwargs": size.policy_kwargs,
        "seed": 0,
        "device": device,
    }


def stock(size: Size, device: str) -> RecurrentPPO:
    """Return sb3-contrib's `RecurrentPPO` with a rollout and one epoch per update."""
    return _with_rollout(RecurrentPPO(StockPassPolicy, **_arguments(size, device)))


def ours(size: Size, device: str, precision: Precision = "fp32", *, asymmetric: bool = False) -> DeviceRecurrentPPO:
    """Return `DeviceRecurrentPPO` with a rollout and one epoch per update.

    Args:
        size: size of network and rollout.
        device: device of the learner.
        precision: precision of the networks up to their heads.
        asymmetric: give the critic its own observations, and let the actor's memory predict some of them.
    """
    arguments = _arguments(size, device)
    if asymmetric:
        arguments["env"] = FreeEnv(size.n_envs, size.end_probability, GROUPS)
        arguments["policy_kwargs"] = {**size.policy_kwargs, "estimates": ESTIMATES}
    model = DeviceRecurrentPPO(MlpIntoLstmPolicy, **arguments, precision=precision)
    _with_rollout(model)
    return model


def bare(size: Size, device: str) -> Callable[[], None]:
    """Return forward, backward and Adam of the same network over whole environments, without PPO or episode ends."""
    space = spaces.Box(-10, 10, (OBSERVATIONS,)), spaces.Box(-1, 1, (ACTIONS,))
    policy = MlpIntoLstmPolicy(*space, lambda _: 1e-4, **size.policy_kwargs).to(device)
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-4)
    n_envs = size.n_envs // size.n_minibatches
    observations = torch.randn(size.n_steps, n_envs, OBSERVATIONS, device=device)
    zeros = torch.zeros(size.lstm_layers, n_envs, size.lstm_hidden_size, device=device)
    parts: list[tuple[nn.Module, nn.LSTM | None, nn.Module]] = [
        (policy.pi_features_extractor, policy.lstm_actor, policy.action_net),
        (policy.vf_features_extractor, policy.lstm_critic, policy.value_net),
    ]

    def epoch() -> None:
        for _ in range(size.n_minibatches):
            loss = torch.zeros((), device=device)
            for extractor, lstm, head in parts:
                assert lstm is not None
                features = extractor(observations.flatten(0, 1)).view(size.n_steps, n_envs, -1)
                loss = loss + head(lstm(features, (zeros, zeros))[0]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def rsl_rl(size: Size, device: str) -> Callable[[], object]:
    """Return the update of rsl_rl's recurrent PPO with a rollout and one epoch; its LSTM comes before its MLP.

    Raises:
        ImportError: rsl_rl is not installed.
    """
    from rsl_rl.algorithms import PPO  # pyright: ignore[reportMissingImports] - only for this benchmark
    from rsl_rl.models import RNNModel  # pyright: ignore[reportMissingImports]
    from rsl_rl.storage import RolloutStorage  # pyright: ignore[reportMissingImports]
    from tensordict import TensorDict  # pyright: ignore[reportMissingImports]

    env = FreeEnv(size.n_envs, size.end_probability)
    first = TensorDict({"policy": torch.from_numpy(env.reset()).to(device)}, batch_size=[size.n_envs])
    settings = {
        "hidden_dims": list(size.hidden_sizes),
        "rnn_type": "lstm",
        "rnn_hidden_dim": size.lstm_hidden_size,
        "rnn_num_layers": size.lstm_layers,
    }
    gaussian = {"class_name": "rsl_rl.modules.distribution:GaussianDistribution"}
    groups = {"actor": ["policy"], "critic": ["policy"]}
    actor = RNNModel(first, groups, "actor", ACTIONS, distribution_cfg=gaussian, **settings)
    critic = RNNModel(first, groups, "critic", 1, **settings)
    storage = RolloutStorage("rl", size.n_envs, size.n_steps, first, [ACTIONS], device)
    algorithm = PPO(
        actor,
        critic,
        storage,
        num_learning_epochs=1,
        num_mini_batches=size.n_minibatches,
        learning_rate=1e-4,
        schedule="fixed",
        device=device,
    )
    observations = first
    with torch.inference_mode():
        for _ in range(size.n_steps):
            actions = algorithm.act(observations)
            raw, rewards, dones, _ = env.step(actions.cpu().numpy())
            observations = TensorDict({"policy": torch.from_numpy(raw).to(device)}, batch_size=[size.n_envs])
            algorithm.process_env_step(
                observations, torch.from_numpy(rewards).to(device), torch.from_numpy(dones).to(device), {}
            )
        algorithm.compute_returns(observations)
    return algorithm.update


LARGE = Size("large policy", (512, 256, 128), 512, 2, n_envs=64)
SMALL = Size("small policy", (128, 64), 64, 1, n_envs=256)
CPU_SIZES = (LARGE, SMALL, replace(SMALL, n_envs=1024))
STOCK_SIZES = (replace(LARGE, n_minibatches=16), replace(SMALL, n_minibatches=64))
"""Sizes with minibatches of 128 transitions, sb3-contrib's default."""
GPU_SIZES = (replace(LARGE, n_envs=4096),)
