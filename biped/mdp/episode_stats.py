"""Sums over episodes, kept on the device and read once a rollout."""

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
    """What happened since the summary before; means are NaN when no episode ended."""

    episodes: int
    """Episodes that ended."""
    mean_return: float
    """Mean sum of rewards of an episode."""
    max_return: float
    """Largest sum of rewards of an episode."""
    mean_length: float
    """Mean control steps of an episode."""
    reward_rates: dict[str, float]
    """Mean of each reward term over all steps, ended episodes or not, per second."""
    reward_per_step: float
    """Mean reward of a control step."""
    progress: float
    """Mean share of the commanded velocity that was made good, where motion was asked for; NaN if it never was."""
    errors: int
    """Episodes that ended because the physics failed."""
    causes: dict[str, float]
    """Share of the ended episodes by cause: height, tilt, error, time_out."""


class EpisodeStats:
    """Accumulates tensors; nothing is read by the host before `drain`."""

    def __init__(self, num_envs: int, term_names: Sequence[str], dt_s: float, device: torch.device) -> None:
        """Start with empty sums; `term_names` are the columns of the shares that `add` takes."""
        self._term_names = tuple(term_names)
        self._dt_s = dt_s
        self.episode_return = torch.zeros(num_envs, device=device, dtype=torch.float32)
        """Sum of rewards of the running episodes, (num_envs,)."""
        self.episode_length = torch.zeros(num_envs, device=device, dtype=torch.float32)
        """Control steps of the running episodes, (num_envs,)."""
        self._steps = 0
        self._sums = torch.zeros(len(_COUNTED) + len(self._term_names), device=device, dtype=torch.float32)
        self._max_return = torch.full((), -torch.inf, device=device, dtype=torch.float32)

    def add(
        self, rewards: Tensor, shares: Tensor, progress: Tensor, moving: Tensor, ends: Terminations
    ) -> tuple[Tensor, Tensor]:
        """Count one control step.

        Args:
            rewards: (num_envs,).
            shares: each term's part of the rewards, (num_envs, num_terms).
            progress: share of the commanded velocity that is made good, (num_envs,); counts where `moving`.
            moving: commands that ask for motion, (num_envs,), bool.
            ends: which episodes ended with this step, and why.

        Returns:
            Return and length of each episode up to now, (num_envs,) each, before those that ended start from zero.
        """
        returns = self.episode_return = self.episode_return + rewards
        lengths = self.episode_length = self.episode_length + 1
        done = ends.done
        self._steps += len(rewards)
        ended = torch.stack((torch.ones_like(rewards), returns, lengths, *(getattr(ends, c) for c in CAUSES)), dim=1)
        walked = torch.stack((rewards, moving.float(), torch.where(moving, progress, 0.0)), dim=1)
        columns = (walked, torch.where(done[:, None], ended, 0.0), shares)
        self._sums += torch.cat(columns, dim=1).sum(dim=0)
        self._max_return = torch.maximum(self._max_return, torch.where(done, returns, -torch.inf).amax())
        self.episode_return = torch.where(done, 0.0, returns)
        self.episode_length = torch.where(done, 0.0, lengths)
        return returns, lengths

    def restart(self) -> None:
        """Begin every episode anew; what was counted so far stays."""
        self.episode_return = torch.zeros_like(self.episode_return)
        self.episode_length = torch.zeros_like(self.episode_length)

    def drain(self) -> EpisodeSummary:
        """Read the sums in one transfer and start them from zero."""
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
