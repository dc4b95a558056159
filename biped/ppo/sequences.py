"""Episodes in a rollout as blocks of sequences, so that one LSTM call runs over a whole block.

A sequence is a stretch of one environment's steps in which no episode begins after the first step: an LSTM runs over
it without forgetting on the way. A block is a rectangle of sequences, padded at their ends. Where no episode begins
within the rollout there is one block without padding. Where many do, the short sequences get a block of their own, so
that less is padded. (torch's ragged layout, `PackedSequence`, needs no padding at all, but runs step by
step: on a CPU it took three times as long.)
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHORT_SHARE = 1 / 8
"""Share of short sequences from which on a second call of the LSTM costs less than the padding that it saves."""
LENGTHS = 8
"""A block's length is one of so many: torch compiles its LSTM anew for every shape on a CPU."""


@dataclass(frozen=True)
class Block:
    """A rectangle of sequences."""

    length: int
    """Slots of a sequence."""
    count: int
    """Sequences."""


@dataclass(frozen=True)
class Sequences:
    """The steps of some environments of a rollout, laid out in blocks. Arrays on the host.

    A block's slots lie one after the other, time by time (length, count); blocks follow each other.
    """

    blocks: tuple[Block, ...]
    """The long sequences' block, the short ones'; one alone where there is no need for two."""
    slots: NDArray[np.int64]
    """(n_slots,) the step in each slot, as a position in the rollout flattened from (n_steps, n_envs); padding
    repeats the sequence's last step."""
    filled: NDArray[np.int64] | None
    """(n_transitions,) the slots that are not padding; None where none is."""
    envs: NDArray[np.int64]
    """(n_sequences,) environment of each sequence, block by block."""
    continues: NDArray[np.bool_]
    """(n_sequences,) True where the sequence goes on with an episode of the rollout before."""


def cut_at_starts(episode_starts: NDArray[np.bool_], envs: NDArray[np.int64]) -> Sequences:
    """Cut the steps of `envs` at episode starts and lay them out; every step is in one slot that is not padding.

    Args:
        episode_starts: (n_steps, n_envs), True where a step is the first of an episode.
        envs: (n_chosen,) environments to take, all steps of each.
    """
    n_steps, n_envs = episode_starts.shape
    starts = episode_starts[:, envs].T  # environment by environment, as sequences run
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
