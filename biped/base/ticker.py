"""Says for how long something has been under way, from a process of its own.

A compiler that holds Python's lock lets no thread of ours speak: Genesis's does, for a minute at a time.
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
"""Seconds between two lines where the output is no terminal."""
_TURN_S = 0.25
_SPINNER = "|/-\\"
_CLEAR_LINE = "\r\x1b[K"


class Ticker:
    """Repeats on standard error what is being done and how long it has taken: a spinner, or a line now and then."""

    def __init__(self, what: str, every_s: float = EVERY_S) -> None:
        """Begin to count.

        Args:
            what: what takes so long, to begin a line with.
            every_s: time between two lines where standard error is no terminal (s); a terminal gets a spinner.
        """
        self._process: subprocess.Popen[str] | None = None
        # Ctrl-C is for us; the other process ends when we close its input, or are gone.
        command = [sys.executable, "-I", "-S", str(Path(__file__)), what, str(every_s)]
        with contextlib.suppress(OSError):  # a machine that is short of processes: then it is silent
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, bufsize=1)

    def show(self, detail: str) -> None:
        """Say what exactly is being done from now on; one line."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                self._process.stdin.write(detail + "\n")

    def close(self) -> None:
        """Be silent from now on; may be called again."""
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
        """Close it."""
        self.close()


def _tick(what: str, every_s: float, write: Callable[[str], object], *, is_terminal: bool) -> None:
    """Repeat until standard input ends; its last line is what exactly is being done."""
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
