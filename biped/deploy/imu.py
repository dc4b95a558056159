"""IMUs: one on a serial line, and ROS 2's topic; the orientation filter is x-io's Fusion."""

import importlib
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from biped.base.errors import MachineError
from biped.deploy.hardware import Array, BusError, Imu, ImuReading
from biped.deploy.wiring import ImuWiring, mount

_FRAME = struct.Struct("<BB4hB")  # header, kind, x, y, z, temperature, sum
_HEADER, _ACCELERATION, _ANGULAR_VELOCITY = 0x55, 0x51, 0x52
_ACCELERATION_G, _ANGULAR_VELOCITY_DEG_S = 16.0 / 32768, 2000.0 / 32768
_WAIT_S = 1.0
"""How long the first measurement may take (s)."""
ROS = "ros2:"
"""How the source of an IMU begins whose driver is ROS 2's."""
RATE_SHARE = 0.25
"""How far the IMU's rate may be off: its error is the filter's, in how far it turns."""
_SHORTEST_COUNT_S = 0.5
FILTER_GAIN = 0.5
"""How much the filter trusts the accelerometer: Fusion's own default, a time constant of some 2 s."""
ACCELERATION_REJECTION_DEG = 10.0
"""Error of the accelerometer's direction beyond which the filter leaves it out (degrees): steps shake the trunk."""


def open_imu(wiring: ImuWiring) -> Imu:
    """Open the IMU that a wiring names.

    Raises:
        MachineError: it is not there, or sends nothing.
    """
    if wiring.source.startswith(ROS):
        return RosImu(wiring.source.removeprefix(ROS) or "imu/data")
    return SerialImu(wiring.source, baud=wiring.baud, rate_hz=wiring.rate_hz, axes=wiring.axes)


@dataclass(frozen=True)
class Sample:
    """One measurement in the sensor's frame."""

    acceleration_g: Array
    """Specific force, (3,), g; (0, 0, 1) for a sensor that lies still, z up."""
    ang_vel_deg_s: Array
    """Angular velocity, (3,), degrees per second."""


class WitDecoder:
    """Frames of WitMotion's serial protocol as samples.

    A frame is 0x55, its kind, four 16-bit numbers with the low byte first, and the sum of the ten bytes before. Kinds
    0x51 and 0x52 are acceleration (full scale 16 g) and angular velocity (2000 degrees per second); the fourth number
    is a temperature. Source: WitMotion, WT901 data sheet v20-0702, sections 5.1.2 and 5.1.3.
    """

    def __init__(self) -> None:
        """Begin without a byte."""
        self._bytes = bytearray()
        self._acceleration_g: Array | None = None

    def feed(self, received: bytes) -> Iterator[Sample]:
        """Take bytes, and yield the samples that they complete; what has a wrong sum is skipped."""
        self._bytes += received
        while len(self._bytes) >= _FRAME.size:
            frame = self._bytes[: _FRAME.size]
            if frame[0] != _HEADER or (sum(frame) - frame[-1]) & 0xFF != frame[-1]:
                del self._bytes[0]
                continue
            del self._bytes[: _FRAME.size]
            _, kind, *numbers, _, _ = _FRAME.unpack(frame)
            if kind == _ACCELERATION:
                self._acceleration_g = np.array(numbers) * _ACCELERATION_G
            elif kind == _ANGULAR_VELOCITY and self._acceleration_g is not None:
                yield Sample(self._acceleration_g, np.array(numbers) * _ANGULAR_VELOCITY_DEG_S)


class Attitude:
    """The direction of gravity from acceleration and angular velocity.

    Madgwick 2014, "AHRS algorithms and calibration solutions to facilitate new applications using low-cost MEMS",
    chapter 7, as x-io's Fusion has it. The gyroscope's bias is learned while the robot is still.
    """

    def __init__(self, rate_hz: float) -> None:
        """Prepare for samples at a rate (Hz).

        Raises:
            MachineError: Fusion is not installed.
        """
        try:
            fusion: Any = importlib.import_module("imufusion")
        except ImportError as error:
            raise MachineError("imufusion is not installed: pip install 'biped-walking[robot]'") from error
        self._filter, self._bias = fusion.Ahrs(), fusion.Bias()
        settings, still = fusion.AhrsSettings(), fusion.BiasSettings()
        settings.sample_rate = still.sample_rate = rate_hz
        settings.gain, settings.acceleration_rejection = FILTER_GAIN, ACCELERATION_REJECTION_DEG
        settings.gyroscope_range = 2000.0
        self._filter.set_settings(settings)
        self._bias.set_settings(still)

    def update(self, sample: Sample) -> tuple[Array, Array]:
        """Take one sample; return gravity's direction (3,) and the angular velocity (3,), rad/s, sensor frame."""
        ang_vel_deg_s = self._bias.update(sample.ang_vel_deg_s)
        self._filter.update_no_magnetometer(ang_vel_deg_s, sample.acceleration_g)
        up = np.asarray(self._filter.get_gravity(), float)
        return -up, np.radians(np.asarray(ang_vel_deg_s, float))


