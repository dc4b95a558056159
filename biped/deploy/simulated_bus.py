"""A bus of simulated Dynamixels on a pseudo-terminal, in real time, with trouble on request.

What moves is a `Plant`. The bus takes instructions, sets the plant's commands, and answers with what the plant's servos
would say. A servo that is asked after one that is silent is silent too: servos wait for the one before them.
"""

import random
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from biped.deploy import dynamixel as dxl
from biped.deploy import simulated_packets as wire
from biped.deploy.dynamixel import Array
from biped.deploy.simulated_packets import ALERT, BAD_ACCESS, BAD_INSTRUCTION, BAD_LENGTH, Packet
from biped.deploy.simulated_servo import ServoKind, SimulatedServo

_WORD, _TWO_WORDS = struct.Struct("<H"), struct.Struct("<HH")
_PING_SLOT_S = 0.003
"""Time between two answers to a ping of all servos (s): ROBOTIS' package waits 3 ms for each ID that there may be."""


@dataclass(frozen=True)
class ServoCommand:
    """What the servos are set to, one entry each, (num_servos,)."""

    goal_ticks: Array
    """Goal Position."""
    position_p: Array
    """Position P Gain."""
    position_d: Array
    """Position D Gain."""
    pwm_limit: Array
    """Largest PWM; 0: the torque is off."""
    voltage_v: float
    """Supply voltage at the servos (V)."""


class Plant(Protocol):
    """What the servos move."""

    @property
    def pos_ticks(self) -> Array:
        """Positions of servos, (num_servos,), ticks, not rounded."""
        ...

    @property
    def vel_rad_s(self) -> Array:
        """Velocities, (num_servos,), rad/s, counter-clockwise positive."""
        ...

    @property
    def current_a(self) -> Array:
        """Motor currents, (num_servos,), A, counter-clockwise positive."""
        ...

    def advance(self, to_s: float, command: ServoCommand) -> None:
        """Let time pass up to `to_s` seconds since the start."""
        ...


@dataclass(frozen=True)
class Trouble:
    """What is wrong with the bus; all of it may be changed while it runs."""

    lost_share: float = 0.0
    """Share of packets that get lost: of instructions and of answers each."""
    corrupt_share: float = 0.0
    """Share of packets with one wrong byte."""
    latency_s: float = 0.0
    """Time by which each answer is late (s)."""
    voltage_v: float = 12.0
    """Supply voltage without load (V)."""
    sag_ohm: float = 0.0
    """Volts that the supply loses per ampere that all motors draw (ohm)."""
    dead_ids: tuple[int, ...] = ()
    """Servos that do not answer and do nothing."""
    stuck_ids: tuple[int, ...] = ()
    """Servos that report the position at which they were when this began, whatever they do."""
    seed: int = 0
    """Seed of what is lost and corrupted."""


@dataclass
class _Health:
    trouble: Trouble
    dice: random.Random
    stuck_ticks: dict[int, int] = field(default_factory=dict)


