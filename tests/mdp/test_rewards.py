"""Every term against a value computed by hand, and the ways to earn without walking."""

import math
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biped.config.robot import JOINT_NAMES
from biped.config.task import RewardConfig, RewardWeights
from biped.mdp.gait import StepEvents
from biped.mdp.rewards import TERMS, RewardModel, active_terms, compute_rewards, terms_of
from tests.mdp.states import CONFIG, CPU, MODEL, standing_inputs, standing_state

DT_S = CONFIG.sim.control_dt_s
JOINTS = len(JOINT_NAMES)


def rate(name: str, inputs=None, model: RewardModel = MODEL) -> float:
    return TERMS[name](inputs or standing_inputs(), model).item()


def joints(**values: float) -> torch.Tensor:
    row = torch.zeros(1, JOINTS)
    for name, value in values.items():
        row[0, JOINT_NAMES.index(name)] = value
    return row


def gait_pose(phase: float) -> torch.Tensor:
    """The default pose with the pitch joints on the reference."""
    pose = standing_state().joint_pos_rad.clone()
    pose[:, MODEL.gait_reference.joint_indices] = MODEL.gait_reference.at(torch.tensor([phase]))
    return pose


def test_tracking_is_one_on_the_command_and_falls_off_exponentially() -> None:
    moving = standing_state(base_lin_vel_b=torch.tensor([[0.4, -0.1, 0.0]]))
    inputs = standing_inputs((0.4, 0.0, 0.0), state=moving)
    assert rate("tracking_lin_vel_x", inputs) == pytest.approx(1.0)
    assert rate("tracking_lin_vel_y", inputs) == pytest.approx(math.exp(-0.1 / 0.1))
    turning = standing_state(base_ang_vel_b=torch.tensor([[0.0, 0.0, 0.5]]))
    asked = standing_inputs((0, 0, 0.25), state=turning)
    assert rate("tracking_ang_vel", asked) == pytest.approx(math.exp(-0.25 / 0.4))
    assert rate("tracking_lin_vel_x", standing_inputs((0.4, 0, 0))) == pytest.approx(math.exp(-0.4 / 0.25))


def test_alive_bonus_stops_and_fall_penalty_counts_once_at_a_fall() -> None:
    fallen = standing_inputs(fell=torch.ones(1, dtype=torch.bool))
    assert rate("alive_bonus") == 1.0
    assert rate("alive_bonus", fallen) == 0.0
    assert rate("fall_penalty") == 0.0
    assert rate("fall_penalty", fallen) * DT_S == pytest.approx(1.0)


def test_the_gait_pays_in_full_on_the_reference_at_the_commanded_speed() -> None:
    state = standing_state(joint_pos_rad=gait_pose(0.25), base_lin_vel_b=torch.tensor([[0.4, 0.0, 0.0]]))
    inputs = standing_inputs((0.4, 0.0, 0.0), state=state, phase=0.25)
    assert rate("sinusoidal_gait", inputs) == pytest.approx(1.0)
    wrong_leg = standing_inputs((0.4, 0.0, 0.0), state=state, phase=0.75)
    # Both legs are off by the whole swing: 2 x (0.25² + 0.50² + 0.25²) = 0.75.
    assert rate("sinusoidal_gait", wrong_leg) == pytest.approx(math.exp(-0.75 / 0.25), rel=1e-4)


@given(st.floats(0.0, 1.0, width=32))
def test_standing_still_under_a_forward_command_earns_nothing_from_the_gait(phase: float) -> None:
    for pose in (standing_state().joint_pos_rad, gait_pose(phase)):
        inputs = standing_inputs((0.4, 0.0, 0.0), state=standing_state(joint_pos_rad=pose), phase=phase)
        assert rate("sinusoidal_gait", inputs) == 0.0
        assert rate("foot_alternation", inputs) == 0.0


def test_walking_the_wrong_way_earns_nothing_from_the_gait() -> None:
    state = standing_state(joint_pos_rad=gait_pose(0.25), base_lin_vel_b=torch.tensor([[-0.4, 0.0, 0.0]]))
    assert rate("sinusoidal_gait", standing_inputs(state=state, phase=0.25)) == 0.0


def test_the_gait_gate_opens_in_proportion_to_progress() -> None:
    # 0.1 m/s of 0.4 m/s is a quarter, and half of the half from which pay is full.
    state = standing_state(joint_pos_rad=gait_pose(0.25), base_lin_vel_b=torch.tensor([[0.1, 0.0, 0.0]]))
    assert rate("sinusoidal_gait", standing_inputs(state=state, phase=0.25)) == pytest.approx(0.5)


