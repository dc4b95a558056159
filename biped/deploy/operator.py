"""The person who holds the dead-man's key: a keyboard in the terminal, a gamepad, or a script for simulated robots."""

import contextlib
import os
import select
import stat
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from biped.base.errors import MachineError, UsageError
from biped.base.platforms import posix_module, terminal_errors
from biped.deploy.contract_file import CommandRule
from biped.deploy.hardware import Array

HELD_S = 0.75
"""How long one press of the dead-man's key counts (s): X.org lets a key repeat after 0.66 s, others sooner."""
KEYS = "space: hold to walk   w/s: faster/slower   a/d: left/right   q/e: turn   x: straight, stand   Ctrl-C: end"
_STEPS = {"w": (0, 1), "s": (0, -1), "a": (1, 1), "d": (1, -1), "q": (2, 1), "e": (2, -1)}
_STEP_SHARE = 0.1
_EVENT = struct.Struct("IhBB")  # time (ms), value, kind, number: the kernel's Documentation/input/joydev
_BUTTON, _AXIS, _INITIAL = 0x01, 0x02, 0x80


@dataclass(frozen=True)
class Wish:
    """What the person wants in one step."""

    is_held: bool
    """The dead-man's key is held: the robot may walk."""
    command: Array
    """Forward m/s, left m/s, counter-clockwise rad/s, (3,)."""


class Operator(Protocol):
    """Where wishes come from."""

    is_person: bool
    """A person holds a key, and must have let go of it once in the default pose before the policy begins."""

    def begin(self) -> None:
        """Take notice that the policy begins."""
        ...

    def wish(self) -> Wish:
        """Return what the person wants now, without waiting."""
        ...

    def close(self) -> None:
        """Give the device back as it was."""
        ...


class Script:
    """Holds the key throughout, and gives one command after a while: for simulated robots, and for robots that hang."""

    is_person = False

    def __init__(self, command: Array, stand_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Stand for `stand_s` once the policy has begun, then ask for `command` (3,)."""
        self._command, self._stand_s, self._clock = command, stand_s, clock
        self._walks_from_s = np.inf

    def begin(self) -> None:
        """Count from now on."""
        self._walks_from_s = self._clock() + self._stand_s

    def wish(self) -> Wish:
        """Return what the script wants now."""
        return Wish(True, self._command if self._clock() >= self._walks_from_s else np.zeros(3))

    def close(self) -> None:
        """Do nothing."""


class _Person:
    is_person = True

    def begin(self) -> None:
        """Do nothing: the person sees it."""


class Keyboard(_Person):
    """Keys of a terminal; the space bar is the dead-man's key, by its repetition."""

    def __init__(self, rule: CommandRule, command: Array, clock: Callable[[], float] = time.monotonic) -> None:
        """Read keys one by one from standard input.

        Args:
            rule: the commands that the policy knows.
            command: the command at first, (3,).
            clock: returns the time (s).

        Raises:
            UsageError: standard input is no terminal, so that nobody could let go of a key.
            MachineError: this system has no POSIX terminals.
        """
        self._termios = posix_module("termios", "a keyboard that holds the robot")
        if not sys.stdin.isatty():
            raise UsageError("nobody holds the dead-man's key: run this in a terminal, or use --gamepad")
        self._handle, self._rule, self._command, self._clock = sys.stdin.fileno(), rule, command.astype(float), clock
        self._before = self._termios.tcgetattr(self._handle)
        posix_module("tty", "a keyboard").setcbreak(self._handle)
        self._pressed_s = -np.inf

    def wish(self) -> Wish:
        """Return what the keys say."""
        with contextlib.suppress(OSError):  # the terminal has gone: nobody holds anything
            while select.select([self._handle], [], [], 0.0)[0]:
                pressed = os.read(self._handle, 64).decode(errors="ignore").lower()
                if not pressed:
                    break
                for key in pressed:
                    self._press(key)
        return Wish(self._clock() - self._pressed_s < HELD_S, self._command.copy())

    def _press(self, key: str) -> None:
        if key == " ":
            self._pressed_s = self._clock()
        elif key == "x":
            self._command = np.zeros(3)
        elif key in _STEPS:
            axis, sign = _STEPS[key]
            low, high = self._rule.ranges[axis]
            self._command[axis] = np.clip(self._command[axis] + sign * _STEP_SHARE * (high - low), low, high)

    def close(self) -> None:
        """Give the terminal back as it was."""
        with contextlib.suppress(OSError, *terminal_errors()):  # the terminal has gone
            self._termios.tcsetattr(self._handle, self._termios.TCSADRAIN, self._before)


class Gamepad(_Person):
    """A gamepad by Linux's joystick interface; a shoulder button is the dead-man's."""

    def __init__(
        self, device: Path, rule: CommandRule, button: int = 4, axes: tuple[int, int, int] = (1, 0, 3)
    ) -> None:
        """Open the device, such as /dev/input/js0.

        Args:
            device: its file.
            rule: the commands that the policy knows.
            button: number of the dead-man's button; 4 is the left shoulder's.
            axes: numbers of the axes for forward, left and turn; a stick pushed forward or left is negative.

        Raises:
            MachineError: it cannot be opened.
        """
        try:
            self._handle = os.open(device, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except OSError as error:
            raise MachineError(f"cannot open the gamepad {device} ({error.strerror}): see ls /dev/input") from error
        if not _sends_events(self._handle):
            os.close(self._handle)
            raise MachineError(f"{device} is no gamepad: see ls /dev/input")
        self._rule, self._button, self._axes = rule, button, axes
        self._is_held, self._sticks = False, np.zeros(3)

    def wish(self) -> Wish:
        """Return what button and sticks say; a gamepad that has gone holds nothing."""
        try:
            while True:
                event = os.read(self._handle, _EVENT.size)
                if len(event) < _EVENT.size:
                    self._is_held = False
                    break
                self._take(*_EVENT.unpack(event)[1:])
        except BlockingIOError:
            pass
        except OSError:
            self._is_held = False
        low, high = self._rule.ranges.T
        return Wish(self._is_held, np.where(self._sticks < 0.0, self._sticks * -low, self._sticks * high))

    def _take(self, value: int, kind: int, number: int) -> None:
        if kind & ~_INITIAL == _BUTTON and number == self._button:
            self._is_held = bool(value)
        elif kind & ~_INITIAL == _AXIS and number in self._axes:
            self._sticks[self._axes.index(number)] = -value / 32767.0

    def close(self) -> None:
        """Close the device."""
        os.close(self._handle)


def _sends_events(handle: int) -> bool:
    mode = os.fstat(handle).st_mode
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)
