"""A simulated robot in a process of its own, for tests of what talks to servos; and a plant that needs no MuJoCo."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from biped.deploy.contract_file import PolicyContract
from biped.deploy.dynamixel import MODELS, TICKS_PER_RAD, Array, TorqueLaw
from biped.deploy.simulated_bus import ServoCommand, Trouble
from biped.deploy.simulated_process import Device, SimulatedRobot
from biped.deploy.simulated_servo import ServoKind
from biped.deploy.wiring import JointWiring, Wiring

INERTIA_KG_M2 = 0.01
STEP_S = 0.001
XM430 = 1030


def until(is_so: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Look again and again whether something is so, for at most some seconds; a busy machine takes its time."""
    end = time.monotonic() + seconds
    while not (so := is_so()) and time.monotonic() < end:
        time.sleep(0.005)
    return so


@dataclass(frozen=True)
class Wheels:
    """Makes a plant of flywheels, one per servo: no ground, no gravity."""

    models: tuple[int, ...]
    """Model numbers."""
    start_ticks: tuple[float, ...]
    """Where they are at the beginning."""

    def __call__(self) -> "WheelPlant":
        return WheelPlant(TorqueLaw.of([MODELS[number] for number in self.models]), np.array(self.start_ticks))


@dataclass
class WheelPlant:
    """Flywheels on servos."""

    law: TorqueLaw
    pos_ticks: Array
    vel_rad_s: Array = field(default_factory=lambda: np.zeros(0))
    current_a: Array = field(default_factory=lambda: np.zeros(0))
    pwm_limit: Array = field(default_factory=lambda: np.zeros(0))
    time_s: float = 0.0

    def __post_init__(self) -> None:
        self.vel_rad_s, self.current_a = np.zeros(len(self.pos_ticks)), np.zeros(len(self.pos_ticks))

    def advance(self, to_s: float, command: ServoCommand) -> None:
        self.pwm_limit = command.pwm_limit
        while self.time_s + STEP_S <= to_s:
            torque, self.current_a = self.law(
                command.goal_ticks,
                np.rint(self.pos_ticks),
                self.vel_rad_s,
                command.position_p,
                command.position_d,
                command.pwm_limit,
                command.voltage_v,
            )
            self.vel_rad_s = self.vel_rad_s + STEP_S * torque / INERTIA_KG_M2
            self.pos_ticks = self.pos_ticks + STEP_S * self.vel_rad_s * TICKS_PER_RAD
            self.time_s += STEP_S

    def turn(self, ticks: list[float]) -> None:
        """Set the wheels to positions by hand."""
        self.pos_ticks, self.vel_rad_s = np.array(ticks, float), np.zeros(len(ticks))


def a_wiring(names: tuple[str, ...], port: str = "/dev/null") -> Wiring:
    """A wiring whose IDs, directions and zeros all differ from joint to joint."""
    joints = (
        JointWiring(name, 10 + index, 1 if index % 2 else -1, 1900 + 37 * index, -2.0, 2.0)
        for index, name in enumerate(names)
    )
    return Wiring(port, 1_000_000, tuple(joints))


def kinds_of(wiring: Wiring, model: int = XM430, firmware: int = 48) -> list[ServoKind]:
    """One servo of a kind for each joint."""
    return [ServoKind(servo, model, firmware) for servo in wiring.ids]


def wheels_for(wiring: Wiring, model: int = XM430) -> Wheels:
    """Flywheels that stand with each joint at 0 rad."""
    return Wheels((model,) * len(wiring.ids), tuple(wiring.zero_ticks.tolist()))


def mujoco_for(wiring: Wiring, *, hanging: bool = False) -> Callable[[], Any]:
    """The project's biped in MuJoCo, wired so and held on its stand."""
    from biped.config.task import EnvConfig
    from biped.sim.mujoco_servos import Mounting, MujocoServos

    law = TorqueLaw.of([MODELS[XM430]] * len(wiring.ids))
    mounting = Mounting(tuple(wiring.directions.tolist()), tuple(wiring.zero_ticks.tolist()))
    return partial(MujocoServos, EnvConfig(), law, mounting, hanging=hanging)


def robot(
    wiring: Wiring,
    make_plant: Callable[[], Any] | None = None,
    trouble: Trouble = Trouble(),  # noqa: B008 - it is frozen
    kinds: list[ServoKind] | None = None,
    make_devices: tuple[Callable[[], Device], ...] = (),
) -> tuple[SimulatedRobot, Wiring]:
    """Start a simulated robot; return it with the wiring that has its port."""
    started = SimulatedRobot(make_plant or wheels_for(wiring), kinds or kinds_of(wiring), trouble, make_devices)
    return started, Wiring(started.port, wiring.baud, wiring.joints)


def a_contract(names: tuple[str, ...]) -> PolicyContract:
    """A small contract of the current version: XM430s with the shipped policy's gains."""
    joints = len(names)
    per_joint = {"kp_nm_per_rad": 20.0, "kd_nm_s_per_rad": 0.5, "torque_limit_nm": 3.0, "velocity_limit_rad_s": 8.06}
    raw = {
        "format": "biped-policy-contract",
        "version": 2,
        "sensors": {"needed": ["imu", "joint encoders"], "not_measured": []},
        "observation": {"width": 0, "clip": 100.0, "terms": []},
        "action": {
            "joint_names": list(names),
            "default_pose_rad": [0.1 * (index % 3) for index in range(joints)],
            "scale_rad": 0.25,
            "clip": 4.0,
        },
        "motors": {**{name: [value] * joints for name, value in per_joint.items()}, "servo": [""] * joints},
        "control": {"dt_s": 0.02},
        "gait_clock": {"frequency_hz": 1.4},
        "command": {"ranges": [[-1, 1]] * 3, "turning_lever_m": 0.5, "moving_threshold_m_s": 0.1},
        "policy": {"inputs": [], "non_finite": {"max_held_steps": 5}},
        "fallen": {"max_tilt_rad": 0.8},
    }
    return PolicyContract.of(raw)
