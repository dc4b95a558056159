"""Reports a training that makes no progress: a hanging driver, a disk that does not answer, a machine that swaps."""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType

from biped.base.shipped import own_name

_LOOKS = 4
"""Checks within the time after which a training counts as stalled."""


class Watchdog:
    """Prints one line when there was no sign of life for a while, and one when there is again.

    It checks from its own thread, so it stays silent while the training thread holds Python's lock.
    """

    def __init__(
        self, stall_after_s: float, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Prepare to watch the calling thread; `with` starts the watch.

        Args:
            stall_after_s: time without a sign of life that counts as a stall (s).
            say: receives each line; called on the watchdog's thread.
            clock: returns the time (s); the default stops while a laptop sleeps.
        """
        self._after_s, self._say, self._clock = stall_after_s, say, clock
        self._watched = threading.get_ident()
        self._last_s = clock()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watchdog", daemon=True)

    def sign_of_life(self) -> None:
        """Record that the training is making progress."""
        self._last_s = self._clock()

    @property
    def silent_s(self) -> float:
        """Time since the last sign of life (s)."""
        return self._clock() - self._last_s

    def __enter__(self) -> "Watchdog":
        """Start watching."""
        self.sign_of_life()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching."""
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        stalled_at_s: float | None = None
        while not self._is_over.wait(self._after_s / _LOOKS):
            # Read the clock first: a sign of life that arrives in between then never looks too old.
            now_s, last_s = self._clock(), self._last_s
            if stalled_at_s is not None and last_s > stalled_at_s:
                self._say(f"watchdog: it goes on after {last_s - stalled_at_s:.0f} s")
                stalled_at_s = None
            silent_s = now_s - last_s
            if stalled_at_s is None and silent_s > self._after_s:
                stalled_at_s = last_s
                where = _where(sys._current_frames().get(self._watched))
                self._say(f"watchdog: nothing has happened for {silent_s:.0f} s, in {where}")


def _where(frame: FrameType | None) -> str:
    """Return the innermost line of this project in a thread's stack."""
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if (name := own_name(file)) is not None:
            return f"{frame.f_code.co_name} ({name}:{frame.f_lineno})"
        frame = frame.f_back
    return "code that is not ours"
