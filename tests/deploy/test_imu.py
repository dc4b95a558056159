"""IMUs: WitMotion's frames, the mounting, the direction of gravity, and a serial line that is a pseudo-terminal."""

import contextlib
import os
import struct
import sys
import threading
import time
import tty
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biped.base.errors import MachineError
from biped.deploy.hardware import BusError
from biped.deploy.imu import Attitude, RosImu, Sample, SerialImu, WitDecoder, gravity_of

UP = np.array((0.0, 0.0, 1.0))
WORDS = st.lists(st.integers(-32768, 32767), min_size=3, max_size=3)


def frame(kind: int, words: list[int]) -> bytes:
    """A frame as the data sheet has it: header, kind, three numbers, temperature, sum."""
    body = struct.pack("<BB4h", 0x55, kind, *words, 2500)
    return body + bytes([sum(body) & 0xFF])


def sample_bytes(acceleration: list[int], ang_vel: list[int]) -> bytes:
    return frame(0x51, acceleration) + frame(0x52, ang_vel) + frame(0x53, [1, 2, 3])


def test_the_data_sheets_units() -> None:
    # 2048 of 32768 of 16 g is 1 g; 16384 of 32768 of 2000 degrees per second is 1000.
    (seen,) = WitDecoder().feed(sample_bytes([0, -1024, 2048], [16384, 0, -1]))
    np.testing.assert_allclose(seen.acceleration_g, (0.0, -0.5, 1.0))
    np.testing.assert_allclose(seen.ang_vel_deg_s, (1000.0, 0.0, -2000.0 / 32768))


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=5), st.lists(st.binary(max_size=30), min_size=5))
def test_every_sample_comes_out_in_order_whatever_is_between_and_however_it_is_cut(
    samples: list[tuple[list[int], list[int]]], noise: list[bytes]
) -> None:
    # Noise without a header byte cannot be mistaken for a frame.
    quiet = [bytes(b for b in part if b != 0x55) for part in noise]
    line = b"".join(part + sample_bytes(*numbers) for part, numbers in zip(quiet, samples, strict=False))
    decoder = WitDecoder()
    seen = [sample for index in range(len(line)) for sample in decoder.feed(line[index : index + 1])]
    assert len(seen) == len(samples)
    for sample, (acceleration, ang_vel) in zip(seen, samples, strict=True):
        np.testing.assert_allclose(sample.acceleration_g, np.array(acceleration) * 16.0 / 32768)
        np.testing.assert_allclose(sample.ang_vel_deg_s, np.array(ang_vel) * 2000.0 / 32768)


def test_a_frame_with_a_wrong_sum_is_skipped() -> None:
    broken = bytearray(sample_bytes([0, 0, 2048], [0, 0, 0]))
    broken[15] ^= 0x01
    assert list(WitDecoder().feed(bytes(broken))) == []


def test_gravity_of_a_sensor_that_lies_tilted_and_its_bias_is_learned() -> None:
    tilt, bias_deg_s = 0.3, np.array((0.5, -0.4, 0.3))
    up = np.array((0.0, np.sin(tilt), np.cos(tilt)))
    attitude = Attitude(200.0)
    for _ in range(200 * 30):
        gravity, ang_vel = attitude.update(Sample(up, bias_deg_s))
    np.testing.assert_allclose(gravity, -up, atol=0.01)
    assert np.abs(ang_vel).max() < 0.2 * np.radians(0.4), "most of the bias is gone after 30 s of rest"


def test_gravity_follows_a_turn_without_waiting_for_the_accelerometer() -> None:
    attitude, rate_deg_s = Attitude(200.0), 60.0
    for _ in range(2000):
        attitude.update(Sample(UP, np.zeros(3)))
    for step in range(100):  # half a second of rolling: 30 degrees
        angle = np.radians(rate_deg_s) * (step + 1) / 200.0
        up = np.array((0.0, np.sin(angle), np.cos(angle)))
        gravity, ang_vel = attitude.update(Sample(up, np.array((rate_deg_s, 0.0, 0.0))))
    np.testing.assert_allclose(gravity, -up, atol=0.02)
    np.testing.assert_allclose(ang_vel, (np.radians(rate_deg_s), 0.0, 0.0), atol=0.02)


