"""Facts of Dynamixel X servos (Protocol 2.0), and what their gain registers are in N·m/rad and N·m·s/rad.

Addresses, ranges and units: ROBOTIS e-Manual, github.com/ROBOTIS-GIT/emanual, commit 028a13d, docs/en/dxl/x
(xm430-w210, xl330-m288). Model numbers: ROBOTIS' control tables in the package dynamixel-sdk 4.1.0, dynamixel.model.
Torques, speeds and currents: the e-Manual's _data/dxl_x_info.yml, commit 0028038.

How sure the mapping of gains is:

- P: the e-Manual says PWM = P / 128 * error in ticks, and 885 is the whole supply voltage. Rhoban's BAM
  (github.com/Rhoban/bam, bam/dynamixel/actuator.py) measured a divisor of 256 on an XL330, 141 on an MX-64(2.0) and 147
  on an MX-106(2.0); nobody has published one of an XM430. Reckon with a servo 15% softer than asked, of the X330
  series with the measured 256.
- D: the e-Manual says D / 16, and that "the constant includes sampling time" without naming it. Nobody was found who
  has measured it. `D_SAMPLE_S` is an assumption: with it the XL430's factory setting, P 640 and D 4000, has a time
  constant of 0.1 s; a longer time would make that servo sluggish. It may be wrong several times over.
- A motor that is fed a voltage brakes by itself: stall torque / speed without load, at each voltage. That part follows
  from the data sheet, it is most of what a policy asks for, and D can only add to it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from biped.deploy.contract_file import MotorRow

Array = NDArray[np.float64]
Ticks = NDArray[np.int64]

TICKS_PER_TURN = 4096
TICKS_PER_RAD = TICKS_PER_TURN / (2.0 * math.pi)
VELOCITY_UNIT_RAD_S = 0.229 * 2.0 * math.pi / 60.0
"""Unit of velocities: 0.229 revolutions per minute."""
VOLTAGE_UNIT_V = 0.1
LOAD_UNIT = 0.001
"""Unit of Present Load, as a share of the largest."""
WATCHDOG_UNIT_S = 0.02
FULL_PWM = 885
"""PWM at which the motor gets the whole supply voltage."""
LARGEST_GAIN = 16383
D_DIVISOR, D_SAMPLE_S = 16.0, 0.001
"""Divisor of the D register (e-Manual), and the assumed time between two errors that it compares (s); see above."""
POSITION_MODE = 3
TRIPPED = 255
"""Bus Watchdog reads -1 once it has stopped the servo."""
FAULTS: Mapping[int, str] = MappingProxyType(
    {0x01: "input voltage", 0x04: "overheating", 0x08: "motor encoder", 0x10: "electrical shock", 0x20: "overload"}
)
"""Bits of Hardware Error Status."""


@dataclass(frozen=True)
class Register:
    """One entry of the control table."""

    name: str
    """As in the e-Manual."""
    address: int
    """Of its first byte."""
    size: int
    """Bytes, least first."""
    signed: bool = False
    """Whether it is a two's complement."""

    @property
    def is_eeprom(self) -> bool:
        """Whether it survives the power, and is locked while the torque is on."""
        return self.address < TORQUE_ENABLE.address

    def encode(self, value: int) -> bytes:
        """Return a value's bytes.

        Raises:
            OverflowError: it does not fit.
        """
        return int(value).to_bytes(self.size, "little", signed=self.signed)

    def decode(self, content: bytes) -> int:
        """Return the value of bytes."""
        return int.from_bytes(content[: self.size], "little", signed=self.signed)


