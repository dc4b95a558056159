"""Opens a robot's devices for one run, and closes them again, whatever happens."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from biped.base.errors import UsageError
from biped.deploy.contract_file import PolicyContract
from biped.deploy.controller import Controller
from biped.deploy.hardware import Array
from biped.deploy.imu import open_imu
from biped.deploy.operator import KEYS, Gamepad, Keyboard, Operator, Script
from biped.deploy.runtime import Body, Runtime
from biped.deploy.safety import Limits, hanging, limits_for
from biped.deploy.servos import DynamixelServos
from biped.deploy.wiring import Wiring

STAND_S = 1.0
"""How long a robot stands by its policy before a script gives it its command (s)."""


@dataclass(frozen=True)
class Request:
    """What a person asks of a robot, by the names of the flags."""

    command: tuple[float, float, float]
    """The command at first: forward m/s, left m/s, counter-clockwise rad/s."""
    seconds: float
    """How long the policy may run (s); infinite: until the person ends it."""
    excite: float | None
    """How long the joints of the hanging robot are moved (s); None: the policy runs."""
    check: bool
    """Nothing moves."""
    gamepad: Path | None
    """A gamepad's device; None: the keyboard."""
    crouch: bool
    """On heat and on low voltage, crouch before going limp."""
    min_voltage: float
    """Supply below which the robot does not walk (V)."""
    imu: str | None
    """Where the IMU is; None: as the wiring says."""
    imu_axes: str | None
    """How it is mounted; None: as the wiring says."""
    simulate: bool
    """Nobody can be hurt: without a terminal, or with a time, a script holds the key."""

    def refuse(self, contract: PolicyContract) -> None:
        """Check the command before anything is opened.

        Raises:
            UsageError: the policy does not know it.
        """
        if (np.clip(self.command, *contract.command.ranges.T) != self.command).any():
            raise UsageError(f"--command: the policy knows {contract.command.as_text()}")


@dataclass(frozen=True)
class Session:
    """A robot whose devices are open."""

    servos: DynamixelServos
    """Its servos."""
    runtime: Runtime
    """What runs it."""
    limits: Limits
    """What is allowed."""

    @property
    def limits_rad(self) -> tuple[Array, Array]:
        """Smallest and largest joint positions, (num_joints,), rad."""
        return self.limits.lower_rad, self.limits.upper_rad

    def warn(self) -> None:
        """Say what the servos do otherwise than the contract asks; known once they are stiff."""
        for text in dict.fromkeys(warning.text.partition(": ")[2] for warning in self.servos.warnings):
            print(f"gains: {text}")


@contextlib.contextmanager
def opened(request: Request, controller: Controller, wiring: Wiring) -> Iterator[Session]:
    """Open servos, IMU and the person's device.

    Raises:
        UsageError: wiring, policy and request do not fit each other, or nobody holds a key.
        MachineError: a device or a package is missing.
    """
    contract = controller.contract
    with contextlib.ExitStack() as stack:
        servos = DynamixelServos(contract, wiring)
        stack.callback(servos.close)
        imu = open_imu(wiring.imu_with(request.imu, request.imu_axes))
        stack.callback(imu.close)
        operator = _operator(request, contract)
        stack.callback(operator.close)
        limits = limits_for(wiring, [fact.model for fact in servos.facts], request.min_voltage)
        limits = limits if request.excite is None else hanging(limits)
        runtime = Runtime(controller, Body(servos, imu), operator, limits, crouches=request.crouch)
        yield Session(servos, runtime, limits)


def _operator(request: Request, contract: PolicyContract) -> Operator:
    command = np.array(request.command)
    if request.check:
        return Script(command, STAND_S)
    if request.gamepad is not None:
        return Gamepad(request.gamepad, contract.command)
    has_end = np.isfinite(request.seconds) or request.excite is not None
    if request.simulate and (has_end or not sys.stdin.isatty()):
        return Script(command, STAND_S)
    keyboard = Keyboard(contract.command, command)
    print(KEYS)
    return keyboard
