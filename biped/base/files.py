"""Files written whole or not at all, and locks, on disks as they come.

Network shares and file systems in user space often lack what a local disk has. What can be done without is done
without, and said once in a process.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from biped.base.errors import warn

REPOSITORY = Path(__file__).resolve().parents[2]
"""The root of this project; relative paths in the configuration start here."""
_CANNOT_FLUSH = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EISDIR, errno.EACCES, errno.EPERM}
"""What network shares and file systems in user space answer to `fsync`, of folders above all, or to opening one."""
_NO_LOCKS = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.ENOLCK}
"""What they answer to `flock`; EBADF is NFS, which locks only what is open for writing, and a folder never is."""
_said: set[str] = set()


def write_whole(path: Path, content: bytes) -> None:
    """Write beside its place and move there: a kill leaves the old file or the new one, and so does a power cut.

    Raises:
        OSError: the disk does not let us.
    """
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        with _going_on_where_it_cannot_flush(path.parent):
            os.fsync(file.fileno())  # a machine that loses power would else keep the name and lose the content
    part.replace(path)
    with _going_on_where_it_cannot_flush(path.parent):
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)  # and without this it would keep the old file
        finally:
            os.close(handle)


def lock(handle: int, folder: Path) -> None:
    """Lock an open folder until it is closed; where the disk knows no locks, say so once and go on.

    Raises:
        BlockingIOError: another process holds the lock.
        OSError: the disk does not let us.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        say_once("lock", f"the disk of {folder} has no locks ({error.strerror}): start no second training in it")


def set_aside(path: Path) -> Path:
    """Give a file the first free of the names NAME.1.zip, NAME.2.zip, ... and return it.

    Raises:
        OSError: the disk does not let us.
    """
    number = 1
    while (free := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    path.rename(free)
    return free


def say_once(kind: str, text: str) -> None:
    """Warn, unless this process has warned of this kind of thing before."""
    if kind not in _said:
        _said.add(kind)
        warn(text)


@contextlib.contextmanager
def _going_on_where_it_cannot_flush(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise
        say_once("sync", f"the disk of {folder} cannot flush ({error.strerror}): a power cut may cost the newest files")
