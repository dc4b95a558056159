"""The dialogue that finds out which servo drives which joint, which way round, from where and how far."""

import contextlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from biped.base.errors import UsageError, disk_error
from biped.base.files import write_whole
from biped.base.interrupts import Interrupted, Interrupts
from biped.deploy import dynamixel as dxl
from biped.deploy.contract_file import MotorRow, PolicyContract
from biped.deploy.dynamixel import MODELS, POSITION_MODE, TICKS_PER_RAD, TICKS_PER_TURN, Register
from biped.deploy.hardware import BusError
from biped.deploy.wiring import BAUDS, ImuWiring, JointWiring, Wiring, read_json, suggestion, typed

NUDGE_TICKS = 23
"""How far a servo moves to be recognised: two degrees."""
MARGIN_RAD = math.radians(2.0)
"""How far before the end that was shown a joint stops (rad)."""
_SMALLEST_RANGE_RAD = math.radians(10.0)
_DRAFT = "biped-wiring-unfinished"
_MOVE_S = 0.5
_WATCHDOG_S = 2.0
"""Silence after which a servo that moves here stops by itself (s): several moves, for a machine that is busy."""
_LIMP_TRIES = 3

Ask = Callable[[str], str]
Say = Callable[[str], None]


class Bus(Protocol):
    """What the dialogue needs of a bus; see `biped.deploy.servo_bus.DynamixelBus`."""

    port: str
    baud: int

    def scan(self) -> dict[int, int]:
        """Return the model number of each servo that answers, by ID."""
        ...

    def read(self, servo: int, register: Register) -> int:
        """Return a register."""
        ...

    def write(self, servo: int, register: Register, value: int) -> None:
        """Set a register."""
        ...


@dataclass
class _Draft:
    """What is known so far, by joint."""

    ids: dict[str, int] = field(default_factory=dict)
    directions: dict[str, int] = field(default_factory=dict)
    zero_ticks: dict[str, int] = field(default_factory=dict)
    limits_rad: dict[str, list[float]] = field(default_factory=dict)
    unused_ids: list[int] = field(default_factory=list)


def part_of(path: Path) -> Path:
    """Return where an unfinished wiring is kept."""
    return path.with_name(f"{path.name}.part")


