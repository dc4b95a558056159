"""The robot of a log: which one it is, and with which motors."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from biped.base.errors import UsageError
from biped.config.actuators import ActuatorConfig
from biped.config.run import Config
from biped.config.settings import robot_settings, with_settings
from biped.deploy.contract import Provenance, build_contract
from biped.deploy.trained_robot import env_of
from biped_config import smoke_preset
from tests.conftest import ROOT

STRIDER = ROOT / "assets" / "strider" / "robot.json"


def contract_of(config: Config) -> dict[str, Any]:
    return json.loads(json.dumps(build_contract(config, Provenance("model.zip", "0" * 64, 1))))


def test_the_robots_of_the_assets_are_found_by_model_and_joints() -> None:
    assert env_of(contract_of(smoke_preset()), None).robot == smoke_preset().env.robot
    strider = with_settings(smoke_preset(), robot_settings(STRIDER))
    assert env_of(contract_of(strider), None).robot == strider.env.robot


def test_time_steps_are_the_contracts() -> None:
    config = with_settings(smoke_preset(), [("env.sim.control_dt_s", 0.01), ("env.sim.substeps", 5)])
    sim = env_of(contract_of(config), None).sim
    assert (sim.control_dt_s, sim.substeps) == (0.01, 5)


def test_motors_are_the_contracts_and_what_it_does_not_say_is_the_robots() -> None:
    groups = (
        ActuatorConfig(joints=("*_knee",), kp_nm_per_rad=33.0, kd_nm_s_per_rad=0.7, effort_limit_nm=2.0),
        ActuatorConfig(joints=("*",), kp_nm_per_rad=11.0, stall_torque_nm=2.5, velocity_limit_rad_s=5.0),
    )
    config = smoke_preset()
    trained = replace(config.env.robot, actuators=groups)
    found = env_of(contract_of(replace(config, env=replace(config.env, robot=trained))), None).robot
    assert found.motors == trained.motors
    assert found.model_path == trained.model_path


def test_a_file_that_is_named_counts_with_its_motors(tmp_path: Path) -> None:
    file = tmp_path / "robot.json"
    file.write_text(json.dumps({"robot": {"kp_nm_per_rad": 7.0, "model_path": str(ROOT / "assets/biped/biped.xml")}}))
    found = env_of(contract_of(smoke_preset()), file).robot
    assert {motor.kp_nm_per_rad for motor in found.motors} == {7.0}
    with pytest.raises(UsageError, match=r"--robot: .*strider.* has other joints"):
        env_of(contract_of(smoke_preset()), STRIDER)


def test_a_damaged_contract_is_one_line() -> None:
    known = contract_of(smoke_preset())
    for part, key in (("robot", "model_file"), ("control", "physics_substeps"), ("motors", "stall_torque_nm")):
        damaged = copy.deepcopy(known)
        del damaged[part][key]
        with pytest.raises(UsageError, match=f"contract is damaged .*{key}"):
            env_of(damaged, None)


def test_a_robot_that_nobody_knows_is_one_line() -> None:
    known = contract_of(smoke_preset())
    other_model, other_joints = copy.deepcopy(known), copy.deepcopy(known)
    other_model["robot"]["model_file"] = "mine.xml"
    other_joints["action"]["joint_names"][0] = "left_hip"
    for contract, name in ((other_model, "mine.xml"), (other_joints, "biped.xml")):
        with pytest.raises(UsageError, match=f"has the model {name} and the policy's joints: name its file, --robot$"):
            env_of(contract, None)
