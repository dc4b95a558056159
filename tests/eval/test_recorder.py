from dataclasses import fields

import pytest
import torch

from biped.eval.recorder import Recorder
from biped.robot.state import BipedState


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
