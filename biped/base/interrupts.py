"""SIGINT, SIGTERM and SIGHUP as a request that a training polls, instead of an exception at an arbitrary line.

A `KeyboardInterrupt` inside a queue's `put`, or while a checkpoint is written, leaves locks held and files truncated.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from biped.base.platforms import signals

SIGNALS = signals("SIGINT", "SIGTERM", "SIGHUP")
"""Signals that ask a training to end: Ctrl-C; `kill` or a cluster that needs the machine; a closed terminal."""
GRACE_S = 8.0
"""How long the current rollout and its update may continue after the signal (s); then they are aborted."""


def is_ignored(number: signal.Signals) -> bool:
    """Return whether this process was started with a signal ignored, by `nohup` or as a background job of a script."""
    return signal.getsignal(number) == signal.SIG_IGN


class Interrupted(Exception):  # noqa: N818 - not an error
    """A signal ended the training, after everything worth keeping was saved."""

    def __init__(self, number: signal.Signals) -> None:
        """Keep the signal, which determines the exit code."""
        super().__init__(number.name)
        self.number = number


class Interrupts:
    """Records the first signal; a second one ends the process at once, unless it `is_patient`.

    Use it as a context manager. Outside the main thread, where Python allows no handlers, it records nothing.
    """

    def __init__(
        self,
        grace_s: float = GRACE_S,
        last_act: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        is_patient: bool = False,
    ) -> None:
        """Set the grace period; signals are recorded from `with` on.

        Args:
            grace_s: how long after the signal `is_urgent` stays false (s).
            last_act: called before a second signal ends the process.
            clock: returns the time (s).
            is_patient: whether further signals change nothing: torchrun sends its own after that of a terminal.
        """
        self._is_patient = is_patient
        self._grace_s, self._last_act, self._clock = grace_s, last_act, clock
        self._before: dict[signal.Signals, Any] = {}
        self._received_s = 0.0
        self.received: signal.Signals | None = None
        """The first signal received."""

    @property
    def is_urgent(self) -> bool:
        """Whether a signal came and its grace period is over."""
        return self.received is not None and self.age_s >= self._grace_s

    @property
    def age_s(self) -> float:
        """Time since the signal (s); 0 if none came."""
        return 0.0 if self.received is None else self._clock() - self._received_s

    def __enter__(self) -> "Interrupts":
        """Install the signal handlers."""
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in SIGNALS if not is_ignored(number)]
            self._before = {number: signal.signal(number, self._receive) for number in heard}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Restore the previous signal handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        if self.received is not None:
            if self._is_patient:
                return
            if self._last_act is not None:
                self._last_act()
            os._exit(128 + number)
        self.receive(signal.Signals(number))

    def receive(self, number: signal.Signals) -> None:
        """Take a signal, unless there was one; also one that another process has received."""
        if self.received is None:
            self._received_s = self._clock()
            self.received = number
