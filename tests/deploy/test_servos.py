"""ROBOTIS' package, unmodified, over a pseudo-terminal to servos that are simulated in another process."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from biped.base.errors import MachineError, UsageError
from biped.deploy import dynamixel as dxl
from biped.deploy.hardware import BusError, JointReading
from biped.deploy.servo_bus import PATIENCE_S, DynamixelBus
from biped.deploy.servos import DynamixelServos
from biped.deploy.simulated_bus import Trouble
from biped.deploy.simulated_process import SimulatedRobot
from biped.deploy.wiring import Wiring
from tests.servo_bus import XM430, Array, a_contract, a_wiring, kinds_of, robot, until, wheels_for

pytest.importorskip("dynamixel_sdk")

JOINTS = ("a", "b", "c", "d")
CONTRACT, WIRING = a_contract(JOINTS), a_wiring(JOINTS)
NO_TROUBLE = Trouble()


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[SimulatedRobot, Wiring]]:
    started, wiring = robot(WIRING)
    with started:
        yield started, wiring


@contextmanager
def opened(
    shared: tuple[SimulatedRobot, Wiring],
    trouble: Trouble = NO_TROUBLE,
    watchdog_s: float = 1.0,
    patience_s: float = 0.05,
) -> Iterator[DynamixelServos]:
    """The servos at 0 rad, limp and without trouble until they are open, and healthy again afterwards.

    Watchdog and readings are patient by default: a busy machine may keep a test waiting.
    """
    simulated, wiring = shared
    simulated.ask("trouble", NO_TROUBLE)
    simulated.ask("reset")
    simulated.ask("plant", "turn", WIRING.zero_ticks.tolist())
    servos = DynamixelServos(CONTRACT, wiring, watchdog_s, patience_s)
    simulated.ask("trouble", trouble)
    try:
        yield servos
    finally:
        simulated.ask("trouble", NO_TROUBLE)
        servos.go_limp()
        servos.close()


def ticks_at(angles: Array) -> list[float]:
    return (WIRING.zero_ticks + WIRING.directions * angles * dxl.TICKS_PER_RAD).tolist()


def follow(servos: DynamixelServos, targets: Array, seconds: float) -> JointReading:
    """Send targets at 100 Hz, and return the last reading."""
    reading, end = servos.read(), time.monotonic() + seconds
    while time.monotonic() < end:
        servos.write(targets)
        reading = servos.read()
        time.sleep(0.01)
    return reading


FIRST_S = 0.03
"""In this time a flywheel of 0.01 kg·m² gets 0.14 rad far with 3 N·m: it cannot have passed a target of 0.5 rad."""


def setting_out(
    simulated: SimulatedRobot, servos: DynamixelServos, targets: Array, value: Callable[[JointReading], Array]
) -> list[Array]:
    """What is said of joints that move from 0 rad towards their targets, and are not there yet, (num_joints,) each.

    It is the simulated time that says so: where a busy machine has missed it, the joints begin again.
    """
    found: list[Array] = []

    def go() -> bool:
        simulated.ask("plant", "turn", WIRING.zero_ticks.tolist())
        begin_s = simulated.ask("plant", "time_s")
        servos.write(targets)
        for _ in range(10):
            reading = servos.read()
            is_early = simulated.ask("plant", "time_s") - begin_s < FIRST_S
            if is_early and (np.abs(reading.vel_rad_s) > 0.1).all():
                found.append(value(reading))
        return len(found) >= 3

    assert until(go)
    return found


def test_a_reading_is_in_units_and_directions_of_joints(shared: tuple[SimulatedRobot, Wiring]) -> None:
    angles = np.array([0.3, -0.2, 0.1, 0.0])
    with opened(shared, Trouble(voltage_v=11.3)) as servos:
        shared[0].ask("plant", "turn", ticks_at(angles))
        time.sleep(0.01)
        reading = servos.read()
    assert reading.pos_rad == pytest.approx(angles, abs=0.8e-3)  # half a tick
    assert reading.voltage_v == pytest.approx([11.3] * 4)
    assert reading.temperature_c == pytest.approx([30.0] * 4)
    assert not reading.faults.any() and reading.answered.all()


def test_joints_go_where_they_are_sent(shared: tuple[SimulatedRobot, Wiring]) -> None:
    targets = np.array([0.7, -0.6, 0.5, -0.5])
    with opened(shared) as servos:
        servos.stiffen()
        for speeds in setting_out(shared[0], servos, targets, lambda reading: reading.vel_rad_s):
            assert (np.sign(speeds) == np.sign(targets)).all()
        reading = follow(servos, targets, 0.8)
    assert reading.pos_rad == pytest.approx(targets, abs=0.01)


def test_current_has_the_joints_sign(shared: tuple[SimulatedRobot, Wiring]) -> None:
    targets = np.array([1.5, -1.5, 1.5, -1.5])
    with opened(shared) as servos:
        servos.stiffen()
        for amps in setting_out(shared[0], servos, targets, lambda reading: reading.current_a):
            assert (np.sign(amps) == np.sign(targets)).all() and np.abs(amps).max() < 2.4


def test_targets_stop_at_the_limits_of_the_wiring(shared: tuple[SimulatedRobot, Wiring]) -> None:
    with opened(shared) as servos:
        servos.stiffen()
        servos.write(np.array([9.0, 9.0, -9.0, -9.0]))
        servos.read()  # it comes after what was written
        goals = [shared[0].ask("registers", servo)["Goal Position"] for servo in WIRING.ids]
    assert goals == [round(tick) for tick in ticks_at(np.array([2.0, 2.0, -2.0, -2.0]))]


def test_stiffen_holds_where_the_joints_are_with_the_contracts_gains(shared: tuple[SimulatedRobot, Wiring]) -> None:
    angles = np.array([0.3, -0.2, 0.1, 0.5])
    with opened(shared) as servos:
        shared[0].ask("plant", "turn", ticks_at(angles))
        shared[0].ask("set", WIRING.ids[1], "Profile Velocity", 20)
        shared[0].ask("set", WIRING.ids[1], "Position I Gain", 9)
        servos.stiffen()
        time.sleep(0.05)
        assert servos.read().pos_rad == pytest.approx(angles, abs=0.01)
        for joint in WIRING.joints:
            have = shared[0].ask("registers", joint.id)
            low, high = joint.tick_limits
            # Gains by hand, as in test_dynamixel.py.
            wanted = {
                "Torque Enable": 1, "Position P Gain": 1158, "Position D Gain": 926, "Position I Gain": 0,
                "Profile Velocity": 0, "Profile Acceleration": 0, "Bus Watchdog": 50, "Return Delay Time": 0,
                "Goal PWM": 885, "Min Position Limit": low, "Max Position Limit": high, "Operating Mode": 3,
            }  # fmt: skip
            assert {name: have[name] for name in wanted} == wanted
    assert {warning.kind for warning in servos.warnings} == {"kd assumed"}


def test_a_stiff_servo_is_without_a_watchdog_for_one_packet_at_most(
    shared: tuple[SimulatedRobot, Wiring], monkeypatch: pytest.MonkeyPatch
) -> None:
    naked: list[set[int]] = []
    write = DynamixelBus.write

    def look(bus: DynamixelBus, servo: int, register: dxl.Register, value: int) -> None:
        write(bus, servo, register, value)
        have = {servo: shared[0].ask("registers", servo) for servo in WIRING.ids}
        naked.append({servo for servo, row in have.items() if row["Torque Enable"] and not row["Bus Watchdog"]})

    monkeypatch.setattr(DynamixelBus, "write", look)
    with opened(shared) as servos:
        servos.stiffen()
        assert set().union(*naked) == set(WIRING.ids)
        assert max(map(len, naked)) == 1
        # After the torque and after the packet between; the third has armed it.
        assert all(sum(servo in servos_now for servos_now in naked) <= 2 for servo in WIRING.ids)
        monkeypatch.undo()


def test_a_silence_while_they_become_stiff_is_not_forgotten(
    shared: tuple[SimulatedRobot, Wiring], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = DynamixelBus.write

    def pause(bus: DynamixelBus, servo: int, register: dxl.Register, value: int) -> None:
        write(bus, servo, register, value)
        if (servo, register.name, value > 0) == (WIRING.ids[-1], "Bus Watchdog", True):
            before = shared[0].ask("figures")["trips"]
            assert until(lambda: shared[0].ask("figures")["trips"] >= before + 4)

    monkeypatch.setattr(DynamixelBus, "write", pause)
    with opened(shared, watchdog_s=0.4) as servos:
        servos.stiffen()
        servos.write(np.full(4, 0.3))
        servos.read()  # it comes after what was written
        assert servos.watchdog_trips >= 1
        goals = [shared[0].ask("registers", servo)["Goal Position"] for servo in WIRING.ids]
    assert goals == [round(tick) for tick in ticks_at(np.full(4, 0.3))]


def test_gains_of_the_wiring_come_before_the_contracts(shared: tuple[SimulatedRobot, Wiring]) -> None:
    first, *rest = shared[1].joints
    wiring = replace(shared[1], joints=(replace(first, position_p=777, position_d=0), *rest))
    with opened((shared[0], wiring)) as servos:
        servos.stiffen()
        registers = [shared[0].ask("registers", servo) for servo in WIRING.ids]
        kept = servos.wiring
        warned = {warning.joint for warning in servos.warnings}
    assert (registers[0]["Position P Gain"], registers[0]["Position D Gain"]) == (777, 0)
    assert {row["Position P Gain"] for row in registers[1:]} == {1158}
    assert [joint.position_p for joint in kept.joints] == [777, 1158, 1158, 1158], "what was used is kept in the log"
    assert first.joint not in warned


def test_stiffen_clears_a_tripped_watchdog(shared: tuple[SimulatedRobot, Wiring]) -> None:
    with opened(shared) as servos:
        shared[0].ask("set", WIRING.ids[2], "Bus Watchdog", dxl.TRIPPED)
        servos.stiffen()
        assert shared[0].ask("registers", WIRING.ids[2])["Bus Watchdog"] == 50


@pytest.mark.parametrize(
    ("register", "value", "text"),
    [
        ("Hardware Error Status", 0x24, r"servo 11 \(b\) reports overheating, overload"),
        ("Homing Offset", 5, r"servo 11 \(b\) has Reverse Mode or a Homing Offset"),
        ("Drive Mode", 1, r"servo 11 \(b\) has Reverse Mode"),
    ],
)
def test_an_unfit_servo_is_named_and_all_stay_limp(
    shared: tuple[SimulatedRobot, Wiring], register: str, value: int, text: str
) -> None:
    with opened(shared) as servos:
        shared[0].ask("set", WIRING.ids[1], register, value)
        try:
            with pytest.raises(BusError, match=text):
                servos.stiffen()
        finally:
            shared[0].ask("set", WIRING.ids[1], register, 0)
        assert not shared[0].ask("plant", "pwm_limit").any()


def test_a_joint_outside_of_its_limits_is_named(shared: tuple[SimulatedRobot, Wiring]) -> None:
    with opened(shared) as servos:
        shared[0].ask("plant", "turn", ticks_at(np.array([0.0, 0.0, 2.5, 0.0])))
        time.sleep(0.01)
        with pytest.raises(BusError, match=r"c is at 2\.50 rad, outside of its limits -2\.00 to 2\.00"):
            servos.stiffen()


@pytest.mark.parametrize("kind", ["lost_share", "corrupt_share"])
@pytest.mark.parametrize("fast", [True, False])
def test_a_broken_answer_is_nan_and_never_wrong(shared: tuple[SimulatedRobot, Wiring], kind: str, fast: bool) -> None:
    angles = np.array([0.3, -0.2, 0.1, 0.5])
    with opened(shared, Trouble(**{kind: 0.1}, seed=1), patience_s=0.01) as servos:
        servos.is_fast = fast
        shared[0].ask("plant", "turn", ticks_at(angles))
        time.sleep(0.01)
        readings = [servos.read() for _ in range(150)]
    answered = np.array([reading.answered for reading in readings])
    positions = np.array([reading.pos_rad for reading in readings])
    expected = np.broadcast_to(angles, positions.shape)
    assert positions[answered] == pytest.approx(expected[answered], abs=0.8e-3)
    assert np.isnan(np.array([reading.voltage_v for reading in readings])[~answered]).all()
    # Each of two attempts begins with an instruction that arrives nine times in ten.
    assert 0.8 < answered.mean() < 0.999
    # What came before the break is used.
    assert (answered.any(axis=1) & ~answered.all(axis=1)).any()


def test_commands_get_through_a_bad_bus(shared: tuple[SimulatedRobot, Wiring]) -> None:
    targets = np.array([0.2, -0.2, 0.2, -0.2])
    with opened(shared, Trouble(lost_share=0.05, corrupt_share=0.02, seed=4)) as servos:
        servos.stiffen()
        follow(servos, targets, 0.8)
        shared[0].ask("trouble", NO_TROUBLE)
        assert servos.read().pos_rad == pytest.approx(targets, abs=0.01)


def test_answers_that_are_late_are_not_taken_for_new_ones(shared: tuple[SimulatedRobot, Wiring]) -> None:
    with opened(shared, Trouble(latency_s=0.012), patience_s=PATIENCE_S) as servos:
        for _ in range(3):
            assert not servos.read().answered.any()
            time.sleep(0.005)  # the answer to the reading before arrives about now


def test_patience_is_short(shared: tuple[SimulatedRobot, Wiring]) -> None:
    with opened(shared, Trouble(dead_ids=WIRING.ids), patience_s=PATIENCE_S) as servos:
        times = []
        for _ in range(60):
            begin = time.perf_counter()
            assert not servos.read().answered.any()
            times.append(time.perf_counter() - begin)
    # 5 ms, and 1.5 ms that packets of four servos take at 1 Mbit/s; ROBOTIS' own would be 34 ms.
    assert min(times) < 0.015


@pytest.mark.parametrize("fast", [True, False])
def test_a_dead_servo_does_not_silence_the_others(shared: tuple[SimulatedRobot, Wiring], fast: bool) -> None:
    with opened(shared, Trouble(dead_ids=(WIRING.ids[0],))) as servos:
        servos.is_fast = fast
        for _ in range(5):
            assert servos.read().answered.tolist() == [False, True, True, True]
        shared[0].ask("trouble", NO_TROUBLE)
        servos.read()
        assert servos.read().answered.all()


def test_go_limp_reaches_all_that_can_be_reached(shared: tuple[SimulatedRobot, Wiring]) -> None:
    with opened(shared) as servos:
        servos.stiffen()
        shared[0].ask("trouble", Trouble(dead_ids=(WIRING.ids[0],), lost_share=0.3, seed=2))
        servos.go_limp()
        assert [shared[0].ask("registers", servo)["Torque Enable"] for servo in WIRING.ids] == [1, 0, 0, 0]


def test_the_watchdog_stops_the_servos_and_writing_goes_on_after_a_silence(
    shared: tuple[SimulatedRobot, Wiring],
) -> None:
    targets = np.array([0.3, 0.3, 0.3, 0.3])
    with opened(shared, watchdog_s=0.2) as servos:
        before = shared[0].ask("figures")["trips"]
        servos.stiffen()
        time.sleep(0.4)
        assert shared[0].ask("figures")["trips"] == before + 4
        servos.read()  # a reading does not hide the silence
        reading = follow(servos, targets, 0.8)
        assert servos.watchdog_trips >= 1
        assert reading.pos_rad == pytest.approx(targets, abs=0.01)
        assert shared[0].ask("registers", WIRING.ids[0])["Bus Watchdog"] in (10, dxl.TRIPPED)


def test_one_who_only_writes_clears_the_watchdogs_too(shared: tuple[SimulatedRobot, Wiring]) -> None:
    with opened(shared, watchdog_s=0.2) as servos:
        servos.stiffen()
        time.sleep(0.4)
        servos.write(np.full(4, 0.3))
        servos.read()  # it comes after what was written
        goals = [shared[0].ask("registers", servo)["Goal Position"] for servo in WIRING.ids]
    assert goals == [round(tick) for tick in ticks_at(np.full(4, 0.3))]


def test_ctrl_c_in_a_reading_does_not_keep_the_robot_from_going_limp(shared: tuple[SimulatedRobot, Wiring]) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with opened(shared) as servos:
        servos.stiffen()
        shared[0].ask("trouble", Trouble(dead_ids=WIRING.ids))
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            with pytest.raises(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 0.002)
                while True:
                    servos.read()
        finally:
            signal.signal(signal.SIGALRM, before)
        shared[0].ask("trouble", NO_TROUBLE)
        servos.go_limp()
        assert not any(shared[0].ask("registers", servo)["Torque Enable"] for servo in WIRING.ids)


def test_a_servo_that_started_anew_is_named(shared: tuple[SimulatedRobot, Wiring]) -> None:
    with opened(shared, watchdog_s=0.2) as servos:
        servos.stiffen()
        follow(servos, np.zeros(4), 0.05)
        shared[0].ask("trouble", Trouble(dead_ids=(WIRING.ids[3],)))
        follow(servos, np.zeros(4), 0.4)
        shared[0].ask("set", WIRING.ids[3], "Torque Enable", 0)
        shared[0].ask("trouble", NO_TROUBLE)
        with pytest.raises(BusError, match=r"servo 13 \(d\) has lost its torque"):
            follow(servos, np.zeros(4), 0.2)


def test_a_servo_that_was_away_is_driven_again(shared: tuple[SimulatedRobot, Wiring]) -> None:
    targets = np.full(4, 0.2)
    with opened(shared, watchdog_s=0.2) as servos:
        servos.stiffen()
        shared[0].ask("trouble", Trouble(dead_ids=(WIRING.ids[3],)))
        follow(servos, targets, 0.5)
        assert shared[0].ask("registers", WIRING.ids[3])["Bus Watchdog"] == dxl.TRIPPED
        shared[0].ask("trouble", NO_TROUBLE)
        assert follow(servos, targets, 0.8).pos_rad == pytest.approx(targets, abs=0.01)


def test_faults_are_read_of_the_servos_that_have_one(shared: tuple[SimulatedRobot, Wiring]) -> None:
    with opened(shared) as servos:
        shared[0].ask("fail", WIRING.ids[1], 0x20)
        shared[0].ask("fail", WIRING.ids[3], 0x04)
        for _ in range(3):
            reading = servos.read()
        assert reading.faults.tolist() == [0, 0x20, 0, 0x04]
        for servo in (WIRING.ids[1], WIRING.ids[3]):
            shared[0].ask("set", servo, "Hardware Error Status", 0)
        servos.read()
        assert not servos.read().faults.any()


def test_old_firmware_is_read_servo_by_servo() -> None:
    simulated, wiring = robot(WIRING, kinds=kinds_of(WIRING, firmware=44))
    with simulated:
        servos = DynamixelServos(CONTRACT, wiring, patience_s=0.05)
        assert not servos.is_fast
        assert servos.read().pos_rad == pytest.approx(np.zeros(4), abs=0.8e-3)
        servos.close()


def test_servos_without_current_say_their_load() -> None:
    simulated, wiring = robot(WIRING, make_plant=wheels_for(WIRING, 1060), kinds=kinds_of(WIRING, 1060))
    with simulated:
        servos, targets = DynamixelServos(CONTRACT, wiring, watchdog_s=1.0, patience_s=0.05), np.full(4, 1.5)
        servos.stiffen()
        for load in setting_out(simulated, servos, targets, lambda reading: reading.current_a):
            assert (load > 0.1).all() and (load <= 1.0).all()
        assert "torque above stall" in {warning.kind for warning in servos.warnings}
        servos.go_limp()
        servos.close()


def test_an_unknown_kind_of_servo_is_named(shared: tuple[SimulatedRobot, Wiring]) -> None:
    shared[0].ask("set", WIRING.ids[2], "Model Number", 4711)
    try:
        with pytest.raises(BusError, match=r"servo 12 \(c\) is of model number 4711"):
            DynamixelServos(CONTRACT, shared[1])
    finally:
        shared[0].ask("set", WIRING.ids[2], "Model Number", XM430)


def test_a_servo_that_is_not_there_is_named(shared: tuple[SimulatedRobot, Wiring]) -> None:
    shared[0].ask("trouble", Trouble(dead_ids=(WIRING.ids[2],)))
    try:
        with pytest.raises(BusError, match="servo 12 does not answer"):
            DynamixelServos(CONTRACT, shared[1])
    finally:
        shared[0].ask("trouble", NO_TROUBLE)


def test_a_wiring_of_another_robot_is_refused(shared: tuple[SimulatedRobot, Wiring]) -> None:
    with pytest.raises(UsageError, match="has no servo for e"):
        DynamixelServos(a_contract((*JOINTS, "e")), shared[1])


def test_a_bus_that_is_gone_is_a_bus_error_and_limp_never_raises() -> None:
    simulated, wiring = robot(WIRING)
    with simulated:
        servos = DynamixelServos(CONTRACT, wiring)
        servos.stiffen()
    with pytest.raises(BusError, match="is it unplugged"):
        for _ in range(3):
            servos.read()
    with pytest.raises(BusError):
        servos.write(np.zeros(4))
    servos.go_limp()
    servos.close()


def test_a_device_that_takes_nothing_is_a_bus_error_and_stops_nobody() -> None:
    def too_late(*_: object) -> None:
        raise TimeoutError("it waits for ever")

    simulated, wiring = robot(WIRING)
    with simulated:
        servos = DynamixelServos(CONTRACT, wiring, watchdog_s=2.0)
        servos.stiffen()
        before = signal.signal(signal.SIGALRM, too_late)
        os.kill(simulated._process.pid or 0, signal.SIGSTOP)
        try:
            signal.setitimer(signal.ITIMER_REAL, 30.0)
            with pytest.raises(BusError, match=r"is gone \(it takes nothing\)"):
                while True:
                    servos.write(np.zeros(4))
            # go_limp swallows what is raised in it: it is the clock that says whether it waited.
            begin = time.monotonic()
            servos.go_limp()
            assert time.monotonic() - begin < 20.0
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)
            os.kill(simulated._process.pid or 0, signal.SIGCONT)
            servos.close()


def test_a_port_that_does_not_exist_is_one_line() -> None:
    with pytest.raises(MachineError, match=r"cannot open /dev/nowhere .* is it plugged in"):
        DynamixelBus("/dev/nowhere", 1_000_000)


def test_without_robotis_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dynamixel_sdk", None)
    with pytest.raises(MachineError, match="pip install"):
        DynamixelBus("/dev/null", 1_000_000)


def test_two_programs_cannot_have_the_bus(shared: tuple[SimulatedRobot, Wiring]) -> None:
    with opened(shared), pytest.raises(MachineError, match="is in use by another program"):
        DynamixelBus(shared[1].port, 1_000_000)


def test_registers_by_name_even_where_they_look_like_a_header(shared: tuple[SimulatedRobot, Wiring]) -> None:
    bus = DynamixelBus(shared[1].port, 1_000_000)
    value = int.from_bytes(b"\xff\xff\xfd\xff", "little", signed=True)
    bus.write(WIRING.ids[0], dxl.HOMING_OFFSET, value)
    assert (
        shared[0].ask("registers", WIRING.ids[0])["Homing Offset"]
        == value
        == bus.read(WIRING.ids[0], dxl.HOMING_OFFSET)
    )
    bus.write(WIRING.ids[0], dxl.HOMING_OFFSET, 0)
    with pytest.raises(BusError, match="servo 10 refuses writing 20000 to Position P Gain: out of range"):
        bus.write(WIRING.ids[0], dxl.POSITION_P, 20000)
    assert bus.scan() == dict.fromkeys(sorted(WIRING.ids), XM430)
    bus.close()


def test_a_reboot_clears_a_fault(shared: tuple[SimulatedRobot, Wiring]) -> None:
    bus = DynamixelBus(shared[1].port, 1_000_000)
    shared[0].ask("fail", WIRING.ids[0], 0x20)
    bus.reboot(WIRING.ids[0])
    assert bus.read(WIRING.ids[0], dxl.HARDWARE_ERROR) == 0
    bus.close()
