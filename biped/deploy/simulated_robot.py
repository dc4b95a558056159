"""A whole robot without hardware: its wiring, the servos of its joints, and an IMU, behind pseudo-terminals.

Who moves it is handed in: `biped.sim.mujoco_servos.MujocoServos`, made in a process of its own.
"""

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np

from biped.deploy.contract_file import MotorRow, PolicyContract
from biped.deploy.dynamixel import MODELS, Array, Model, TorqueLaw
from biped.deploy.simulated_bus import Trouble
from biped.deploy.simulated_devices import Tape, Track, WitSensor
from biped.deploy.simulated_process import SimulatedRobot
from biped.deploy.simulated_servo import ServoKind
from biped.deploy.wiring import ImuWiring, JointWiring, Wiring

BAUD, FIRST_ID = 1_000_000, 1
ZERO_TICK, RANGE_RAD = 2048, 2.5
"""Servos of a simulated robot: their position at 0 rad, and how far they turn (rad)."""

LARGEST_LOSS_S = 0.02
"""Time that a simulated robot may lose without a word (s)."""
PlantMaker = Callable[[TorqueLaw, Array, Array], Callable[[], Any]]
"""From the servos' law, directions (num_joints,) and zero ticks (num_joints,): what makes the robot; can be pickled."""


def servo_of(motor: MotorRow) -> tuple[int, Model]:
    """Return model number and facts of the servo that a contract names, or of the one that is most like its motor."""
    named = [(number, model) for number, model in MODELS.items() if model.name == motor.servo]

    def distance(item: tuple[int, Model]) -> float:
        torque = np.log(item[1].stall_torque_nm / motor.torque_limit_nm)
        return float(abs(torque) + 0.5 * abs(np.log(item[1].no_load_speed_rad_s / motor.velocity_limit_rad_s)))

    return named[0] if named else min(MODELS.items(), key=distance)


class SimulatedBody:
    """A simulated robot that stands held, until it is released; a context that ends it."""

    def __init__(self, contract: PolicyContract, make: PlantMaker, trouble: Trouble, axes: str = "+x+y+z") -> None:
        """Start it.

        Args:
            contract: the policy's; it has the joints.
            make: makes the robot.
            trouble: what is wrong with the bus.
            axes: how the IMU is mounted.

        Raises:
            MachineError: it cannot start.
        """
        servos = [servo_of(motor) for motor in contract.motors]
        joints = tuple(
            JointWiring(name, FIRST_ID + index, 1 if index % 2 else -1, ZERO_TICK, -RANGE_RAD, RANGE_RAD)
            for index, name in enumerate(contract.joint_names)
        )
        rough = Wiring("", BAUD, joints)
        law = TorqueLaw.of([model for _, model in servos])
        kinds = [ServoKind(joint.id, number) for joint, (number, _) in zip(joints, servos, strict=True)]
        devices = (partial(WitSensor, axes=axes), partial(Tape, contract.dt_s))
        self._robot = SimulatedRobot(make(law, rough.directions, rough.zero_ticks), kinds, trouble, devices)
        line = ImuWiring(self._robot.device_ports[0], axes)
        self.wiring = Wiring(self._robot.port, BAUD, joints, line)
        """How it is wired."""

    def release(self) -> None:
        """Let the robot stand on its own feet.

        Raises:
            MachineError: it is gone.
        """
        self._robot.ask("plant", "release")

    def track(self) -> Track:
        """Return where it was since it began.

        Raises:
            MachineError: it is gone.
        """
        return Track(*(np.array(column) for column in zip(*self._robot.ask("plant", "tape"), strict=True)))

    def excuse(self) -> str:
        """Return in one line what this machine did to the run; empty where it kept real time."""
        lost_s = float(self._robot.ask("figures")["slipped_s"])
        if lost_s < LARGEST_LOSS_S:
            return ""
        return f"this machine was too busy for a robot in real time, by {lost_s:.2f} s: close other programs, try again"

    def ask(self, *words: Any) -> Any:
        """See `SimulatedRobot.ask`."""
        return self._robot.ask(*words)

    def __enter__(self) -> "SimulatedBody":
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self._robot.close()
