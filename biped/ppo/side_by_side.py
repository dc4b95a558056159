"""Two halves of an update in parallel, each on its own core or, on a GPU, on its own stream.

If actor and critic share nothing, forward and backward of one need not wait for the other. Torch's own threads split
every matrix product and synchronise after it, so that another busy process stalls all of them all the time; the
halves synchronise once per minibatch. On an idle machine both are equally fast (benchmarks/README.md).

On a GPU one thread launches both, so that only kernels that leave a part of the card idle overlap: those of the LSTMs.
Nobody has measured it.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

First = TypeVar("First")
Second = TypeVar("Second")


class SideBySide:
    """A context in which `run` runs two functions in parallel, or in sequence if that gains nothing."""

    def __init__(self, device: torch.device, *, independent: bool, two_streams: bool = False) -> None:
        """Run in parallel if the functions are `independent`.

        Args:
            device: where they run; on a CPU in parallel if torch itself leaves cores idle.
            independent: whether neither needs what the other makes.
            two_streams: on a GPU, run in parallel too.
        """
        alone = torch.get_num_threads() == 1 and _cores() > 1
        self._at_once = independent and device.type == "cpu" and alone
        self._pool: ThreadPoolExecutor | None = None
        self._side = torch.cuda.Stream(device) if independent and two_streams and device.type == "cuda" else None

    def __enter__(self) -> Self:
        """Start the second thread."""
        if self._at_once:
            self._pool = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the second thread."""
        if self._pool is not None:
            self._pool.shutdown()

    def run(self, first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
        """Return both results; an exception of either is raised here, after both have ended."""
        if self._side is not None:
            return self._on_two_streams(self._side, first, second)
        if self._pool is None:
            return first(), second()
        other = self._pool.submit(second)
        try:
            result = first()
        finally:
            other.exception()  # waits
        return result, other.result()

    def _on_two_streams(
        self, side: torch.cuda.Stream, first: Callable[[], First], second: Callable[[], Second]
    ) -> tuple[First, Second]:
        """Launch the second on its stream, then the first; what comes after waits for both."""
        here = torch.cuda.current_stream(side.device)
        side.wait_stream(here)  # for what both read, and for what was freed here
        with torch.cuda.stream(side):
            other = second()
        result = first()
        here.wait_stream(side)
        if isinstance(other, Tensor):
            other.record_stream(here)  # made there, and freed here
        return result, other


def _cores() -> int:
    """Return the number of cores that this process may use."""
    affinity: Any = getattr(os, "sched_getaffinity", None)  # macOS and Windows have none
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
