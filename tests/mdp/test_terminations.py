import math

import pytest
import torch

from biped.config.task import TerminationConfig
from biped.mdp.terminations import check_terminations
from tests.mdp.states import standing_state

CFG = TerminationConfig()


def check(steps: int = 50, **changes: torch.Tensor):
    return check_terminations(standing_state(**changes), torch.tensor([steps]), 1000, CFG)


def tilted(angle_rad: float) -> torch.Tensor:
    return torch.tensor([[math.sin(angle_rad), 0.0, -math.cos(angle_rad)]])


def test_standing_goes_on() -> None:
    ends = check()
    assert not ends.done.item()


@pytest.mark.parametrize(("height_m", "fell"), [(0.299, True), (0.301, False)])
def test_a_base_under_30_cm_has_fallen(height_m: float, fell: bool) -> None:
    ends = check(base_pos_w=torch.tensor([[0.0, 0.0, height_m]]))
    assert ends.height.item() is ends.fell.item() is ends.terminated.item() is fell
    assert not ends.truncated.item()


@pytest.mark.parametrize(("degrees", "fell"), [(44.0, False), (46.0, True), (180.0, True)])
def test_a_base_past_its_largest_tilt_has_fallen(degrees: float, fell: bool) -> None:
    ends = check(projected_gravity_b=tilted(math.radians(degrees)))
    assert ends.tilt.item() is ends.fell.item() is fell


def test_the_time_out_truncates_and_does_not_terminate() -> None:
    ends = check(steps=1000)
    assert (ends.time_out.item(), ends.truncated.item(), ends.terminated.item()) == (True, True, False)
    assert not check(steps=999).done.item()


def test_a_fall_at_the_time_out_is_a_fall() -> None:
    ends = check(steps=1000, base_pos_w=torch.tensor([[0.0, 0.0, 0.1]]))
    assert (ends.truncated.item(), ends.terminated.item()) == (False, True)


def test_a_physics_error_terminates_without_being_a_fall() -> None:
    ends = check(error=torch.tensor([True]))
    assert (ends.terminated.item(), ends.fell.item()) == (True, False)
