"""Two halves of an update in parallel, each on its own core.

If actor and critic share nothing, forward and backward of one need not wait for the other. Torch's own threads split
every matrix product and synchronise after it, so that another busy process stalls all of them all the time; the
halves synchronise once per minibatch. On an idle machine both are equally fast (benchmarks/README.md).
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

import torch

First = TypeVar("First")
Second = TypeVar("Second")


class SideBySide:
    """A context in which `run` runs two functions in parallel, or in sequence if that gains nothing."""

    def __init__(self, device: torch.device, *, independent: bool) -> None:
        """Run in parallel if the functions are `independent`, on a CPU with cores that torch itself leaves idle."""
        alone = torch.get_num_threads() == 1 and _cores() > 1
        self._at_once = independent and device.type == "cpu" and alone
        self._pool: ThreadPoolExecutor | None = None

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
        if self._pool is None:
            return first(), second()
        other = self._pool.submit(second)
        try:
            result = first()
        finally:
            other.exception()  # waits
        return result, other.result()


def _cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
