"""Calls that must not hold up their caller, on a thread of their own."""

import queue
import threading
import time
from collections.abc import Callable

Call = Callable[[], object]
"""Something to be done."""


class Background:
    """Carries out calls one after the other on a daemon thread, until one fails.

    Whoever hands over a call waits for nothing: a service that is slow, silent or dead costs its caller no time, and
    the end of the process does not wait for the thread.
    """

    def __init__(self, on_failure: Callable[[BaseException], None], capacity: int) -> None:
        """Start the thread.

        Args:
            on_failure: told of the first exception, on the thread; everything that waits is then left undone.
            capacity: calls that may wait.
        """
        self._calls: queue.Queue[Call | None] = queue.Queue(capacity)
        self._on_failure = on_failure
        self._has_failed = False
        self._thread = threading.Thread(target=self._run, name="background", daemon=True)
        self._thread.start()

    def do(self, call: Call) -> bool:
        """Hand over a call; False where it will not be done: one failed before it, or too many wait."""
        if self._has_failed:
            return False
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            return False
        return True

    def finish(self, timeout_s: float) -> bool:
        """Wait until all is done, and end the thread; False if that takes longer than `timeout_s`."""
        end_s = time.monotonic() + timeout_s
        try:
            self._calls.put(None, timeout=timeout_s)
        except queue.Full:
            return False
        self._thread.join(max(0.0, end_s - time.monotonic()))
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            if self._has_failed:
                continue
            try:
                call()
            except BaseException as error:  # whatever it is, it must not reach the caller; wandb calls sys.exit
                self._has_failed = True
                self._on_failure(error)
