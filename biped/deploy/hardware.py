"""What a robot's body is to the runtime: servos and an IMU, each behind a small protocol."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from biped.base.errors import MachineError

Array = NDArray[np.float64]


class BusError(MachineError):
    """A device did not answer, or answered with what makes no sense. The message is one line."""


@dataclass(frozen=True)
class JointReading:
    """What the servos say, in the order of the contract's joints, directions and offsets applied.

    A servo that did not answer has NaN in each number.
    """

    pos_rad: Array
    """Joint positions, (num_joints,), rad."""
    vel_rad_s: Array
    """Joint velocities as the servos report them, (num_joints,), rad/s."""
    current_a: Array
    """Motor currents; positive drives the joint in its positive direction, (num_joints,), A.

    A servo that measures no current says its load, as a share of its largest current.
    """
    voltage_v: Array
    """Supply voltage, (num_joints,), V."""
    temperature_c: Array
    """Temperature inside of the servo, (num_joints,), °C."""
    faults: NDArray[np.int64]
    """Hardware error status of each servo, (num_joints,), bits as in the maker's manual; 0: none."""

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Which servos answered, (num_joints,)."""
        return np.isfinite(self.pos_rad)


@dataclass(frozen=True)
class ImuReading:
    """What the IMU says, in the base frame: x forward, y left, z up."""

    gravity_b: Array
    """Unit vector along gravity, (3,); (0, 0, -1) when upright."""
    ang_vel_b: Array
    """Angular velocity, (3,), rad/s."""
    age_s: float
    """Time since this was measured (s)."""


class Servos(Protocol):
    """The joints of a robot."""

    def read(self) -> JointReading:
        """Return what all servos say now.

        Raises:
            BusError: the bus itself has gone. Servos that do not answer are NaN in the reading.
        """
        ...

    def write(self, targets_rad: Array) -> None:
        """Send joint targets (num_joints,), rad, in the order of the contract.

        Raises:
            BusError: the bus itself has gone.
        """
        ...

    def stiffen(self) -> None:
        """Let the servos hold where they are, with the contract's gains.

        Raises:
            BusError: a servo does not accept it.
        """
        ...

    def go_limp(self) -> None:
        """Switch all torque off; tries each servo, and never raises."""
        ...

    def close(self) -> None:
        """Let go of the bus; does not switch the torque off."""
        ...


class Imu(Protocol):
    """An inertial measurement unit."""

    def read(self) -> ImuReading:
        """Return the newest measurement, without waiting for the next.

        Raises:
            BusError: there has been none yet, or the device has gone.
        """
        ...

    def complaint(self) -> str:
        """Return what is wrong with how it measures, in one line; empty where nothing is."""
        ...

    def close(self) -> None:
        """Let go of the device."""
        ...