class SimulatedBus:
    """The servos of one bus: instructions go in, answers come out."""

    def __init__(self, kinds: Sequence[ServoKind], plant: Plant, trouble: Trouble) -> None:
        """Switch the servos on.

        Raises:
            ValueError: two servos have the same ID.
        """
        self.servos = {kind.id: SimulatedServo(kind) for kind in kinds}
        if len(self.servos) != len(kinds):
            raise ValueError("two servos have the same ID")
        self._plant, self._order = plant, list(self.servos.values())
        self.reader = wire.PacketReader()
        self.trips = 0
        """How often a bus watchdog has stopped a servo."""
        self.voltage_v = trouble.voltage_v
        self._command: ServoCommand | None = None
        self.set_trouble(trouble)
        self._refresh()

    def set_trouble(self, trouble: Trouble) -> None:
        """Change what is wrong."""
        self._health = _Health(trouble, random.Random(trouble.seed))
        for servo in trouble.stuck_ids:
            self._health.stuck_ticks[servo] = self.servos[servo][dxl.PRESENT_POSITION]

    def advance(self, now_s: float) -> None:
        """Let the plant move until now, and the servos look after themselves."""
        for servo in self._order:
            if servo.watch(now_s):
                self.trips += 1
                self._command = None
        drawn = float(np.abs(self._plant.current_a).sum())
        voltage = max(0.0, self._health.trouble.voltage_v - self._health.trouble.sag_ohm * drawn)
        if self._command is None or voltage != self.voltage_v:
            self.voltage_v = voltage
            self._command = self._make_command()
        self._plant.advance(now_s, self._command)
        self._refresh()

    def handle(self, received: bytes, now_s: float) -> list[tuple[float, bytes]]:
        """Take bytes from the line; return what the servos answer, each with its time (s)."""
        answers: list[tuple[float, bytes]] = []
        for packet in self.reader.feed(received):
            if self._is_lost():
                continue
            for servo in self._alive():
                servo.hear(now_s)
            for delay_s, sent in self._answer(packet):
                answers.append((now_s + self._health.trouble.latency_s + delay_s, sent))
            self._command = None
        return answers

    def _alive(self) -> list[SimulatedServo]:
        return [servo for servo in self._order if servo.kind.id not in self._health.trouble.dead_ids]

    def _answer(self, packet: Packet) -> list[tuple[float, bytes]]:
        if packet.instruction in (wire.SYNC_READ, wire.FAST_SYNC_READ, wire.SYNC_WRITE):
            return self._together(packet)
        alive = {servo.kind.id: servo for servo in self._alive()}
        if packet.servo != wire.BROADCAST:
            servo = alive.get(packet.servo)
            return self._sent([self._single(servo, packet)]) if servo else []
        statuses = [self._single(servo, packet) for servo in alive.values()]
        if packet.instruction != wire.PING:
            return []
        sent = self._sent(statuses, chained=False)
        return [(index * _PING_SLOT_S, content) for index, (_, content) in enumerate(sent)]

    def _single(self, servo: SimulatedServo, packet: Packet) -> bytes | None:
        """Carry out an instruction to one servo; return its status packet, None if it keeps silent."""
        error, content = _carry_out(servo, packet)
        level = {wire.PING: 0, wire.READ: 1}.get(packet.instruction, 2)
        if servo[dxl.STATUS_RETURN_LEVEL] < level:
            return None
        return wire.packet(servo.kind.id, wire.STATUS, bytes((error | ALERT * servo.has_fault,)) + content)

    def _together(self, packet: Packet) -> list[tuple[float, bytes]]:
        """Carry out an instruction to several servos."""
        if len(packet.parameters) < 5:
            return []
        address, size = _TWO_WORDS.unpack_from(packet.parameters)
        rest = packet.parameters[_TWO_WORDS.size :]
        alive = {servo.kind.id: servo for servo in self._alive()}
        if packet.instruction == wire.SYNC_WRITE:
            for at in range(0, len(rest) - size, size + 1):
                if servo := alive.get(rest[at]):
                    servo.write(address, rest[at + 1 : at + 1 + size])
            return []
        parts = []
        for servo_id in rest:
            servo, fast = alive.get(servo_id), packet.instruction == wire.FAST_SYNC_READ
            content = servo.read(address, size) if servo and _knows(servo, fast) else None
            if servo is None or content is None:
                break
            parts.append((ALERT * servo.has_fault, servo_id, content))
        if packet.instruction == wire.FAST_SYNC_READ:
            return self._sent(list(wire.fast_status(parts, len(rest))))
        return self._sent([wire.packet(i, wire.STATUS, bytes((error,)) + content) for error, i, content in parts])

    def _sent(self, packets: Sequence[bytes | None], *, chained: bool = True) -> list[tuple[float, bytes]]:
        """Return what of these packets comes through; where they are `chained`, the first that is lost is the last."""
        sent = []
        for content in packets:
            if content is None or self._is_lost():
                if chained:
                    break
                continue
            sent.append((0.0, self._perhaps_corrupt(content)))
        return sent

    def _is_lost(self) -> bool:
        share = self._health.trouble.lost_share
        return share > 0.0 and self._health.dice.random() < share

    def _perhaps_corrupt(self, content: bytes) -> bytes:
        health = self._health
        if not health.trouble.corrupt_share or health.dice.random() >= health.trouble.corrupt_share:
            return content
        at, flip = health.dice.randrange(len(content)), health.dice.randrange(1, 256)
        return content[:at] + bytes((content[at] ^ flip,)) + content[at + 1 :]

    def _make_command(self) -> ServoCommand:
        dead = self._health.trouble.dead_ids

        def column(register: dxl.Register) -> Array:
            return np.array([servo[register] for servo in self._order], float)

        limits = [0 if servo.kind.id in dead else servo.effective_pwm for servo in self._order]
        return ServoCommand(
            column(dxl.GOAL_POSITION),
            column(dxl.POSITION_P),
            column(dxl.POSITION_D),
            np.array(limits, float),
            self.voltage_v,
        )

    def _refresh(self) -> None:
        """Put what the plant does into the control tables."""
        plant, volts = self._plant, round(self.voltage_v / dxl.VOLTAGE_UNIT_V)
        ticks = np.rint(plant.pos_ticks).astype(int).tolist()
        speeds = np.rint(plant.vel_rad_s / dxl.VELOCITY_UNIT_RAD_S).astype(int).tolist()
        for servo, tick, speed, amps in zip(self._order, ticks, speeds, plant.current_a.tolist(), strict=True):
            unit = servo.model.current_unit_a or servo.model.stall_current_a * dxl.LOAD_UNIT
            # A load is of 1000 at most, whatever the supply drives through the motor.
            largest = 32767 if servo.model.current_unit_a else round(1.0 / dxl.LOAD_UNIT)
            servo[dxl.PRESENT_CURRENT] = max(-largest, min(largest, round(amps / unit)))
            servo[dxl.PRESENT_VELOCITY] = speed
            servo[dxl.PRESENT_POSITION] = self._health.stuck_ticks.get(servo.kind.id, int(tick))
            servo[dxl.PRESENT_VOLTAGE] = volts
            if not servo[dxl.MIN_VOLTAGE] <= volts <= servo[dxl.MAX_VOLTAGE]:
                servo.fail(0x01)


