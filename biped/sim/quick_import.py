"""Genesis's import without the search that takes two thirds of its time."""

import contextlib
import inspect
from collections.abc import Iterator

FROZEN = ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>")
"""Files of Python's own import machinery, which exist nowhere."""


@contextlib.contextmanager
def knowing_frozen_files() -> Iterator[None]:
    """Let `inspect` answer at once that the frozen files belong to no module that can be read.

    Genesis's compiler asks for the line around each of its 1,400 functions. The frame there is the import machinery's,
    whose file `inspect` then seeks in every loaded module, each time anew: 9 of 13 s, and more the more is loaded. Its
    table of files is asked first; the answer is the same.
    """
    # The table is no documented part of `inspect`: where it is missing, the import is slow again.
    known: dict[str, str] = getattr(inspect, "modulesbyfile", {})
    added = [file for file in FROZEN if file not in known]
    known.update(dict.fromkeys(added, ""))
    try:
        yield
    finally:
        for file in added:
            known.pop(file, None)
