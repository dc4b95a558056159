from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from biped.eval.record import RECORDED_STATE, Recorder, Recording
from biped.robot.state import BipedState
from tests.eval.walks import walk


def state(value: float) -> BipedState:
    """A state of two robots whose numbers are all the same."""
    shapes = {"base_quat_w": (2, 4), "foot_pos_w": (2, 2, 3), "foot_vel_w": (2, 2, 3), "foot_force_n": (2, 2)}
    joints = dict.fromkeys(("joint_pos_rad", "joint_vel_rad_s", "joint_torque_nm"), (2, 9))
    names = [item.name for item in fields(BipedState) if item.name != "error"]
    parts = {name: torch.full({**shapes, **joints}.get(name, (2, 3)), value) for name in names}
    return BipedState(error=torch.zeros(2, dtype=torch.bool), **parts)


def test_an_episode_is_recorded_until_it_ends_and_its_end_says_how() -> None:
    recorder = Recorder(0.02, 1.7, torch.tensor([[0.1, 0.0, 0.0], [0.2, 0.0, 0.0]]), ("a", "b", "c"))
    contacts = torch.tensor([[True, False], [True, True]])
    flags = [(False, False), (True, False), (True, False), (False, True)]  # of robot 0: terminated; of both: timed out
    for step, (terminated, truncated) in enumerate(flags):
        recorder.add(
            state(float(step)),
            contacts,
            torch.tensor([terminated, False]),
            torch.tensor([truncated, truncated]),
            torch.tensor([0.1 * step, 0.5]),
            torch.full((2, 3), float(step)),
        )
    record = recorder.finish()
    assert record.running[:, 0].tolist() == [True, False, False, False]
    assert record.running[:, 1].tolist() == [True, True, True, False]
    assert record.fell.tolist() == [True, False]
    assert record.base_pos_w[:, 1, 0].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert record.contacts[2].tolist() == contacts.tolist()
    assert (record.dt_s, record.mass_kg) == (0.02, 1.7)
    assert record.phase[:, 0].tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert record.rewards[3, 1].tolist() == [3.0, 3.0, 3.0]
    assert record.reward_names.tolist() == ["a", "b", "c"]


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