MODEL_NUMBER = Register("Model Number", 0, 2)
FIRMWARE = Register("Firmware Version", 6, 1)
ID = Register("ID", 7, 1)
RETURN_DELAY = Register("Return Delay Time", 9, 1)
DRIVE_MODE = Register("Drive Mode", 10, 1)
OPERATING_MODE = Register("Operating Mode", 11, 1)
HOMING_OFFSET = Register("Homing Offset", 20, 4, signed=True)
TEMPERATURE_LIMIT = Register("Temperature Limit", 31, 1)
MAX_VOLTAGE = Register("Max Voltage Limit", 32, 2)
MIN_VOLTAGE = Register("Min Voltage Limit", 34, 2)
PWM_LIMIT = Register("PWM Limit", 36, 2)
CURRENT_LIMIT = Register("Current Limit", 38, 2)
MAX_POSITION = Register("Max Position Limit", 48, 4)
MIN_POSITION = Register("Min Position Limit", 52, 4)
PWM_SLOPE = Register("PWM Slope", 62, 1)
TORQUE_ENABLE = Register("Torque Enable", 64, 1)
STATUS_RETURN_LEVEL = Register("Status Return Level", 68, 1)
HARDWARE_ERROR = Register("Hardware Error Status", 70, 1)
POSITION_D = Register("Position D Gain", 80, 2)
POSITION_I = Register("Position I Gain", 82, 2)
POSITION_P = Register("Position P Gain", 84, 2)
FEEDFORWARD_2 = Register("Feedforward 2nd Gain", 88, 2)
FEEDFORWARD_1 = Register("Feedforward 1st Gain", 90, 2)
BUS_WATCHDOG = Register("Bus Watchdog", 98, 1)
GOAL_PWM = Register("Goal PWM", 100, 2, signed=True)
PROFILE_ACCELERATION = Register("Profile Acceleration", 108, 4)
PROFILE_VELOCITY = Register("Profile Velocity", 112, 4)
GOAL_POSITION = Register("Goal Position", 116, 4, signed=True)
PRESENT_CURRENT = Register("Present Current", 126, 2, signed=True)
PRESENT_VELOCITY = Register("Present Velocity", 128, 4, signed=True)
PRESENT_POSITION = Register("Present Position", 132, 4, signed=True)
PRESENT_VOLTAGE = Register("Present Input Voltage", 144, 2)
PRESENT_TEMPERATURE = Register("Present Temperature", 146, 1)
REGISTERS: tuple[Register, ...] = tuple(value for value in globals().values() if isinstance(value, Register))


@dataclass(frozen=True)
class Model:
    """A kind of servo, as its data sheet has it."""

    name: str
    """As in biped.config.servos."""
    stall_torque_nm: float
    """Torque at standstill (N·m) at `voltage_v`."""
    no_load_speed_rad_s: float
    """Speed without load (rad/s) at `voltage_v`."""
    voltage_v: float
    """Voltage at which they hold (V)."""
    stall_current_a: float
    """Current at standstill (A) at `voltage_v`."""
    current_unit_a: float | None
    """Unit of Present Current (A); None: the servo has Present Load in its place."""
    p_divisor: float
    """What the P register is divided by: PWM per tick of error; see above."""
    fast_read_firmware: int | None
    """Lowest firmware that knows Fast Sync Read (e-Manual, protocol2); None: none does."""
    has_pwm_slope: bool = False
    """Whether it lets its PWM rise no faster than PWM Slope says."""

    @property
    def back_emf_nm_s_per_rad(self) -> float:
        """How strongly the motor brakes by itself (N·m·s/rad), at each voltage alike."""
        return self.stall_torque_nm / self.no_load_speed_rad_s

    def stall_at(self, voltage_v: float) -> float:
        """Return the torque at standstill (N·m) at a supply voltage."""
        return self.stall_torque_nm * voltage_v / self.voltage_v


def _x430(
    name: str, stall: float, speed: float, volts: float, amps: float, unit: float | None, fast: int | None
) -> Model:
    return Model(name, stall, speed, volts, amps, unit, 128.0, fast)


def _x330(name: str, stall_nm: float, speed_rad_s: float, volts: float, amps: float) -> Model:
    return Model(name, stall_nm, speed_rad_s, volts, amps, 0.001, 256.0, 46, has_pwm_slope=True)


