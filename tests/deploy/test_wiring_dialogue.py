"""The dialogue of the wiring, with simulated servos and a person who knows how the robot is wired."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from biped.base.errors import UsageError
from biped.base.interrupts import Interrupted
from biped.deploy import dynamixel as dxl
from biped.deploy.dynamixel import TICKS_PER_RAD, Register
from biped.deploy.hardware import BusError
from biped.deploy.servo_bus import DynamixelBus
from biped.deploy.simulated_process import SimulatedRobot
from biped.deploy.wiring import ImuWiring, JointWiring, Wiring
from biped.deploy.wiring_dialogue import MARGIN_RAD, part_of, wire
from tests.servo_bus import a_contract, robot

pytest.importorskip("dynamixel_sdk")

JOINTS = ("left_knee", "right_knee", "torso")
TRUTH = Wiring(
    "/dev/null",
    1_000_000,
    (
        JointWiring("left_knee", 7, -1, 1500, -0.5, 1.5),
        JointWiring("right_knee", 3, 1, 2600, -1.0, 1.0),
        JointWiring("torso", 5, -1, 2048, -0.4, 0.9),
    ),
)
CONTRACT = a_contract(JOINTS)


class StoppedError(Exception):
    """The person presses Ctrl+C."""


@pytest.fixture(scope="module")
def simulated() -> Iterator[SimulatedRobot]:
    started, _ = robot(TRUTH)
    with started:
        yield started


@pytest.fixture
def bus(simulated: SimulatedRobot) -> Iterator[DynamixelBus]:
    opened = DynamixelBus(simulated.port, 1_000_000)
    yield opened
    opened.close()


class Person:
    """Answers by what happens to the simulated robot."""

    def __init__(self, simulated: SimulatedRobot, limits: str = "policy", zero: str = "", stop_at: str = "") -> None:
        self.simulated, self.limits, self.zero, self.stop_at = simulated, limits, zero, stop_at
        self.asked: list[str] = []
        self.said: list[str] = []
        self.special: dict[str, str] = {}
        self._servo, self._angles = 0, [0.0] * len(JOINTS)
        self._pose(self._angles)

    def _pose(self, angles: list[float]) -> None:
        ticks = [j.zero_tick + j.direction * a * TICKS_PER_RAD for j, a in zip(TRUTH.joints, angles, strict=True)]
        self.simulated.ask("plant", "turn", ticks)

    def __call__(self, question: str) -> str:
        self.asked.append(question)
        if self.stop_at and self.stop_at in question:
            raise StoppedError
        for words in list(self.special):
            if words in question:
                return self.special.pop(words)
        if "moves by two degrees" in question:
            self._servo = int(question.split("servo ")[1].split()[0])
            return ""
        joint = next((joint for joint in TRUTH.joints if joint.id == self._servo), None)
        if "which joint moved" in question:
            return joint.joint if joint else "none"
        if "which way" in question:
            assert joint
            return "+" if joint.direction == 1 else "-"
        if "default pose by hand" in question:
            self._pose([0.0] * 3 if self.zero else CONTRACT.default_pose_rad.tolist())
            return self.zero
        if "how far" in question:
            return self.limits
        return self._move_to_end(question)

    def _move_to_end(self, question: str) -> str:
        assert question.startswith("move ")
        index = JOINTS.index(question.split()[1])
        angles = [0.0] * len(JOINTS)
        angles[index] = TRUTH.joints[index].upper_rad if "one end" in question else TRUTH.joints[index].lower_rad
        self._pose(angles)
        return ""


def stiff(simulated: SimulatedRobot) -> list[int]:
    """IDs of servos that are not limp."""
    return [servo for servo in TRUTH.ids if simulated.ask("registers", servo)["Torque Enable"]]


Run = Callable[[Person], Wiring]


@pytest.fixture
def run(bus: DynamixelBus, tmp_path: Path) -> Run:
    def with_person(person: Person) -> Wiring:
        return wire(CONTRACT, bus, person, person.said.append, path=tmp_path / "wiring.json", wait=lambda _: None)

    return with_person


@pytest.mark.parametrize("zero", ["", "zero"])
def test_ids_directions_and_zeros_are_found(simulated: SimulatedRobot, run: Run, tmp_path: Path, zero: str) -> None:
    found = run(Person(simulated, zero=zero))
    for joint, truth in zip(found.joints, TRUTH.joints, strict=True):
        assert (joint.joint, joint.id, joint.direction) == (truth.joint, truth.id, truth.direction)
        assert abs(joint.zero_tick - truth.zero_tick) <= 1
    # As far as the policy can ask: 0.25 rad · 4 around the default pose of 0.1 rad.
    assert (found.joints[1].lower_rad, found.joints[1].upper_rad) == pytest.approx((-0.9, 1.1))
    assert found.port == simulated.port
    assert Wiring.load(tmp_path / "wiring.json") == found
    assert not part_of(tmp_path / "wiring.json").exists()


def test_limits_are_what_was_shown_less_a_margin(simulated: SimulatedRobot, run: Run) -> None:
    for joint, truth in zip(run(Person(simulated, limits="hand")).joints, TRUTH.joints, strict=True):
        assert joint.lower_rad == pytest.approx(truth.lower_rad + MARGIN_RAD, abs=0.004)
        assert joint.upper_rad == pytest.approx(truth.upper_rad - MARGIN_RAD, abs=0.004)


def test_each_servo_really_moves_and_is_limp_afterwards(
    simulated: SimulatedRobot, bus: DynamixelBus, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []

    def look(_: float) -> None:
        torque = [simulated.ask("registers", servo) for servo in TRUTH.ids]
        moving = [servo for servo, entry in zip(TRUTH.ids, torque, strict=True) if entry["Torque Enable"]]
        assert len(moving) == 1
        entry = simulated.ask("registers", moving[0])
        seen.append((moving[0], entry["Goal Position"]))

    person = Person(simulated)
    starts = {joint.id: joint.zero_tick for joint in TRUTH.joints}
    wire(CONTRACT, bus, person, person.said.append, path=tmp_path / "w.json", wait=look)
    assert [(servo, goal - starts[servo]) for servo, goal in seen] == [
        (3, 23), (3, 0), (5, 23), (5, 0), (7, 23), (7, 0)
    ]  # fmt: skip
    assert not stiff(simulated)


def test_a_servo_that_moves_has_its_watchdog_and_one_that_is_limp_has_none(
    simulated: SimulatedRobot, bus: DynamixelBus, tmp_path: Path
) -> None:
    seen: list[int] = []

    def look(_: float) -> None:
        seen.extend(simulated.ask("registers", servo)["Bus Watchdog"] for servo in stiff(simulated))

    person = Person(simulated)
    wire(CONTRACT, bus, person, person.said.append, path=tmp_path / "w.json", wait=look)
    # 100 · 20 ms: longer than one move of 0.5 s.
    assert seen == [100] * 6
    assert [simulated.ask("registers", servo)["Bus Watchdog"] for servo in TRUTH.ids] == [0] * 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_while_a_servo_moves_makes_it_limp(
    simulated: SimulatedRobot, bus: DynamixelBus, tmp_path: Path, number: signal.Signals
) -> None:
    moves: list[float] = []

    def wait(seconds: float) -> None:
        moves.append(seconds)
        assert stiff(simulated) == [3]
        if len(moves) == 1:  # a second one ends the process at once
            os.kill(os.getpid(), number)

    person = Person(simulated)
    before = signal.signal(number, lambda *_: None)  # else it would end the tests where nobody hears it
    try:
        with pytest.raises(Interrupted) as caught:
            wire(CONTRACT, bus, person, person.said.append, path=tmp_path / "w.json", wait=wait)
    finally:
        signal.signal(number, before)
    assert caught.value.number == number
    assert len(moves) == 1, "it went on to move"
    assert not stiff(simulated)


class Fault(Exception):  # noqa: N818 - not ours
    """Anything that may go wrong."""


class DeafBus:
    """A bus whose servos do not take some of the first orders to become limp again."""

    def __init__(self, bus: DynamixelBus, times: int) -> None:
        self._bus, self._left, self._is_on = bus, times, False
        self.port, self.baud, self.scan, self.read = bus.port, bus.baud, bus.scan, bus.read

    def write(self, servo: int, register: Register, value: int) -> None:
        if register is dxl.TORQUE_ENABLE and not value and self._is_on and self._left:
            self._left -= 1
            raise BusError("servo 3 does not answer")
        self._is_on = self._is_on or (register is dxl.TORQUE_ENABLE and value == 1)
        self._bus.write(servo, register, value)


def fail(_: float) -> None:
    raise Fault


@pytest.mark.parametrize("deaf", [0, 1, 2])
def test_every_way_out_of_a_move_makes_the_servo_limp(
    simulated: SimulatedRobot, bus: DynamixelBus, tmp_path: Path, deaf: int
) -> None:
    person = Person(simulated)
    with pytest.raises(Fault):
        wire(CONTRACT, DeafBus(bus, deaf), person, person.said.append, path=tmp_path / "w.json", wait=fail)
    assert not stiff(simulated)


def test_a_servo_that_stays_stiff_is_named(simulated: SimulatedRobot, bus: DynamixelBus, tmp_path: Path) -> None:
    person = Person(simulated)
    with pytest.raises(BusError, match=r"servo 3 may still be stiff, switch its power off"):
        wire(CONTRACT, DeafBus(bus, 99), person, person.said.append, path=tmp_path / "w.json", wait=fail)
    bus.write(3, dxl.TORQUE_ENABLE, 0)


@pytest.mark.parametrize("answer", ["+-", "", "-+", "+ -"])
def test_a_direction_that_is_none_is_asked_again(simulated: SimulatedRobot, run: Run, answer: str) -> None:
    person = Person(simulated)
    person.special = {"which way": answer}
    assert [joint.direction for joint in run(person).joints] == [joint.direction for joint in TRUTH.joints]
    assert "answer + or -" in person.said


class Mute(Person):
    """Has no more answers at some question: the input has ended."""

    def __call__(self, question: str) -> str:
        try:
            return super().__call__(question)
        except StoppedError:
            raise EOFError from None


def test_an_input_that_ends_is_one_line(simulated: SimulatedRobot, run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="was broken off; nothing is known yet"):
        run(Mute(simulated, stop_at="servo 3 moves"))
    with pytest.raises(UsageError, match=r"was broken off; what is known is kept in .*wiring\.json\.part: wire again"):
        run(Mute(simulated, stop_at="how far"))
    (tmp_path / "wiring.json").write_text("mine")
    with pytest.raises(UsageError, match="was broken off"):
        run(Mute(simulated, stop_at="Replace it"))
    assert (tmp_path / "wiring.json").read_text() == "mine"


def test_a_slip_of_the_tongue_is_asked_again(simulated: SimulatedRobot, run: Run) -> None:
    person = Person(simulated)
    person.special = {"which joint moved": "left_kne", "which way": "up", "how far": "far"}
    assert run(person).ids == TRUTH.ids
    assert any("did you mean left_knee?" in text for text in person.said)


def test_again_moves_it_again(simulated: SimulatedRobot, run: Run) -> None:
    person = Person(simulated)
    person.special = {"which joint moved": "again"}
    assert run(person).ids == TRUTH.ids


@pytest.mark.parametrize("at", ["servo 7 moves", "default pose by hand", "how far", "move right_knee to the other end"])
def test_a_dialogue_that_is_broken_off_goes_on(simulated: SimulatedRobot, run: Run, tmp_path: Path, at: str) -> None:
    with pytest.raises(StoppedError):
        run(Person(simulated, limits="hand", stop_at=at))
    assert part_of(tmp_path / "wiring.json").exists() and not (tmp_path / "wiring.json").exists()
    assert not stiff(simulated)
    person = Person(simulated, limits="hand")
    person.special = {"go on where you stopped": ""}
    assert run(person).ids == TRUTH.ids
    assert not any("servo 3 moves" in question for question in person.asked)


def test_one_may_begin_anew(simulated: SimulatedRobot, run: Run) -> None:
    with pytest.raises(StoppedError):
        run(Person(simulated, stop_at="how far"))
    person = Person(simulated)
    person.special = {"go on where you stopped": "n"}
    assert run(person).ids == TRUTH.ids
    assert any("servo 3 moves" in question for question in person.asked)


def draft(**changes: object) -> str:
    known: dict[str, object] = {"ids": {}, "directions": {}, "zero_ticks": {}, "limits_rad": {}, "unused_ids": []}
    return json.dumps({"format": "biped-wiring-unfinished", "joints": JOINTS, **known, **changes})


@pytest.mark.parametrize(
    "content",
    [
        "{",
        '{"format": "biped-wiring-unfinished"}',
        "[]",
        "[" * 100_000,
        draft(zero_ticks={"torso": 10**400}),
        draft(zero_ticks={"torso": "2048"}),
        draft(limits_rad={"torso": [1.0]}),
        draft(limits_rad={"torso": [-(10**400), 1.0]}),
        draft(unused_ids=3),
    ],
    ids=range(9),
)
def test_a_damaged_draft_is_not_used(simulated: SimulatedRobot, run: Run, tmp_path: Path, content: str) -> None:
    part_of(tmp_path / "wiring.json").write_text(content)
    person = Person(simulated)
    assert run(person).ids == TRUTH.ids
    assert any("damaged" in text for text in person.said)


def test_a_file_that_is_there_is_replaced_only_if_one_says_so(
    simulated: SimulatedRobot, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "wiring.json"
    path.write_text("mine")
    for answer in ("", "n"):
        person = Person(simulated)
        person.special = {"Replace it": answer}
        with pytest.raises(UsageError, match="is kept as it is"):
            run(person)
    assert path.read_text() == "mine"
    person = Person(simulated, stop_at="how far")
    person.special = {"Replace it": "y"}
    with pytest.raises(StoppedError):
        run(person)
    assert path.read_text() == "mine"


def replaced(simulated: SimulatedRobot, run: Run, path: Path) -> Person:
    person = Person(simulated)
    person.special = {"Replace it": "y"}
    assert run(person) == Wiring.load(path)
    return person


def test_what_no_dialogue_asks_for_is_carried_over(simulated: SimulatedRobot, run: Run, tmp_path: Path) -> None:
    knee, other, torso = TRUTH.joints
    imu = ImuWiring("/dev/ttyUSB7", "+y-x+z", rate_hz=100.0)
    joints = (
        replace(knee, position_p=900, position_d=30),
        replace(other, id=99, position_p=800, position_d=20),  # another servo than the one that is there now
        replace(torso, position_d=10),
    )
    old = replace(TRUTH, joints=joints, imu=imu)
    old.save(tmp_path / "wiring.json")
    said = replaced(simulated, run, tmp_path / "wiring.json").said
    found = Wiring.load(tmp_path / "wiring.json")
    assert found.imu == imu
    assert [(joint.position_p, joint.position_d) for joint in found.joints] == [(900, 30), (None, None), (None, 10)]
    assert "measured gains of the old file are kept for left_knee, torso" in said
    assert any("not taken over for right_knee: another servo" in text for text in said)


def test_an_imu_that_is_named_is_in_the_file_and_comes_before_the_old_ones(
    simulated: SimulatedRobot, bus: DynamixelBus, tmp_path: Path
) -> None:
    path, imu = tmp_path / "wiring.json", ImuWiring("/dev/ttyUSB1", "+y-x+z")
    for named in (imu, replace(imu, source="/dev/ttyUSB2")):
        person = Person(simulated)
        person.special = {"Replace it": "y"}
        wire(CONTRACT, bus, person, person.said.append, path=path, imu=named, wait=lambda _: None)
        assert Wiring.load(path).imu == named
        assert not any("the IMU of the old file" in text for text in person.said)


def test_an_old_file_that_is_no_wiring_is_said(simulated: SimulatedRobot, run: Run, tmp_path: Path) -> None:
    (tmp_path / "wiring.json").write_text("mine")
    said = replaced(simulated, run, tmp_path / "wiring.json").said
    assert any(text.startswith("nothing is taken over from the old file") for text in said)


def untouched(question: str) -> str:
    raise AssertionError(question)


@pytest.mark.parametrize(("name", "said"), [("none/w.json", "there is no folder .*none"), (".", "is a folder")])
def test_a_file_that_cannot_be_written_is_refused_before_anything_moves(
    bus: DynamixelBus, tmp_path: Path, name: str, said: str
) -> None:
    said_to: list[str] = []
    with pytest.raises(UsageError, match=f"{said}.* --wire"):
        wire(CONTRACT, bus, untouched, said_to.append, path=tmp_path / name)
    assert not said_to


def test_a_rate_that_no_wiring_has_is_refused_before_anything_moves(simulated: SimulatedRobot, tmp_path: Path) -> None:
    said_to: list[str] = []
    bus = DynamixelBus(simulated.port, 921600)  # ROBOTIS' package knows it, their servos do not
    try:
        with pytest.raises(UsageError, match="--baud 921600 is none of 57600, "):
            wire(CONTRACT, bus, untouched, said_to.append, path=tmp_path / "w.json")
    finally:
        bus.close()
    assert not said_to


def test_too_few_servos_are_named(simulated: SimulatedRobot, bus: DynamixelBus, tmp_path: Path) -> None:
    person = Person(simulated)
    contract = a_contract((*JOINTS, "neck"))
    with pytest.raises(UsageError, match=r"3 servos answer .* 4 joints"):
        wire(contract, bus, person, person.said.append, path=tmp_path / "w.json")
    assert "servo 3: XM430-W210" in person.said


class Twisted(Person):
    """Has put the left knee together so that its servo is at the end of its turn."""

    def __call__(self, question: str) -> str:
        answer = super().__call__(question)
        if "default pose by hand" in question:
            self.simulated.ask("plant", "turn", [0.0, 2600.0, 2048.0])
        return answer


def test_a_servo_whose_turn_ends_before_the_pose_is_named(simulated: SimulatedRobot, run: Run) -> None:
    with pytest.raises(UsageError, match=r"servo of left_knee cannot reach .* turn its horn"):
        run(Twisted(simulated))
