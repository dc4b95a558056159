"""One simulated Dynamixel: its control table, what may be written when, its bus watchdog and its shutdown."""

from collections.abc import Mapping
from dataclasses import dataclass

from biped.deploy import dynamixel as dxl
from biped.deploy.dynamixel import MODELS, Model, Register
from biped.deploy.simulated_packets import BAD_ACCESS, BAD_LENGTH, BAD_LIMIT, BAD_RANGE, RESULT_FAIL

_SIZE, _RAM = 256, dxl.TORQUE_ENABLE.address
"""Size of the control table, and where the part begins that the power clears."""
_SHUTDOWN = Register("Shutdown", 63, 1)
_GAIN, _BYTE, _ANY = (0, dxl.LARGEST_GAIN), (0, 255), (-(2**31), 2**32 - 1)
_WRITABLE: Mapping[Register, tuple[int, int]] = {
    Register("Baud Rate", 8, 1): (0, 7),
    dxl.ID: (0, 252),
    dxl.RETURN_DELAY: (0, 254),
    dxl.DRIVE_MODE: (0, 5),
    dxl.OPERATING_MODE: (0, 16),
    dxl.HOMING_OFFSET: (-1_044_479, 1_044_479),
    dxl.TEMPERATURE_LIMIT: (0, 100),
    dxl.MAX_VOLTAGE: (31, 160),
    dxl.MIN_VOLTAGE: (31, 160),
    dxl.PWM_LIMIT: (0, dxl.FULL_PWM),
    dxl.CURRENT_LIMIT: (0, 2047),
    dxl.MAX_POSITION: (0, 4095),
    dxl.MIN_POSITION: (0, 4095),
    dxl.PWM_SLOPE: (1, 255),
    _SHUTDOWN: _BYTE,
    dxl.TORQUE_ENABLE: (0, 1),
    Register("LED", 65, 1): (0, 1),
    dxl.STATUS_RETURN_LEVEL: (0, 2),
    dxl.POSITION_D: _GAIN,
    dxl.POSITION_I: _GAIN,
    dxl.POSITION_P: _GAIN,
    dxl.FEEDFORWARD_1: _GAIN,
    dxl.FEEDFORWARD_2: _GAIN,
    dxl.BUS_WATCHDOG: (0, 127),
    dxl.GOAL_PWM: (-dxl.FULL_PWM, dxl.FULL_PWM),
    dxl.PROFILE_ACCELERATION: (0, 32767),
    dxl.PROFILE_VELOCITY: (0, 32767),
    dxl.GOAL_POSITION: _ANY,
}
"""What may be written, with smallest and largest value; what is missing here is read-only."""
_AT_ADDRESS = {register.address: register for register in _WRITABLE}
_GOALS = (dxl.GOAL_PWM, dxl.GOAL_POSITION)


@dataclass(frozen=True)
class ServoKind:
    """One servo of the simulated bus, as it comes from the shelf."""

    id: int
    """Its ID."""
    model: int
    """Its model number."""
    firmware: int = 48
    """Its firmware."""


