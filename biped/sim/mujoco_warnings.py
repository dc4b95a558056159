"""What MuJoCo warns of, said once: by default it prints every warning of every robot, and writes MUJOCO_LOG.TXT too."""

import re
from typing import Any

from biped.base.errors import warn

_DETAILS = re.compile(r"( at \w+ \d+)?\. .*", re.DOTALL)
"""Which number of which robot it was, and when."""


class OncePerKind:
    """Says the first warning of each kind in a line; what becomes of the robots is in `env/error_resets`."""

    def __init__(self) -> None:
        """Have said nothing yet."""
        self._said: set[str] = set()

    def __call__(self, text: str) -> None:
        """Take a warning; MuJoCo calls this on any of its threads, one at a time."""
        kind = _DETAILS.sub("", text.strip())
        if kind not in self._said:
            self._said.add(kind)
            warn(f"MuJoCo: {kind} (further ones are not shown)")


def show_warnings_once(mujoco: Any) -> None:
    """Let MuJoCo's warnings be said once per kind in this process, unless its user has set a handler already."""
    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(OncePerKind())
