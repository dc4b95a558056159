"""What Windows lacks of POSIX: asked for by name, so that a module can be imported where it has no use."""

import importlib
import os
import signal
from typing import Any

from biped.base.errors import MachineError

REMEDY = "use Linux, macOS or, on Windows, WSL2"


def posix_module(name: str, what: str) -> Any:
    """Import a module that only POSIX systems have, such as termios.

    Args:
        name: the module.
        what: what needs it; the error begins with it.

    Raises:
        MachineError: this system does not have it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MachineError(f"{what} needs a POSIX system: {REMEDY}") from error


def terminal_errors() -> tuple[type[Exception], ...]:
    """Return what the terminal's module raises besides OSError; nothing where there is no such module."""
    try:
        return (importlib.import_module("termios").error,)
    except ImportError:
        return ()


def signals(*names: str) -> tuple[signal.Signals, ...]:
    """Return those of these signals that this system has."""
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


def usable_cores() -> int:
    """Return the number of cores that this process may use: all of them on macOS and Windows, which do not say."""
    affinity: Any = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def keep_to_share(index: int, count: int) -> None:
    """Keep this process to one of `count` shares of its cores, if there are enough; macOS and Windows cannot."""
    given: Any = getattr(os, "sched_getaffinity", None)
    keep: Any = getattr(os, "sched_setaffinity", None)
    if given is not None and keep is not None and len(cores := sorted(given(0))) >= count:
        keep(0, cores[index::count])
