"""Sums over episodes, kept on the device and read once per rollout."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from biped.mdp.terminations import Terminations

CAUSES = ("height", "tilt", "error", "time_out")
"""Fields of `Terminations` that are counted."""
_COUNTED = ("reward", "moving", "progress", "episodes", "return", "length", *CAUSES)


@dataclass(frozen=True)
class EpisodeSummary:
    """Statistics since the previous summary; means are NaN if no episode ended."""

    episodes: int
    """Number of episodes that ended."""
    mean_return: float
    """Mean sum of rewards per episode."""
    max_return: float
    """Largest sum of rewards in an episode."""
    mean_length: float
    """Mean number of control steps per episode."""
    reward_rates: dict[str, float]
    """Mean rate of each reward term per second, over all steps of ended and running episodes."""
    reward_per_step: float
    """Mean reward per control step."""
    progress: float
    """Mean share of the commanded velocity that was achieved, over commands to move; NaN if there were none."""
    errors: int
    """Number of episodes that ended because the physics failed."""
    causes: dict[str, float]
    """Share of the ended episodes by cause: height, tilt, error, time_out."""


class EpisodeStats:
    """Accumulates statistics in tensors; the host reads nothing before `drain`."""

    def __init__(self, num_envs: int, term_names: Sequence[str], dt_s: float, device: torch.device) -> None:
        """Start with empty sums; `term_names` names the columns of the shares that `add` takes."""
        self._term_names = tuple(term_names)
        self._dt_s = dt_s
        self.episode_return = torch.zeros(num_envs, device=device, dtype=torch.float32)
        """Sum of rewards so far in each running episode, (num_envs,)."""
        self.episode_length = torch.zeros(num_envs, device=device, dtype=torch.float32)
        """Control steps so far in each running episode, (num_envs,)."""
        self._steps = 0
        self._sums = torch.zeros(len(_COUNTED) + len(self._term_names), device=device, dtype=torch.float32)
        self._max_return = torch.full((), -torch.inf, device=device, dtype=torch.float32)

    def add(
        self, rewards: Tensor, shares: Tensor, progress: Tensor, moving: Tensor, ends: Terminations
    ) -> tuple[Tensor, Tensor]:
        """Add one control step.

        Args:
            rewards: (num_envs,).
            shares: each term's part of the rewards, (num_envs, num_terms).
            progress: share of the commanded velocity that is achieved, (num_envs,); counted where `moving`.
            moving: whether the command asks for motion, (num_envs,), bool.
            ends: the episodes that ended in this step, and why.

        Returns:
            Return and length of each episode so far, (num_envs,) each, before the ended ones are reset to zero.
        """
        returns = self.episode_return = self.episode_return + rewards
        lengths = self.episode_length = self.episode_length + 1
        done = ends.done
        ended = torch.stack((torch.ones_like(rewards), returns, lengths, *(getattr(ends, c) for c in CAUSES)), dim=1)
        walked = torch.stack((rewards, moving.float(), torch.where(moving, progress, 0.0)), dim=1)
        columns = (walked, torch.where(done[:, None], ended, 0.0), shares)
        self._sums += torch.cat(columns, dim=1).sum(dim=0)
        # In place, so that a CUDA graph of this can be replayed.
        torch.maximum(self._max_return, torch.where(done, returns, -torch.inf).amax(), out=self._max_return)
        self.episode_return = torch.where(done, 0.0, returns)
        self.episode_length = torch.where(done, 0.0, lengths)
        return returns, lengths

    def count(self, steps: int) -> None:
        """Count control steps of robots, all of them together, after `add`."""
        self._steps += steps

    def restart(self) -> None:
        """Restart every episode; the sums collected so far are kept."""
        self.episode_return = torch.zeros_like(self.episode_return)
        self.episode_length = torch.zeros_like(self.episode_length)

    def drain(self) -> EpisodeSummary:
        """Read the sums in one transfer and reset them to zero."""
        *sums, max_return = torch.cat((self._sums, self._max_return[None])).tolist()
        counted = dict(zip(_COUNTED, sums, strict=False))
        terms = dict(zip(self._term_names, sums[len(_COUNTED) :], strict=True))
        episodes, steps = counted["episodes"], max(self._steps, 1)
        summary = EpisodeSummary(
            episodes=int(episodes),
            mean_return=counted["return"] / episodes if episodes else math.nan,
            max_return=max_return if episodes else math.nan,
            mean_length=counted["length"] / episodes if episodes else math.nan,
            reward_rates={name: total / (steps * self._dt_s) for name, total in terms.items()},
            reward_per_step=counted["reward"] / steps,
            progress=counted["progress"] / counted["moving"] if counted["moving"] else math.nan,
            errors=int(counted["error"]),
            causes={cause: counted[cause] / episodes if episodes else 0.0 for cause in CAUSES},
        )
        self._steps = 0
        self._sums.zero_()
        self._max_return.fill_(-torch.inf)
        return summary
