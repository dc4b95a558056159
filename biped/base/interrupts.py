"""SIGINT, SIGTERM and SIGHUP as a wish that a training looks up, rather than an exception at any line.

A `KeyboardInterrupt` in the middle of a queue's `put`, or of a checkpoint, leaves locks taken and files cut short.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What asks a training to end: Ctrl-C, `kill` or a cluster that wants its machine back, a terminal that is closed."""
GRACE_S = 8.0
"""How long a rollout and its update may go on after the signal (s); then they are broken off."""


def is_ignored(number: signal.Signals) -> bool:
    """Return whether this process was started with a signal ignored, by `nohup` or in the background of a script."""
    return signal.getsignal(number) == signal.SIG_IGN


class Interrupted(Exception):  # noqa: N818 - not an error
    """A signal asked for the end, and everything worth keeping was kept."""

    def __init__(self, number: signal.Signals) -> None:
        """Keep the signal, which decides on the exit code."""
        super().__init__(number.name)
        self.number = number


class Interrupts:
    """Takes note of the first signal; the second ends the process at once.

    Use it as a context manager. Outside the main thread, where Python allows no handlers, it takes note of nothing.
    """

    def __init__(
        self,
        grace_s: float = GRACE_S,
        last_act: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take note of nothing yet.

        Args:
            grace_s: how long after the signal `is_urgent` stays false (s).
            last_act: what must be done even when a second signal ends the process at once.
            clock: tells the time (s).
        """
        self._grace_s, self._last_act, self._clock = grace_s, last_act, clock
        self._before: dict[signal.Signals, Any] = {}
        self._received_s = 0.0
        self.received: signal.Signals | None = None
        """The first signal that came."""

    @property
    def is_urgent(self) -> bool:
        """A signal came, and its grace is over."""
        return self.received is not None and self.age_s >= self._grace_s

    @property
    def age_s(self) -> float:
        """Time since the signal (s); 0 where none came."""
        return 0.0 if self.received is None else self._clock() - self._received_s

    def __enter__(self) -> "Interrupts":
        """Take over the signals."""
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in SIGNALS if not is_ignored(number)]
            self._before = {number: signal.signal(number, self._receive) for number in heard}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        if self.received is not None:
            if self._last_act is not None:
                self._last_act()
            os._exit(128 + number)
        self._received_s = self._clock()
        self.received = signal.Signals(number)
