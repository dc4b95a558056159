"""Names a training that stands still: a driver that hangs, a disk that does not answer, a machine that swaps."""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType

from biped.base.files import REPOSITORY

_LOOKS = 4
"""Looks within the time after which a training counts as stalled."""


class Watchdog:
    """Says one line when there was no sign of life for a while, and one when there is again.

    It looks from a thread of its own, so it stays silent where the training thread holds Python's lock for ever.
    """

    def __init__(
        self, stall_after_s: float, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Watch the thread that calls this, from `with` on.

        Args:
            stall_after_s: how long nothing may happen (s).
            say: takes a line; called on the watchdog's thread.
            clock: tells the time (s); the default stands still while a laptop sleeps.
        """
        self._after_s, self._say, self._clock = stall_after_s, say, clock
        self._watched = threading.get_ident()
        self._last_s = clock()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watchdog", daemon=True)

    def sign_of_life(self) -> None:
        """Note that something has happened."""
        self._last_s = self._clock()

    def __enter__(self) -> "Watchdog":
        """Begin to look."""
        self.sign_of_life()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Look no more."""
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        stalled_at_s: float | None = None
        while not self._is_over.wait(self._after_s / _LOOKS):
            # In this order: a sign of life that comes while this thread is held up is then never too old.
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
    """Name the innermost line of this project that a thread is in."""
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(REPOSITORY) and "site-packages" not in file.parts:
            return f"{frame.f_code.co_name} ({file.relative_to(REPOSITORY)}:{frame.f_lineno})"
        frame = frame.f_back
    return "code that is not ours"
