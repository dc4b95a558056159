"""Files written whole or not at all, and locks, on disks as they come.

Network shares and file systems in user space often lack what a local disk has. What can be done without is done
without, and said once in a process.
"""

import contextlib
import errno
import fcntl
import io
import os
import shutil
import tempfile
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


@contextlib.contextmanager
def being_written(path: Path) -> Iterator[io.BufferedRandom]:
    """Yield a file beside its place, moved there at the end: a kill or a power cut leaves the old file or the new one.

    Where anything goes wrong in the block, the old file stays and nothing of the new one.

    Raises:
        OSError: the disk does not let us.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w+b") as file:
            yield file
            file.flush()
            with _going_on_where_it_cannot_flush(path.parent):
                os.fsync(file.fileno())  # a machine that loses power would else keep the name and lose the content
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    with _going_on_where_it_cannot_flush(path.parent):
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)  # and without this it would keep the old file
        finally:
            os.close(handle)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; see `being_written`.

    Raises:
        OSError: the disk does not let us.
    """
    with being_written(path) as file:
        file.write(content)


@contextlib.contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield a folder whose files are moved into `out` at the end, all of them or, where anything goes wrong, none.

    Raises:
        OSError: the disk does not let us.
    """
    is_new = not out.exists()
    out.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".export-", dir=out))
    try:
        yield folder
        for file in sorted(folder.iterdir()):
            file.replace(out / file.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if is_new and not any(out.iterdir()):
            out.rmdir()


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