class SerialImu:
    """An IMU of WitMotion's protocol on a serial line."""

    def __init__(
        self,
        port: str,
        *,
        baud: int = 230400,
        rate_hz: float = 200.0,
        axes: str = "+x+y+z",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the line, and wait for the first measurement.

        Args:
            port: such as /dev/ttyUSB1.
            baud: its speed.
            rate_hz: how often the sensor is set to measure (Hz).
            axes: how it is mounted; see `mount`.
            clock: returns the time (s).

        Raises:
            UsageError: `axes` is no mounting.
            MachineError: there is no such line, or nothing that measures on it.
        """
        self._to_base, self._clock, self._port = mount(axes), clock, port
        try:
            serial: Any = importlib.import_module("serial")
        except ImportError as error:
            raise MachineError("pyserial is not installed: pip install 'biped-walking[robot]'") from error
        self._attitude, self._decoder = Attitude(rate_hz), WitDecoder()
        try:
            self._line = serial.Serial(port, baud, timeout=0)
        except (OSError, ValueError) as error:
            raise MachineError(f"cannot open the IMU at {port} ({error}): see imu.port of the wiring") from error
        self._rate_hz = rate_hz
        self.samples = 0
        """How many measurements have come."""
        self._newest: tuple[Array, Array] | None = None
        self._newest_s = clock()
        self._wait()
        self._first_s, self._first_samples = clock(), self.samples

    def complaint(self) -> str:
        """Return whether it measures at another rate than the filter counts with; see `Imu.complaint`."""
        passed_s = self._newest_s - self._first_s
        if passed_s < _SHORTEST_COUNT_S:
            return ""
        found_hz = (self.samples - self._first_samples) / passed_s
        if abs(found_hz / self._rate_hz - 1.0) <= RATE_SHARE:
            return ""
        return f"the IMU measures at {found_hz:.0f} Hz, and imu.rate_hz says {self._rate_hz:.0f}: correct one of them"

    def _wait(self) -> None:
        end_s = time.monotonic() + _WAIT_S
        while self._newest is None:
            if time.monotonic() > end_s:
                self._line.close()
                raise MachineError(f"the IMU at {self._port} sends nothing: see its cable, and imu.baud of the wiring")
            time.sleep(0.005)
            self._receive()

    def _receive(self) -> None:
        try:
            waiting = self._line.in_waiting
            received = self._line.read(waiting) if waiting else b""
        except OSError as error:
            raise BusError(f"the IMU at {self._port} has gone ({error})") from error
        for sample in self._decoder.feed(received):
            self._newest, self._newest_s = self._attitude.update(sample), self._clock()
            self.samples += 1

    def read(self) -> ImuReading:
        """Return the newest measurement; see `Imu.read`."""
        self._receive()
        assert self._newest is not None, "the constructor waits for one"
        gravity, ang_vel = self._newest
        return ImuReading(self._to_base @ gravity, self._to_base @ ang_vel, self._clock() - self._newest_s)

    def close(self) -> None:
        """Close the line."""
        self._line.close()


class RosImu:
    """ROS 2's `sensor_msgs/Imu`, whose driver has filtered already; its frame is the base frame (REP 145)."""

    def __init__(self, topic: str = "imu/data", clock: Callable[[], float] = time.monotonic) -> None:
        """Subscribe, and wait for the first message.

        Raises:
            MachineError: there is no ROS 2, or nobody publishes.
        """
        try:
            self._ros: Any = importlib.import_module("rclpy")
            message: Any = importlib.import_module("sensor_msgs.msg")
        except ImportError as error:
            raise MachineError("rclpy is not installed: source your ROS 2, or use a serial IMU") from error
        self._clock, self._newest, self._newest_s = clock, None, clock()
        self._ros.init()
        self._node = self._ros.create_node("biped_run")
        # Drivers of sensors publish without guarantees; a subscription that asks for more gets nothing from them.
        quality: Any = importlib.import_module("rclpy.qos").qos_profile_sensor_data
        self._node.create_subscription(message.Imu, topic, self._take, quality)
        end_s = clock() + _WAIT_S
        while self._newest is None:
            if clock() > end_s:
                self.close()
                raise MachineError(f"nobody publishes sensor_msgs/Imu on {topic}: start the IMU's driver")
            self._ros.spin_once(self._node, timeout_sec=0.05)

    def _take(self, message: Any) -> None:
        turn, rate = message.orientation, message.angular_velocity
        quat = np.array((turn.w, turn.x, turn.y, turn.z))
        # A driver without a filter says so by its covariance (REP 145), or sends zeros: nothing says where down is.
        is_known = message.orientation_covariance[0] >= 0.0 and abs(np.linalg.norm(quat) - 1.0) < 0.01
        gravity_b = gravity_of(quat) if is_known else np.full(3, np.nan)
        self._newest, self._newest_s = (gravity_b, np.array((rate.x, rate.y, rate.z))), self._clock()

    def read(self) -> ImuReading:
        """Return the newest message; see `Imu.read`."""
        self._ros.spin_once(self._node, timeout_sec=0.0)
        assert self._newest is not None, "the constructor waits for one"
        gravity_b, ang_vel_b = self._newest
        return ImuReading(gravity_b, ang_vel_b, self._clock() - self._newest_s)

    def complaint(self) -> str:
        """Return whether the driver says where down is; see `Imu.complaint`."""
        gravity_b, _ = self._newest or (np.full(3, np.nan), None)
        return "" if np.isfinite(gravity_b).all() else "the IMU's driver sends no orientation: run one with a filter"

    def close(self) -> None:
        """Leave ROS."""
        self._node.destroy_node()
        self._ros.shutdown()


def gravity_of(quat_w: Array) -> Array:
    """Return gravity's direction (3,) in the frame whose orientation in the world is `quat_w` (4,), wxyz."""
    w, x, y, z = quat_w
    return np.array((2.0 * (w * y - x * z), -2.0 * (y * z + w * x), 2.0 * (x * x + y * y) - 1.0))