@given(st.lists(st.floats(-1.0, 1.0), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_gravity_of_a_quaternion_is_the_vertical_turned_into_the_body(numbers: list[float]) -> None:
    quat = np.array(numbers) / np.linalg.norm(numbers)
    w, v = quat[0], -quat[1:]  # the inverse turn
    down = np.array((0.0, 0.0, -1.0))
    turned = down + 2.0 * np.cross(v, np.cross(v, down) + w * down)
    np.testing.assert_allclose(gravity_of(quat), turned, atol=1e-12)


@pytest.fixture
def line() -> Iterator[tuple[int, str]]:
    master, slave = os.openpty()
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    os.close(master)
    os.close(slave)


@contextlib.contextmanager
def one_that_measures(
    master: int, acceleration: list[int], ang_vel: list[int], every_s: float = 0.005
) -> Iterator[None]:
    """Write samples again and again: opening a line throws away what is in it already."""
    over = threading.Event()

    def write() -> None:
        while not over.wait(every_s):
            os.write(master, sample_bytes(acceleration, ang_vel))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_an_imu_on_a_line_gives_its_newest_measurement_and_its_age(line: tuple[int, str]) -> None:
    master, port = line
    later_s = [0.0]
    with one_that_measures(master, [0, 0, 2048], [16384, 0, 0]):
        imu = SerialImu(port, axes="+y-x+z", clock=lambda: time.monotonic() + later_s[0])
    seen = imu.read()
    assert imu.samples >= 1
    # The sensor's x points to the right: a turn about it is one about the base's -y.
    np.testing.assert_allclose(seen.ang_vel_b, (0.0, -np.radians(1000.0), 0.0), atol=1e-6)
    assert seen.age_s < 0.5
    later_s[0] = 0.7
    assert 0.7 <= imu.read().age_s < 1.2
    before = imu.samples
    os.write(master, 3 * sample_bytes([0, 0, 2048], [0, 0, 0]))
    end_s = time.monotonic() + 5.0
    while imu.samples < before + 3 and time.monotonic() < end_s:  # a terminal takes a moment
        seen = imu.read()
    assert imu.samples == before + 3
    assert seen.age_s < 0.5
    imu.close()


@pytest.mark.parametrize(
    ("rate_hz", "said"), [(200.0, ""), (100.0, "imu.rate_hz says 200"), (400.0, "measures at 400 Hz")]
)
def test_another_rate_than_the_filter_counts_with_is_said(line: tuple[int, str], rate_hz: float, said: str) -> None:
    master, port = line
    later_s = [0.0]
    with one_that_measures(master, [0, 0, 2048], [0, 0, 0], every_s=0.2):
        imu = SerialImu(port, clock=lambda: later_s[0])
    imu.read()
    before = imu.samples
    for step in range(1, 41):
        # A fortieth of a second each, whatever the machine's clock says.
        wanted = before + round(step * rate_hz / 40.0)
        os.write(master, (wanted - imu.samples) * sample_bytes([0, 0, 2048], [0, 0, 0]))
        later_s[0] = step / 40.0
        end_s = time.monotonic() + 5.0
        while imu.samples < wanted and time.monotonic() < end_s:
            imu.read()
    complaint = imu.complaint()
    assert said in complaint if said else not complaint, (complaint, imu.samples, before)
    imu.close()


class Message(SimpleNamespace):
    """As much of `sensor_msgs/Imu` as is read."""

    @classmethod
    def of(cls, quat: tuple[float, ...], covariance: float = 0.0) -> "Message":
        return cls(
            orientation=SimpleNamespace(**dict(zip("wxyz", quat, strict=True))),
            orientation_covariance=[covariance] + [0.0] * 8,
            angular_velocity=SimpleNamespace(x=0.1, y=0.2, z=0.3),
        )


def ros(monkeypatch: pytest.MonkeyPatch, messages: list[Message]) -> list[object]:
    """Put a stand-in for ROS 2's client library in place; it delivers one message each time it is spun."""
    told: list[object] = []

    def subscribe(_: object, topic: str, take: object, quality: object) -> None:
        told.extend((topic, quality, take))

    node = SimpleNamespace(create_subscription=subscribe, destroy_node=lambda: told.append("gone"))

    def spin(_: object, timeout_sec: float) -> None:
        assert timeout_sec < 0.1, "reading must not wait"
        if messages:
            told[2](messages.pop(0))  # type: ignore[operator]

    client = SimpleNamespace(
        init=lambda: None, create_node=lambda _: node, spin_once=spin, shutdown=lambda: told.append("down")
    )
    monkeypatch.setitem(sys.modules, "rclpy", client)
    monkeypatch.setitem(sys.modules, "rclpy.qos", SimpleNamespace(qos_profile_sensor_data="sensor data"))
    monkeypatch.setitem(sys.modules, "sensor_msgs.msg", SimpleNamespace(Imu="Imu"))
    return told


def test_ros_gives_gravity_by_the_drivers_orientation(monkeypatch: pytest.MonkeyPatch) -> None:
    half = np.sqrt(0.5)
    told = ros(monkeypatch, [Message.of((1.0, 0.0, 0.0, 0.0)), Message.of((half, half, 0.0, 0.0))])
    imu = RosImu("imu/data")
    np.testing.assert_allclose(imu.read().gravity_b, (0.0, -1.0, 0.0), atol=1e-12)
    np.testing.assert_allclose(imu.read().ang_vel_b, (0.1, 0.2, 0.3))
    assert told[:2] == ["imu/data", "sensor data"], "drivers publish as sensors do, without guarantees"
    assert imu.complaint() == ""
    imu.close()
    assert told[-2:] == ["gone", "down"]


@pytest.mark.parametrize(("quat", "covariance"), [((0.0, 0.0, 0.0, 0.0), 0.0), ((1.0, 0.0, 0.0, 0.0), -1.0)])
def test_a_ros_driver_without_a_filter_is_never_taken_for_upright(
    monkeypatch: pytest.MonkeyPatch, quat: tuple[float, ...], covariance: float
) -> None:
    ros(monkeypatch, [Message.of(quat, covariance)])
    imu = RosImu()
    assert np.isnan(imu.read().gravity_b).all()
    assert imu.complaint() == "the IMU's driver sends no orientation: run one with a filter"


def test_a_line_that_is_silent_or_missing_is_said_in_one_line(line: tuple[int, str]) -> None:
    with pytest.raises(MachineError, match=r"^the IMU at .* sends nothing: .*$"):
        SerialImu(line[1])
    with pytest.raises(MachineError, match=r"^cannot open the IMU at /dev/none .*$"):
        SerialImu("/dev/none")


def test_a_line_that_goes_away_is_a_bus_error() -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    with one_that_measures(master, [0, 0, 2048], [0, 0, 0]):
        imu = SerialImu(os.ttyname(slave))
    os.close(slave)
    os.close(master)
    with pytest.raises(BusError, match="has gone"):
        imu.read()
    imu.close()
