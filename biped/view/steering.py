"""Conversion of keys and sticks to a velocity command within the trained ranges. Pure: no terminal, no device.

Gamepad input is in the records of Linux's joystick interface (Documentation/input/joydev/joystick-api.rst).
"""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from biped.config.task import CommandConfig

Command = tuple[float, float, float]
"""Forward (m/s), left (m/s) and counter-clockwise (rad/s), in the base frame."""
STAND: Command = (0.0, 0.0, 0.0)
"""The command to stand still."""
AXES = ("forward", "left", "turn")
"""Names of a command's components."""
KEY_STEP: Command = (0.1, 0.1, 0.2)
"""Change per key press; one step from standing is just large enough to ask for motion."""

KEYS: Mapping[bytes, tuple[int, int]] = MappingProxyType(
    {
        **dict.fromkeys((b"w", b"\x1b[A", b"\x1bOA"), (0, 1)),
        **dict.fromkeys((b"s", b"\x1b[B", b"\x1bOB"), (0, -1)),
        b"q": (1, 1),
        b"e": (1, -1),
        **dict.fromkeys((b"a", b"\x1b[D", b"\x1bOD"), (2, 1)),
        **dict.fromkeys((b"d", b"\x1b[C", b"\x1bOC"), (2, -1)),
    }
)
"""From each key, as a terminal sends it, to the component of the command and the direction of change."""
STOP_KEY, PUSH_KEY, RESET_KEY, END_KEYS = b" ", b"p", b"r", (b"x", b"\x1b")
"""Space stands still, P pushes, R resets, X and Esc end."""
PAGE_KEYS: Mapping[str, tuple[str, bytes]] = MappingProxyType(
    {
        "I": ("Walk faster", b"w"),
        "K": ("Walk slower", b"s"),
        "J": ("Turn left", b"a"),
        "L": ("Turn right", b"d"),
        "U": ("Step to the left", b"q"),
        "O": ("Step to the right", b"e"),
        "space": ("Stand still", STOP_KEY),
        "P": ("Push", PUSH_KEY),
        "R": ("Reset", RESET_KEY),
    }
)
"""Keys in the browser, with what they do and the terminal's key that does the same: there the usual ones move the
camera."""
_ESC = b"\x1b"
_KEY = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]|\x1bO.|\x1b(?=\x1b)|\x1b[^\[O\x1b]|[^\x1b]", re.DOTALL)

PAD_EVENT = struct.Struct("=IhBB")
"""A gamepad's record: time (ms), value, type, number."""
BUTTON, AXIS, INITIAL = 0x01, 0x02, 0x80
"""Types of records; the last is added to the records that a device sends when it is opened."""
PAD_AXES = (1, 0, 3)
"""Gamepad axes for the command's components: left stick vertical, left stick horizontal, right stick horizontal."""
STOP_BUTTON, RESET_BUTTON = 0, 1
"""Gamepad buttons: A stands still, B resets."""
DEAD_ZONE = 0.15
"""Share of a stick's travel that counts as rest."""
_FULL = 32767


@dataclass(frozen=True)
class Ranges:
    """The range of each component of a command."""

    low: Command
    """Smallest value of each component."""
    high: Command
    """Largest value of each component."""

    @classmethod
    def trained(cls, cfg: CommandConfig) -> "Ranges":
        """Return the ranges of the commands in training."""
        lows, highs = zip(cfg.lin_vel_x_m_s, cfg.lin_vel_y_m_s, cfg.ang_vel_rad_s, strict=True)
        return cls(lows, highs)

    def clamp(self, command: Command) -> Command:
        """Return the nearest command within the ranges; standing still is always allowed."""
        if command == STAND:
            return STAND
        x, y, yaw = (
            min(max(round(value, 6), low), high) for value, low, high in zip(command, self.low, self.high, strict=True)
        )
        return x, y, yaw

    def holds(self, command: Command) -> bool:
        """Return whether a command is within the ranges."""
        return self.clamp(command) == tuple(round(value, 6) for value in command)


@dataclass(frozen=True)
class Wish:
    """The user's current request."""

    command: Command | None = None
    """The command to hold; None: the environment's own commands."""
    reset: bool = False
    """Whether to reset."""
    push: bool = False
    """Whether to push the robots."""
    robot: str | None = None
    """Name of another robot to go on with; None: the same."""
    end: bool = False
    """Whether to end."""


def with_part(command: Command | None, axis: int, value: float) -> Command:
    """Return a command with one component changed; None counts as standing."""
    x, y, yaw = (value if index == axis else old for index, old in enumerate(command or STAND))
    return x, y, yaw


def press(wish: Wish, key: bytes, ranges: Ranges) -> Wish:
    """Return the wish after a key, one of `split_keys`; unknown keys change nothing."""
    key = key.lower() if len(key) == 1 else key
    if key in END_KEYS:
        return replace(wish, end=True)
    if key == RESET_KEY:
        return replace(wish, reset=True)
    if key == PUSH_KEY:
        return replace(wish, push=True)
    if key == STOP_KEY:
        return replace(wish, command=STAND)
    if key not in KEYS:
        return wish
    axis, sign = KEYS[key]
    old = wish.command or STAND
    return replace(wish, command=ranges.clamp(with_part(old, axis, old[axis] + sign * KEY_STEP[axis])))


def split_keys(data: bytes, *, is_all: bool) -> tuple[list[bytes], bytes]:
    """Split terminal input into keys, with each arrow as one key; return them and the start of an unfinished one.

    Args:
        data: the bytes read.
        is_all: whether nothing followed for a while; a lone Esc at the end is then the key, not the start of an arrow.
    """
    keys, end = [], 0
    while match := _KEY.match(data, end):
        keys.append(match.group())
        end = match.end()
    rest = data[end:]
    if is_all and rest:
        return ([*keys, _ESC] if rest == _ESC else keys), b""
    return keys, rest


@dataclass(frozen=True)
class PadEvent:
    """A record from a gamepad."""

    value: int
    """-32767 to 32767 for an axis, 1 or 0 for a button."""
    kind: int
    """`BUTTON` or `AXIS`."""
    number: int
    """Number of the axis or button."""
    is_initial: bool
    """Whether the device sent it when it was opened, without a movement."""


def parse_pad(data: bytes) -> tuple[list[PadEvent], bytes]:
    """Return the complete records in `data`, and the bytes of an unfinished one."""
    count = len(data) // PAD_EVENT.size
    whole = data[: count * PAD_EVENT.size]
    events = [
        PadEvent(value, kind & ~INITIAL, number, bool(kind & INITIAL))
        for _, value, kind, number in PAD_EVENT.iter_unpack(whole)
    ]
    return events, data[len(whole) :]


def stick_command(axes: Mapping[int, int], ranges: Ranges) -> Command:
    """Return the command of a gamepad's sticks: standing at rest, the ends of the ranges at full deflection.

    Args:
        axes: value of each axis by number, -32767 to 32767; up and left are negative.
        ranges: the command at full deflection.
    """
    x, y, yaw = (
        _deflection(axes.get(number, 0)) * (high if axes.get(number, 0) < 0 else -low)
        for number, low, high in zip(PAD_AXES, ranges.low, ranges.high, strict=True)
    )
    command = (round(x, 6), round(y, 6), round(yaw, 6))
    return STAND if not any(command) else ranges.clamp(command)


def _deflection(value: int) -> float:
    """Return a stick's deflection up or left, from -1 to 1, without its dead zone."""
    share = min(abs(value) / _FULL, 1.0)
    size = max(0.0, share - DEAD_ZONE) / (1.0 - DEAD_ZONE)
    return size if value < 0 else -size


def move_pad(wish: Wish, axes: dict[int, int], events: list[PadEvent], ranges: Ranges) -> Wish:
    """Return the wish after a gamepad's records; `axes` is updated.

    Sticks at rest leave the command unchanged, so that a gamepad lying on the table does not stop the robot.
    """
    before, moved = stick_command(axes, ranges), False
    for event in events:
        if event.kind == AXIS:
            axes[event.number] = event.value
            moved |= not event.is_initial
        elif event.kind == BUTTON and event.value and not event.is_initial:
            if event.number == STOP_BUTTON:
                wish = replace(wish, command=STAND)
            elif event.number == RESET_BUTTON:
                wish = replace(wish, reset=True)
    after = stick_command(axes, ranges)
    return replace(wish, command=after) if moved and after != before else wish
