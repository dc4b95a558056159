"""The dialogue of the wiring, with simulated servos and a person who knows how the robot is wired."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from biped.base.errors import UsageError
from biped.deploy.dynamixel import TICKS_PER_RAD
from biped.deploy.servo_bus import DynamixelBus
from biped.deploy.simulated_process import SimulatedRobot
from biped.deploy.wiring import JointWiring, Wiring
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
    assert not any(simulated.ask("registers", servo)["Torque Enable"] for servo in TRUTH.ids)


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
    assert not any(simulated.ask("registers", servo)["Torque Enable"] for servo in TRUTH.ids)
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


@pytest.mark.parametrize("content", ["{", '{"format": "biped-wiring-unfinished"}', "[]"])
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
