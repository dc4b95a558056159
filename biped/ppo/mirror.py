"""A symmetry of a task: a transformation of observations and actions under which nothing changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from torch import Tensor

from biped.ppo.precision import Precision
from biped.ppo.recurrent_pass import (
    Observations,
    evaluate_sequences,
    forget_where,
    single_steps,
    unchecked_distributions,
)


@dataclass(frozen=True)
class Reflection:
    """Swaps and negates entries of vectors; applied twice it changes nothing."""

    index: Tensor
    """Where each entry comes from, (width,), int64."""
    sign: Tensor
    """What it is multiplied by, (width,), 1 or -1."""

    @classmethod
    def build(cls, index: Sequence[int], sign: Sequence[float], device: torch.device) -> "Reflection":
        """Check and upload.

        Raises:
            ValueError: applied twice it would change something.
        """
        twice = [index[i] for i in index]
        if twice != list(range(len(index))) or any(sign[i] * sign[index[i]] != 1 for i in range(len(index))):
            raise ValueError("a reflection applied twice must change nothing")
        return cls(
            torch.tensor(index, device=device, dtype=torch.int64),
            torch.tensor(sign, dtype=torch.float32, device=device),
        )

    def __call__(self, vectors: Tensor) -> Tensor:
        """Reflect (n, width)."""
        return vectors.index_select(1, self.index) * self.sign

    def where(self, chosen: Tensor, vectors: Tensor) -> Tensor:
        """Reflect the rows of (n, width) where `chosen` (n,) is True."""
        return torch.where(chosen[:, None], self(vectors), vectors)


@dataclass(frozen=True)
class Mirror:
    """The mirror image of a task: from mirrored observations mirrored actions lead to the same rewards.

    The learner sees every sequence as often mirrored as not: the augmentation of Mittal et al. 2024
    (arXiv:2403.04359), drawn anew in each epoch rather than added, so that an update costs what it did. The
    probability of a mirrored action at the time of the rollout is that of the action itself, which was drawn with it.
    """

    observations: Reflection | Mapping[str, Reflection]
    """Of the observations; of each group where they come in groups."""
    actions: Reflection
    """Of the actions."""

    def see(self, observations: Observations) -> Observations:
        """Reflect observations (n, width), or each group of them."""
        if isinstance(self.observations, Reflection):
            return self.observations(observations)
        return {name: reflect(observations[name]) for name, reflect in self.observations.items()}

    def see_where(self, chosen: Tensor, observations: Observations) -> Observations:
        """Reflect the rows of observations, or of each group of them, where `chosen` (n,) is True."""
        if isinstance(self.observations, Reflection):
            return self.observations.where(chosen, observations)
        return {name: reflect.where(chosen, observations[name]) for name, reflect in self.observations.items()}


class MirrorMemory:
    """The LSTM states of a policy that has seen everything so far in the mirror."""

    def __init__(self, mirror: Mirror, states: RNNStates) -> None:
        """Begin with `states`, (layers, n_envs, lstm_hidden_size) each."""
        self._mirror, self.states = mirror, states

    @torch.no_grad()
    def see(
        self,
        policy: RecurrentActorCriticPolicy,
        observations: Observations,
        episode_starts: Tensor,
        precision: Precision = "fp32",
    ) -> None:
        """Go on by one step: observations (n_envs, width), or groups of them, episode starts (n_envs,), bool."""
        before = forget_where(episode_starts, self.states)
        step = single_steps(len(episode_starts))
        with unchecked_distributions():
            *_, self.states = evaluate_sequences(policy, self._mirror.see(observations), step, before, precision)
