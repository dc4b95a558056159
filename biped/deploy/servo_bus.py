"""The bus of Dynamixel servos through ROBOTIS' package: registers by name, all servos at once, and short patience."""

import contextlib
import importlib
import os
import select
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from biped.base.errors import MachineError, first_line
from biped.base.platforms import posix_module, terminal_errors
from biped.deploy import dynamixel as dxl
from biped.deploy.dynamixel import Register
from biped.deploy.hardware import BusError

PATIENCE_S, CALM_S = 0.005, 0.02
"""How long an answer may be late within a control step, and outside of one, its time on the wire not counted (s)."""
BLOCK_ADDRESS = dxl.PRESENT_CURRENT.address
BLOCK_SIZE = dxl.PRESENT_TEMPERATURE.address + dxl.PRESENT_TEMPERATURE.size - BLOCK_ADDRESS
"""What is read of each servo in a step: current, velocity, position, two trajectories, voltage and temperature."""
WRITE_S = 0.05
"""How long the device may take nothing of what is sent before it counts as gone (s)."""
_TRIES = 4
_SUCCESS, _BROADCAST = 0, 0xFE
_PARAMETERS = 8
"""Where a packet's content begins in ROBOTIS' package: after header, ID, length and instruction."""
_ALERT = 0x80
_GONE = (OSError, *terminal_errors())
"""What pyserial raises once a device is unplugged; its SerialException is an OSError."""


@dataclass(frozen=True)
class Block:
    """What one servo said in a step."""

    content: bytes
    """`BLOCK_SIZE` bytes from `BLOCK_ADDRESS` on."""
    has_fault: bool
    """Whether Hardware Error Status has something."""


def _import_sdk() -> Any:
    try:
        return importlib.import_module("dynamixel_sdk")
    except ImportError as error:
        raise MachineError("dynamixel-sdk is not installed: pip install 'biped-walking[robot]'") from error


def _patient_port(sdk: Any, name: str) -> Any:
    """Return a port whose patience fits into a control step; ROBOTIS' own waits 34 ms, and keeps a core busy."""

    class Port(sdk.PortHandler):
        sent, patience_s = 0, PATIENCE_S

        def writePort(self, packet: Any) -> int:  # noqa: N802 - ROBOTIS' name
            # pyserial's own timeout counts the time for which this process was not on: a busy machine is no fault.
            rest, end_s, self.sent = bytes(packet), time.monotonic() + WRITE_S, len(packet)
            while rest:
                try:
                    rest = rest[os.write(self.ser.fileno(), rest) :]
                except BlockingIOError:
                    left_s = end_s - time.monotonic()
                    if left_s <= 0.0 or not select.select([], [self.ser.fileno()], [], left_s)[1]:
                        self.ser.reset_output_buffer()  # what is old must not move a servo later
                        raise TimeoutError("it takes nothing") from None
            return self.sent

        def setPacketTimeout(self, packet_length: int) -> None:  # noqa: N802
            self.setPacketTimeoutMillis(1e3 * self.patience_s + self.tx_time_per_byte * (packet_length + self.sent))

        def readPort(self, length: int) -> bytes:  # noqa: N802
            found = self.ser.read(length)
            while len(found) < length:
                left_s = 1e-3 * (self.packet_timeout - self.getTimeSinceStart())
                if left_s <= 0.0 or not select.select([self.ser.fileno()], [], [], left_s)[0]:
                    break
                found += self.ser.read(length - len(found))
            return found

        def getCurrentTime(self) -> float:  # noqa: N802 - in ms; a clock that is set must not stop the robot
            return 1e3 * time.monotonic()

    return Port(name)


