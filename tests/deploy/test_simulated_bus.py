"""What the simulated servos refuse, and when they stop: packets go in and come out, without a terminal."""

import numpy as np
import pytest

from biped.deploy import dynamixel as dxl
from biped.deploy import simulated_packets as wire
from biped.deploy.dynamixel import Register
from biped.deploy.simulated_bus import SimulatedBus, Trouble
from biped.deploy.simulated_servo import ServoKind
from tests.servo_bus import XM430, Wheels

Answer = tuple[int, int, bytes]


def a_bus(trouble: Trouble = Trouble(), firmware: int = 48, model: int = XM430) -> SimulatedBus:  # noqa: B008
    kinds = [ServoKind(servo, model, firmware) for servo in (1, 2, 3)]
    return SimulatedBus(kinds, Wheels((model,) * 3, (1000.0, 2000.0, 3000.0))(), trouble)


def ask(bus: SimulatedBus, servo: int, instruction: int, content: bytes = b"", now_s: float = 0.0) -> list[Answer]:
    """Return ID, error and content of each answer."""
    reader, found = wire.PacketReader(), []
    for _, sent in bus.handle(wire.packet(servo, instruction, content), now_s):
        found += reader.feed(sent)
    return [(item.servo, item.parameters[0], item.parameters[1:]) for item in found]


def write(bus: SimulatedBus, servo: int, register: Register, value: int, now_s: float = 0.0) -> int:
    content = register.address.to_bytes(2, "little") + register.encode(value)
    ((answered, error, _),) = ask(bus, servo, wire.WRITE, content, now_s)
    assert answered == servo
    return error


def read(bus: SimulatedBus, servo: int, register: Register) -> int:
    content = register.address.to_bytes(2, "little") + register.size.to_bytes(2, "little")
    ((_, _, answer),) = ask(bus, servo, wire.READ, content)
    return register.decode(answer)


def together(instruction: int, servos: bytes) -> bytes:
    register = dxl.PRESENT_POSITION
    return wire.packet(wire.BROADCAST, instruction, register.address.to_bytes(2, "little") + b"\x04\x00" + servos)


def test_a_ping_says_model_and_firmware() -> None:
    assert ask(a_bus(), 2, wire.PING) == [(2, 0, bytes.fromhex("06 04 30"))]


def test_a_ping_of_all_is_answered_one_after_the_other() -> None:
    bus = a_bus()
    answers = bus.handle(wire.packet(wire.BROADCAST, wire.PING), 0.0)
    assert [wire.PacketReader().feed(sent)[0].servo for _, sent in answers] == [1, 2, 3]
    assert [due for due, _ in answers] == sorted({due for due, _ in answers})


@pytest.mark.parametrize(
    ("register", "value", "error"),
    [
        (dxl.PRESENT_POSITION, 1, wire.BAD_ACCESS),
        (dxl.POSITION_P, 16384, wire.BAD_RANGE),
        (dxl.GOAL_POSITION, 4096, wire.BAD_LIMIT),
        (dxl.GOAL_POSITION, -1, wire.BAD_LIMIT),
        (Register("half", dxl.GOAL_POSITION.address, 2), 5, wire.BAD_LENGTH),
        (Register("middle", dxl.GOAL_POSITION.address + 1, 1), 5, wire.BAD_ACCESS),
        (dxl.GOAL_POSITION, 4095, 0),
        (dxl.OPERATING_MODE, 4, 0),
    ],
)
def test_what_may_be_written(register: Register, value: int, error: int) -> None:
    assert write(a_bus(), 1, register, value) == error


def test_settings_that_last_are_locked_while_the_torque_is_on() -> None:
    bus = a_bus()
    assert write(bus, 1, dxl.TORQUE_ENABLE, 1) == 0
    assert write(bus, 1, dxl.OPERATING_MODE, 4) == wire.BAD_ACCESS
    assert write(bus, 1, dxl.TORQUE_ENABLE, 0) == 0
    assert write(bus, 1, dxl.OPERATING_MODE, 4) == 0


def test_reg_write_waits_for_action() -> None:
    bus = a_bus()
    content = dxl.GOAL_POSITION.address.to_bytes(2, "little") + dxl.GOAL_POSITION.encode(77)
    assert ask(bus, 1, wire.ACTION)[0][1] == wire.BAD_INSTRUCTION
    ask(bus, 1, wire.REG_WRITE, content)
    assert read(bus, 1, dxl.GOAL_POSITION) == 0
    ask(bus, 1, wire.ACTION)
    assert read(bus, 1, dxl.GOAL_POSITION) == 77


@pytest.mark.parametrize(("level", "answers"), [(0, (1, 0, 0)), (1, (1, 1, 0)), (2, (1, 1, 1))])
def test_the_status_return_level_says_what_is_answered(level: int, answers: tuple[int, ...]) -> None:
    bus = a_bus()
    bus.servos[1][dxl.STATUS_RETURN_LEVEL] = level
    led = (65).to_bytes(2, "little")
    got = ask(bus, 1, wire.PING), ask(bus, 1, wire.READ, led + b"\x01\x00"), ask(bus, 1, wire.WRITE, led + b"\x01")
    assert tuple(map(len, got)) == answers


