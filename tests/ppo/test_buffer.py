"""The buffer on its own: what goes in comes out once an epoch, where it belongs."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib.common.recurrent.buffers import RecurrentRolloutBuffer
from sb3_contrib.common.recurrent.type_aliases import RNNStates

from biped.ppo.buffer import DeviceRolloutBuffer

N_STEPS, N_ENVS = 6, 7


def filled_buffer(starts: torch.Tensor | None = None) -> DeviceRolloutBuffer:
    """A buffer whose every number says which step of which environment it belongs to: 100 * step + environment."""
    buffer = DeviceRolloutBuffer(
        N_STEPS, N_ENVS, spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,)), torch.device("cpu"), keep_means=True
    )
    label = torch.arange(N_ENVS).float().expand(2, N_ENVS)[:, :, None].repeat(1, 1, 4)
    buffer.begin(RNNStates((label + 1, label + 2), (label + 3, label + 4)))
    for step in range(N_STEPS):
        name = 100.0 * step + torch.arange(N_ENVS)
        start = torch.zeros(N_ENVS, dtype=torch.bool) if starts is None else starts[step]
        buffer.add(name[:, None].repeat(1, 3), name[:, None].repeat(1, 2), name, start, name, name, name[:, None] + 0.5)
    buffer.compute_returns_and_advantage(torch.zeros(N_ENVS), torch.zeros(N_ENVS, dtype=torch.bool), 0.9, 0.9)
    return buffer


@pytest.fixture(params=[0.0, 0.1, 0.5])
def starts(request: pytest.FixtureRequest) -> torch.Tensor:
    return torch.rand(N_STEPS, N_ENVS, generator=torch.Generator().manual_seed(1)) < request.param


@pytest.mark.parametrize("count", [1, 3, 7])
def test_minibatches_cover_every_transition_exactly_once_an_epoch(starts: torch.Tensor, count: int) -> None:
    buffer = filled_buffer(starts)
    for _ in range(3):
        minibatches = list(buffer.minibatches(count))
        names = torch.cat([minibatch.old_values for minibatch in minibatches])
        assert len(minibatches) == count
        torch.testing.assert_close(names.sort().values, buffer.values.flatten().sort().values)


def test_everything_in_a_minibatch_belongs_to_the_same_step(starts: torch.Tensor) -> None:
    buffer = filled_buffer(starts)
    names, targets = buffer.values.flatten().tolist(), (buffer.returns - buffer.advantages).flatten()
    for minibatch in buffer.minibatches(2):
        name = minibatch.old_values
        torch.testing.assert_close(minibatch.without_padding(minibatch.observations), name[:, None].expand(-1, 3))
        torch.testing.assert_close(minibatch.without_padding(minibatch.actions), name[:, None].expand(-1, 2))
        torch.testing.assert_close(minibatch.old_log_prob, name)
        assert minibatch.old_means is not None
        torch.testing.assert_close(minibatch.old_means, (name + 0.5)[:, None].expand(-1, 2))
        torch.testing.assert_close(minibatch.returns - minibatch.advantages, name, atol=1e-3, rtol=1e-4)
        where = torch.tensor([names.index(value) for value in name.tolist()])
        torch.testing.assert_close(minibatch.advantages, buffer.advantages.flatten()[where])
        torch.testing.assert_close(targets[where], name, atol=1e-3, rtol=1e-4)


def test_a_sequence_begins_with_its_environments_state_or_with_none(starts: torch.Tensor) -> None:
    buffer = filled_buffer(starts)
    for minibatch in buffer.minibatches(2):
        first = 0
        column = 0
        for block in minibatch.blocks:
            name = minibatch.observations[first : first + block.count, 0]
            for value in name.tolist():
                step, env = divmod(int(value), 100)
                goes_on = step == 0 and not starts[0, env]
                states = (*minibatch.states.pi, *minibatch.states.vf)
                assert [s[1, column, 2].item() for s in states] == (
                    [env + k for k in (1, 2, 3, 4)] if goes_on else [0] * 4
                )
                column += 1
            first += block.length * block.count


def test_environments_are_mixed_anew_each_epoch() -> None:
    buffer = filled_buffer()
    np.random.seed(0)
    epochs = {tuple(next(buffer.minibatches(2)).old_values[:3].tolist()) for _ in range(10)}
    assert len(epochs) > 3


def test_a_rollout_that_is_not_complete_is_refused() -> None:
    buffer = filled_buffer()
    assert buffer.initial_states is not None
    buffer.begin(buffer.initial_states)
    with pytest.raises(AssertionError, match="not complete"):
        next(buffer.minibatches(1))


def test_a_state_that_changes_later_does_not_change_the_rollouts() -> None:
    buffer = filled_buffer()
    states = RNNStates(*[tuple(torch.ones(1, N_ENVS, 2) for _ in range(2)) for _ in range(2)])
    buffer.begin(states)
    states.pi[0].zero_()
    assert buffer.initial_states is not None
    assert buffer.initial_states.pi[0].all()


@pytest.mark.parametrize(("n_steps", "at_most"), [(32, 1 / 20), (128, 1 / 40)])
def test_the_documents_policy_needs_a_fraction_of_stocks_memory(n_steps: int, at_most: float) -> None:
    """Two layers of 512: stock keeps 16 KiB of states a transition, we keep 16 KiB an environment."""
    spaces_ = spaces.Box(-1, 1, (43,)), spaces.Box(-1, 1, (9,))
    ours = DeviceRolloutBuffer(n_steps, 2, *spaces_, torch.device("cpu"), keep_means=True)
    zeros = torch.zeros(2, 2, 512)
    ours.begin(RNNStates((zeros, zeros), (zeros, zeros)))
    stock = RecurrentRolloutBuffer(n_steps, *spaces_, (n_steps, 2, 2, 512), "cpu", n_envs=2)
    stock_bytes = sum(value.nbytes for value in vars(stock).values() if isinstance(value, np.ndarray))
    assert ours.n_bytes <= at_most * stock_bytes
