"""One pass of a recurrent actor-critic over sequences: one LSTM call per block, and no reads on the host.

sb3-contrib's policies run their LSTM through `_process_sequence`, which reads its arguments on the host to choose
between one call and a loop over steps. The functions here use the same modules, in the same order, on sequences
without episode starts inside (`biped.ppo.sequences`), so nothing has to be read. They serve a step of a rollout
(sequences of one step), a minibatch, and any `RecurrentActorCriticPolicy`; anything else that a policy's own `forward`
or `evaluate_actions` does is not run.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.preprocessing import preprocess_obs
from torch import Tensor, nn

from biped.ppo.precision import Precision, autocast, run_lstm
from biped.ppo.sequences import Block

LstmState = tuple[Tensor, ...]
"""Hidden and cell state, (layers, n_sequences, lstm_hidden_size) each."""

Observations = Any
"""A tensor (n, ...), or a dictionary of such tensors."""


def evaluate_actor(
    policy: RecurrentActorCriticPolicy,
    observations: Observations,
    blocks: Sequence[Block],
    state: LstmState,
    precision: Precision = "fp32",
) -> tuple[Distribution, LstmState, Tensor | None]:
    """Run the actor over blocks of sequences.

    Args:
        policy: the networks.
        observations: (n_slots, ...), in the order of slots of `biped.ppo.sequences.Sequences`.
        blocks: how the slots form sequences.
        state: the actor's LSTM state at the start of the sequences.
        precision: precision of the network up to its head.

    Returns:
        The action distribution per slot, the state after each block's last step, and the estimator's predictions per
        slot, (n_slots, n_estimates); None if the policy has no `biped.ppo.estimator`.
    """
    with autocast(policy.device, precision):
        features = policy.pi_features_extractor(_prepared(policy, observations))
        latent, state = _run_lstm(policy, policy.lstm_actor, features, blocks, state, precision)
    estimator = getattr(policy, "estimator", None)
    estimates = None if estimator is None else estimator(latent.float())
    return _distribution(policy, latent, precision), state, estimates


def evaluate_critic(
    policy: RecurrentActorCriticPolicy,
    observations: Observations,
    blocks: Sequence[Block],
    state: LstmState,
    precision: Precision = "fp32",
) -> tuple[Tensor, LstmState]:
    """Run the critic over blocks of sequences and return values (n_slots,); otherwise like `evaluate_actor`."""
    with autocast(policy.device, precision):
        features = policy.vf_features_extractor(_prepared(policy, observations))
        latent, state = _critic_latent(policy, features, blocks, state, precision)
    return _values(policy, latent, precision), state


def evaluate_sequences(
    policy: RecurrentActorCriticPolicy,
    observations: Observations,
    blocks: Sequence[Block],
    states: RNNStates,
    precision: Precision = "fp32",
) -> tuple[Distribution, Tensor, RNNStates]:
    """Run actor and critic, with shared parts run once; see `evaluate_actor` and `evaluate_critic`."""
    latent_pi, latent_vf, after = _latents(policy, observations, blocks, states, precision)
    return _distribution(policy, latent_pi, precision), _values(policy, latent_vf, precision), after


def advance_states(
    policy: RecurrentActorCriticPolicy,
    observations: Observations,
    blocks: Sequence[Block],
    states: RNNStates,
    precision: Precision = "fp32",
) -> RNNStates:
    """Return the LSTM states of actor and critic after the last steps, without what their heads would say."""
    return _latents(policy, observations, blocks, states, precision)[2]


def _latents(
    policy: RecurrentActorCriticPolicy,
    observations: Observations,
    blocks: Sequence[Block],
    states: RNNStates,
    precision: Precision,
) -> tuple[Tensor, Tensor, RNNStates]:
    """Return the LSTMs' outputs of actor and critic, (n_slots, lstm_hidden_size) each, and their states after that."""
    with autocast(policy.device, precision):
        prepared = _prepared(policy, observations)
        pi_features = policy.pi_features_extractor(prepared)
        shared = policy.share_features_extractor
        vf_features = pi_features if shared else policy.vf_features_extractor(prepared)
        latent_pi, pi_state = _run_lstm(policy, policy.lstm_actor, pi_features, blocks, states.pi, precision)
        if policy.shared_lstm:
            latent_vf, vf_state = latent_pi.detach(), pi_state
        else:
            latent_vf, vf_state = _critic_latent(policy, vf_features, blocks, states.vf, precision)
    return latent_pi, latent_vf, RNNStates(pi_state, vf_state)


def are_independent(policy: RecurrentActorCriticPolicy) -> bool:
    """Return whether actor and critic share no parameter, so that their gradients are two separate graphs."""
    return policy.lstm_critic is not None and not policy.share_features_extractor


