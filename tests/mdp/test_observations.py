import pytest
import torch

from biped.config.robot import JOINT_NAMES
from biped.mdp.observations import ObservationLayout, build_observation
from tests.mdp.states import CONFIG, standing_state

LAYOUT = ObservationLayout.build(CONFIG)
DEFAULT = torch.tensor(CONFIG.robot.default_joint_pos_rad)


def observe(**state_changes: torch.Tensor) -> dict[str, list[float]]:
    observation = build_observation(
        LAYOUT,
        CONFIG,
        standing_state(**state_changes),
        command=torch.tensor([[0.5, -0.1, 0.4]]),
        contacts=torch.tensor([[True, False]]),
        previous_action=torch.full((1, len(JOINT_NAMES)), 0.7),
        phase=torch.tensor([0.25]),
        default_joint_pos_rad=DEFAULT,
    )
    assert observation.shape == (1, LAYOUT.width)
    return {name: observation[0, where].tolist() for name, where in LAYOUT.slices().items()}


def test_the_layout_has_what_the_documents_name_once_each_and_without_gaps() -> None:
    assert [term.name for term in LAYOUT.terms] == [
        "projected_gravity_b",
        "base_ang_vel_b",
        "base_lin_vel_xy_b",
        "base_height_m",
        "command_lin_vel_x_b",
        "command_lin_vel_y_b",
        "command_ang_vel_b",
        "joint_pos_rad",
        "joint_vel_rad_s",
        "foot_contact",
        "previous_action",
        "gait_phase",
    ]
    covered = [index for where in LAYOUT.slices().values() for index in range(where.start, where.stop)]
    assert covered == list(range(LAYOUT.width))
    assert LAYOUT.width == 43


def test_each_value_stands_in_its_place_with_its_scale() -> None:
    seen = observe(
        base_ang_vel_b=torch.tensor([[1.0, 2.0, 4.0]]),
        base_lin_vel_b=torch.tensor([[0.3, 0.1, 9.0]]),
        base_pos_w=torch.tensor([[5.0, 5.0, 0.39]]),
        joint_pos_rad=DEFAULT[None] + 0.2,
        joint_vel_rad_s=torch.full((1, len(JOINT_NAMES)), 3.0),
    )
    assert seen["projected_gravity_b"] == [0.0, 0.0, -1.0]
    assert seen["base_ang_vel_b"] == pytest.approx([0.5, 1.0, 2.0])
    assert seen["base_lin_vel_xy_b"] == pytest.approx([0.6, 0.2])
    assert seen["base_height_m"] == pytest.approx([0.39])
    assert seen["command_lin_vel_x_b"] == pytest.approx([1.0])
    assert seen["command_lin_vel_y_b"] == pytest.approx([-0.6])
    assert seen["command_ang_vel_b"] == pytest.approx([0.8])
    assert seen["joint_pos_rad"] == pytest.approx([0.2] * 9)
    assert seen["joint_vel_rad_s"] == pytest.approx([0.15] * 9)
    assert seen["foot_contact"] == [1.0, 0.0]
    assert seen["previous_action"] == pytest.approx([0.7] * 9)
    assert seen["gait_phase"] == pytest.approx([1.0, 0.0], abs=1e-6)


def test_observations_are_clipped() -> None:
    seen = observe(base_ang_vel_b=torch.tensor([[1e6, -1e6, 0.0]]))
    assert seen["base_ang_vel_b"] == [100.0, -100.0, 0.0]


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(KeyError):
        LAYOUT.assemble({}, clip=1.0)
