"""The terminal's keyboard and a gamepad, read without blocking; each updates a `Wish` when it is polled."""

import os
import select
import sys
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from biped.base.errors import MachineError, UsageError, warn
from biped.view.steering import STAND, Ranges, Wish, move_pad, parse_pad, press, split_keys

GAMEPAD = Path("/dev/input/js0")
"""The first gamepad of a Linux machine."""
_CHUNK = 512


class Source(Protocol):
    """An input device for steering."""

    def poll(self, wish: Wish) -> Wish:
        """Return the wish after new input, starting from `wish`; never blocks."""
        ...


class Keyboard:
    """Reads single keys from the terminal on standard input while it is used as a context manager."""

    def __init__(self, ranges: Ranges, fd: int | None = None) -> None:
        """Check the terminal without changing it.

        Args:
            ranges: ranges of the commands that keys can set.
            fd: the terminal's file descriptor; None: standard input.

        Raises:
            UsageError: standard input is not a terminal.
            MachineError: the system has no POSIX terminals.
        """
        try:
            import termios
            import tty
        except ImportError as error:
            raise MachineError("--keyboard needs a POSIX terminal: steer with --web instead") from error
        self._termios: Any = termios
        self._tty: Any = tty
        if fd is None and (sys.stdin is None or not sys.stdin.isatty()):
            raise UsageError(
                "--keyboard needs a terminal as standard input: start it in a terminal, or steer with --web"
            )
        self._fd = sys.stdin.fileno() if fd is None else fd
        self.ranges, self._rest = ranges, b""
        """Ranges of the commands that keys can set."""
        self._before: Any = None

    def __enter__(self) -> "Keyboard":
        """Let the terminal pass on keys one by one, without echo."""
        self._before = self._termios.tcgetattr(self._fd)
        self._tty.setcbreak(self._fd)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Restore the terminal's mode."""
        self.restore()

    def restore(self) -> None:
        """Restore the terminal's mode now; a second call does nothing."""
        before, self._before = self._before, None
        if before is not None:
            try:
                self._termios.tcsetattr(self._fd, self._termios.TCSANOW, before)
            except OSError:  # the terminal is gone
                return

    def poll(self, wish: Wish) -> Wish:
        """Return the wish after all keys since the last call; a closed terminal ends the session."""
        fresh = b""
        while select.select([self._fd], [], [], 0.0)[0]:
            try:
                part = os.read(self._fd, _CHUNK)
            except OSError:
                part = b""
            if not part:
                return replace(wish, end=True)
            fresh += part
        keys, self._rest = split_keys(self._rest + fresh, is_all=not fresh)
        for key in keys:
            wish = press(wish, key, self.ranges)
        return wish


class Gamepad:
    """A gamepad read through Linux's joystick interface, while it is plugged in."""

    def __init__(self, path: Path, ranges: Ranges) -> None:
        """Open the device.

        Raises:
            OSError: the device does not exist or is not readable.
        """
        self._fd: int | None = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        self._path, self.ranges, self._rest = path, ranges, b""
        """Ranges of the commands of full sticks."""
        self._axes: dict[int, int] = {}

    @classmethod
    def find(cls, ranges: Ranges, path: Path = GAMEPAD) -> "Gamepad | None":
        """Return the first gamepad, or None without one; warn about a gamepad that is not readable."""
        try:
            return cls(path, ranges)
        except PermissionError:
            warn(f"the gamepad {path} is not readable: add yourself to the group input, and log in again")
        except OSError:
            return None
        return None

    def poll(self, wish: Wish) -> Wish:
        """Return the wish after all stick and button events since the last call; unplugged, the robot stands."""
        data = self._rest
        while self._fd is not None:
            try:
                part = os.read(self._fd, _CHUNK)
            except BlockingIOError:
                break
            except OSError:
                self.close()
                warn(f"the gamepad {self._path} is gone: the robot stops")
                return replace(wish, command=STAND)
            if not part:
                break
            data += part
        events, self._rest = parse_pad(data)
        return move_pad(wish, self._axes, events, self.ranges)

    def close(self) -> None:
        """Close the device."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
