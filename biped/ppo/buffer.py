"""The rollout buffer: device tensors, one LSTM state per environment, and minibatches of whole environments."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.preprocessing import get_action_dim, get_obs_shape
from torch import Tensor

from biped.ppo.mirror import Mirror, Reflection
from biped.ppo.recurrent_pass import LstmState, Observations
from biped.ppo.sequences import Block, cut_at_starts

_TORCH_DTYPES = {name: getattr(torch, name) for name in ("uint8", "int8", "int16", "int32", "int64")}


def generalised_advantages(
    rewards: Tensor,
    values: Tensor,
    episode_starts: Tensor,
    last_values: Tensor,
    last_dones: Tensor,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """Return advantages (n_steps, n_envs): Schulman et al. 2016, "High-dimensional continuous control", equation 16.

    Args:
        rewards: (n_steps, n_envs); the value lost to a time-out is already added to the episode's last reward.
        values: (n_steps, n_envs), of the observations at each step.
        episode_starts: (n_steps, n_envs), True where an episode starts.
        last_values: (n_envs,), of the observations after the last step.
        last_dones: (n_envs,), True if an episode ended with the last step.
        gamma: the discount factor.
        gae_lambda: lambda of generalised advantage estimation.
    """
    ends = torch.cat((episode_starts[1:], last_dones[None])).to(rewards.dtype)
    next_values = torch.cat((values[1:], last_values[None]))
    errors = rewards + gamma * (1.0 - ends) * next_values - values
    decays = gamma * gae_lambda * (1.0 - ends)
    advantages = torch.empty_like(rewards)
    advantage = torch.zeros_like(last_values)
    for step in reversed(range(len(rewards))):
        advantage = errors[step] + decays[step] * advantage
        advantages[step] = advantage
    return advantages


@dataclass(frozen=True)
class Minibatch:
    """All steps of some environments: (n_slots, ...) with padding, or (n_transitions, ...) without."""

    observations: Observations
    """Observations at each step, (n_slots, ...)."""
    actions: Tensor
    """Actions before clipping, (n_slots, ...); for a box flattened, (n_slots, action_width)."""
    old_values: Tensor
    """Values during the rollout, (n_transitions,)."""
    old_log_prob: Tensor
    """Log-probabilities of the actions during the rollout, (n_transitions,)."""
    old_means: Tensor | None
    """Means of the Gaussian during the rollout, (n_transitions, action_width); never mirrored."""
    advantages: Tensor
    """Generalised advantages, (n_transitions,)."""
    returns: Tensor
    """Advantages plus old values, (n_transitions,)."""
    blocks: tuple[Block, ...]
    """How the slots form sequences."""
    filled: Tensor | None
    """Indices of the slots that are not padding, (n_transitions,); None without padding."""
    states: RNNStates
    """LSTM states at the start of the sequences."""
    weights: Tensor | None = None
    """Weights of the transitions in a divergence, (n_transitions,), of sum 1: 0 for mirrored ones, equal for others, or
    for all of them if all are mirrored; None: nothing is mirrored."""

    def without_padding(self, values: Tensor) -> Tensor:
        """Return the rows (n_transitions, ...) of `values` (n_slots, ...) that are not padding."""
        return values if self.filled is None else values.index_select(0, self.filled)


class _Both(NamedTuple):
    """A rollout as it was, and its mirror image if there is a mirror."""

    observations: Observations
    """(n_steps × n_envs, ...) of the rollout, then as many of its mirror image."""
    actions: Tensor
    """Like the observations."""
    states: RNNStates
    """LSTM states at the start, (layers, ..., lstm_hidden_size): of each environment, of its image, and zeros."""


class DeviceRolloutBuffer:
    """A rollout: (n_steps, n_envs, ...) tensors, and the LSTM states at its start.

    Uses Stable-Baselines3's names: `observations`, `actions`, `rewards`, `values`, `log_probs`, `episode_starts`, and
    after `compute_returns_and_advantage` also `advantages` and `returns`.
    """

    def __init__(
        self,
        n_steps: int,
        n_envs: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: torch.device,
        *,
        keep_means: bool = False,
        mirror: Mirror | None = None,
    ) -> None:
        """Allocate the tensors.

        Args:
            n_steps: steps per environment.
            n_envs: number of environments.
            observation_space: space of one environment; a dictionary of spaces makes a dictionary of tensors.
            action_space: space of one environment.
            device: device of the tensors.
            keep_means: also keep the Gaussian's means, for an exact KL divergence.
            mirror: a symmetry of the task; a random half of each epoch's sequences is mirrored.

        Raises:
            ValueError: `mirror` is given, but observations or actions are not vectors of numbers.
        """
        self.buffer_size, self.n_envs, self.device, self.mirror = n_steps, n_envs, device, mirror
        if mirror is not None:
            _check_mirror(mirror, observation_space, action_space)

        def zeros(shape: tuple[int, ...] = (), dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(n_steps, n_envs, *shape, dtype=dtype, device=device)

        shapes = get_obs_shape(observation_space)
        if isinstance(shapes, dict):
            assert isinstance(observation_space, spaces.Dict)
            self.observations: Observations = {
                key: zeros(shape, _dtype(observation_space[key])) for key, shape in shapes.items()
            }
        else:
            self.observations = zeros(shapes, _dtype(observation_space))
        # As in stock, actions of a box are flattened, like those of the distributions.
        box = isinstance(action_space, spaces.Box)
        action_shape = (get_action_dim(action_space),) if box else action_space.shape or ()
        whole = isinstance(action_space, spaces.Discrete | spaces.MultiDiscrete)
        self.actions = zeros(action_shape, torch.int64 if whole else torch.float32)
        self.means = zeros(action_shape) if keep_means else None
        self.rewards = zeros()
        # One tensor, of which a minibatch takes its columns at once.
        self._figures = torch.zeros(4, n_steps, n_envs, dtype=torch.float32, device=device)
        self.values, self.log_probs, self.advantages, self.returns = self._figures
        self.episode_starts = zeros(dtype=torch.bool)
        self.initial_states: RNNStates | None = None
        self.mirrored_states: RNNStates | None = None
        self.log_std: Tensor | None = None
        self.pos, self.full = 0, False
        self._starts_on_host: np.ndarray | None = None
        self._both: _Both | None = None

    @property
    def n_bytes(self) -> int:
        """Size of all tensors in bytes, including the LSTM states."""
        tensors: list[Tensor | None] = [*leaves(self.observations), self.actions, self.means, self.episode_starts]
        tensors += [self.rewards, self.values, self.log_probs, self.advantages, self.returns]
        for states in (self.initial_states, self.mirrored_states):
            tensors += [] if states is None else [*states.pi, *states.vf]
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)

    def begin(self, states: RNNStates, log_std: Tensor | None = None, mirrored_states: RNNStates | None = None) -> None:
        """Begin a rollout, overwriting the previous one.

        Args:
            states: LSTM states at its start, (layers, n_envs, lstm_hidden_size) each; copied.
            log_std: log standard deviations (action_width,) of the acting Gaussian; copied.
            mirrored_states: LSTM states after the mirror image of everything so far; copied.
        """
        self.pos, self.full, self._starts_on_host, self._both = 0, False, None, None
        self.log_std = None if log_std is None else log_std.detach().clone()
        self.initial_states = _copied(states)
        self.mirrored_states = None if mirrored_states is None else _copied(mirrored_states)

    def add(
        self,
        observations: Observations,
        actions: Tensor,
        rewards: Tensor,
        episode_starts: Tensor,
        values: Tensor,
        log_probs: Tensor,
        means: Tensor | None = None,
    ) -> None:
        """Store one step: (n_envs, ...) each."""
        stored = [*leaves(self.observations), self.actions, self.rewards, self.values, self.log_probs]
        targets = [tensor[self.pos] for tensor in stored]
        step = [*leaves(observations), actions, rewards, values, log_probs]
        sources = [source.reshape(target.shape) for target, source in zip(targets, step, strict=True)]
        if self.means is not None and means is not None:
            targets, sources = [*targets, self.means[self.pos]], [*sources, means]
        # One kernel on a GPU, where all are of one type.
        torch._foreach_copy_(targets, sources)  # pyright: ignore[reportPrivateImportUsage]
        self.episode_starts[self.pos].copy_(episode_starts)
        self.pos += 1
        self.full = self.pos == self.buffer_size

    def compute_returns_and_advantage(
        self, last_values: Tensor, last_dones: Tensor, gamma: float, gae_lambda: float
    ) -> None:
        """Fill `advantages` and `returns`; see `generalised_advantages`."""
        self.advantages.copy_(
            generalised_advantages(
                self.rewards, self.values, self.episode_starts, last_values, last_dones, gamma, gae_lambda
            )
        )
        torch.add(self.advantages, self.values, out=self.returns)

    def minibatches(self, count: int) -> Iterator[Minibatch]:
        """Yield every environment once in random order, in at most `count` minibatches of at least one environment.

        The first call after a rollout reads the episode starts to the host once. Nothing else is read.
        """
        assert self.full and self.initial_states is not None, "the rollout is not complete"
        if self._starts_on_host is None:
            self._starts_on_host = self.episode_starts.cpu().numpy()
        # Stock also draws from numpy's generator here, so a seed gives the same action noise in both.
        order = np.random.permutation(self.n_envs)
        in_mirror = None if self.mirror is None else _random_half(self.n_envs)
        if self.mirrored_states is None:
            in_mirror = None
        if self._both is None:
            self._both = self._both_sides()
        for envs in np.array_split(order, min(count, self.n_envs)):
            yield self._minibatch(np.sort(envs), in_mirror)

    def _both_sides(self) -> "_Both":
        """Return what minibatches are taken from; the mirror image is made once per rollout."""
        assert self.initial_states is not None
        observations = map_observations(lambda tensor: tensor.flatten(0, 1), self.observations)
        actions, sides = self.actions.flatten(0, 1), [self.initial_states]
        if self.mirror is not None and self.mirrored_states is not None:
            image = self.mirror.see(observations)
            observations = _joined(observations, image)
            actions = torch.cat((actions, self.mirror.actions(actions)))
            sides.append(self.mirrored_states)

        def side_by_side(states: list[LstmState]) -> LstmState:
            pairs = zip(*states, strict=True)
            return tuple(torch.cat((*parts, torch.zeros_like(parts[0][:, :1])), dim=1) for parts in pairs)

        states = RNNStates(side_by_side([side.pi for side in sides]), side_by_side([side.vf for side in sides]))
        return _Both(observations, actions, states)

    def _minibatch(self, envs: np.ndarray, in_mirror: np.ndarray | None) -> Minibatch:
        assert self._starts_on_host is not None and self._both is not None
        sequences = cut_at_starts(self._starts_on_host, envs)
        slots, rows, filled = sequences.slots, sequences.envs, sequences.filled
        steps, weights = slots if filled is None else slots[filled], None
        if in_mirror is not None:
            weights = self._upload(_equal_weights(~in_mirror[steps % self.n_envs]))
            slots = slots + in_mirror[slots % self.n_envs] * self.episode_starts.numel()
            rows = rows + in_mirror[rows] * self.n_envs
        # The last state is zero: that of an episode's start.
        rows = np.where(sequences.continues, rows, self._both.states.pi[0].shape[1] - 1)
        indices = (slots, steps, rows, *([] if filled is None else [filled]))
        at_slots, at_steps, at_rows, *at_filled = self._upload(np.concatenate(indices)).split(list(map(len, indices)))

        def of_rows(state: LstmState) -> LstmState:
            return tuple(part.index_select(1, at_rows) for part in state)

        values, log_probs, advantages, returns = self._figures.flatten(1).index_select(1, at_steps)
        return Minibatch(
            observations=map_observations(lambda tensor: tensor.index_select(0, at_slots), self._both.observations),
            actions=self._both.actions.index_select(0, at_slots),
            old_values=values,
            old_log_prob=log_probs,
            old_means=None if self.means is None else self.means.flatten(0, 1).index_select(0, at_steps),
            advantages=advantages,
            returns=returns,
            blocks=sequences.blocks,
            filled=at_filled[0] if at_filled else None,
            states=RNNStates(of_rows(self._both.states.pi), of_rows(self._both.states.vf)),
            weights=weights,
        )

    def _upload(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":
            # From pinned memory the copy is queued like a kernel; from other memory the host would wait for the device.
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)


def map_observations(function: Callable[[Any], Any], observations: Observations) -> Observations:
    """Apply a function to an observation, or to each entry of a dictionary of them."""
    if isinstance(observations, dict):
        return {key: function(value) for key, value in observations.items()}
    return function(observations)


def _random_half(count: int) -> np.ndarray:
    """Return a random mask (count,) with half of its entries True; for an odd count, which half is larger is random."""
    return (np.random.permutation(count) + np.random.randint(2)) % 2 == 0


def _copied(states: RNNStates) -> RNNStates:
    return RNNStates((states.pi[0].clone(), states.pi[1].clone()), (states.vf[0].clone(), states.vf[1].clone()))


def _joined(first: Observations, second: Observations) -> Observations:
    """Return the rows of two observations, or of each group of them, one after the other."""
    if isinstance(first, dict):
        return {name: torch.cat((group, second[name])) for name, group in first.items()}
    return torch.cat((first, second))


def _equal_weights(chosen: np.ndarray) -> np.ndarray:
    """Return equal weights of sum 1 where `chosen` (n,) is True, else 0; with nothing chosen, of everything."""
    count = np.count_nonzero(chosen)
    share = np.float32(1.0 / (count or chosen.size))
    return np.where(chosen, share, np.float32(0.0)) if count else np.full(chosen.size, share)


def _check_mirror(mirror: Mirror, observation_space: spaces.Space, action_space: spaces.Space) -> None:
    pairs: list[tuple[str, spaces.Space, Reflection | None]] = []
    if isinstance(mirror.observations, Reflection):
        pairs += [("observations", observation_space, mirror.observations)]
    else:
        groups = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {"": observation_space}
        of_group = mirror.observations
        pairs += [(f"observations {name}".strip(), space, of_group.get(name)) for name, space in groups.items()]
    pairs += [("actions", action_space, mirror.actions)]
    for what, space, reflection in pairs:
        width = 0 if reflection is None else len(reflection.index)
        fits = isinstance(space, spaces.Box) and np.prod(space.shape) == width
        if not fits or (what != "actions" and space.shape != (width,)):
            axes = "boxes" if what == "actions" else "vectors"
            raise ValueError(f"mirror: {what} must be {axes} of {width} numbers, but are {space}")


def leaves(observations: Observations) -> list[Tensor]:
    """Return the tensors of an observation, in an order that does not depend on that of a dictionary."""
    # Sorted by key: an environment may order its entries differently from its space.
    return [observations[key] for key in sorted(observations)] if isinstance(observations, dict) else [observations]


def _dtype(space: spaces.Space) -> torch.dtype:
    return _TORCH_DTYPES.get(str(space.dtype), torch.float32)
