"""The robot that a policy was trained with, from its contract and the robot's file."""

import glob
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from biped.base.errors import UsageError
from biped.base.shipped import ASSETS
from biped.config.actuators import ActuatorConfig
from biped.config.robot import RobotConfig
from biped.config.run import Config
from biped.config.settings import robot_settings, with_settings
from biped.config.task import EnvConfig

_NUMBERS = {
    "kp_nm_per_rad": "kp_nm_per_rad",
    "kd_nm_s_per_rad": "kd_nm_s_per_rad",
    "effort_limit_nm": "torque_limit_nm",
    "stall_torque_nm": "stall_torque_nm",
    "velocity_limit_rad_s": "velocity_limit_rad_s",
}
"""Field of a motor to its name in the contract."""


class UnknownRobotError(UsageError):
    """No robot that ships is the policy's."""


def env_of(contract: Mapping[str, Any], file: Path | None, assets: Path = ASSETS) -> EnvConfig:
    """Return robot, motors and time steps that a policy was trained with.

    Args:
        contract: the policy's contract.
        file: the robot's file, whose motors count; None: the robot in `assets` with the contract's model and joints,
            with the contract's motors.
        assets: a folder with a folder per robot.

    Raises:
        UnknownRobotError: no such robot is known.
        UsageError: the file's robot is another one, or the contract is damaged.
    """
    try:
        return _env_of(contract, file, assets)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise UsageError(
            f"the log's contract is damaged ({error!r}): record one with a policy exported anew"
        ) from error


def _env_of(contract: Mapping[str, Any], file: Path | None, assets: Path) -> EnvConfig:
    joints, model = tuple(contract["action"]["joint_names"]), str(contract["robot"]["model_file"])
    if file is not None:
        env = with_settings(Config(), robot_settings(file)).env
        if env.robot.joint_names != joints:
            raise UsageError(f"--robot: {file} has other joints than the log's policy: {', '.join(joints)}")
    else:
        fitting = (env for env in _known(assets) if _is(env.robot, model, joints))
        if (found := next(fitting, None)) is None:
            raise UnknownRobotError(
                f"no robot in {assets} has the model {model} and the policy's joints: name its file, --robot"
            )
        env = replace(found, robot=_with_motors(found.robot, contract["motors"]))
    control = contract["control"]
    sim = replace(env.sim, control_dt_s=control["dt_s"], substeps=control["physics_substeps"])
    return replace(env, sim=sim)


def _known(assets: Path) -> Iterator[EnvConfig]:
    """Yield the built-in robot, and each robot with a file."""
    yield Config().env
    for file in sorted(assets.glob("*/robot.json")):
        yield with_settings(Config(), robot_settings(file)).env


def _is(robot: RobotConfig, model: str, joints: tuple[str, ...]) -> bool:
    return PurePath(robot.model_path).name == model and robot.joint_names == joints


def _with_motors(robot: RobotConfig, motors: Mapping[str, Any]) -> RobotConfig:
    """Return the robot with the gains and limits of a contract."""
    numbers = [{field: motors[key][joint] for field, key in _NUMBERS.items()} for joint in range(len(robot.motors))]
    if all(
        getattr(mine, field) == row[field] for mine, row in zip(robot.motors, numbers, strict=True) for field in row
    ):
        return robot
    groups = [
        ActuatorConfig(
            joints=(glob.escape(name),),
            armature_kg_m2=mine.armature_kg_m2,
            friction_nm=mine.friction_nm,
            damping_nm_s_per_rad=mine.damping_nm_s_per_rad,
            **row,
        )
        for name, mine, row in zip(robot.joint_names, robot.motors, numbers, strict=True)
    ]
    return replace(robot, actuators=tuple(groups))
