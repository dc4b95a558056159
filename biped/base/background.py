"""A background thread for calls that must not delay their caller."""

import queue
import threading
import time
from collections.abc import Callable

Call = Callable[[], object]
"""A call without arguments; its result is ignored."""


class Background:
    """Makes calls one after another on a daemon thread, until one fails.

    The caller never waits: a slow, silent or dead service costs it no time, and the process can end without waiting for
    the thread.
    """

    def __init__(self, on_failure: Callable[[BaseException], None], capacity: int) -> None:
        """Start the thread.

        Args:
            on_failure: receives the first exception, on the thread; calls that are still queued are then dropped.
            capacity: most calls that may be queued.
        """
        self._calls: queue.Queue[Call | None] = queue.Queue(capacity)
        self._on_failure = on_failure
        self._has_failed = False
        self._thread = threading.Thread(target=self._run, name="background", daemon=True)
        self._thread.start()

    def do(self, call: Call) -> bool:
        """Queue a call; return False if it will not be made: an earlier call failed, or the queue is full."""
        if self._has_failed:
            return False
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            return False
        return True

    def finish(self, timeout_s: float) -> bool:
        """Wait until every call is done, and end the thread; return False if that takes longer than `timeout_s`."""
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
            except BaseException as error:  # nothing may reach the caller, not even wandb's sys.exit
                self._has_failed = True
                self._on_failure(error)
