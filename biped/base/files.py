"""Atomic file writes and locks that also work on disks without full support for them.

Network shares and file systems in user space often lack features of a local disk. Optional features are skipped
there, with one warning per process.
"""

import contextlib
import errno
import importlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from biped.base.errors import warn

REPOSITORY = Path(__file__).resolve().parents[2]
"""The root of this project; relative paths in the configuration start here."""
_CANNOT_FLUSH = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EISDIR, errno.EACCES, errno.EPERM}
"""Error numbers of `fsync`, and of opening a folder for it, on file systems that do not support it."""
_NO_LOCKS = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.ENOLCK}
"""Error numbers of `flock` without support; EBADF is NFS, which locks only files open for writing, never folders."""
_said: set[str] = set()


@contextlib.contextmanager
def being_written(path: Path) -> Iterator[io.BufferedRandom]:
    """Yield a temporary file that replaces `path` at the end; a kill or a power cut leaves the old file or the new one.

    If the block fails, the old file stays and the new one is removed.

    Raises:
        OSError: the disk refuses the write.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w+b") as file:
            yield file
            file.flush()
            with _going_on_where_it_cannot_flush(path.parent):
                os.fsync(file.fileno())  # else a power cut could keep the name and lose the content
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    if sys.platform == "win32":
        return  # it opens no folders
    with _going_on_where_it_cannot_flush(path.parent):
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)  # without this a power cut could keep the old file
        finally:
            os.close(handle)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file completely or not at all; see `being_written`.

    Raises:
        OSError: the disk refuses the write.
    """
    with being_written(path) as file:
        file.write(content)


@contextlib.contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder; at the end, move all its files into `out`, or none of them if the block fails.

    Raises:
        OSError: the disk refuses the write.
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


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder; the lock ends at the latest with the process. If the disk has no locks, warn once and continue.

    Windows and NFS lock no folders: there it is a file beside the folder, because one within would keep it from being
    renamed on Windows.

    Raises:
        BlockingIOError: another process holds the lock.
        OSError: the folder cannot be opened, or the disk refuses the lock.
    """
    beside = folder.with_name(f".{folder.name}.lock")
    try:
        fcntl: Any = importlib.import_module("fcntl")
    except ImportError:
        with _locked_by_a_file(beside):
            yield
        return
    with contextlib.ExitStack() as held:
        handle = os.open(folder, os.O_RDONLY)
        held.callback(os.close, handle)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            try:
                held.enter_context(locked_file(beside))
            except BlockingIOError:
                raise
            except OSError as error:
                say_once(
                    "lock", f"the disk of {folder} has no locks ({error.strerror}): start no second training in it"
                )
        yield


class NoLocksError(OSError):
    """A disk has no locks."""


@contextlib.contextmanager
def locked_file(file: Path) -> Iterator[tuple[int, ...]]:
    """Lock a file, which is made where it is missing; the lock ends with the processes that have its handles.

    Network shares that lock no folders, such as NFS, lock files that are open for writing, for all machines.

    Yields:
        The handles that hold the lock, for processes that shall hold it too; none on Windows.

    Raises:
        BlockingIOError: another process holds the lock.
        NoLocksError: the disk has no locks.
        OSError: the file cannot be opened, or the disk refuses the lock.
    """
    try:
        fcntl: Any = importlib.import_module("fcntl")
    except ImportError:
        with _locked_by_a_file(file):
            yield ()
        return
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                raise NoLocksError(error.errno, os.strerror(error.errno)) from error
            raise
        yield (handle,)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _locked_by_a_file(file: Path) -> Iterator[None]:
    import filelock  # a robot's computer has none, and locks nothing

    held = filelock.FileLock(file, blocking=False)
    try:
        held.acquire()
    except filelock.Timeout as error:
        raise BlockingIOError(errno.EAGAIN, f"{file} is held by another process") from error
    try:
        yield
    finally:
        held.release()


def link_or_copy(file: Path, copy: Path) -> None:
    """Give a file a second name whose content stays when the first is replaced.

    Raises:
        OSError: the disk refuses the write.
    """
    copy.unlink(missing_ok=True)
    try:
        os.link(file, copy)
    except OSError:  # the file system has no hard links
        shutil.copyfile(file, copy)


def set_aside(path: Path) -> Path:
    """Rename a file to the first free name of NAME.1.zip, NAME.2.zip, ... and return the new path.

    Raises:
        OSError: the disk refuses to rename it.
    """
    number = 1
    while (free := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    path.rename(free)
    return free


def say_once(kind: str, text: str) -> None:
    """Print a warning, at most once per process for each `kind`."""
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