_UNIT, _FAST = 0.00269, 45
MODELS: Mapping[int, Model] = MappingProxyType(
    {
        1000: _x430("XH430-W350", 3.4, 3.142, 12.0, 1.3, _UNIT, _FAST),
        1010: _x430("XH430-W210", 2.5, 5.236, 12.0, 1.3, _UNIT, _FAST),
        1020: _x430("XM430-W350", 4.1, 4.817, 12.0, 2.3, _UNIT, _FAST),
        1030: _x430("XM430-W210", 3.0, 8.063, 12.0, 2.3, _UNIT, _FAST),
        1060: _x430("XL430-W250", 1.4, 5.969, 11.1, 1.3, None, _FAST),
        1070: _x430("XC430-W150", 1.6, 11.1, 12.0, 1.4, None, _FAST),
        1080: _x430("XC430-W240", 1.9, 7.33, 12.0, 1.4, None, _FAST),
        1090: _x430("2XL430-W250", 1.4, 5.969, 11.1, 1.3, None, None),
        1100: _x430("XH540-W270", 9.9, 4.084, 12.0, 4.9, _UNIT, _FAST),
        1110: _x430("XH540-W150", 7.1, 7.33, 12.0, 4.9, _UNIT, _FAST),
        1120: _x430("XM540-W270", 10.6, 3.142, 12.0, 4.4, _UNIT, _FAST),
        1130: _x430("XM540-W150", 7.3, 5.55, 12.0, 4.4, _UNIT, _FAST),
        1160: _x430("2XC430-W250", 1.8, 6.702, 12.0, 1.4, None, None),
        1190: _x330("XL330-M077", 0.215, 40.11, 5.0, 1.47),
        1200: _x330("XL330-M288", 0.52, 10.79, 5.0, 1.47),
        1210: _x330("XC330-T181", 0.76, 10.89, 11.1, 0.8),
        1220: _x330("XC330-T288", 0.92, 6.807, 11.1, 0.8),
        1230: _x330("XC330-M181", 0.60, 13.51, 5.0, 1.8),
        1240: _x330("XC330-M288", 0.93, 8.482, 5.0, 1.8),
    }
)
"""Model number to kind of servo."""


@dataclass(frozen=True)
class GainWarning:
    """Something that the servo does otherwise than the policy was trained with."""

    joint: str
    """The joint."""
    kind: str
    """One of: kd below back-emf, kd assumed, gain clipped, torque above stall, slower, other servo."""
    asked: float
    """What the contract says, in its unit."""
    given: float
    """What the servo does."""
    text: str
    """One line."""


@dataclass(frozen=True)
class Registers:
    """What a servo is set to so that it does what a contract asks."""

    position_p: int
    """Position P Gain."""
    position_d: int
    """Position D Gain."""
    pwm_limit: int
    """PWM Limit: at standstill it is the contract's torque limit."""
    warnings: tuple[GainWarning, ...] = ()
    """What is not as asked."""


def gains_for(motor: MotorRow, model: Model, voltage_v: float) -> Registers:
    """Return the registers that make a servo as stiff, as damped and as strong as a contract asks.

    Args:
        motor: what is asked.
        model: the servo that is there.
        voltage_v: its supply voltage; torque at standstill is proportional to it (V).
    """
    stall, own = model.stall_at(voltage_v), model.back_emf_nm_s_per_rad
    ideal_p = motor.kp_nm_per_rad / _kp_per_unit(model, stall)
    ideal_d = max(0.0, motor.kd_nm_s_per_rad - own) / _kd_per_unit(stall)
    registers = Registers(
        position_p=min(round(ideal_p), LARGEST_GAIN),
        position_d=min(round(ideal_d), LARGEST_GAIN),
        pwm_limit=max(1, min(FULL_PWM, round(FULL_PWM * motor.torque_limit_nm / stall))),
    )
    warnings = tuple(_warnings(motor, model, voltage_v, registers, max(ideal_p, ideal_d)))
    return Registers(registers.position_p, registers.position_d, registers.pwm_limit, warnings)


def gains_of(registers: Registers, model: Model, voltage_v: float) -> tuple[float, float, float]:
    """Return what registers are: N·m/rad, N·m·s/rad with the motor's own braking, and N·m at standstill."""
    stall = model.stall_at(voltage_v)
    return (
        registers.position_p * _kp_per_unit(model, stall),
        registers.position_d * _kd_per_unit(stall) + model.back_emf_nm_s_per_rad,
        registers.pwm_limit / FULL_PWM * stall,
    )


def _kp_per_unit(model: Model, stall_nm: float) -> float:
    return stall_nm * TICKS_PER_RAD / (model.p_divisor * FULL_PWM)


def _kd_per_unit(stall_nm: float) -> float:
    return stall_nm * TICKS_PER_RAD * D_SAMPLE_S / (D_DIVISOR * FULL_PWM)


