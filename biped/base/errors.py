"""Errors that a person reads: one line, what is wrong and what to do.

```
Exception
    UsageError          what was asked for cannot be done as asked: exit code 2
        ConfigError     a value that the configuration cannot hold; a ValueError, too
    MachineError        this machine, its disk or its packages cannot: exit code 1
```
"""

import errno
import sys
from pathlib import Path


class UsageError(Exception):
    """What was asked for cannot be done as asked."""


class ConfigError(UsageError, ValueError):
    """A value that the configuration cannot hold. The message is one line: what is wrong and what to do."""


class MachineError(Exception):
    """What was asked for is fine; this machine, its disk or its packages are not."""


_PERMISSIONS = "change who may write there, or use another {flag}"
_BROKEN = "see what the system's log says of the disk, or use another {flag}"
_REMEDIES = {
    errno.ENOSPC: "free the disk, or use another {flag}",
    errno.EDQUOT: "free the disk, or use another {flag}",
    errno.EFBIG: "free the disk, or use another {flag}",
    errno.EACCES: _PERMISSIONS,
    errno.EPERM: _PERMISSIONS,
    errno.EROFS: "the disk is read-only; use another {flag}",
    errno.ENOENT: "put the folder back, or use another {flag}",
    errno.ENOTDIR: "move the file that is in the way, or use another {flag}",
    errno.EISDIR: "move the folder that is in the way, or use another {flag}",
    errno.ENAMETOOLONG: "use a shorter name, or another {flag}",
    errno.EMFILE: "let a process open more files (ulimit -n)",
    errno.ENFILE: "close other programs, or let the system open more files",
    errno.EIO: _BROKEN,
    errno.ESTALE: _BROKEN,
}
"""What helps against an error, by its number; for all others there is another disk."""


def disk_error(path: Path | str, error: OSError, flag: str = "--log_dir") -> MachineError:
    """Return what a failed write means to a person, who can write elsewhere by a flag."""
    remedy = _REMEDIES.get(error.errno or 0, "use another {flag}").format(flag=flag)
    return MachineError(f"cannot write {path} ({error.strerror or error}): {remedy}")


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


def say(text: str) -> None:
    """Say in one line what is being done."""
    print(text, flush=True)


def warn(text: str) -> None:
    """Say in one line what a person should know, beside the output."""
    print(text, file=sys.stderr, flush=True)