def test_alternation_is_worth_the_seconds_of_the_swing_and_only_when_walking_is_asked_for() -> None:
    steps = replace(StepEvents.none(1, CPU), alternated_swing_s=torch.tensor([0.25]))
    assert rate("foot_alternation", standing_inputs(steps=steps)) * DT_S == pytest.approx(0.25)
    assert rate("foot_alternation", standing_inputs((0.0, 0.0, 0.0), steps=steps)) == 0.0


def test_a_swing_longer_than_the_clocks_own_is_paid_as_that() -> None:
    steps = replace(StepEvents.none(1, CPU), alternated_swing_s=torch.tensor([0.5]))
    assert rate("foot_alternation", standing_inputs(steps=steps)) * DT_S == pytest.approx(0.36 / 1.4)


def test_the_contact_schedule_pays_when_exactly_the_wanted_feet_stand() -> None:
    def paid(phase: float, left: bool, right: bool, command: tuple[float, float, float] = (0.4, 0.0, 0.0)) -> float:
        contacts = torch.tensor([[left, right]])
        return rate("contact_schedule", standing_inputs(command, phase=phase, contacts=contacts))

    assert paid(0.25, False, True) == 1.0  # the left foot is at mid-swing
    assert paid(0.25, True, False) == paid(0.25, True, True) == paid(0.25, False, False) == 0.0
    assert paid(0.75, True, False) == 1.0
    assert paid(0.06, True, True) == paid(0.48, True, True) == 1.0  # between two swings both feet stand
    assert paid(0.06, False, True) == 0.0
    assert paid(0.08, False, True) == 1.0  # a swing share of 0.36 begins at 0.07
    assert paid(0.25, False, True, (0.0, 0.0, 0.0)) == 0.0


def test_standing_still_pays_for_both_feet_on_the_ground_where_standing_is_asked_for() -> None:
    both, one = torch.tensor([[True, True]]), torch.tensor([[True, False]])
    assert rate("standing_still", standing_inputs((0.0, 0.0, 0.0), contacts=both)) == 1.0
    assert rate("standing_still", standing_inputs((0.0, 0.0, 0.0), contacts=one)) == 0.0
    assert rate("standing_still", standing_inputs((0.4, 0.0, 0.0), contacts=both)) == 0.0


def test_height_tilt_and_bouncing_are_squared() -> None:
    base = torch.tensor([[0.0, 0.0, CONFIG.reward.target_height_m - 0.05]])
    assert rate("height_maintenance", standing_inputs(state=standing_state(base_pos_w=base))) == pytest.approx(0.0025)
    leaning = standing_state(
        projected_gravity_b=torch.tensor([[0.3, -0.4, -0.866]]), base_ang_vel_b=torch.tensor([[1.0, 2.0, 9.0]])
    )
    assert rate("torso_stability", standing_inputs(state=leaning)) == pytest.approx(0.25 + 0.01 * 5.0)
    bouncing = standing_state(base_lin_vel_b=torch.tensor([[1.0, 1.0, -0.3]]))
    assert rate("lin_vel_z", standing_inputs(state=bouncing)) == pytest.approx(0.09)


def test_action_rate_is_the_squared_change() -> None:
    inputs = standing_inputs(action=joints(left_knee=1.0, torso_yaw=-0.5), previous_action=joints(left_knee=0.5))
    assert rate("action_rate", inputs) == pytest.approx(0.25 + 0.25)


def test_posture_watches_hip_roll_and_torso_yaw_only() -> None:
    moved = standing_state().joint_pos_rad + joints(
        left_hip_roll=0.2, right_hip_roll=-0.1, torso_yaw=0.3, left_knee=9.0
    )
    assert rate("similar_to_default", standing_inputs(state=standing_state(joint_pos_rad=moved))) == pytest.approx(0.6)


