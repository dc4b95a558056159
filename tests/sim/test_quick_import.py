"""The shortcut of Genesis's import: the same answers, and no search for them."""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, ModuleType

import pytest

from biped.sim.quick_import import FROZEN, knowing_frozen_files


@pytest.fixture
def frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FrameType]:
    """The import machinery's frame around a module, as the compiler finds it."""
    (tmp_path / "asks_for_its_importer.py").write_text("import sys\nframe = sys._getframe(1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    import asks_for_its_importer  # pyright: ignore[reportMissingImports]

    yield asks_for_its_importer.frame
    del sys.modules["asks_for_its_importer"]


class Counting(ModuleType):
    """A module that counts how often it is asked for its file."""

    asked = 0

    @property
    def __file__(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        Counting.asked += 1
        return "/nowhere.py"


def test_the_frozen_frame_has_no_source_with_or_without_and_no_module_is_asked(
    frame: FrameType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert frame.f_code.co_filename in FROZEN
    monkeypatch.setitem(sys.modules, "counting", Counting("counting"))

    def look() -> tuple[inspect.Traceback, int]:
        Counting.asked = 0
        found = inspect.getframeinfo(frame)
        return found, Counting.asked

    without, searches = look()
    with knowing_frozen_files():
        within = look()
    assert within == (without, 0)
    assert searches > 0, "the search is what takes the time"
    assert look()[1] > 0, "afterwards all is as it was"
