"""Runs a script where Python lacks what another system's Python lacks.

    python -m tests.other_system windows biped_train.py -e demo ...

Only the absence is real: modules that cannot be imported, and names that `os` and `signal` do not have. Libraries have
their own ways on other systems, so they are loaded first.
"""

import asyncio  # noqa: F401 - on Linux it needs fcntl; elsewhere it does not
import importlib.machinery
import os
import runpy
import signal
import sys
from collections.abc import Sequence
from types import ModuleType

import gymnasium  # noqa: F401
import matplotlib.figure  # noqa: F401
import mujoco  # noqa: F401
import psutil  # noqa: F401
import sb3_contrib  # noqa: F401
import torch.utils.tensorboard  # noqa: F401

MODULES = {"windows": ("fcntl", "termios", "tty", "pty", "resource"), "macos": ()}
"""What cannot be imported."""
NAMES: dict[str, dict[ModuleType, tuple[str, ...]]] = {
    "macos": {os: ("sched_getaffinity",)},
    "windows": {
        os: ("sched_getaffinity", "getuid", "openpty", "ttyname", "O_NONBLOCK", "killpg"),
        signal: ("SIGHUP", "SIGQUIT", "SIGTSTP", "pthread_sigmask"),
    },
}
"""What modules do not have."""


class _Lacking:
    """A finder that finds some modules nowhere."""

    def __init__(self, gone: Sequence[str]) -> None:
        self._gone = gone

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name in self._gone:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


def become(system: str) -> None:
    """Have this process lack what a system lacks."""
    for name in MODULES[system]:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, _Lacking(MODULES[system]))  # pyright: ignore[reportArgumentType]
    for module, names in NAMES[system].items():
        for name in names:
            delattr(module, name)
    os.environ.setdefault("USERNAME", "somebody")  # Windows sets it, and libraries ask for it where os has no getuid


def main() -> None:
    """Become the system and run the script."""
    become(sys.argv[1])
    assert not [name for name in sys.modules if name.split(".")[0] == "biped"], "ours is imported there, not here"
    sys.argv = sys.argv[2:]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
