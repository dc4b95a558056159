"""Rollouts cut at episode starts: every step once, in order, and never across a start."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from biped.ppo.sequences import Block, Sequences, cut_at_starts


@st.composite
def rollouts(draw):
    starts = draw(hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
    envs = draw(st.lists(st.integers(0, starts.shape[1] - 1), min_size=1, unique=True))
    return starts, np.array(envs)


def unrolled(sequences: Sequences, n_envs: int) -> list[list[tuple[int, int]]]:
    """Return each sequence as its (step, environment) pairs, padding left out."""
    filled = np.zeros(sequences.slots.size, dtype=bool)
    filled[slice(None) if sequences.filled is None else sequences.filled] = True
    result, first = [], 0
    for block in sequences.blocks:
        end = first + block.length * block.count
        slots, real = (a[first:end].reshape(block.length, block.count).T for a in (sequences.slots, filled))
        result += [[divmod(slot, n_envs) for slot in row[mask].tolist()] for row, mask in zip(slots, real, strict=True)]
        assert all((np.sort(mask)[::-1] == mask).all() for mask in real), "padding comes at the end"
        first = end
    assert first == sequences.slots.size
    return result


@given(rollouts())
def test_every_step_of_every_chosen_environment_is_in_one_slot(rollout) -> None:
    starts, envs = rollout
    steps = [pair for row in unrolled(cut_at_starts(starts, envs), starts.shape[1]) for pair in row]
    assert sorted(steps) == sorted((t, e) for t in range(len(starts)) for e in envs.tolist())


@given(rollouts())
def test_a_sequence_is_one_environments_steps_in_order_and_begins_at_a_start(rollout) -> None:
    starts, envs = rollout
    sequences = cut_at_starts(starts, envs)
    rows = unrolled(sequences, starts.shape[1])
    assert len(rows) == sequences.envs.size == sequences.continues.size
    for row, env, continues in zip(rows, sequences.envs, sequences.continues, strict=True):
        assert {e for _, e in row} == {env}
        assert [t for t, _ in row] == list(range(row[0][0], row[0][0] + len(row)))
        assert not any(starts[t, e] for t, e in row[1:])
        first, _ = row[0]
        assert starts[first, env] or first == 0
        assert continues == (first == 0 and not starts[0, env])


@given(rollouts())
def test_padding_repeats_the_last_step_of_its_own_sequence(rollout) -> None:
    starts, envs = rollout
    sequences = cut_at_starts(starts, envs)
    filled = np.zeros(sequences.slots.size, dtype=bool)
    filled[slice(None) if sequences.filled is None else sequences.filled] = True
    first = 0
    for block in sequences.blocks:
        end = first + block.length * block.count
        for slots, real in zip(
            *(a[first:end].reshape(block.length, -1).T for a in (sequences.slots, filled)), strict=True
        ):
            assert (slots[~real] == slots[real][-1]).all()
        first = end


def test_without_starts_inside_there_is_one_block_and_no_padding() -> None:
    starts = np.zeros((4, 5), dtype=bool)
    starts[0, 2] = True
    sequences = cut_at_starts(starts, np.array([1, 2, 4]))
    assert sequences.blocks == (Block(4, 3),)
    assert sequences.filled is None
    assert sequences.slots.tolist() == [1, 2, 4, 6, 7, 9, 11, 12, 14, 16, 17, 19]
    assert sequences.continues.tolist() == [True, False, True]


def test_a_start_inside_by_hand() -> None:
    starts = np.zeros((4, 2), dtype=bool)
    starts[3, 0] = True
    sequences = cut_at_starts(starts, np.array([0, 1]))
    # Environment 0 comes as steps 0 to 2 and step 3; the short one has a block of its own.
    assert sequences.blocks == (Block(4, 2), Block(1, 1))
    assert sequences.slots.tolist() == [0, 1, 2, 3, 4, 5, 4, 7, 6]
    assert sequences.filled is not None
    assert sequences.filled.tolist() == [0, 1, 2, 3, 4, 5, 7, 8]
    assert sequences.envs.tolist() == [0, 1, 0]
    assert sequences.continues.tolist() == [True, True, False]


def test_a_few_short_sequences_are_padded_rather_than_run_alone() -> None:
    starts = np.zeros((8, 20), dtype=bool)
    starts[6, 0] = True
    assert cut_at_starts(starts, np.arange(20)).blocks == (Block(8, 21),)
    starts[6, :5] = True
    assert cut_at_starts(starts, np.arange(20)).blocks == (Block(8, 20), Block(2, 5))


def test_blocks_are_hardly_longer_than_their_longest_sequence() -> None:
    starts = np.zeros((128, 3), dtype=bool)
    starts[::20] = True
    assert cut_at_starts(starts, np.arange(3)).blocks == (Block(32, 21),)
    starts[20:40:20, 1] = False
    assert cut_at_starts(starts, np.arange(3)).blocks == (Block(48, 20),)