class DynamixelBus:
    """An open bus."""

    def __init__(self, port: str, baud: int, patience_s: float = PATIENCE_S) -> None:
        """Open the device; `patience_s` is how long an answer may be late within a control step (s).

        Raises:
            MachineError: ROBOTIS' package is missing, the device cannot be opened, or another program has it; or this
                system is Windows, where nothing waits for a serial line as `_patient_port` does.
        """
        posix_module("termios", "a robot's bus")
        self._sdk = _import_sdk()
        self.port, self.baud, self._patience_s = port, baud, patience_s
        self._port = _patient_port(self._sdk, port)
        self._handler = self._sdk.PacketHandler(2.0)
        self._last_sent_s = time.monotonic()
        self._longest_s = 0.0
        try:
            if not self._port.setBaudRate(baud):
                raise MachineError(f"{baud} is no rate that {port} can have")
        except _GONE as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise MachineError(
                f"cannot open {port} ({reason}): is it plugged in, and may you use it (group dialout)?"
            ) from error
        try:
            self._port.ser.exclusive = True
        except _GONE as error:
            self.close()
            raise MachineError(f"{port} is in use by another program: end that first") from error
        with contextlib.suppress(*_GONE, ValueError, AttributeError, NotImplementedError):
            # An FTDI chip holds bytes back for 16 ms unless it is told not to.
            self._port.ser.set_low_latency_mode(True)

    def close(self) -> None:
        """Let go of the device."""
        with contextlib.suppress(*_GONE):
            self._port.closePort()

    @property
    def longest_silence_s(self) -> float:
        """Longest time without an instruction since `forget_silence`, the present one included (s)."""
        return max(self._longest_s, time.monotonic() - self._last_sent_s)

    def forget_silence(self) -> None:
        """Count silences from now on."""
        self._longest_s, self._last_sent_s = 0.0, time.monotonic()

    @contextlib.contextmanager
    def _talking(self, patience_s: float = CALM_S) -> Iterator[None]:
        """Turn the loss of the device into a `BusError`; wait for answers as long as said."""
        self._port.patience_s = patience_s
        now = time.monotonic()
        self._longest_s, self._last_sent_s = max(self._longest_s, now - self._last_sent_s), now
        try:
            yield
        except (*_GONE, TypeError) as error:  # pyserial reads from a closed device with a TypeError
            raise BusError(f"{self.port} is gone ({first_line(error)}): is it unplugged?") from error
        finally:
            self._port.is_using = False

    def scan(self) -> dict[int, int]:
        """Return the model number of each servo that answers, by ID.

        Raises:
            BusError: the device is gone.
        """
        with self._talking():
            found, _ = self._handler.broadcastPing(self._port)
        return {int(servo): int(number) for servo, (number, _) in sorted(found.items())}

    def read(self, servo: int, register: Register, *, in_step: bool = False) -> int:
        """Return a register; `in_step` asks once and with short patience.

        Raises:
            BusError: the servo does not answer, or refuses.
        """
        result, error, content = 0, 0, b""
        for _ in range(1 if in_step else _TRIES):
            with self._talking(self._patience_s if in_step else CALM_S):
                content, result, error = self._handler.readTxRx(self._port, servo, register.address, register.size)
            if result == _SUCCESS and (error & ~_ALERT or len(content) >= register.size):
                break
        self._check(servo, f"reading {register.name}", result, error)
        return register.decode(bytes(content))

    def write(self, servo: int, register: Register, value: int) -> None:
        """Set a register.

        Raises:
            BusError: the servo does not answer, or refuses.
        """
        content, result, error = list(register.encode(value)), 0, 0
        for _ in range(_TRIES):
            with self._talking():
                result, error = self._handler.writeTxRx(
                    self._port, servo, register.address, register.size, list(content)
                )
            if result == _SUCCESS:
                break
        self._check(servo, f"writing {value} to {register.name}", result, error)

    def write_all(self, register: Register, values: Mapping[int, int]) -> None:
        """Set a register of several servos with one packet, which nobody answers.

        Raises:
            BusError: the device is gone.
        """
        content: list[int] = []
        for servo, value in values.items():
            content += [servo, *register.encode(value)]
        with self._talking():
            result = self._handler.syncWriteTxOnly(self._port, register.address, register.size, content, len(content))
        if result != _SUCCESS:
            raise BusError(f"{self.port} does not take what is sent ({self._handler.getTxRxResult(result)})")

    def reboot(self, servo: int) -> None:
        """Let a servo start anew, which clears its hardware errors.

        Raises:
            BusError: it does not answer.
        """
        with self._talking():
            result, error = self._handler.reboot(self._port, servo)
        self._check(servo, "the reboot", result, error)

    def read_blocks(self, servos: Sequence[int], *, fast: bool) -> dict[int, Block]:
        """Return what servos say now, by ID; those that do not answer are missing.

        Args:
            servos: IDs, in the order in which they are to answer; one that is silent silences those after it.
            fast: ask for one packet from all (Fast Sync Read), else for one from each.

        Raises:
            BusError: the device is gone.
        """
        with self._talking(self._patience_s):
            sent = self._handler.syncReadTx(self._port, BLOCK_ADDRESS, BLOCK_SIZE, list(servos), len(servos), fast)
            if sent != _SUCCESS:
                return {}
            if fast:
                packet, result = self._handler.rxPacket(self._port, True)
                return self._split(bytes(packet), servos, is_whole=result == _SUCCESS)
            return self._collect(set(servos))

    def _collect(self, missing: set[int]) -> dict[int, Block]:
        """Read one packet of each servo until all have answered or time is up."""
        found: dict[int, Block] = {}
        while missing:
            packet, result = self._handler.rxPacket(self._port, False)
            if result == _SUCCESS and len(packet) == _PARAMETERS + 1 + BLOCK_SIZE + 2 and packet[4] in missing:
                missing.discard(packet[4])
                content = bytes(packet[_PARAMETERS + 1 : _PARAMETERS + 1 + BLOCK_SIZE])
                found[packet[4]] = Block(content, bool(packet[_PARAMETERS] & _ALERT))
            elif result != _SUCCESS and self._port.getTimeSinceStart() >= self._port.packet_timeout:
                break
        return found

    def _split(self, packet: bytes, servos: Sequence[int], *, is_whole: bool) -> dict[int, Block]:
        """Take the servos' parts from one packet, up to the first that is broken.

        Each part ends with the checksum of all that was sent before it: what came before a break is known to be right.
        """
        found: dict[int, Block] = {}
        if len(packet) < _PARAMETERS or packet[4] != _BROADCAST:
            return found
        begin, crc, size = _PARAMETERS, 0, 2 + BLOCK_SIZE
        crc = self._handler.updateCRC(0, packet, begin) if not is_whole else 0
        for servo in servos:
            part = packet[begin : begin + size + 2]
            if len(part) < size + 2 or part[1] != servo:
                break
            if not is_whole:
                crc = self._handler.updateCRC(crc, part, size)
                if crc != int.from_bytes(part[size:], "little"):
                    break
                crc = self._handler.updateCRC(crc, part[size:], 2)
            found[servo] = Block(part[2:size], bool(part[0] & _ALERT))
            begin += size + 2
        return found

    def _check(self, servo: int, what: str, result: int, error: int) -> None:
        if result != _SUCCESS:
            raise BusError(f"servo {servo} does not answer ({what}): check its cable, its power and its ID")
        if number := error & ~_ALERT:
            raise BusError(f"servo {servo} refuses {what}: {_REFUSALS.get(number, f'error {number}')}")


_REFUSALS: Mapping[int, str] = {
    1: "it cannot; a shutdown ends with a reboot",
    2: "it does not know this instruction",
    3: "the packet was damaged",
    4: "out of range, or its bus watchdog has stopped it",
    5: "wrong length",
    6: "outside of its limits",
    7: "not while its torque is on, or not at all",
}
"""Error numbers of status packets (e-Manual, protocol2.md)."""
