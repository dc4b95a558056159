from dataclasses import fields, replace

import torch

from biped.env.snapshot import pack, selected
from biped.mdp.gait import StepState
from biped.robot.state import BipedState
from tests.mdp.states import standing_state

CPU = torch.device("cpu")


def test_whole_environments_are_selected_whatever_their_shapes_and_types() -> None:
    new, old = standing_state(3), standing_state(3)
    old = replace(old, **{f.name: getattr(old, f.name) + 1 for f in fields(BipedState) if f.name != "error"})
    old = replace(old, error=torch.ones(3, dtype=torch.bool))
    steps = replace(StepState.initial(3, CPU), contacts=torch.ones(3, 2, dtype=torch.bool), last_step=torch.arange(3))
    fresh = {"state": new, "steps": StepState.initial(3, CPU), "phase": torch.zeros(3)}
    before = {"state": old, "steps": steps, "phase": torch.ones(3)}
    after = selected(torch.tensor([True, False, True]), fresh, before)
    found, wanted, other = pack(after), pack(fresh), pack(before)
    assert list(found) == list(wanted)
    for name, value in found.items():
        assert value.dtype == other[name].dtype
        assert torch.equal(value[::2], wanted[name][::2])
        assert torch.equal(value[1], other[name][1])
    assert after["steps"].last_step.tolist() == [-1, 1, -1]
