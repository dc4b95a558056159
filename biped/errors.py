"""Errors that a person reads: one line, what is wrong and what to do.

The command line turns `UsageError` into exit code 2 and `MachineError` into exit code 1.
"""

import sys
from pathlib import Path


class UsageError(Exception):
    """What was asked for cannot be done as asked."""


class MachineError(Exception):
    """What was asked for is fine; this machine, its disk or its packages are not."""


def disk_error(path: Path | str, error: OSError, flag: str = "--log_dir") -> MachineError:
    """Return what a failed write means to a person, who can write elsewhere by a flag."""
    return MachineError(f"cannot write {path} ({error.strerror or error}): free the disk, or use another {flag}")


def is_out_of_memory(error: BaseException | None) -> bool:
    """Say whether an error, or one that it came from, is memory that ran out: the host's or a GPU's."""
    words = ("out of memory", "out_of_memory", "can't allocate memory", "cannot allocate memory", "bad_alloc")
    while error is not None:
        if isinstance(error, MemoryError) or any(word in str(error).lower() for word in words):
            return True
        error = error.__cause__
    return False


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def warn(text: str) -> None:
    """Say in one line what a person should know, beside the output."""
    print(text, file=sys.stderr, flush=True)