def _knows(servo: SimulatedServo, fast: bool) -> bool:
    lowest = servo.model.fast_read_firmware
    return not fast or (lowest is not None and servo.kind.firmware >= lowest)


def _carry_out(servo: SimulatedServo, packet: Packet) -> tuple[int, bytes]:
    """Do what a packet says; return the error number and what is answered."""
    given, instruction = packet.parameters, packet.instruction
    if instruction == wire.PING:
        return 0, servo.kind.model.to_bytes(2, "little") + bytes((servo.kind.firmware,))
    if instruction == wire.REBOOT:
        servo.reboot()
        return 0, b""
    if instruction == wire.ACTION:
        pending, servo.pending = servo.pending, None
        return (servo.write(*pending), b"") if pending else (BAD_INSTRUCTION, b"")
    if instruction not in (wire.READ, wire.WRITE, wire.REG_WRITE):
        return BAD_INSTRUCTION, b""
    if len(given) < 3:
        return BAD_LENGTH, b""
    address, rest = _WORD.unpack_from(given)[0], given[_WORD.size :]
    if instruction == wire.READ:
        content = servo.read(address, int.from_bytes(rest, "little"))
        return (0, content) if content is not None else (BAD_ACCESS, b"")
    if instruction == wire.REG_WRITE:
        servo.pending = (address, rest)
        return 0, b""
    return servo.write(address, rest), b""


def registers_of(bus: SimulatedBus, servo_id: int) -> Mapping[str, int]:
    """Return all that a servo's control table has, by name."""
    return {register.name: bus.servos[servo_id][register] for register in dxl.REGISTERS}
