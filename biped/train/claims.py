"""Work that several processes share, on one machine or on many with a common disk.

Each piece of work is a folder, and whoever has locked it does it. A lock ends with its process, so that the work of one
that was killed is free at once.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from biped.base.errors import disk_error
from biped.base.files import locked

_AGAIN_S = 0.05
"""Time between two tries to lock what is locked only for moments (s)."""


class Claims:
    """The pieces of work of one search, in a folder."""

    def __init__(self, folder: Path) -> None:
        """Use a folder, which is made where it is missing."""
        self._folder = folder

    @contextlib.contextmanager
    def claimed(self, name: str) -> Iterator[bool]:
        """Claim a piece of work; yield whether that succeeded: another process may have it.

        Raises:
            MachineError: the disk refuses the access.
        """
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(locked(self._made(name)))
            except BlockingIOError:
                yield False
                return
            except OSError as error:
                raise disk_error(self._folder / name, error) from error
            yield True

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Wait until this process is the only one in the block; it must be a matter of moments.

        Raises:
            MachineError: the disk refuses the access.
        """
        while True:
            with self.claimed(name) as is_ours:
                if is_ours:
                    yield
                    return
            time.sleep(_AGAIN_S)

    def _made(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder
