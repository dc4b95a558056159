"""Work that several processes share, on one machine or on many with a common disk.

Each piece of work is a file, and whoever has locked it does it. A lock ends with its process and with what it was
handed to, so that the work of one that was killed is free as soon as nobody does it any more.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from biped.base.errors import MachineError, disk_error
from biped.base.files import NoLocksError, locked_file

_AGAIN_S = 0.05
"""Time between two tries to lock what is locked only for moments (s)."""


@dataclass(frozen=True)
class Claim:
    """A piece of work that this process does."""

    handles: tuple[int, ...]
    """What a process inherits that does it for this one (`pass_fds`): the work is claimed until both have ended."""


class Claims:
    """The pieces of work of one search, in a folder."""

    def __init__(self, folder: Path) -> None:
        """Use a folder, which is made where it is missing."""
        self._folder = folder

    @property
    def is_used(self) -> bool:
        """Whether something was claimed before."""
        return self._folder.is_dir()

    @contextlib.contextmanager
    def claimed(self, name: str) -> Iterator[Claim | None]:
        """Claim a piece of work; yield None if another process has it.

        Raises:
            MachineError: the disk refuses the access, or has no locks.
        """
        file = self._folder / f"{name}.lock"
        with contextlib.ExitStack() as held:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                handles = held.enter_context(locked_file(file))
            except BlockingIOError:
                yield None
                return
            except NoLocksError as error:
                raise MachineError(
                    f"the disk of {self._folder} has no locks, without which processes cannot share work: "
                    "use a --log_dir on another disk"
                ) from error
            except OSError as error:
                raise disk_error(file, error) from error
            yield Claim(handles)

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Wait until this process is the only one in the block; it must be a matter of moments.

        Raises:
            MachineError: see `claimed`.
        """
        while True:
            with self.claimed(name) as claim:
                if claim is not None:
                    yield
                    return
            time.sleep(_AGAIN_S)