def _warnings(
    motor: MotorRow, model: Model, voltage_v: float, registers: Registers, largest_gain: float
) -> list[GainWarning]:
    kp, kd, torque = gains_of(registers, model, voltage_v)
    own, speed = model.back_emf_nm_s_per_rad, model.no_load_speed_rad_s * voltage_v / model.voltage_v
    found: list[GainWarning] = []

    def add(kind: str, asked: float, given: float, text: str) -> None:
        found.append(GainWarning(motor.joint, kind, asked, given, f"{motor.joint}: {text}"))

    if motor.servo and motor.servo != model.name:
        add("other servo", 0.0, 0.0, f"the policy was trained with a {motor.servo}, and this is a {model.name}")
    if motor.kd_nm_s_per_rad < own:
        text = f"{model.name} brakes by itself with {own:.3f} N·m·s/rad, more than kd {motor.kd_nm_s_per_rad:g}"
        add("kd below back-emf", motor.kd_nm_s_per_rad, own, text)
    elif registers.position_d:
        add("kd assumed", motor.kd_nm_s_per_rad, kd, "the unit of the D gain is an assumption: measure the joint")
    if largest_gain > LARGEST_GAIN + 0.5:
        text = f"the registers end at {LARGEST_GAIN}: {kp:.3g} N·m/rad and {kd:.3g} N·m·s/rad are what it can"
        add("gain clipped", motor.kp_nm_per_rad, kp, text)
    if motor.torque_limit_nm > 1.02 * torque:
        text = f"{model.name} has {torque:.2f} N·m at {voltage_v:.1f} V, of {motor.torque_limit_nm:g} N·m asked"
        add("torque above stall", motor.torque_limit_nm, torque, text)
    if speed < 0.9 * motor.velocity_limit_rad_s:
        text = f"it turns {speed:.1f} rad/s at {voltage_v:.1f} V, in training {motor.velocity_limit_rad_s:g} rad/s"
        add("slower", motor.velocity_limit_rad_s, speed, text)
    return found


@dataclass(frozen=True)
class TorqueLaw:
    """What servos in position mode do with their registers: the inverse of `gains_for`, one entry per servo.

    The PWM is that of a PD controller in ticks, limited. D acts on the position alone: what a jump of the goal adds to
    it lasts one millisecond. I and feedforward are 0.
    """

    stall_torque_nm_per_v: Array
    """Torque at standstill per volt at the motor, (num_servos,), N·m/V."""
    back_emf_nm_s_per_rad: Array
    """How strongly a motor brakes by itself, (num_servos,), N·m·s/rad."""
    amps_per_nm: Array
    """Motor current per torque, (num_servos,), A/(N·m)."""
    p_divisor: Array
    """What the P register is divided by, (num_servos,)."""

    @classmethod
    def of(cls, models: Sequence[Model]) -> "TorqueLaw":
        """Collect the servos of a robot."""
        return cls(
            np.array([model.stall_torque_nm / model.voltage_v for model in models]),
            np.array([model.back_emf_nm_s_per_rad for model in models]),
            np.array([model.stall_current_a / model.stall_torque_nm for model in models]),
            np.array([model.p_divisor for model in models]),
        )

    def __call__(
        self,
        goal_ticks: Array,
        pos_ticks: Array,
        vel_rad_s: Array,
        position_p: Array,
        position_d: Array,
        pwm_limit: Array,
        voltage_v: Array | float,
    ) -> tuple[Array, Array]:
        """Return torques (N·m) and motor currents (A), (num_servos,), positive counter-clockwise as ticks count.

        Args:
            goal_ticks: Goal Position.
            pos_ticks: Present Position.
            vel_rad_s: velocity of the horn (rad/s).
            position_p: Position P Gain.
            position_d: Position D Gain.
            pwm_limit: the smaller of PWM Limit and Goal PWM; 0 for a servo whose torque is off, which turns freely.
            voltage_v: supply voltage (V).
        """
        pwm = position_p / self.p_divisor * (goal_ticks - pos_ticks)
        pwm = pwm - position_d / D_DIVISOR * D_SAMPLE_S * TICKS_PER_RAD * vel_rad_s
        duty = np.clip(pwm, -pwm_limit, pwm_limit) / FULL_PWM
        torque = self.stall_torque_nm_per_v * voltage_v * duty - self.back_emf_nm_s_per_rad * vel_rad_s
        torque = np.where(pwm_limit > 0, torque, 0.0)
        return torque, torque * self.amps_per_nm
