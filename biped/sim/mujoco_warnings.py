"""MuJoCo's warnings, printed once per kind: by default MuJoCo prints each and writes MUJOCO_LOG.TXT too."""

import re
from typing import Any

from biped.base.errors import warn

_DETAILS = re.compile(r"( at \w+ \d+)?\. .*", re.DOTALL)
"""The details of a warning: which degree of freedom, and when."""


class OncePerKind:
    """Prints the first warning of each kind as one line; `env/error_resets` counts the affected robots."""

    def __init__(self) -> None:
        """Start with no warning printed."""
        self._said: set[str] = set()

    def __call__(self, text: str) -> None:
        """Receive a warning; MuJoCo calls this on any of its threads, one at a time."""
        kind = _DETAILS.sub("", text.strip())
        if kind not in self._said:
            self._said.add(kind)
            warn(f"MuJoCo: {kind} (further ones are not shown)")


def show_warnings_once(mujoco: Any) -> None:
    """Print MuJoCo's warnings once per kind in this process, unless the user has installed a handler."""
    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(OncePerKind())
