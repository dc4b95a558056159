"""Errors for the user: one line that says what is wrong and what to do.

```
Exception
    UsageError          the request cannot be carried out as given: exit code 2
        ConfigError     an invalid configuration value; also a ValueError
    MachineError        this machine, its disk or its packages prevent it: exit code 1
```
"""

import errno
import sys
from pathlib import Path


class UsageError(Exception):
    """The request cannot be carried out as given."""


class ConfigError(UsageError, ValueError):
    """A value is invalid in the configuration. The message is one line: what is wrong and what to do."""

    def __init__(self, text: str = "") -> None:
        """Say it in one line, whatever line breaks a user's name of a setting has."""
        super().__init__(" ".join(text.splitlines()))


class MachineError(Exception):
    """The request is valid, but this machine, its disk or its packages prevent it."""


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
"""Advice per error number; for every other error: use another disk."""


def disk_error(path: Path | str, error: OSError, flag: str = "--log_dir") -> MachineError:
    """Return the error for a failed write, with advice; `flag` is the option that selects another place."""
    remedy = _REMEDIES.get(error.errno or 0, "use another {flag}").format(flag=flag)
    return MachineError(f"cannot write {path} ({error.strerror or error}): {remedy}")


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or one of its causes, is the host or a GPU running out of memory."""
    words = ("out of memory", "out_of_memory", "can't allocate memory", "cannot allocate memory", "bad_alloc")
    while error is not None:
        if isinstance(error, MemoryError) or any(word in str(error).lower() for word in words):
            return True
        error = error.__cause__
    return False


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the error's type if the message is empty."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def say(text: str) -> None:
    """Print one line of progress on standard output."""
    print(text, flush=True)


def warn(text: str) -> None:
    """Print one line on standard error."""
    print(text, file=sys.stderr, flush=True)
