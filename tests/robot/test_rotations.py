"""Rotations by quaternions."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from biped.robot.rotations import quat_from_gravity, quat_rotate

NUMBER = st.floats(-1.0, 1.0, width=32)
DOWN = torch.tensor([[0.0, 0.0, -1.0]])


@given(st.tuples(NUMBER, NUMBER, NUMBER).filter(lambda v: sum(x * x for x in v) > 1e-2))
def test_a_base_that_is_turned_as_gravity_says_has_gravity_downward(direction: tuple[float, float, float]) -> None:
    gravity_b = torch.nn.functional.normalize(torch.tensor([direction]), dim=1)
    quat = quat_from_gravity(gravity_b)
    torch.testing.assert_close(quat.norm(dim=1), torch.ones(1))
    torch.testing.assert_close(quat_rotate(quat, gravity_b), DOWN, rtol=0, atol=2e-3)


def test_upright_is_no_turn_and_upside_down_half_of_one() -> None:
    both = quat_from_gravity(torch.cat((DOWN, -DOWN)))
    assert both.abs().tolist() == [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]


def test_a_robot_that_leans_forward_turns_about_its_left_axis() -> None:
    """Leaning forward by 0.2 rad, gravity is felt a little forward: x > 0."""
    angle = torch.tensor(0.2)
    quat = quat_from_gravity(torch.stack((angle.sin(), torch.zeros(()), -angle.cos()))[None])
    expected = torch.stack(((0.5 * angle).cos(), torch.zeros(()), (0.5 * angle).sin(), torch.zeros(())))[None]
    torch.testing.assert_close(quat, expected)
