"""Where Genesis keeps compiled kernels: the user's cache or, where that cannot be written, the temporary folder."""

import contextlib
import os
import tempfile
from pathlib import Path

from biped.base.errors import MachineError, warn

CACHE_REMEDY = "where it cannot write its kernels, name another folder: XDG_CACHE_HOME=DIR"
"""What to do about an error of the disk in Genesis."""
_NAME = "XDG_CACHE_HOME"
_PARTS = ("genesis", "quadrants")
"""Folders in the cache: Genesis's own, and its compiler's."""
_ROOM_BYTES = 2**20


def choose_cache() -> None:
    """Set XDG_CACHE_HOME, which Genesis and its compiler obey, to a folder that can be written.

    Without a home, or in one that cannot be written, they would end the process or fail in the middle of a build.

    Raises:
        MachineError: neither the cache nor the temporary folder can be written.
    """
    wanted = _usual_cache()
    if wanted is not None and _can_be_written(wanted):
        os.environ[_NAME] = str(wanted)
        return
    try:
        cache = _own_folder(Path(tempfile.gettempdir()) / f"biped-cache-{os.getuid()}")
        if not _can_be_written(cache):
            raise OSError(f"{cache} cannot be written")
    except OSError as error:
        raise MachineError(
            f"Genesis finds no folder for its kernels ({error}): name one that can be written, XDG_CACHE_HOME=DIR"
        ) from error
    where = f"the cache {wanted} cannot be written" if wanted else "this user has no home"
    warn(f"{where}: Genesis keeps its kernels in {cache}; to name another folder set XDG_CACHE_HOME=DIR")
    os.environ[_NAME] = str(cache)


def is_of_the_disk(error: Exception) -> bool:
    """Say whether an error of Genesis, or of its compiler, is one of the disk."""
    return isinstance(error, OSError) or "filesystem error" in str(error)


def _usual_cache() -> Path | None:
    if os.environ.get(_NAME):
        return Path(os.environ[_NAME])
    with contextlib.suppress(RuntimeError):  # no HOME, and no such user
        return Path.home() / ".cache"
    return None


def _can_be_written(cache: Path) -> bool:
    """Try it: permissions alone do not tell what a network's disk or a quota allows."""
    try:
        for part in _PARTS:
            (cache / part).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=cache / part) as file:
                file.write(bytes(_ROOM_BYTES))
    except OSError:
        return False
    return True


def _own_folder(folder: Path) -> Path:
    """Make a folder that only this user can write; another one where somebody else has that name.

    Kernels are programs: one that others can write would run what they put there.

    Raises:
        OSError: the temporary folder cannot be written.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    is_ours = found.st_uid == os.getuid() and found.st_mode & 0o170077 == 0o040000
    return folder if is_ours else Path(tempfile.mkdtemp(prefix=f"{folder.name}-"))
