import math
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biped.robot.rotations import (
    quat_from_yaw,
    quat_rotate,
    quat_rotate_inverse,
)
from biped.robot.state import (
    BipedState,
    non_finite,
    without_motion,
)
from tests.mdp.states import standing_state

component = st.floats(-1.0, 1.0, width=32)
vectors = st.tuples(component, component, component)
quaternions = st.tuples(component, component, component, component).filter(lambda q: sum(c * c for c in q) > 0.1)


def test_a_quarter_turn_to_the_left_carries_forward_to_left() -> None:
    quat = quat_from_yaw(torch.tensor([math.pi / 2]))
    torch.testing.assert_close(quat_rotate(quat, torch.tensor([[1.0, 0.0, 0.0]])), torch.tensor([[0.0, 1.0, 0.0]]))
    torch.testing.assert_close(
        quat_rotate_inverse(quat, torch.tensor([[1.0, 0.0, 0.0]])), torch.tensor([[0.0, -1.0, 0.0]])
    )


@given(quaternions, vectors)
def test_rotation_keeps_length_and_its_inverse_undoes_it(q: tuple[float, ...], v: tuple[float, ...]) -> None:
    quat = torch.nn.functional.normalize(torch.tensor([q], dtype=torch.float64), dim=-1)
    vector = torch.tensor([v], dtype=torch.float64)
    rotated = quat_rotate(quat, vector)
    torch.testing.assert_close(rotated.norm(), vector.norm())
    torch.testing.assert_close(quat_rotate_inverse(quat, rotated), vector)


@given(quaternions, vectors)
def test_rotation_agrees_with_the_rotation_matrix(q: tuple[float, ...], v: tuple[float, ...]) -> None:
    quat = torch.nn.functional.normalize(torch.tensor(q, dtype=torch.float64), dim=-1)
    w, x, y, z = quat.tolist()
    matrix = torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ],
        dtype=torch.float64,
    )
    vector = torch.tensor(v, dtype=torch.float64)
    torch.testing.assert_close(quat_rotate(quat, vector), matrix @ vector)


@pytest.mark.parametrize("name", [f.name for f in fields(BipedState) if f.name != "error"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_any_number_that_is_not_finite_is_found_in_its_environment_alone(name: str, bad: float) -> None:
    state = standing_state(3)
    value = getattr(state, name).clone()
    value[1].view(-1)[-1] = bad
    assert non_finite(replace(state, **{name: value})).tolist() == [False, True, False]


def test_without_motion_keeps_the_pose_and_stops_everything() -> None:
    state = standing_state(2)
    moving = replace(state, base_lin_vel_b=torch.ones(2, 3), foot_force_n=torch.ones(2, 2))
    still = without_motion(moving)
    assert still.base_lin_vel_b.abs().sum() == 0
    assert still.foot_force_n.abs().sum() == 0
    torch.testing.assert_close(still.joint_pos_rad, state.joint_pos_rad)
    torch.testing.assert_close(still.projected_gravity_b, torch.tensor([[0.0, 0.0, -1.0]]).expand(2, 3))
