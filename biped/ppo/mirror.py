"""A symmetry of a task: a transformation of observations and actions that leaves the task unchanged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from torch import Tensor

from biped.ppo.precision import Precision
from biped.ppo.recurrent_pass import (
    Observations,
    advance_states,
    forget_where,
    single_steps,
)


@dataclass(frozen=True)
class Reflection:
    """Permutes and negates entries of vectors; applying it twice is the identity."""

    index: Tensor
    """Source index of each entry, (width,), int64."""
    sign: Tensor
    """Factor on each entry, (width,), 1 or -1."""

    @classmethod
    def build(cls, index: Sequence[int], sign: Sequence[float], device: torch.device) -> "Reflection":
        """Check the rule and make its tensors.

        Raises:
            ValueError: applying it twice is not the identity.
        """
        twice = [index[i] for i in index]
        if twice != list(range(len(index))) or any(sign[i] * sign[index[i]] != 1 for i in range(len(index))):
            raise ValueError("a reflection applied twice must change nothing")
        return cls(
            torch.tensor(index, device=device, dtype=torch.int64),
            torch.tensor(sign, dtype=torch.float32, device=device),
        )

    def __call__(self, vectors: Tensor) -> Tensor:
        """Reflect vectors (n, width)."""
        return vectors.index_select(1, self.index) * self.sign


@dataclass(frozen=True)
class Mirror:
    """The mirror image of a task: after mirrored observations, mirrored actions lead to the same rewards.

    On average the learner uses every sequence mirrored as often as not: the augmentation of Mittal et al. 2024
    (arXiv:2403.04359), but drawn anew in each epoch instead of added, so that an update costs the same. The old
    probability of a mirrored action is that of the original action at the time of the rollout.
    """

    observations: Reflection | Mapping[str, Reflection]
    """Reflection of the observations, or of each group."""
    actions: Reflection
    """Reflection of the actions."""

    def see(self, observations: Observations) -> Observations:
        """Reflect observations (n, width), or each group of them."""
        if isinstance(self.observations, Reflection):
            return self.observations(observations)
        return {name: reflect(observations[name]) for name, reflect in self.observations.items()}


@torch.no_grad()
def advance_mirrored(
    mirror: Mirror,
    policy: RecurrentActorCriticPolicy,
    observations: Observations,
    episode_starts: Tensor,
    states: RNNStates,
    precision: Precision = "fp32",
) -> RNNStates:
    """Return the LSTM states of a policy whose observations so far are all mirrored, after one step more.

    Args:
        mirror: the symmetry.
        policy: the networks.
        observations: the original observations (n_envs, width), or groups of them.
        episode_starts: (n_envs,), bool.
        states: the states before the step, (layers, n_envs, lstm_hidden_size) each.
        precision: precision of the networks.
    """
    before = forget_where(episode_starts, states)
    step = single_steps(len(episode_starts))
    return advance_states(policy, mirror.see(observations), step, before, precision)
