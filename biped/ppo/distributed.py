"""Several processes that train one policy, a copy each: their robots differ, their weights do not.

Each process rolls out its own robots. What an update computes of a minibatch is computed of all processes' minibatches
together: the mean of advantages, the gradient, the losses, and so the divergence that adapts the rate and the verdict
of the guard. After it, all copies of the weights have the same bits. The normaliser sees all observations.

The learner has a `Team`, or None: alone, it runs nothing of this.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

Value = TypeVar("Value")
LEADER = 0
"""Rank of the process that alone writes."""


class LostTeamError(Exception):
    """Another process has ended, or cannot be reached."""


class Team:
    """The processes of `torch.distributed`'s default group; every method is called by all of them, in the same order.

    Raises, from every method:
        LostTeamError: a process has ended.
    """

    def __init__(self) -> None:
        """Join; `torch.distributed.init_process_group` was called."""
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.is_waiting = False
        """Whether this process waits for others."""
        self._waited_s = 0.0
        self._has_parted = False

    @property
    def leads(self) -> bool:
        """Whether this process alone writes, prints and evaluates."""
        return self.rank == LEADER

    def average(self, parameters: Iterable[nn.Parameter], row: Tensor) -> Tensor:
        """Replace gradients by their mean over the processes.

        Args:
            parameters: their gradients; where one process has none, all have none.
            row: numbers of a minibatch, (n,), of the gradients' type.

        Returns:
            The mean of `row` over the processes, (n,).
        """
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([row, *(gradient.flatten() for gradient in gradients)])
        with self._waiting():
            dist.all_reduce(flat)
        flat /= self.size
        mean, *parts = flat.split([len(row), *(gradient.numel() for gradient in gradients)])
        into = [part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True)]
        torch._foreach_copy_(gradients, into)  # pyright: ignore[reportPrivateImportUsage]
        return mean

    def normalised(self, advantages: Tensor) -> Tensor:
        """Return advantages (n,) shifted and scaled so that those of all processes have mean 0 and deviation 1."""
        count, mean, variance = self.merged(len(advantages), *_moments(advantages))
        if count < 2:
            return advantages
        return (advantages - mean) / ((variance * (count / (count - 1))).sqrt() + 1e-8)

    def merged(self, count: int, mean: Tensor, variance: Tensor) -> tuple[int, Tensor, Tensor]:
        """Return count, mean and variance of all processes' samples (Chan et al. 1979).

        Args:
            count: number of samples of this process, and of every other.
            mean: their mean, (...).
            variance: their variance, without Bessel's correction, (...).
        """
        mine = torch.stack((mean, variance))
        tables = [torch.empty_like(mine) for _ in range(self.size)]
        with self._waiting():
            dist.all_gather(tables, mine)
        means, variances = torch.stack(tables).unbind(1)
        return count * self.size, means.mean(0), variances.mean(0) + means.var(0, correction=0)

    def total(self, sums: Tensor, largest: Tensor) -> tuple[Tensor, Tensor]:
        """Return sums (n,) over all processes, and the largest of `largest` ()."""
        with self._waiting():
            dist.all_reduce(sums)
            dist.all_reduce(largest, dist.ReduceOp.MAX)
        return sums, largest

    def agree(self, number: int) -> int:
        """Return the largest number that a process has."""
        agreed = torch.tensor(number, dtype=torch.int64)
        with self._waiting():
            dist.all_reduce(agreed, dist.ReduceOp.MAX)
        return int(agreed)

    def share(self, make: Callable[[], Value]) -> Value:
        """Return what the leader has made, in every process.

        Raises:
            Exception: what the leader's `make` raises, there; elsewhere the process ends, because the leader says why.
        """
        made: list[Any] = [None]
        error: Exception | None = None
        if self.leads:
            try:
                made = [(make(),)]
            except Exception as raised:  # handed on, once the others know
                error = raised
        with self._waiting():
            dist.broadcast_object_list(made, LEADER, device=torch.device("cpu"))
        if error is not None:
            raise error
        if made[0] is None:
            raise SystemExit(1)
        return made[0][0]

    def same_weights(self, module: nn.Module) -> None:
        """Give a module the leader's parameters and buffers."""
        with self._waiting():
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, LEADER)

    def gather(self, state: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Return the states of all processes, by rank, in the leader; nothing elsewhere, or after `part`."""
        if self._has_parted:
            return []
        mine = {name: tensor.cpu() for name, tensor in state.items()}
        states: list[Any] | None = [None] * self.size if self.leads else None
        with self._waiting():
            dist.gather_object(mine, states, LEADER)
        return states or []

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.agree(0)

    def part(self) -> None:
        """Wait for nobody any more when a state is gathered, because this process ends by itself."""
        self._has_parted = True

    def drain_s(self) -> float:
        """Return how long this process has waited for others since the last call (s); on a GPU the host does not."""
        waited_s, self._waited_s = self._waited_s, 0.0
        return waited_s

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        began_s, self.is_waiting = time.perf_counter(), True
        try:
            yield
        except RuntimeError as error:
            raise LostTeamError(str(error)) from error
        finally:
            self._waited_s += time.perf_counter() - began_s
            self.is_waiting = False


def split_states(live: Mapping[str, Tensor], count: int) -> list[dict[str, Tensor]]:
    """Return the states of each rank; the inverse of `joined_states`."""
    heads = [_head(rank) for rank in range(count)]
    return [
        {
            name.removeprefix(head): value
            for name, value in live.items()
            if name.startswith(head) and (head or not name.startswith("rank"))
        }
        for head in heads
    ]


def joined_states(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the states of all ranks as one; the leader's names are those of a process that trains alone."""
    return {f"{_head(rank)}{name}": value for rank, state in enumerate(states) for name, value in state.items()}


def _head(rank: int) -> str:
    return f"rank{rank}." if rank else ""


def _moments(values: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(values, correction=0)
    return mean, variance
