"""A policy for inference: deterministic, on tensors, with the LSTM's state kept between calls."""

import torch
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from torch import Tensor

from biped.ppo.precision import Precision
from biped.ppo.recurrent_pass import (
    LstmState,
    Observations,
    evaluate_actor,
    single_steps,
    unchecked_distributions,
)


class DeterministicActor:
    """Returns the most likely action of a recurrent policy at every step, for a batch of environments."""

    def __init__(self, policy: RecurrentActorCriticPolicy, n_envs: int, precision: Precision) -> None:
        """Start with a zero LSTM state; each call uses the current weights of `policy`."""
        self._policy, self._n_envs = policy, n_envs
        self._precision: Precision = precision
        self.estimates: Tensor | None = None
        """The estimator's predictions at the last step, (n_envs, n_estimates); None without an estimator."""
        lstm = policy.lstm_actor
        self._state: LstmState = tuple(
            torch.zeros(lstm.num_layers, n_envs, lstm.hidden_size, device=policy.device, dtype=torch.float32)
            for _ in range(2)
        )

    @property
    def state(self) -> LstmState:
        """Hidden and cell state after the last step, (layers, n_envs, lstm_hidden_size) each."""
        return self._state

    @torch.no_grad()
    def __call__(self, observations: Observations, episode_starts: Tensor) -> Tensor:
        """Return the actions (n_envs, ...) for one step.

        Args:
            observations: observations, (n_envs, ...), on the policy's device.
            episode_starts: whether the environment's episode begins with this observation, (n_envs,), bool.
        """
        state = tuple(torch.where(episode_starts[:, None], 0.0, part) for part in self._state)
        with unchecked_distributions():
            distribution, self._state, self.estimates = evaluate_actor(
                self._policy, observations, single_steps(self._n_envs), state, self._precision
            )
            actions = distribution.get_actions(deterministic=True)
            return actions.view(-1, *(self._policy.action_space.shape or ()))