def single_steps(count: int) -> tuple[Block]:
    """Return the block layout of `count` sequences of one step each."""
    return (Block(1, count),)


def forget_where(mask: Tensor, states: RNNStates) -> RNNStates:
    """Return states that are zero where `mask` (n_sequences,) is True, even if they were not finite."""
    column = mask[:, None]

    def cleared(state: LstmState) -> LstmState:
        return state[0].masked_fill(column, 0.0), state[1].masked_fill(column, 0.0)

    return RNNStates(cleared(states.pi), cleared(states.vf))


def without_non_finite(states: RNNStates) -> RNNStates:
    """Return states that are zero for each sequence with a non-finite value."""
    tensors = (*states.pi, *states.vf)
    return forget_where(~torch.stack([t.isfinite().all(dim=2).all(dim=0) for t in tensors]).all(dim=0), states)


@contextmanager
def unchecked_distributions() -> Iterator[None]:
    """Disable torch's check of distributions' arguments, which reads each of them on the host."""
    checked = torch.distributions.Distribution._validate_args
    torch.distributions.Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        torch.distributions.Distribution.set_default_validate_args(checked)


@contextmanager
def single_precision() -> Iterator[None]:
    """Make modules in float32, whatever torch's default is, because Stable-Baselines3 relies on the default."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _critic_latent(
    policy: RecurrentActorCriticPolicy,
    features: Tensor,
    blocks: Sequence[Block],
    state: LstmState,
    precision: Precision,
) -> tuple[Tensor, LstmState]:
    if policy.lstm_critic is not None:
        return _run_lstm(policy, policy.lstm_critic, features, blocks, state, precision)
    if policy.shared_lstm:
        latent, state = _run_lstm(policy, policy.lstm_actor, features, blocks, state, precision)
        return latent.detach(), state
    assert policy.critic is not None
    return policy.critic(features), state


def _distribution(policy: RecurrentActorCriticPolicy, latent: Tensor, precision: Precision) -> Distribution:
    with autocast(policy.device, precision):
        latent = policy.mlp_extractor.forward_actor(latent)
    return policy._get_action_dist_from_latent(latent.float())


def _values(policy: RecurrentActorCriticPolicy, latent: Tensor, precision: Precision) -> Tensor:
    with autocast(policy.device, precision):
        latent = policy.mlp_extractor.forward_critic(latent)
    return policy.value_net(latent.float()).flatten()


def _prepared(policy: RecurrentActorCriticPolicy, observations: Observations) -> Observations:
    if isinstance(policy.observation_space, spaces.Dict) and not isinstance(observations, dict):
        return observations.float()  # only the actor's group, as on a robot
    return preprocess_obs(observations, policy.observation_space, normalize_images=policy.normalize_images)


def without_memory(
    features: Tensor, lstm: nn.LSTM, state: LstmState, precision: Precision = "fp32"
) -> tuple[Tensor, LstmState]:
    """Run an LSTM over features (n, lstm.input_size), each as an episode's first step: a feed-forward layer.

    `state` is not used. It is returned if the features are not one step of n sequences, for which the state is known.
    """
    output, last = run_lstm(lstm, features[None], None, precision)
    return output[0], last if len(features) == state[0].shape[1] else state


def _run_lstm(
    policy: RecurrentActorCriticPolicy,
    lstm: nn.LSTM,
    features: Tensor,
    blocks: Sequence[Block],
    state: LstmState,
    precision: Precision,
) -> tuple[Tensor, LstmState]:
    if not getattr(policy, "remembers", True):
        return without_memory(features, lstm, state, precision)
    if len(blocks) == 1:
        rectangle = features.view(blocks[0].length, blocks[0].count, lstm.input_size)
        output, state = run_lstm(lstm, rectangle, (state[0], state[1]), precision)
        return output.flatten(0, 1), state
    outputs, hidden, cell = [], [], []
    counts = [block.count for block in blocks]
    parts = features.split([block.length * block.count for block in blocks])
    initials = zip(state[0].split(counts, dim=1), state[1].split(counts, dim=1), strict=True)
    for block, part, (h, c) in zip(blocks, parts, initials, strict=True):
        rectangle = part.view(block.length, block.count, lstm.input_size)
        output, (h, c) = run_lstm(lstm, rectangle, (h.contiguous(), c.contiguous()), precision)
        outputs.append(output.flatten(0, 1))
        hidden.append(h)
        cell.append(c)
    return torch.cat(outputs), (torch.cat(hidden, dim=1), torch.cat(cell, dim=1))