@pytest.mark.parametrize("yaw_rad", [0.0, 1.2, math.pi])
def test_feet_that_are_closer_than_asked_sideways_cost_what_is_missing(yaw_rad: float) -> None:
    """Whichever way the robot faces, and whatever the length of the step."""
    ahead, left = (
        torch.tensor([math.cos(yaw_rad), math.sin(yaw_rad)]),
        torch.tensor([-math.sin(yaw_rad), math.cos(yaw_rad)]),
    )
    facing = torch.tensor([[math.cos(yaw_rad / 2), 0.0, 0.0, math.sin(yaw_rad / 2)]])

    def cost(apart_m: float) -> float:
        feet = torch.zeros(1, 2, 3)
        feet[0, 0, :2] = 0.3 * ahead + apart_m * left
        return rate("feet_apart", standing_inputs(state=standing_state(foot_pos_w=feet, base_quat_w=facing)))

    wanted = CONFIG.reward.feet_apart_m
    assert cost(0.75 * wanted) == pytest.approx(0.25, abs=1e-6)
    assert cost(wanted + 0.05) == 0.0
    assert cost(-0.5 * wanted) == pytest.approx(1.5, abs=1e-6), "crossed"


def test_slip_counts_the_horizontal_speed_of_standing_feet_only() -> None:
    state = standing_state(foot_vel_w=torch.tensor([[[0.3, 0.4, 7.0], [1.0, 0.0, 0.0]]]))
    inputs = standing_inputs(state=state, contacts=torch.tensor([[True, False]]))
    assert rate("foot_slip", inputs) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("torque", "speed", "excess"),
    [
        (3.0, 0.0, 0.0),  # all of the stall torque at standstill
        (3.0, 4.03, 1.5),  # half of it at half of the no-load speed
        (-3.0, -4.03, 1.5),  # the same the other way round
        (3.0, -4.03, 0.0),  # braking
        (1.0, 9.0, 1.0),  # nothing past the no-load speed
        (0.0, 9.0, 0.0),
    ],
)
def test_the_servo_envelope_is_linear_in_speed(torque: float, speed: float, excess: float) -> None:
    state = standing_state(joint_torque_nm=joints(left_knee=torque), joint_vel_rad_s=joints(left_knee=speed))
    assert rate("actuator_constraint", standing_inputs(state=state)) == pytest.approx(excess, abs=1e-5)


def test_weights_and_control_step_multiply_and_shares_add_up() -> None:
    rewards, shares = compute_rewards(standing_inputs(), MODEL)
    names = active_terms(CONFIG.reward.weights)
    assert shares.shape == (1, len(names))
    expected = {name: getattr(CONFIG.reward.weights, name) * rate(name) * DT_S for name in names}
    assert dict(zip(names, shares[0].tolist(), strict=True)) == pytest.approx(expected)
    assert rewards.item() == pytest.approx(sum(expected.values()))


def test_a_term_of_weight_zero_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = replace(CONFIG.reward.weights, lin_vel_z=0.0)
    cfg = replace(CONFIG, reward=replace(CONFIG.reward, weights=weights))
    called = []
    watched = {name: (lambda i, m, n=name, t=term: called.append(n) or t(i, m)) for name, term in TERMS.items()}
    monkeypatch.setattr("biped.mdp.rewards.TERMS", watched)
    compute_rewards(standing_inputs(), RewardModel.build(cfg, CPU))
    assert set(called) == set(TERMS) - {"lin_vel_z", "feet_apart", "imitation"}, "two are off by default"


def test_without_any_weight_the_reward_is_zero() -> None:
    weights = RewardWeights(**{item.name: 0.0 for item in fields(RewardWeights)})
    model = RewardModel.build(replace(CONFIG, reward=RewardConfig(weights=weights)), CPU)
    rewards, shares = compute_rewards(standing_inputs(), model)
    assert rewards.tolist() == [0.0]
    assert shares.shape == (1, 0)


def test_terms_and_weights_must_match() -> None:
    missing = {name: term for name, term in TERMS.items() if name != "foot_slip"}
    with pytest.raises(ValueError, match="foot_slip"):
        terms_of(RewardWeights, missing)
    with pytest.raises(ValueError, match="surprise"):
        terms_of(RewardWeights, {**TERMS, "surprise": TERMS["foot_slip"]})
    assert list(terms_of(RewardWeights, {"something_else": 3, **TERMS})) == [
        item.name for item in fields(RewardWeights)
    ]


def test_the_documents_terms_are_all_there() -> None:
    assert set(TERMS) == {
        "imitation",
        "tracking_lin_vel_x",
        "tracking_lin_vel_y",
        "tracking_ang_vel",
        "alive_bonus",
        "sinusoidal_gait",
        "foot_alternation",
        "contact_schedule",
        "standing_still",
        "height_maintenance",
        "torso_stability",
        "lin_vel_z",
        "action_rate",
        "similar_to_default",
        "feet_apart",
        "foot_slip",
        "actuator_constraint",
        "fall_penalty",
    }
