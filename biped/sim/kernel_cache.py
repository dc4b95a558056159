"""Genesis's compiled kernels: for what they are compiled, and where they are kept.

Their folder is the user's cache or, if that is not writable, the temporary folder.
"""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

from biped.base.errors import MachineError, warn
from biped.config.robot import SimConfig

CACHE_REMEDY = "where it cannot write its kernels, name another folder: XDG_CACHE_HOME=DIR"
"""Advice for an error of the disk in Genesis."""
_NAME = "XDG_CACHE_HOME"
_PARTS = ("genesis", "quadrants")
"""Folders in the cache: Genesis's own, and its compiler's."""
_ROOM_BYTES = 2**20


def choose_cache() -> None:
    """Set XDG_CACHE_HOME, which Genesis and its compiler use, to a writable folder.

    Without a writable cache, Genesis would end the process or fail during a build.

    Raises:
        MachineError: neither the cache nor the temporary folder is writable.
    """
    wanted = _usual_cache()
    if wanted is not None and _can_be_written(wanted):
        os.environ[_NAME] = str(wanted)
        return
    try:
        cache = _own_folder(Path(tempfile.gettempdir()) / f"biped-cache-{_user()}")
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
    """Return whether an error of Genesis or of its compiler comes from the disk."""
    return isinstance(error, OSError) or "filesystem error" in str(error)


def _usual_cache() -> Path | None:
    if os.environ.get(_NAME):
        return Path(os.environ[_NAME])
    with contextlib.suppress(RuntimeError):  # neither HOME nor a home in the user database
        return Path.home() / ".cache"
    return None


def _can_be_written(cache: Path) -> bool:
    """Try to write: permissions alone do not show what a network disk or a quota allows."""
    try:
        for part in _PARTS:
            (cache / part).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=cache / part) as file:
                file.write(bytes(_ROOM_BYTES))
    except OSError:
        return False
    return True


def _own_folder(folder: Path) -> Path:
    """Make a folder that only this user can write; if another user owns that name, one with another name.

    Kernels are programs: in a folder that others can write, we would run their code.

    Raises:
        OSError: the temporary folder is not writable.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    is_ours = found.st_uid == _user() and found.st_mode & 0o170077 == 0o040000
    return folder if is_ours else Path(tempfile.mkdtemp(prefix=f"{folder.name}-"))


def _user() -> int:
    """Return the user's number; Windows has none, and says 0 of every file."""
    number: Any = getattr(os, "getuid", None)
    return 0 if number is None else number()


def is_specialised(cfg: SimConfig, device: str) -> bool:
    """Return whether Genesis compiles its kernels for one number of robots, on `cpu` or `cuda`."""
    return device == "cuda" if cfg.performance_mode is None else cfg.performance_mode
