"""Acting in a rollout: sampled actions with everything that the update needs, and the values lost to time-outs."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.distributions import DiagGaussianDistribution
from torch import Tensor

from biped.ppo.buffer import leaves, map_observations
from biped.ppo.env_edge import Step
from biped.ppo.mirror import Mirror, advance_mirrored
from biped.ppo.precision import Precision
from biped.ppo.recurrent_pass import (
    LstmState,
    Observations,
    evaluate_critic,
    evaluate_sequences,
    forget_where,
    single_steps,
    unchecked_distributions,
)

Graph = Callable[[Callable[..., Any], Sequence[torch.Generator]], Callable[..., Any]]
"""Makes a graph of a function of tensors, and of the generators that it draws from."""
AT_ONCE_BYTES = 512 * 2**20
"""Size of what is kept of cut-off episodes before their values are computed."""
AT_ONCE_ROWS = 2**15
"""Most values that are computed by one call: libraries for GPUs have bounds on the size of a batch."""


class Sample(NamedTuple):
    """One step of a rollout, as the policy acts."""

    actions: Tensor
    """Sampled actions before clipping, (n_envs, ...)."""
    values: Tensor
    """Values of the observations, (n_envs,)."""
    log_probs: Tensor
    """Log-probabilities of the actions, (n_envs,)."""
    means: Tensor | None
    """The Gaussian's means, (n_envs, action_width); None for any other distribution."""
    states: RNNStates
    """LSTM states after the step."""
    mirrored: RNNStates | None
    """LSTM states after the mirror image of everything so far; None without a mirror."""


class Sampler:
    """Samples the actions of a recurrent policy, for a batch of environments."""

    def __init__(
        self,
        policy_now: Callable[[], RecurrentActorCriticPolicy],
        n_envs: int,
        precision: Precision,
        mirror: Mirror | None = None,
    ) -> None:
        """Each call uses the policy that `policy_now` returns; `mirror` is a symmetry of the task."""
        self._policy_now, self._n_envs, self._mirror = policy_now, n_envs, mirror
        self._precision: Precision = precision
        self._sample: Callable[..., Sample] = self._evaluate

    def use_graph(self, graph: Graph) -> None:
        """Run as a graph, made by `graph`; not for gSDE, whose noise is replaced between steps."""
        self._sample = graph(self._evaluate, [])

    def __call__(
        self, observations: Observations, episode_starts: Tensor, states: RNNStates, mirrored: RNNStates | None
    ) -> Sample:
        """Sample actions.

        Args:
            observations: (n_envs, ...), on the policy's device.
            episode_starts: whether the environment's episode begins with this observation, (n_envs,), bool.
            states: LSTM states before the step.
            mirrored: the same after the mirror image of everything so far; None without a mirror.
        """
        return self._sample(observations, episode_starts, states, mirrored)

    @torch.no_grad()
    def _evaluate(
        self, observations: Observations, episode_starts: Tensor, states: RNNStates, mirrored: RNNStates | None
    ) -> Sample:
        policy = self._policy_now()
        with unchecked_distributions():
            distribution, values, after = evaluate_sequences(
                policy,
                observations,
                single_steps(self._n_envs),
                forget_where(episode_starts, states),
                self._precision,
            )
            flat = distribution.get_actions()
            means = distribution.distribution.mean if type(distribution) is DiagGaussianDistribution else None
            actions = flat.view(-1, *(policy.action_space.shape or ()))
            log_probs = distribution.log_prob(flat)
        if self._mirror is not None and mirrored is not None:
            mirrored = advance_mirrored(self._mirror, policy, observations, episode_starts, mirrored, self._precision)
        return Sample(actions, values, log_probs, means, after, mirrored)

    @torch.no_grad()
    def values(self, observations: Observations, state: LstmState) -> Tensor:
        """Return the values (n,) of observations (n, ...), given the critic's LSTM state before them."""
        steps = single_steps(state[0].shape[1])
        return evaluate_critic(self._policy_now(), observations, steps, state, self._precision)[0]


class CutOffs:
    """Adds the value that an episode loses when it is cut off to its last reward: Pardo et al. 2018, equation 6.

    The values of a whole rollout are computed together, or of as many steps as fit into `AT_ONCE_BYTES`. On a CPU only
    those of the episodes that were cut off are.
    """

    def __init__(self, sampler: Sampler, rewards: Tensor, gamma: float) -> None:
        """Add to `rewards`, (n_steps, n_envs), with the discount factor `gamma`."""
        self._sampler, self._rewards, self._gamma = sampler, rewards, gamma
        self._bytes = 0
        self._steps: list[tuple[Tensor, Tensor, Observations, LstmState]] = []

    def note(self, position: int, step: Step, states: RNNStates) -> None:
        """Keep what the values of a step need: the last observations, and the LSTM states before them.

        Args:
            position: the step's row of the rewards, which has its reward already.
            step: the results of the step.
            states: LSTM states before its last observations.
        """
        if step.truncated is None:
            return
        row, cut, state = self._rewards[position], step.truncated, states.vf
        if row.device.type == "cpu":
            cut = cut.nonzero()[:, 0]
            final = map_observations(lambda tensor: tensor.index_select(0, cut), step.final_observations)
            state = tuple(part.index_select(1, cut) for part in state)
        else:
            # An environment may use the memory again in its next step.
            final = map_observations(lambda tensor: tensor.clone(), step.final_observations)
        self._steps.append((row, cut, final, state))
        self._bytes += sum(part.nbytes for part in (*state, *leaves(final)))
        if self._bytes >= AT_ONCE_BYTES:
            self.pay()

    def pay(self) -> None:
        """Add the values of all steps so far."""
        if not self._steps:
            return
        rows, cuts, finals, states = zip(*self._steps, strict=True)
        self._steps, self._bytes = [], 0
        final = _together(finals)
        hidden, cell = (torch.cat([state[part] for state in states], dim=1) for part in range(2))
        values = []
        for first in range(0, hidden.shape[1], AT_ONCE_ROWS):
            some = slice(first, first + AT_ONCE_ROWS)
            state = hidden[:, some].contiguous(), cell[:, some].contiguous()
            values.append(self._sampler.values(map_observations(lambda tensor, some=some: tensor[some], final), state))
        lost = self._gamma * torch.cat(values)
        for row, cut, value in zip(rows, cuts, lost.split([len(cut) for cut in cuts]), strict=True):
            if cut.dtype == torch.bool:
                row.add_(torch.where(cut, value, 0.0))
            else:
                row.index_add_(0, cut, value)


def _together(observations: Sequence[Observations]) -> Observations:
    if isinstance(observations[0], dict):
        return {name: torch.cat([groups[name] for groups in observations]) for name in observations[0]}
    return torch.cat(list(observations))
