"""Tensor environments under the interfaces of other libraries; conversion from and to numpy happens only here."""

import time
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import VectorEnv, VectorWrapper
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn
from torch import Tensor

from biped.env.groups import Arrays, as_numpy, row


def as_actions(actions: Tensor | np.ndarray, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Return actions as a tensor on `device`.

    Raises:
        ValueError: they have another shape.
    """
    actions = torch.as_tensor(actions, dtype=torch.float32, device=device)
    if actions.shape != shape:
        raise ValueError(f"actions are {tuple(actions.shape)}, but must be {tuple(shape)}")
    return actions


class NumpyVectorEnv(VectorWrapper):
    """A tensor environment with numpy inputs and outputs, for gymnasium's wrappers; infos are arrays by name."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Arrays, dict[str, Any]]:
        """Start a new episode in every environment; see the environment's `reset`."""
        observations, infos = self.env.reset(seed=seed, options=options)
        return as_numpy(observations), as_numpy(infos)

    def step(self, actions: np.ndarray) -> tuple[Arrays, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance by one step; see the environment's `step`."""
        observations, rewards, terminated, truncated, infos = map(as_numpy, self.env.step(actions))
        return observations, rewards, terminated, truncated, infos


class StableBaselinesVecEnv(VecEnv):
    """A tensor environment with same-step autoreset, as a Stable-Baselines3 `VecEnv`.

    `env` is the wrapped tensor environment, and `step_tensor` its step, for learners that stay on the device. The
    `info` of an episode that ended has `terminal_observation`, `TimeLimit.truncated` and `episode` (`r` return, `l`
    length, `t` seconds since the start).
    """

    def __init__(self, env: VectorEnv) -> None:
        """Wrap `env`."""
        self.env = env
        self._actions: Tensor | None = None
        self._started_s = time.monotonic()
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self.metadata = {**env.metadata, **self.metadata}

    def reset(self) -> Arrays:  # pyright: ignore[reportIncompatibleMethodOverride] - the parent's type misses a key
        """Start a new episode in every environment, with the seed of the last `seed` call if any; return numpy."""
        observations, _ = self.env.reset(seed=self._seeds[0])
        self._reset_seeds()
        self._reset_options()
        return as_numpy(observations)

    def step_tensor(self, actions: Tensor) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Advance by one step on the device; see the environment's `step`."""
        return self.env.step(actions)

    def step_async(self, actions: np.ndarray) -> None:
        """Store the actions (num_envs, num_joints) of the next step."""
        self._actions = torch.as_tensor(actions, dtype=torch.float32)

    def step_wait(self) -> VecEnvStepReturn:
        """Step, and return observations, rewards, dones and one info dictionary per environment.

        Raises:
            RuntimeError: `step_async` was not called before.
        """
        if self._actions is None:
            raise RuntimeError("step_async must be called before step_wait")
        observations, rewards, terminated, truncated, extra = self.env.step(self._actions)
        self._actions = None
        dones = (terminated | truncated).cpu().numpy()
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if ended := np.flatnonzero(dones).tolist():
            self._describe_ends(infos, ended, truncated, extra)
        return as_numpy(observations), rewards.cpu().numpy(), dones, infos

    def _describe_ends(
        self, infos: list[dict[str, Any]], ended: list[int], truncated: Tensor, extra: dict[str, Any]
    ) -> None:
        elapsed_s = round(time.monotonic() - self._started_s, 6)
        final_obs = as_numpy(extra["final_obs"])
        cut, returns, lengths = (
            values.tolist() for values in (truncated, extra["episode_return"], extra["episode_length"])
        )
        for index in ended:
            infos[index] = {
                "terminal_observation": row(final_obs, index),
                "TimeLimit.truncated": cut[index],
                "episode": {"r": returns[index], "l": int(lengths[index]), "t": elapsed_s},
            }

    def close(self) -> None:
        """Free the simulator."""
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Return the available pictures: a `BipedEnv` has one, of the first robot."""
        return [frame for frame in self.env.render() or () if isinstance(frame, np.ndarray)]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of the batch, once for each requested environment."""
        return [getattr(self.env, attr_name)] * len(self._indices(indices))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the batch.

        Raises:
            ValueError: only some environments are requested, but the batch is one object.
        """
        self._require_whole_batch(indices)
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the batch once, and return its result for each environment.

        Raises:
            ValueError: only some environments are requested, but the batch is one object.
        """
        self._require_whole_batch(indices)
        return [getattr(self.env, method_name)(*method_args, **method_kwargs)] * self.num_envs

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """Return False for each requested environment: no single-environment wrapper is inside."""
        del wrapper_class
        return [False] * len(self._indices(indices))

    def _indices(self, indices: VecEnvIndices) -> Sequence[int]:
        return list(self._get_indices(indices))

    def _require_whole_batch(self, indices: VecEnvIndices) -> None:
        if len(self._indices(indices)) != self.num_envs:
            raise ValueError("the environments are one batch: leave indices out")
