"""Errors that a person reads: one line, what is wrong and what to do.

The command line turns `UsageError` into exit code 2 and `MachineError` into exit code 1.
"""

import sys
from pathlib import Path


class UsageError(Exception):
    """What was asked for cannot be done as asked."""


class MachineError(Exception):
    """What was asked for is fine; this machine, its disk or its packages are not."""


def disk_error(path: Path | str, error: OSError) -> MachineError:
    """Return what a failed write means to a person."""
    return MachineError(f"cannot write {path} ({error.strerror or error}): free the disk, or use another --log_dir")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def warn(text: str) -> None:
    """Say in one line what a person should know, beside the output."""
    print(text, file=sys.stderr, flush=True)
