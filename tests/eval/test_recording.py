from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from biped.eval.recorder import RECORDED_STATE
from biped.eval.recording import Recording
from tests.eval.walks import walk


def test_it_is_saved_and_loaded_as_it_was(tmp_path: Path) -> None:
    record = walk(seconds=0.4)
    record.save(tmp_path / "walk.npz")
    again = Recording.load(tmp_path / "walk.npz")
    for item in fields(Recording):
        np.testing.assert_array_equal(getattr(again, item.name), getattr(record, item.name))
    assert isinstance(again.dt_s, float)


def test_another_file_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="no recording"):
        Recording.load(tmp_path / "other.npz")


def test_episodes_are_chosen_whole() -> None:
    record = walk(num_envs=3, seconds=0.4)
    record = replace(record, fell=np.array([False, True, False]))
    chosen = record.episodes(np.array([False, True, True]))
    assert chosen.fell.tolist() == [True, False]
    assert chosen.command.shape == (2, 3)
    assert all(getattr(chosen, name).shape[1] == 2 for name in (*RECORDED_STATE, "running", "contacts"))