def test_one_that_is_silent_silences_those_after_it() -> None:
    bus = a_bus(Trouble(dead_ids=(2,)))
    answers = bus.handle(together(wire.SYNC_READ, b"\x01\x02\x03"), 0.0)
    assert [wire.PacketReader().feed(sent)[0].servo for _, sent in answers] == [1]
    assert len(bus.handle(together(wire.SYNC_READ, b"\x01\x03\x02"), 0.0)) == 2


def test_old_firmware_does_not_know_the_fast_read() -> None:
    assert len(a_bus(firmware=45).handle(together(wire.FAST_SYNC_READ, b"\x01\x02\x03"), 0.0)) == 3
    assert a_bus(firmware=44).handle(together(wire.FAST_SYNC_READ, b"\x01\x02\x03"), 0.0) == []


def test_the_watchdog_stops_a_servo_where_it_is_and_locks_its_goal() -> None:
    bus = a_bus()
    for register, value in ((dxl.TORQUE_ENABLE, 1), (dxl.GOAL_POSITION, 3500), (dxl.BUS_WATCHDOG, 5)):
        assert write(bus, 1, register, value) == 0
    bus.advance(0.099)
    assert (bus.trips, read(bus, 1, dxl.BUS_WATCHDOG)) == (0, 5)
    write(bus, 1, dxl.BUS_WATCHDOG, 5, now_s=0.1)
    bus.advance(0.201)
    here = read(bus, 1, dxl.PRESENT_POSITION)
    assert (bus.trips, read(bus, 1, dxl.BUS_WATCHDOG)) == (1, dxl.TRIPPED)
    # 8 rad/s are the servo's speed: in 0.2 s it is nowhere near its goal, and it still holds.
    assert 1000 < here < 2500 and 1000 < read(bus, 1, dxl.GOAL_POSITION) < 2500
    assert read(bus, 1, dxl.TORQUE_ENABLE) == 1
    assert write(bus, 1, dxl.GOAL_POSITION, 1500, now_s=0.3) == wire.BAD_RANGE
    assert write(bus, 1, dxl.BUS_WATCHDOG, 0, now_s=0.3) == 0
    assert write(bus, 1, dxl.GOAL_POSITION, 1500, now_s=0.3) == 0


def test_a_limp_servo_has_no_watchdog() -> None:
    bus = a_bus()
    write(bus, 1, dxl.BUS_WATCHDOG, 1)
    bus.advance(1.0)
    assert bus.trips == 0


def test_a_shutdown_switches_the_torque_off_until_a_reboot() -> None:
    bus = a_bus()
    write(bus, 1, dxl.TORQUE_ENABLE, 1)
    bus.servos[1].fail(0x20)
    assert read(bus, 1, dxl.TORQUE_ENABLE) == 0
    assert write(bus, 1, dxl.TORQUE_ENABLE, 1) == wire.RESULT_FAIL | wire.ALERT
    ask(bus, 1, wire.REBOOT)
    assert write(bus, 1, dxl.TORQUE_ENABLE, 1) == 0


def test_a_supply_that_sags_is_reported_and_weakens_the_motors() -> None:
    bus = a_bus(Trouble(voltage_v=12.0, sag_ohm=0.5))
    for servo in (1, 2, 3):
        write(bus, servo, dxl.TORQUE_ENABLE, 1)
        write(bus, servo, dxl.GOAL_POSITION, 0)
    bus.advance(0.004)
    bus.advance(0.008)
    # 885 PWM: three times 2.3 A as long as they stand, and 0.5 V for each ampere.
    assert read(bus, 1, dxl.PRESENT_VOLTAGE) == pytest.approx(120 - 34.5, abs=6)


def test_a_supply_that_is_too_low_is_a_fault() -> None:
    bus = a_bus(Trouble(voltage_v=6.0))
    assert read(bus, 1, dxl.HARDWARE_ERROR) == 0x01


def test_a_stuck_encoder_says_what_it_said() -> None:
    bus = a_bus()
    bus.set_trouble(Trouble(stuck_ids=(2,)))
    bus._plant.pos_ticks = np.array([1100.0, 2100.0, 3100.0])  # type: ignore[misc]
    bus.advance(0.0)
    assert [read(bus, servo, dxl.PRESENT_POSITION) for servo in (1, 2, 3)] == [1100, 2000, 3100]


@pytest.mark.parametrize("kind", ["lost_share", "corrupt_share"])
def test_trouble_is_as_frequent_as_asked_and_repeats(kind: str) -> None:
    def answered() -> list[bool]:
        bus = a_bus(Trouble(**{kind: 0.2}, seed=3))
        return [bool(ask(bus, 1, wire.PING)) for _ in range(500)]

    # An instruction and an answer may both get lost; only answers are corrupted.
    share = np.mean(answered())
    assert share == pytest.approx(0.64 if kind == "lost_share" else 0.8, abs=0.06)
    assert answered() == answered()


def test_load_stands_in_for_current_where_none_is_measured() -> None:
    bus = a_bus(model=1060)
    write(bus, 1, dxl.TORQUE_ENABLE, 1)
    write(bus, 1, dxl.GOAL_POSITION, 4000)
    bus.advance(0.001)
    # It stands and gets all it can: of 12 V, more than the 11.1 V of its data sheet, and still 1000 is the largest.
    assert read(bus, 1, dxl.PRESENT_CURRENT) == 1000


def test_ids_are_unique() -> None:
    with pytest.raises(ValueError, match="same ID"):
        SimulatedBus([ServoKind(1, XM430)] * 2, Wheels((XM430,) * 2, (0.0, 0.0))(), Trouble())
