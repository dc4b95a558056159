"""Two halves of an update at once, each on half of the CPU's cores.

Actor and critic may share nothing: then forward and backward of one need not wait for the other. Torch's own threads
split each small matrix product and meet after it, and lose much of what they gain to the waiting; halves meet once a
minibatch.
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
    """A context in which `run` runs two functions at once, or one after the other where that is all there is to gain.

    Within it torch has half of its threads, but at least one, for each of the two.
    """

    def __init__(self, device: torch.device, *, independent: bool) -> None:
        """Run at once on a CPU with more than one core, if the functions are `independent` of each other."""
        self._at_once = independent and device.type == "cpu" and _cores() > 1
        self._threads = torch.get_num_threads()
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        """Start the second thread."""
        if self._at_once:
            half = max(1, self._threads // 2)
            torch.set_num_threads(half)
            self._pool = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(half,))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the second thread and give torch its threads back."""
        if self._pool is not None:
            self._pool.shutdown()
            torch.set_num_threads(self._threads)

    def run(self, first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
        """Return both results; what one of them raises is raised here, after both have ended."""
        if self._pool is None:
            return first(), second()
        other = self._pool.submit(second)
        try:
            result = first()
        finally:
            other.exception()  # waits
        return result, other.result()


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
