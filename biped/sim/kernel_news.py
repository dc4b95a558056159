"""Shows which kernel Genesis compiles, until the first step is done; see `biped.base.ticker`."""

import sys
import threading
from types import FrameType

from biped.base.ticker import Ticker

_LOOK_EVERY_S = 0.2
_COMPILER_FILE, _COMPILER_FUNCTIONS = "quadrants/lang/kernel.py", ("materialize", "launch_kernel")
"""Where the compiler generates machine code for a kernel, in quadrants 1.3.3."""


class KernelNews:
    """Watches the thread that created it, from its own thread, and prints while kernels are compiled."""

    def __init__(self) -> None:
        """Start watching."""
        self._watched = threading.get_ident()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="kernel news", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching; may be called more than once."""
        if not self._is_over.is_set():
            self._is_over.set()
            self._thread.join()

    def _look(self) -> None:
        ticker: Ticker | None = None
        shown = None
        while not self._is_over.wait(_LOOK_EVERY_S):
            name = kernel_in(sys._current_frames().get(self._watched))
            if name is not None and name != shown:
                ticker, shown = ticker or Ticker("Genesis compiles for this machine"), name
                ticker.show(name)
        if ticker is not None:
            ticker.close()


def kernel_in(frame: FrameType | None) -> str | None:
    """Return the name of the kernel that a thread compiles or launches; None if there is none."""
    while frame is not None:
        code = frame.f_code
        if code.co_name in _COMPILER_FUNCTIONS and code.co_filename.endswith(_COMPILER_FILE):
            kernel = getattr(frame.f_locals.get("self"), "func", None)
            return getattr(kernel, "__name__", None)
        frame = frame.f_back
    return None