def wire(
    contract: PolicyContract,
    bus: Bus,
    ask: Ask,
    say: Say,
    *,
    path: Path,
    imu: ImuWiring | None = None,
    describe: Callable[[str], str] | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> Wiring:
    """Find out how a robot is wired, and write the file; what is known so far is kept after each answer.

    Args:
        contract: the policy's; its joints are those that are asked for.
        bus: where the servos are.
        ask: puts a question and returns the answer; what it raises ends the dialogue, with the servos limp.
        say: tells the person something.
        path: the file to write; `part_of` it keeps what is known if the dialogue is broken off.
        imu: the robot's; None keeps that of the file that is replaced.
        describe: says which way a joint's positive direction is.
        wait: lets seconds pass.

    Raises:
        UsageError: servos are missing or are set up otherwise, the person wants to keep the file that is there or has
            no more answers, or the file or the bus could not be used later.
        MachineError: the disk refuses the write.
        BusError: a servo does not answer any longer.
        Interrupted: a signal came while a servo moved; it is limp again.
    """
    if bus.baud not in BAUDS:
        raise UsageError(f"--baud {bus.baud} is none of {', '.join(map(str, BAUDS))}")
    if not path.parent.is_dir() or path.is_dir():
        wrong = f"{path} is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise UsageError(f"{wrong}: name a file in a folder that is there with --wire")
    try:
        if path.exists() and not _agrees(ask, f"{path} exists. Replace it once the new one is complete? [y/N] "):
            raise UsageError(f"{path} is kept as it is: give another name to wire anew")
        found = _Dialogue(contract, bus, ask, say, path, describe or (lambda _: ""), wait).run()
    except EOFError as error:
        part = part_of(path)
        kept = f"what is known is kept in {part}" if part.exists() else "nothing is known yet"
        raise UsageError(f"the dialogue was broken off; {kept}: wire again in a terminal") from error
    wiring = replace(found, imu=imu)
    if path.exists():
        wiring = _with_what_was(path, wiring, say)
    wiring.save(path)
    part_of(path).unlink(missing_ok=True)
    say(f"written: {path}")
    return wiring


def _with_what_was(path: Path, wiring: Wiring, say: Say) -> Wiring:
    """Return a wiring with what no dialogue asks for: the IMU of the file that it replaces, and measured gains.

    Gains are of a servo on a joint: they stay where both are the same.
    """
    try:
        old = Wiring.load(path)
    except UsageError as error:
        say(f"nothing is taken over from the old file: {error}")
        return wiring
    measured = {j.joint: j for j in old.joints if (j.position_p, j.position_d) != (None, None)}
    same = {joint.joint for joint in wiring.joints if joint.joint in measured and measured[joint.joint].id == joint.id}
    if same:
        say(f"measured gains of the old file are kept for {', '.join(j for j in measured if j in same)}")
    if lost := [name for name in measured if name not in same]:
        say(f"measured gains of the old file are not taken over for {', '.join(lost)}: another servo is there now")
    if old.imu is not None and wiring.imu is None:
        say(f"the IMU of the old file is kept: {old.imu.source}")
    joints = tuple(
        replace(joint, position_p=measured[joint.joint].position_p, position_d=measured[joint.joint].position_d)
        if joint.joint in same
        else joint
        for joint in wiring.joints
    )
    return replace(wiring, joints=joints, imu=wiring.imu or old.imu)


class _Dialogue:
    def __init__(
        self,
        contract: PolicyContract,
        bus: Bus,
        ask: Ask,
        say: Say,
        path: Path,
        describe: Callable[[str], str],
        wait: Callable[[float], None],
    ) -> None:
        self._contract, self._bus, self._ask, self._say = contract, bus, ask, say
        self._part, self._describe, self._wait = part_of(path), describe, wait
        self._draft = _Draft()

    def run(self) -> Wiring:
        servos = self._find_servos()
        self._resume(servos)
        for servo in servos:
            self._prepare(servo)
        self._name_servos(servos)
        self._find_zeros()
        self._find_limits()
        draft = self._draft
        return Wiring(
            self._bus.port,
            self._bus.baud,
            tuple(
                JointWiring(
                    name,
                    draft.ids[name],
                    draft.directions[name],
                    draft.zero_ticks[name],
                    lower_rad=draft.limits_rad[name][0],
                    upper_rad=draft.limits_rad[name][1],
                )
                for name in self._contract.joint_names
            ),
        )

    def _find_servos(self) -> list[int]:
        found, wanted = self._bus.scan(), len(self._contract.motors)
        for servo, number in found.items():
            self._say(f"servo {servo}: {MODELS[number].name if number in MODELS else f'model {number}'}")
        if len(found) < wanted:
            raise UsageError(
                f"{len(found)} servos answer on {self._bus.port} at {self._bus.baud} bit/s, and the policy has "
                f"{wanted} joints: check cables, power, the rate, and that no ID is there twice"
            )
        return list(found)

    def _resume(self, servos: list[int]) -> None:
        """Take up what an earlier dialogue left, if the person wants that and the servos are the same."""
        if not self._part.exists():
            return
        try:
            raw = read_json(self._part)
            draft = _Draft(**{name: raw[name] for name in _Draft.__dataclass_fields__})
            columns = (draft.ids, draft.directions, draft.zero_ticks)
            for number in [n for column in columns for n in column.values()] + draft.unused_ids:
                typed(number, int, "a number of it")
            for limit in [limit for low, high in draft.limits_rad.values() for limit in (low, high)]:
                typed(limit, (int, float), "a limit")
            same = raw["format"] == _DRAFT and raw["joints"] == list(self._contract.joint_names)
            same = same and set(draft.ids.values()) | set(draft.unused_ids) <= set(servos)
        except (UsageError, KeyError, TypeError, ValueError, AttributeError):
            same, draft = False, _Draft()
        if not same:
            self._say(f"{self._part} is of another robot, or damaged, and is not used")
        elif not _agrees(
            self._ask, f"go on where you stopped, with {len(draft.ids)} servos known? [Y/n] ", default=True
        ):
            draft = _Draft()
        self._draft = draft if same else _Draft()

    def _keep(self) -> None:
        content: dict[str, Any] = {"format": _DRAFT, "joints": list(self._contract.joint_names), **asdict(self._draft)}
        try:
            write_whole(self._part, json.dumps(content, indent=2).encode())
        except OSError as error:
            raise disk_error(self._part, error, "--wiring") from error

    def _prepare(self, servo: int) -> None:
        """Make a servo limp and ready to be moved."""
        bus = self._bus
        bus.write(servo, dxl.TORQUE_ENABLE, 0)
        if bus.read(servo, dxl.DRIVE_MODE) & 1 or bus.read(servo, dxl.HOMING_OFFSET):
            raise UsageError(f"servo {servo} has Reverse Mode or a Homing Offset: set both to 0 with DYNAMIXEL Wizard")
        bus.write(servo, dxl.BUS_WATCHDOG, 0)
        for register, value in (
            (dxl.OPERATING_MODE, POSITION_MODE),
            (dxl.MIN_POSITION, 0),
            (dxl.MAX_POSITION, TICKS_PER_TURN - 1),
        ):
            if bus.read(servo, register) != value:
                bus.write(servo, register, value)

    def _name_servos(self, servos: list[int]) -> None:
        names, draft = self._contract.joint_names, self._draft
        known = {*draft.ids.values(), *draft.unused_ids}
        for servo in [servo for servo in servos if servo not in known]:
            left = [name for name in names if name not in draft.ids]
            if not left:
                return
            self._ask(f"hold the robot so that its legs are free; servo {servo} moves by two degrees. Enter ")
            sign = self._nudge(servo)
            while (answer := self._which(left)) == "again":
                sign = self._nudge(servo)
            if answer == "none":
                draft.unused_ids.append(servo)
            else:
                draft.ids[answer], draft.directions[answer] = servo, sign * self._which_way(answer)
            self._keep()
        if missing := [name for name in names if name not in draft.ids]:
            draft.unused_ids.clear()
            self._keep()
            raise UsageError(f"no servo is left for {', '.join(missing)}: wire again and name them")

    def _nudge(self, servo: int) -> int:
        """Move a servo a little and back; return the sign of its first move in ticks."""
        bus, start = self._bus, self._bus.read(servo, dxl.PRESENT_POSITION)
        start = min(max(start, 0), TICKS_PER_TURN - 1)
        sign = 1 if start + NUDGE_TICKS < TICKS_PER_TURN else -1
        with Interrupts(last_act=lambda: self._let_go(servo)) as interrupts:
            try:
                bus.write(servo, dxl.BUS_WATCHDOG, 0)
                bus.write(servo, dxl.GOAL_POSITION, start)
                bus.write(servo, dxl.TORQUE_ENABLE, 1)
                bus.write(servo, dxl.BUS_WATCHDOG, round(_WATCHDOG_S / dxl.WATCHDOG_UNIT_S))
                for goal in (start + sign * NUDGE_TICKS, start):
                    if interrupts.received is None:
                        bus.write(servo, dxl.GOAL_POSITION, goal)
                        self._wait(_MOVE_S)
            finally:
                self._let_go(servo)
            bus.write(servo, dxl.BUS_WATCHDOG, 0)
        if interrupts.received is not None:
            raise Interrupted(interrupts.received)
        return sign

    def _let_go(self, servo: int) -> None:
        """Make a servo limp.

        Raises:
            BusError: it did not take that, however often it was told.
        """
        for _ in range(_LIMP_TRIES - 1):
            with contextlib.suppress(BusError):
                self._bus.write(servo, dxl.TORQUE_ENABLE, 0)
                return
        try:
            self._bus.write(servo, dxl.TORQUE_ENABLE, 0)
        except BusError as error:
            raise BusError(f"servo {servo} may still be stiff, switch its power off ({error})") from error

    def _which(self, left: list[str]) -> str:
        """Return a joint, or again, or none."""
        menu = ", ".join(f"{number} {name}" for number, name in enumerate(left, 1))
        while True:
            answer = self._ask(f"which joint moved? {menu}; again; none: ").strip()
            if answer in (*left, "again", "none"):
                return answer
            if answer.isdigit() and 1 <= int(answer) <= len(left):
                return left[int(answer) - 1]
            self._say(f"{answer or 'nothing'} is none of these{suggestion(answer, [*left, 'again', 'none'])}")

    def _which_way(self, joint: str) -> int:
        meaning = self._describe(joint) or "the direction in which its angle grows in the model"
        signs = {"+": 1, "-": -1}
        while (answer := self._ask(f"which way did {joint} go first? + is {meaning}; + or -: ").strip()) not in signs:
            self._say("answer + or -")
        return signs[answer]

    def _find_zeros(self) -> None:
        motors = [motor for motor in self._contract.motors if motor.joint not in self._draft.zero_ticks]
        if not motors:
            return
        pose = ", ".join(f"{motor.joint} {math.degrees(motor.default_rad):.0f}°" for motor in motors)
        self._say(f"all servos are limp. The default pose is: {pose}")
        question = "put the robot into the default pose by hand, then Enter; or put all joints to 0°, then type zero: "
        while (answer := self._ask(question).strip()) not in ("", "zero"):
            self._say("press Enter, or type zero")
        for motor in motors:
            angle = 0.0 if answer == "zero" else motor.default_rad
            self._draft.zero_ticks[motor.joint] = self._tick(motor.joint) - round(
                self._draft.directions[motor.joint] * angle * TICKS_PER_RAD
            )
        self._keep()

    def _find_limits(self) -> None:
        motors = [motor for motor in self._contract.motors if motor.joint not in self._draft.limits_rad]
        if not motors:
            return
        reach = self._contract.action_scale_rad * float(self._contract.raw["action"]["clip"] or 1.0)
        question = (
            "how far may the joints turn? hand: you show both ends of each, which is safer; "
            f"policy: as far as the policy can ask, {math.degrees(reach):.0f}° from the default pose: "
        )
        while (answer := self._ask(question).strip()) not in ("hand", "policy"):
            self._say("answer hand or policy")
        for motor in motors:
            limits = self._shown(motor) if answer == "hand" else (motor.default_rad - reach, motor.default_rad + reach)
            self._draft.limits_rad[motor.joint] = list(self._within_turn(motor, limits))
            self._keep()

    def _shown(self, motor: MotorRow) -> tuple[float, float]:
        """Return the limits that the person shows by hand."""
        while True:
            angles = []
            for which in ("one end", "the other end"):
                self._ask(f"move {motor.joint} to {which}, then Enter ")
                angles.append(self._angle(motor.joint))
            low, high = min(angles) + MARGIN_RAD, max(angles) - MARGIN_RAD
            if high - low >= _SMALLEST_RANGE_RAD and low <= motor.default_rad <= high:
                return low, high
            self._say(
                f"{motor.joint} went from {math.degrees(min(angles)):.0f}° to {math.degrees(max(angles)):.0f}°, which "
                f"must hold its default pose of {math.degrees(motor.default_rad):.0f}°: again"
            )

    def _within_turn(self, motor: MotorRow, limits: tuple[float, float]) -> tuple[float, float]:
        """Return limits that a servo's one turn can hold.

        Raises:
            UsageError: it cannot hold the default pose.
        """
        direction, zero = self._draft.directions[motor.joint], self._draft.zero_ticks[motor.joint]
        ends = sorted(direction * (tick - zero) / TICKS_PER_RAD for tick in (1, TICKS_PER_TURN - 2))
        low, high = max(limits[0], ends[0]), min(limits[1], ends[1])
        if not low < motor.default_rad < high:
            raise UsageError(
                f"the servo of {motor.joint} cannot reach the default pose within its turn: turn its horn by half a "
                f"turn, delete {self._part.name} and wire again"
            )
        if (low, high) != limits:
            self._say(f"{motor.joint}: the servo's turn ends at {low:.2f} to {high:.2f} rad")
        return low, high

    def _tick(self, joint: str) -> int:
        return self._bus.read(self._draft.ids[joint], dxl.PRESENT_POSITION)

    def _angle(self, joint: str) -> float:
        offset = self._tick(joint) - self._draft.zero_ticks[joint]
        return self._draft.directions[joint] * offset / TICKS_PER_RAD


def _agrees(ask: Ask, question: str, *, default: bool = False) -> bool:
    answer = ask(question).strip().lower()
    return answer in ("y", "yes") if answer else default