class SimulatedServo:
    """A servo without its motor: what it answers, and what it does to its own registers."""

    def __init__(self, kind: ServoKind) -> None:
        """Switch it on."""
        self.kind, self.model = kind, MODELS[kind.model]
        self.table = bytearray(_SIZE)
        self._heard_s = 0.0
        self.pending: tuple[int, bytes] | None = None
        """What Reg Write left for Action."""
        for register, value in _factory(kind, self.model).items():
            self[register] = value
        self.reboot()

    def __getitem__(self, register: Register) -> int:
        """Return what a register has."""
        return register.decode(bytes(self.table[register.address : register.address + register.size]))

    def __setitem__(self, register: Register, value: int) -> None:
        """Set a register, whatever it may be from outside."""
        self.table[register.address : register.address + register.size] = register.encode(value)

    def reboot(self) -> None:
        """Set all registers that the power keeps to what they are when it comes back."""
        self.table[_RAM:] = bytes(_SIZE - _RAM)
        position_p = 400 if self.model.has_pwm_slope else 800
        for register, value in ((dxl.STATUS_RETURN_LEVEL, 2), (dxl.POSITION_P, position_p)):
            self[register] = value
        self[dxl.GOAL_PWM] = self[dxl.PWM_LIMIT]
        self[dxl.PRESENT_TEMPERATURE] = 30
        self.pending = None

    @property
    def has_fault(self) -> bool:
        """Whether the alert bit is set."""
        return self[dxl.HARDWARE_ERROR] != 0

    @property
    def effective_pwm(self) -> int:
        """The largest PWM that it gives its motor; 0 while its torque is off."""
        if not self[dxl.TORQUE_ENABLE]:
            return 0
        return min(abs(self[dxl.GOAL_PWM]), self[dxl.PWM_LIMIT])

    def hear(self, now_s: float) -> None:
        """Note that there was an instruction on the bus."""
        self._heard_s = now_s

    def watch(self, now_s: float) -> bool:
        """Stop where it is if the bus was silent for longer than the watchdog allows; return whether it just did."""
        limit = self[dxl.BUS_WATCHDOG]
        if not self[dxl.TORQUE_ENABLE] or not 0 < limit <= 127 or now_s - self._heard_s <= limit * dxl.WATCHDOG_UNIT_S:
            return False
        self[dxl.BUS_WATCHDOG] = dxl.TRIPPED
        self[dxl.GOAL_POSITION] = self[dxl.PRESENT_POSITION]
        return True

    def fail(self, bits: int) -> None:
        """Set hardware errors; the torque goes off if Shutdown has one of them."""
        self[dxl.HARDWARE_ERROR] |= bits
        if bits & self[_SHUTDOWN]:
            self[dxl.TORQUE_ENABLE] = 0

    def read(self, address: int, size: int) -> bytes | None:
        """Return a part of the control table, None where there is none."""
        return bytes(self.table[address : address + size]) if size > 0 and address + size <= _SIZE else None

    def write(self, address: int, content: bytes) -> int:
        """Write all registers that are there, or none; return the error number, 0 for none."""
        changes = []
        while content:
            register = _AT_ADDRESS.get(address)
            if register is None:
                return BAD_ACCESS
            if len(content) < register.size:
                return BAD_LENGTH
            value = register.decode(content)
            if error := self._refuses(register, value):
                return error
            changes.append((register, value))
            address, content = address + register.size, content[register.size :]
        for register, value in changes:
            self[register] = value
            if register is dxl.PWM_LIMIT:
                self[dxl.GOAL_PWM] = value
        return 0

    def _refuses(self, register: Register, value: int) -> int:
        """Return why a value may not be written: the error number, 0 if it may."""
        if register.is_eeprom and self[dxl.TORQUE_ENABLE]:
            return BAD_ACCESS
        if register in _GOALS and self[dxl.BUS_WATCHDOG] == dxl.TRIPPED:
            return BAD_RANGE
        low, high = _WRITABLE[register]
        if not low <= value <= high:
            return BAD_RANGE
        if register is dxl.GOAL_POSITION and not self[dxl.MIN_POSITION] <= value <= self[dxl.MAX_POSITION]:
            return BAD_LIMIT
        if register is dxl.GOAL_PWM and abs(value) > self[dxl.PWM_LIMIT]:
            return BAD_LIMIT
        stopped = self[dxl.HARDWARE_ERROR] & self[_SHUTDOWN]
        return RESULT_FAIL if register is dxl.TORQUE_ENABLE and value and stopped else 0


def _factory(kind: ServoKind, model: Model) -> dict[Register, int]:
    """Return what the registers have that survive the power."""
    small = model.has_pwm_slope
    volts = (70, 35) if model.voltage_v < 6.0 else (160, 65)
    slope = {dxl.PWM_SLOPE: 140} if small else {}
    return {
        dxl.MODEL_NUMBER: kind.model,
        dxl.FIRMWARE: kind.firmware,
        dxl.ID: kind.id,
        dxl.RETURN_DELAY: 250,
        dxl.OPERATING_MODE: dxl.POSITION_MODE,
        dxl.TEMPERATURE_LIMIT: 70 if small else 80,
        dxl.MAX_VOLTAGE: volts[0],
        dxl.MIN_VOLTAGE: volts[1],
        dxl.PWM_LIMIT: dxl.FULL_PWM,
        dxl.CURRENT_LIMIT: 1750 if small else 1193,
        dxl.MAX_POSITION: 4095,
        dxl.MIN_POSITION: 0,
        _SHUTDOWN: 53 if small else 52,
        **slope,
    }
