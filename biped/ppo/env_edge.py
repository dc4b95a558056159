"""The learner's only interface to environments: tensors on its device in, tensors on its device out.

An environment that works on tensors offers `step_tensor` (`TensorVecEnv`) and is used directly. Any other
Stable-Baselines3 `VecEnv` is converted here, and only here.
"""

import time
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from torch import Tensor

from biped.ppo.buffer import map_observations
from biped.ppo.host_view import HostArray, HostInfos
from biped.ppo.recurrent_pass import Observations

TensorStepReturn = tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]
"""Observations, rewards, terminated, truncated, infos: as `gymnasium.vector.VectorEnv.step`, on tensors."""


class TensorVecEnv(Protocol):
    """The additional method of a `VecEnv` that stays on the device; it resets ended episodes in the same step."""

    def step_tensor(self, actions: Tensor) -> TensorStepReturn:
        """Step with actions (n_envs, ...).

        Infos have `final_obs` (n_envs, ...), read where an episode was truncated, and may have `episode_return` and
        `episode_length` (n_envs,), read where an episode ended. For a style (`biped.ppo.style`) they have `features`,
        (n_envs, 2 × width): what describes each body before and after the step, never of two episodes.
        """
        ...


class Step(NamedTuple):
    """The results of one step of all environments, on the learner's device."""

    observations: Observations
    """(n_envs, ...); the first observation of the new episode where one ended."""
    rewards: Tensor
    """(n_envs,) float32."""
    dones: Tensor
    """(n_envs,) bool: an episode ended."""
    truncated: Tensor | None
    """(n_envs,) bool: the episode was truncated; None if the host knows that none was."""
    final_observations: Observations
    """Last observations of the truncated episodes, (n_envs, ...); None if `truncated` is None."""
    infos: Any
    """The environment's infos: tensors by name, or Stable-Baselines3's list of dictionaries."""
    returned: dict[str, Any]
    """The environment's results under the names and in the form that callbacks expect: numpy arrays, or objects that
    become numpy arrays when read; see `biped.ppo.host_view`."""


class TensorEdge:
    """Steps an environment that works on tensors."""

    def __init__(self, env: VecEnv, device: torch.device, started_s: float) -> None:
        """Use `env.step_tensor`; tensors on other devices are moved to `device`. `started_s` is by `time.time`."""
        self._env, self._device, self._started_s = cast("TensorVecEnv", env), device, started_s

    def step(self, actions: Tensor) -> Step:
        """Step with actions (n_envs, ...)."""
        observations, rewards, terminated, truncated, infos = self._env.step_tensor(actions)
        dones, cut = terminated | truncated, truncated > terminated
        # On the host this check is free, and in most steps it saves a pass of the critic.
        none_cut = cut.device.type == "cpu" and not cut.any()
        returned = {
            "new_obs": map_observations(HostArray, observations),
            "rewards": HostArray(rewards),
            "dones": HostArray(dones),
            "infos": HostInfos(dones, cut, infos, time.time() - self._started_s),
        }
        return Step(
            observations=to_device(observations, self._device),
            rewards=rewards.to(self._device),
            dones=dones.to(self._device),
            truncated=None if none_cut else cut.to(self._device),
            final_observations=None if none_cut else to_device(infos["final_obs"], self._device),
            infos=infos,
            returned=returned,
        )


class HostEdge:
    """Steps any other Stable-Baselines3 `VecEnv`, with conversion to numpy and back."""

    def __init__(self, env: VecEnv, device: torch.device) -> None:
        """Convert the results of `env` to tensors on `device`."""
        self._env, self._device = env, device

    def step(self, actions: Tensor) -> Step:
        """Step with actions (n_envs, ...)."""
        observations, rewards, dones, infos = self._env.step(actions.cpu().numpy())
        cut = [
            index
            for index in np.flatnonzero(dones).tolist()
            if infos[index].get("TimeLimit.truncated", False) and infos[index].get("terminal_observation") is not None
        ]
        truncated = final = None
        if cut:
            mask = np.zeros(len(dones), dtype=bool)
            mask[cut] = True
            truncated = torch.as_tensor(mask, device=self._device)
            last = _with_rows(observations, cut, [infos[index]["terminal_observation"] for index in cut])
            final = to_device(last, self._device)
        return Step(
            observations=to_device(observations, self._device),
            rewards=torch.as_tensor(rewards, dtype=torch.float32, device=self._device),
            dones=torch.as_tensor(dones, dtype=torch.bool, device=self._device),
            truncated=truncated,
            final_observations=final,
            infos=infos,
            returned={"new_obs": observations, "rewards": rewards, "dones": dones, "infos": infos},
        )


class EndedEpisodes:
    """Return and length of the episodes that end in a rollout; kept on the device until the rollout is over."""

    def __init__(self) -> None:
        """Start empty."""
        self._steps: list[Tensor] = []

    def note(self, step: Step) -> None:
        """Keep the episode statistics of a step, if it has any."""
        if "episode_return" in step.infos:
            figures = (step.dones, step.infos["episode_return"], step.infos["episode_length"])
            self._steps.append(torch.stack([figure.to(step.rewards) for figure in figures]))

    def drain(self, at_most: int) -> list[dict[str, Any]]:
        """Return the most recent ended episodes in Stable-Baselines3's form, in one transfer."""
        if not self._steps:
            return []
        done, returns, lengths = torch.stack(self._steps, dim=1).cpu().numpy()
        self._steps.clear()
        ended = zip(returns[done > 0].tolist(), lengths[done > 0].tolist(), strict=True)
        return [{"r": value, "l": int(length)} for value, length in list(ended)[-at_most:]]


def edge_of(env: VecEnv, device: torch.device, started_s: float = 0.0) -> TensorEdge | HostEdge:
    """Return the interface to an environment; a wrapped one is stepped through its wrapper, on numpy.

    Args:
        env: the environments.
        device: the learner's device.
        started_s: start of training, by `time.time`.
    """
    # A wrapper forwards unknown names, including `step_tensor`, which would bypass the wrapper.
    if not isinstance(env, VecEnvWrapper) and hasattr(env, "step_tensor"):
        return TensorEdge(env, device, started_s)
    return HostEdge(env, device)


def to_device(observations: Any, device: torch.device) -> Observations:
    """Convert observations, numpy or tensors, to tensors on `device`."""

    def move(value: Any) -> Tensor:
        return torch.as_tensor(value, device=device)

    return map_observations(move, observations)


def clip_bounds(space: spaces.Space, device: torch.device) -> tuple[Tensor, Tensor] | None:
    """Return the bounds of a box as tensors; None for any other space."""
    if not isinstance(space, spaces.Box):
        return None
    return torch.as_tensor(space.low, device=device), torch.as_tensor(space.high, device=device)


def _with_rows(observations: Any, rows: list[int], values: list[Any]) -> Any:
    """Return a copy of numpy observations with some rows replaced."""
    if isinstance(observations, dict):
        return {key: _with_rows(value, rows, [row[key] for row in values]) for key, value in observations.items()}
    changed = observations.copy()
    changed[rows] = np.stack(values)
    return changed
