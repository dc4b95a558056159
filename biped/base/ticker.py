"""Prints how long something has been running, from a separate process.

A compiler that holds Python's lock blocks every thread of this process; Genesis's does, for up to a minute.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

EVERY_S = 15.0
"""Seconds between two lines if the output is no terminal."""
_TURN_S = 0.25
_SPINNER = "|/-\\"
_CLEAR_LINE = "\r\x1b[K"


class Ticker:
    """Prints on standard error what is running and for how long: a spinner on a terminal, else a line now and then."""

    def __init__(self, what: str, every_s: float = EVERY_S) -> None:
        """Start counting.

        Args:
            what: what is running; each line begins with it.
            every_s: time between two lines if standard error is no terminal (s); a terminal shows a spinner.
        """
        self._process: subprocess.Popen[str] | None = None
        # Ctrl-C is for this process; the ticker's process ends when its input closes, also when this process dies.
        command = [sys.executable, "-I", "-S", str(Path(__file__)), what, str(every_s)]
        with contextlib.suppress(OSError):  # no process can be started: stay silent
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, bufsize=1)

    def show(self, detail: str) -> None:
        """Set the detail that the following lines show; one line."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                self._process.stdin.write(detail + "\n")

    def close(self) -> None:
        """Stop printing; may be called more than once."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.communicate()
        self._process = None

    def __enter__(self) -> "Ticker":
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop printing."""
        self.close()


def _tick(what: str, every_s: float, write: Callable[[str], object], *, is_terminal: bool) -> None:
    """Print until standard input ends; the last line read from it is the detail."""
    turn_s = _TURN_S if is_terminal else every_s
    began_s, detail, turns = time.monotonic(), "", 1
    while True:
        wait_s = began_s + turns * turn_s - time.monotonic()
        if wait_s > 0.0:
            readable, _, _ = select.select([sys.stdin], [], [], wait_s)
            if not readable:
                continue
            data = os.read(sys.stdin.fileno(), 4096)
            if not data:
                break
            detail = f": {data.decode(errors='replace').splitlines()[-1]}"
            continue
        text = f"{what}{detail}, {time.monotonic() - began_s:.0f} s so far"
        write(f"{_CLEAR_LINE}{_SPINNER[turns % len(_SPINNER)]} {text}" if is_terminal else f"{text}\n")
        turns += 1
    if is_terminal:
        write(_CLEAR_LINE)


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()

    with contextlib.suppress(OSError):  # the terminal has gone
        _tick(sys.argv[1], float(sys.argv[2]), write, is_terminal=sys.stderr.isatty())


if __name__ == "__main__":
    _main()
