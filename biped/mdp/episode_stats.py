"""Sums over episodes, kept on the device and read once per rollout."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from biped.config.task import EnvConfig
from biped.mdp.rewards import active_terms
from biped.mdp.terminations import Terminations

CAUSES = ("height", "tilt", "error", "time_out")
"""Fields of `Terminations` that are counted; with a clip to follow, also `STRAYED`."""
STRAYED = "strayed"
_SUMMED = ("progress", "return", "length")
_COUNTED = ("moving", "episodes", "episodes", "episodes")
"""Each sum, and then the largest return, is over the steps that the count of the same place counts."""


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
    """Share of the ended episodes by cause."""

    def require_physics(self, num_envs: int, max_share: float) -> None:
        """Check that the physics failed in at most `max_share` of the environments.

        Raises:
            FloatingPointError: it failed more often.
        """
        if self.errors > max_share * num_envs:
            raise FloatingPointError(
                f"the physics failed {self.errors} times in {num_envs} environments in one rollout: lower the gains or "
                "the action scale (--set env.robot.kp_nm_per_rad, env.control.action_scale_rad), or more substeps"
            )


class EpisodeStats:
    """Accumulates statistics in tensors; the host reads nothing before `drain`."""

    def __init__(
        self,
        num_envs: int,
        term_names: Sequence[str],
        dt_s: float,
        device: torch.device,
        causes: Sequence[str] = CAUSES,
    ) -> None:
        """Start with empty sums; `term_names` names the columns of the shares that `add` takes."""
        self._causes = tuple(causes)
        self._term_names = tuple(term_names)
        self._dt_s = dt_s
        self._steps = 0
        # Per robot: they are added up when they are read, which costs a kernel per rollout rather than per step.
        self._sums = torch.zeros(len(_SUMMED), num_envs, device=device, dtype=torch.float32)
        self._shares = torch.zeros(len(self._term_names), num_envs, device=device, dtype=torch.float32)
        self._counts = torch.zeros(len(_COUNTED) + len(self._causes), num_envs, device=device, dtype=torch.int64)
        self._max_return = torch.full((num_envs,), -torch.inf, device=device, dtype=torch.float32)
        self.processes = 1
        """Processes with as many robots, whose episodes `drain` counts too."""
        self.total: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
        """Returns sums (n,) over these processes, and the largest of (); None: there is one process."""
        self._nothing = torch.tensor(((0.0,), (0.0,), (0.0,), (-torch.inf,)), device=device, dtype=torch.float32)

    @classmethod
    def of(cls, cfg: EnvConfig, device: torch.device) -> "EpisodeStats":
        """Return empty sums for the robots, reward terms and causes of a configuration."""
        causes = (*CAUSES, STRAYED) if cfg.imitation.max_error_rad > 0.0 else CAUSES
        return cls(cfg.num_envs, active_terms(cfg.reward.weights), cfg.sim.control_dt_s, device, causes)

    def add(
        self, returns: Tensor, lengths: Tensor, shares: Tensor, progress: Tensor, moving: Tensor, ends: Terminations
    ) -> None:
        """Add one control step.

        Args:
            returns: sum of rewards of each running episode, with this step, (num_envs,).
            lengths: control steps of each running episode, with this one, (num_envs,).
            shares: each term's part of the step's rewards, (num_envs, num_terms).
            progress: share of the commanded velocity that is achieved, (num_envs,); counted where `moving`.
            moving: whether the command asks for motion, (num_envs,), bool.
            ends: the episodes that ended in this step, and why.
        """
        done = ends.done
        counted = torch.stack((moving, done, done, done, *(getattr(ends, cause) for cause in self._causes)))
        values = torch.stack((progress, returns, lengths, returns))
        values = torch.where(counted[: len(values)], values, self._nothing)
        # In place, so that a CUDA graph of this can be replayed.
        self._counts += counted
        self._sums += values[:-1]
        self._shares += shares.T
        torch.maximum(self._max_return, values[-1], out=self._max_return)

    def count(self, steps: int) -> None:
        """Count control steps of robots, all of them together, after `add`."""
        self._steps += steps

    def drain(self) -> EpisodeSummary:
        """Read the sums in one transfer and reset them to zero."""
        # In float64, which has room for counts and sums alike.
        sums = [rows.sum(dim=1, dtype=torch.float64) for rows in (self._counts, self._sums, self._shares)]
        parts = torch.cat((*sums, torch.full_like(sums[0][:1], self._steps))), self._max_return.amax()
        together, largest = parts if self.total is None else self.total(*parts)
        *sums, steps, max_return = torch.cat((together, largest[None].double())).tolist()
        names = (*_COUNTED, *self._causes, *_SUMMED, *self._term_names)
        counted = dict(zip(names, sums, strict=True))
        terms = {name: counted[name] for name in self._term_names}
        episodes, steps = counted["episodes"], max(steps, 1)
        summary = EpisodeSummary(
            episodes=int(episodes),
            mean_return=counted["return"] / episodes if episodes else math.nan,
            max_return=max_return if episodes else math.nan,
            mean_length=counted["length"] / episodes if episodes else math.nan,
            reward_rates={name: total / (steps * self._dt_s) for name, total in terms.items()},
            reward_per_step=sum(terms.values()) / steps,
            progress=counted["progress"] / counted["moving"] if counted["moving"] else math.nan,
            errors=int(counted["error"]),
            causes={cause: counted[cause] / episodes if episodes else 0.0 for cause in self._causes},
        )
        self._steps = 0
        for rows in (self._sums, self._shares, self._counts):
            rows.zero_()
        self._max_return.fill_(-torch.inf)
        return summary
