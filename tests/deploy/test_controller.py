"""What a policy is given and what becomes of its action, on the robot's computer."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biped.base.errors import UsageError
from biped.deploy.contract_file import METADATA_KEY, CommandRule, PolicyContract, contract_in
from biped.deploy.controller import Controller, OnnxPolicy
from biped.deploy.hardware import ImuReading, JointReading
from tests.deploy.still_robot import POLICY

FORWARD = np.array((0.3, 0.0, 0.0))


def imu(gravity: tuple[float, float, float] = (0.1, -0.2, -0.97), rate: float = 0.4) -> ImuReading:
    return ImuReading(np.array(gravity), np.array((rate, -rate, 2.0 * rate)), 0.004)


def joints(contract: PolicyContract, off_rad: float = 0.05) -> JointReading:
    n = len(contract.motors)
    ramp = np.arange(n)
    zeros = np.zeros(n)
    pos_rad = contract.default_pose_rad + off_rad * ramp
    return JointReading(pos_rad, 0.5 * ramp - 1.0, zeros, zeros, zeros, zeros.astype(np.int64))


@pytest.fixture
def controller() -> Controller:
    return Controller(OnnxPolicy(POLICY))


def test_an_observation_by_hand(controller: Controller) -> None:
    contract = controller.contract
    first = controller.step(imu(), joints(contract), FORWARD)
    second = controller.step(imu(), joints(contract), FORWARD)
    ramp = np.arange(9)
    angle = 2.0 * np.pi * 1.8 * 0.02
    by_hand = np.concatenate(
        (
            (0.1, -0.2, -0.97),
            (0.2, -0.2, 0.4),  # scale 0.5
            (0.6, 0.0, 0.0),  # scales 2, 6, 2
            0.05 * ramp,
            0.05 * (0.5 * ramp - 1.0),
            first.action,
            (np.sin(angle), np.cos(angle)),
        )
    )
    np.testing.assert_allclose(second.observation, by_hand, atol=1e-6)
    np.testing.assert_allclose(second.targets_rad, contract.default_pose_rad + 0.25 * second.action)
    assert not np.allclose(first.action, second.action), "its memory and clock went on"


def test_a_command_to_stand_stops_the_clocks_features_but_not_the_clock(controller: Controller) -> None:
    contract = controller.contract
    standing = controller.step(imu(), joints(contract), np.array((0.05, 0.0, 0.0)))
    assert not standing.command.any()
    np.testing.assert_array_equal(standing.observation[-2:], 0.0)
    walking = controller.step(imu(), joints(contract), FORWARD)
    angle = 2.0 * np.pi * 1.8 * 0.02
    np.testing.assert_allclose(walking.observation[-2:], (np.sin(angle), np.cos(angle)), atol=1e-6)


def test_forgetting_begins_anew_to_the_last_bit(controller: Controller) -> None:
    readings = imu(), joints(controller.contract)
    first = [controller.step(*readings, FORWARD).action for _ in range(5)]
    controller.forget()
    again = [controller.step(*readings, FORWARD).action for _ in range(5)]
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_lost_reading_is_held_and_too_many_say_stop(controller: Controller, bad: float) -> None:
    contract = controller.contract
    before = [controller.step(imu(), joints(contract), FORWARD) for _ in range(3)][-1]
    lost = replace(joints(contract), vel_rad_s=np.where(np.arange(9) == 4, bad, 0.0))
    for count in range(1, 6):
        held = controller.step(imu(), lost, FORWARD)
        np.testing.assert_array_equal(held.action, before.action)
        assert np.isnan(held.observation).sum() == 1
        assert controller.held == count
        assert not controller.must_stop
    controller.step(imu(), lost, FORWARD)
    assert controller.must_stop
    assert np.isfinite(controller.step(imu(), joints(contract), FORWARD).action).all()
    assert controller.held == 0


def test_commands_are_kept_within_what_was_trained() -> None:
    rule = CommandRule(np.array(((-0.2, 0.6), (-0.15, 0.15), (-0.6, 0.6))), 0.5, 0.1)
    np.testing.assert_allclose(rule.followed((2.0, -1.0, 0.1)), (0.6, -0.15, 0.1))
    # 0.5 m of lever: 0.19 rad/s count as 0.095 m/s, and mean: stand still.
    np.testing.assert_allclose(rule.followed((0.0, 0.0, 0.19)), 0.0)
    np.testing.assert_allclose(rule.followed((0.0, 0.0, 0.21)), (0.0, 0.0, 0.21))


def nested(levels: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(levels):
        inner = [inner]
    return inner


def raw_contract() -> dict[str, Any]:
    return json.loads(json.dumps(OnnxPolicy(POLICY).contract.raw))


def changed(**changes: Any) -> dict[str, Any]:
    return {**raw_contract(), **changes}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (changed(format="other"), "no biped-policy-contract"),
        (changed(version=1), "of version 1, and this program understands version 2"),
        (changed(motors={}), "the contract is damaged"),
        (changed(action={"joint_names": ["a"]}), "the contract is damaged"),
        (changed(sensors={}), "the contract is damaged"),
        (changed(sensors={"needed": []}), "the contract is damaged"),
        (changed(sensors={"not_measured": []}), "the contract is damaged"),
        (changed(sensors={"needed": [], "not_measured": 3}), "the contract is damaged"),
        (changed(action=[]), "the contract is damaged"),
        (changed(action={**raw_contract()["action"], "clip": "far"}), "the contract is damaged"),
        (changed(control={"dt_s": 10**400}), "the contract is damaged"),
        (changed(policy={"inputs": [], "non_finite": {"max_held_steps": float("inf")}}), "the contract is damaged"),
        (changed(version=nested(5000)), "the contract is damaged"),
        (changed(version="1\n2"), "of version"),
        (changed(sensors={"needed": [], "not_measured": ["base_height_m"]}), "observes base_height_m, which no sensor"),
    ],
)
def test_a_contract_that_cannot_be_used_is_said_in_one_line(raw: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        PolicyContract.of(raw)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"version": ' + "9" * 5000 + "}"])
def test_metadata_that_is_no_json_is_said_in_one_line(text: str) -> None:
    with pytest.raises(UsageError, match=r"^the contract in a\.onnx is not JSON: export the policy anew$"):
        contract_in({METADATA_KEY: text}, b"", Path("a.onnx"))


def test_a_file_that_is_no_policy_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^cannot read .*none\.onnx \("):
        OnnxPolicy(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(UsageError, match=r"text\.onnx is no ONNX file"):
        OnnxPolicy(tmp_path / "text.onnx")
