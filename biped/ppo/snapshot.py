"""The state of a learner between updates as plain tensors, enough to continue without any difference."""

import random
from collections import deque
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from torch import Tensor

from biped.ppo.recurrent_ppo import DeviceRecurrentPPO

_EPISODE = ("r", "l")


def learner_state(model: DeviceRecurrentPPO) -> dict[str, Tensor]:
    """Return copies of the next rollout's initial state, of the counters, and of every random generator's state."""
    observations, states = model._last_obs, model._last_lstm_states
    state = {
        **random_state(),
        "guard": torch.tensor([model._undone_in_a_row, model._good_in_a_row], dtype=torch.int64),
        "episodes": torch.tensor(
            [[info[key] for key in _EPISODE] for info in model.ep_info_buffer or ()], dtype=torch.float64
        ),
    }
    groups: dict[str, Any] = observations if isinstance(observations, dict) else {"": observations}
    if all(isinstance(group, Tensor) for group in groups.values()) and isinstance(states, RNNStates):
        # At least one rollout was made.
        state |= {_observed(name): group.clone() for name, group in groups.items()}
        state["episode_starts"] = torch.as_tensor(model._last_episode_starts).clone()
        state |= _lstm("lstm", states)
        if model._mirrored_states is not None:
            state |= _lstm("mirror", model._mirrored_states)
    return state


def restore_learner(model: DeviceRecurrentPPO, state: Mapping[str, Tensor]) -> None:
    """Load the result of `learner_state` into a model whose weights are already restored.

    Raises:
        KeyError, RuntimeError: it belongs to a learner of another kind or size.
    """
    model._undone_in_a_row, model._good_in_a_row = state["guard"].tolist()
    episodes = [dict(zip(_EPISODE, row, strict=True)) for row in state["episodes"].tolist()]
    model.ep_info_buffer = deque(episodes, maxlen=model._stats_window_size)
    model.ep_success_buffer = deque(maxlen=model._stats_window_size)
    if "episode_starts" in state:
        mine = cast("RNNStates", model._last_lstm_states)
        space = model.observation_space
        names = list(space.spaces) if isinstance(space, spaces.Dict) else [""]
        seen = {name: state[_observed(name)].to(model.device) for name in names}
        model._last_obs = cast("Any", seen if isinstance(space, spaces.Dict) else seen[""])
        model._last_episode_starts = cast("Any", state["episode_starts"].to(model.device))
        model._last_lstm_states = _unlstm("lstm", state, mine)
        if model._mirrored_states is not None:
            model._mirrored_states = _unlstm("mirror", state, mine)
    restore_random(state)


def random_state() -> dict[str, Tensor]:
    """Return the states of Python's, numpy's and torch's generators."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = cast("Any", np.random.get_state())
    assert version == 3
    assert kind == "MT19937"
    return {
        "random.python": torch.tensor(words, dtype=torch.int64),
        "random.python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "random.numpy": torch.tensor([*keys.tolist(), position, has_gauss], dtype=torch.int64),
        "random.numpy_gauss": torch.tensor([cached], dtype=torch.float64),
        "random.torch": torch.get_rng_state(),
        **({"random.cuda": torch.cuda.get_rng_state()} if torch.cuda.is_initialized() else {}),
    }


def restore_random(state: Mapping[str, Tensor]) -> None:
    """Restore the generators' states from `random_state`; CUDA's only if both machines have a GPU.

    Raises:
        KeyError, RuntimeError, ValueError: the state is incomplete or invalid.
    """
    gauss = state["random.python_gauss"].tolist()
    random.setstate((3, tuple(state["random.python"].tolist()), gauss[0] if gauss else None))
    *keys, position, has_gauss = state["random.numpy"].tolist()
    cached = state["random.numpy_gauss"].item()
    np.random.set_state(("MT19937", np.array(keys, np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["random.torch"].cpu())
    if torch.cuda.is_available() and "random.cuda" in state:
        torch.cuda.set_rng_state(state["random.cuda"].cpu())


def _observed(group: str) -> str:
    """Return the key of a group's observations; "" stands for ungrouped observations."""
    return f"observations.{group}" if group else "observations"


def _lstm(name: str, states: RNNStates) -> dict[str, Tensor]:
    return {
        f"{name}.{net}.{part}": tensor.clone()
        for net, pair in zip(("actor", "critic"), (states.pi, states.vf), strict=True)
        for part, tensor in zip(("hidden", "cell"), pair, strict=True)
    }


def _unlstm(name: str, state: Mapping[str, Tensor], like: RNNStates) -> RNNStates:
    pairs = [
        tuple(_as(mine, state[f"{name}.{net}.{part}"]) for part, mine in zip(("hidden", "cell"), pair, strict=True))
        for net, pair in zip(("actor", "critic"), (like.pi, like.vf), strict=True)
    ]
    return RNNStates(cast("Any", pairs[0]), cast("Any", pairs[1]))


def _as(mine: Tensor, value: Tensor) -> Tensor:
    if mine.shape != value.shape:
        raise RuntimeError(f"LSTM states of {tuple(value.shape)} are put where {tuple(mine.shape)} belong")
    return value.to(mine, copy=True)
