"""What a window on the robots is, and whether this machine can open one."""

import os
import sys
from collections.abc import Mapping
from typing import Protocol

from biped.base.errors import MachineError
from biped.robot.state import BipedState

SPACING_M = 1.5
"""Distance at which robots are drawn beside each other; in the simulation each has the world to itself."""
ROW = 4
"""Robots in a row."""


class Window(Protocol):
    """A simulator's own window."""

    @property
    def is_open(self) -> bool:
        """False once a person has closed it."""
        ...

    def show(self, state: BipedState) -> None:
        """Draw the robots in a state; does nothing where the window follows the simulation by itself."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


def require_display(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> None:
    """Make sure that there is a display for a window.

    Raises:
        MachineError: there is none.
    """
    if platform.startswith("linux") and not (environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")):
        raise MachineError("there is no display for --viewer: use --web, or --picture for a file")


def places(count: int) -> list[tuple[float, float]]:
    """Return where `count` robots are drawn, x and y (m), rows along x; the first is at the origin."""
    return [(SPACING_M * (index // ROW), SPACING_M * (index % ROW)) for index in range(count)]
