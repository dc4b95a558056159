"""Episodes in a rollout, arranged in blocks of sequences so that one LSTM call runs a whole block.

A sequence is a stretch of one environment's steps in which no episode begins after the first step, so an LSTM runs over
it without clearing its state. A block is a rectangle of sequences, padded at their ends. If no episode begins within
the rollout, there is one block without padding. If many do, the short sequences get their own block, which reduces
padding. (torch's ragged layout, `PackedSequence`, needs no padding, but runs step by step: on a CPU it took three
times as long.)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHORT_SHARE = 1 / 8
"""Share of short sequences from which a second LSTM call costs less than the padding that it saves."""
LENGTHS = 8
"""Number of different block lengths, kept small because on a CPU torch compiles its LSTM for every shape."""


@dataclass(frozen=True)
class Block:
    """A rectangle of sequences."""

    length: int
    """Slots per sequence."""
    count: int
    """Number of sequences."""


@dataclass(frozen=True)
class Sequences:
    """The steps of some environments of a rollout, arranged in blocks. Arrays on the host.

    The slots of a block are ordered by time (length, count); blocks follow each other.
    """

    blocks: tuple[Block, ...]
    """The block of long sequences, then that of short ones; or one block for all."""
    slots: NDArray[np.int64]
    """(n_slots,) step in each slot, as an index into the rollout flattened from (n_steps, n_envs); padding repeats the
    sequence's last step."""
    filled: NDArray[np.int64] | None
    """(n_transitions,) indices of the slots that are not padding; None without padding."""
    envs: NDArray[np.int64]
    """(n_sequences,) environment of each sequence, block by block."""
    continues: NDArray[np.bool_]
    """(n_sequences,) True where the sequence continues an episode of the previous rollout."""


def cut_at_starts(episode_starts: NDArray[np.bool_], envs: NDArray[np.int64]) -> Sequences:
    """Cut the steps of `envs` at episode starts and arrange them; every step fills exactly one slot.

    Args:
        episode_starts: (n_steps, n_envs), True where an episode starts.
        envs: (n_chosen,) environments to use, with all their steps.
    """
    n_steps, n_envs = episode_starts.shape
    starts = episode_starts[:, envs].T  # grouped by environment, like the sequences
    begins = starts.copy()
    begins[:, 0] = True
    firsts = np.flatnonzero(begins)
    lengths = np.diff(firsts, append=begins.size)
    is_short = 2 * lengths <= n_steps
    everything = np.arange(lengths.size)
    apart = is_short.mean() >= SHORT_SHARE and not is_short.all()
    members = [everything[~is_short], everything[is_short]] if apart else [everything]

    blocks, slots, filled = [], [], []
    unit = max(1, n_steps // LENGTHS)
    for sequences in members:
        length = min(n_steps, -(-int(lengths[sequences].max()) // unit) * unit)
        time = np.arange(length)[:, None]
        env, first_step = np.divmod(firsts[sequences], n_steps)
        step = first_step + np.minimum(time, lengths[sequences] - 1)
        blocks.append(Block(length, sequences.size))
        slots.append((step * n_envs + envs[env]).ravel())
        filled.append((time < lengths[sequences]).ravel())
    order = np.concatenate(members)
    is_filled = np.concatenate(filled)
    return Sequences(
        blocks=tuple(blocks),
        slots=np.concatenate(slots),
        filled=None if is_filled.all() else np.flatnonzero(is_filled),
        envs=envs[firsts[order] // n_steps],
        continues=((firsts % n_steps == 0) & ~starts.ravel()[firsts])[order],
    )
