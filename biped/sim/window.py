"""The protocol of a window that shows the robots, and a check for a display."""

import os
import sys
from collections.abc import Mapping
from typing import Protocol

from biped.base.errors import MachineError
from biped.robot.state import BipedState

SPACING_M = 1.5
"""Distance between robots as drawn (m); in the simulation each robot is alone in its world."""
ROW = 4
"""Robots per row."""


class Window(Protocol):
    """A simulator's own window."""

    @property
    def is_open(self) -> bool:
        """Whether the user has not closed the window."""
        ...

    def show(self, state: BipedState) -> None:
        """Draw the robots in a state; does nothing if the window follows the simulation itself."""
        ...

    def close(self) -> None:
        """Close the window."""
        ...


def require_display(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> None:
    """Check that there is a display for a window.

    Raises:
        MachineError: there is no display.
    """
    if platform.startswith("linux") and not (environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")):
        raise MachineError("there is no display for --viewer: use --web, or --picture for a file")


def places(count: int) -> list[tuple[float, float]]:
    """Return the positions at which `count` robots are drawn, x and y (m), rows along x; the first is the origin."""
    return [(SPACING_M * (index // ROW), SPACING_M * (index % ROW)) for index in range(count)]
