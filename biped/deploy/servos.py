"""A robot's joints on a bus of Dynamixels: see `biped.deploy.hardware.Servos`."""

import contextlib
import time
from dataclasses import dataclass, replace

import numpy as np

from biped.deploy import dynamixel as dxl
from biped.deploy.contract_file import PolicyContract
from biped.deploy.dynamixel import (
    FAULTS,
    MODELS,
    POSITION_MODE,
    Array,
    GainWarning,
    Model,
    Register,
    Registers,
    gains_for,
)
from biped.deploy.hardware import BusError, JointReading
from biped.deploy.servo_bus import BLOCK_ADDRESS, BLOCK_SIZE, PATIENCE_S, Block, DynamixelBus
from biped.deploy.wiring import JointWiring, Wiring

WATCHDOG_S = 0.1
"""Silence on the bus after which the servos stop by themselves (s)."""
_LAYOUT = np.dtype(
    {
        "names": ["current", "velocity", "position", "voltage", "temperature"],
        "formats": ["<i2", "<i4", "<i4", "<u2", "u1"],
        "offsets": [
            register.address - BLOCK_ADDRESS
            for register in (
                dxl.PRESENT_CURRENT,
                dxl.PRESENT_VELOCITY,
                dxl.PRESENT_POSITION,
                dxl.PRESENT_VOLTAGE,
                dxl.PRESENT_TEMPERATURE,
            )
        ],
        "itemsize": BLOCK_SIZE,
    }
)


@dataclass(frozen=True)
class ServoFacts:
    """What a servo is, read once."""

    model: Model
    """Its kind."""
    firmware: int
    """Its firmware."""


class DynamixelServos:
    """The servos of a robot, one per joint, in the order of its contract.

    After `WATCHDOG_S` without an instruction a servo stops by its bus watchdog. The e-Manual says that it "will stop",
    and that goals cannot be written until the watchdog is cleared. It does not say that the torque goes off, and in
    position mode nothing but torque holds a joint still: reckon with a robot that stands stiff in its last pose, not
    with a limp one. `write` clears the watchdogs where the silence is over, and counts it.
    """

    def __init__(
        self,
        contract: PolicyContract,
        wiring: Wiring,
        watchdog_s: float = WATCHDOG_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Open the bus, and see which servos are there; nothing moves.

        Args:
            contract: what the policy asks of the joints.
            wiring: which servo drives which joint.
            watchdog_s: silence after which the servos stop by themselves (s).
            patience_s: how long an answer to `read` may be late (s).

        Raises:
            UsageError: wiring and contract do not fit each other.
            MachineError: ROBOTIS' package is missing, or the device cannot be opened.
            BusError: a servo does not answer, or is of no kind that is known.
        """
        self._contract, self._wiring = contract, wiring.ordered(contract.joint_names)
        self._watchdog = max(1, min(127, round(watchdog_s / dxl.WATCHDOG_UNIT_S)))
        self._longest_silence_s = (self._watchdog - 0.5) * dxl.WATCHDOG_UNIT_S
        self._ids = self._wiring.ids
        self._names = dict(zip(self._ids, contract.joint_names, strict=True))
        self._bus = DynamixelBus(wiring.port, wiring.baud, patience_s)
        self._is_stiff = False
        self.watchdog_trips = 0
        """How often the bus was silent for so long that the servos stopped."""
        self.wiring = self._wiring
        """How the robot is wired, with the gains that the servos have once they are stiff."""
        self.warnings: tuple[GainWarning, ...] = ()
        """What the servos do otherwise than asked, known once they are stiff."""
        try:
            self.facts = tuple(self._identify(servo) for servo in self._ids)
        except BaseException:
            self._bus.close()
            raise
        self._units = np.array([fact.model.current_unit_a or dxl.LOAD_UNIT for fact in self.facts])
        self.is_fast = all(
            fact.model.fast_read_firmware is not None and fact.firmware >= fact.model.fast_read_firmware
            for fact in self.facts
        )
        """Whether all servos know Fast Sync Read; decided once, here."""
        self._order = list(self._ids)
        self._faults = dict.fromkeys(self._ids, 0)
        self._heard_s = dict.fromkeys(self._ids, time.monotonic())
        self._silent: set[int] = set()

    def read(self) -> JointReading:
        """Return what all servos say now; see `Servos.read`.

        A servo that is silent silences those that are asked after it, so it is asked last from then on; and those that
        are missing now, and were not before, are asked a second time.

        Raises:
            BusError: the device is gone, or a servo that was silent for long has come back without its torque.
        """
        blocks = self._bus.read_blocks(self._order, fast=self.is_fast)
        missing = self._ask_last(blocks)
        if again := [servo for servo in missing if servo not in self._silent]:
            blocks.update(self._bus.read_blocks(again, fast=self.is_fast))
            missing = self._ask_last(blocks)
        self._silent = set(missing)
        self._look_into_faults(blocks)
        self._look_into_returns(blocks)
        answered = np.array([servo in blocks for servo in self._ids])
        empty = bytes(BLOCK_SIZE)
        content = b"".join(blocks[servo].content if servo in blocks else empty for servo in self._ids)
        rows = np.frombuffer(content, _LAYOUT)
        directions = self._wiring.directions

        def column(name: str, factor: Array | float) -> Array:
            return np.where(answered, rows[name] * factor, np.nan)

        return JointReading(
            self._wiring.to_rad(column("position", 1.0)),
            column("velocity", dxl.VELOCITY_UNIT_RAD_S * directions),
            column("current", self._units * directions),
            column("voltage", dxl.VOLTAGE_UNIT_V),
            column("temperature", 1.0),
            np.array([self._faults[servo] for servo in self._ids], np.int64),
        )

    def write(self, targets_rad: Array) -> None:
        """Send joint targets, clipped to the wiring's limits; see `Servos.write`.

        Raises:
            ValueError: a target is not finite.
            BusError: the device is gone.
        """
        ticks = self._wiring.to_ticks(targets_rad)
        if self._is_stiff and self._bus.longest_silence_s > self._longest_silence_s:
            self._arm_watchdogs()
        self._bus.write_all(dxl.GOAL_POSITION, dict(zip(self._ids, ticks.tolist(), strict=True)))

    def stiffen(self) -> None:
        """Let the servos hold where they are, with the contract's gains at the present voltage; see `Servos.stiffen`.

        Settings that survive the power are written where they differ: position mode, limits, no delay of answers.

        Raises:
            BusError: a servo does not answer, reports a fault, is wired otherwise than it is set up, stands outside of
                its limits, or does not accept a setting.
        """
        try:
            self._stiffen()
        except BaseException:
            self.go_limp()
            raise

    def _stiffen(self) -> None:
        voltages = [self._bus.read(servo, dxl.PRESENT_VOLTAGE) for servo in self._ids]
        voltage_v = float(np.median(voltages)) * dxl.VOLTAGE_UNIT_V
        warnings: list[GainWarning] = []
        pwm_limits: list[int] = []
        used: list[JointWiring] = []
        for index, servo in enumerate(self._ids):
            self._refuse_unfit(servo)
            registers = self._gains(index, voltage_v)
            used.append(
                replace(
                    self._wiring.joints[index],
                    position_p=registers.position_p,
                    position_d=registers.position_d,
                )
            )
            self._set_up(index, registers)
            warnings += registers.warnings
            pwm_limits.append(registers.pwm_limit)
        goals = {servo: self._present_goal(index) for index, servo in enumerate(self._ids)}
        for servo, goal in goals.items():
            self._bus.write(servo, dxl.GOAL_POSITION, goal)
        self._bus.forget_silence()
        for servo, pwm in zip(self._ids, pwm_limits, strict=True):
            # Servo by servo: this program may end between any two packets, and one without a watchdog stays stiff.
            self._bus.write(servo, dxl.TORQUE_ENABLE, 1)
            # Goal PWM limits the torque in position mode; whether switching the torque on resets it, nobody says.
            self._bus.write(servo, dxl.GOAL_PWM, pwm)
            self._bus.write(servo, dxl.BUS_WATCHDOG, self._watchdog)
        self.warnings, self._is_stiff = tuple(warnings), True
        self.wiring = replace(self._wiring, joints=tuple(used))
        self._heard_s = dict.fromkeys(self._ids, time.monotonic())
        self._silent = set()

    def _gains(self, index: int, voltage_v: float) -> Registers:
        """Return the gains of one servo: those of the wiring, where it has some, else the contract's, converted."""
        joint = self._wiring.joints[index]
        converted = gains_for(self._contract.motors[index], self.facts[index].model, voltage_v)
        if joint.position_p is None and joint.position_d is None:
            return converted
        return replace(
            converted,
            position_p=converted.position_p if joint.position_p is None else joint.position_p,
            position_d=converted.position_d if joint.position_d is None else joint.position_d,
            warnings=(),
        )

    def _set_up(self, index: int, registers: Registers) -> None:
        """Set one servo up but for its goal."""
        servo, model, joint = self._ids[index], self.facts[index].model, self._wiring.joints[index]
        low, high = joint.tick_limits
        self._bus.write(servo, dxl.BUS_WATCHDOG, 0)
        self._bus.write(servo, dxl.STATUS_RETURN_LEVEL, 2)
        kept: dict[Register, int] = {
            dxl.OPERATING_MODE: POSITION_MODE,
            dxl.RETURN_DELAY: 0,
            dxl.PWM_LIMIT: dxl.FULL_PWM,
            dxl.MIN_POSITION: low,
            dxl.MAX_POSITION: high,
        }
        if model.has_pwm_slope and self.facts[index].firmware >= _SLOPE_FIRMWARE:
            kept[dxl.PWM_SLOPE] = 255
        for register, value in kept.items():
            if self._bus.read(servo, register) != value:
                self._bus.write(servo, dxl.TORQUE_ENABLE, 0)
                self._bus.write(servo, register, value)
        for register, value in (
            (dxl.POSITION_D, registers.position_d),
            (dxl.POSITION_I, 0),
            (dxl.POSITION_P, registers.position_p),
            (dxl.FEEDFORWARD_2, 0),
            (dxl.FEEDFORWARD_1, 0),
            (dxl.PROFILE_ACCELERATION, 0),
            (dxl.PROFILE_VELOCITY, 0),
        ):
            self._bus.write(servo, register, value)

    def _present_goal(self, index: int) -> int:
        """Return the position of a servo as a goal that it accepts."""
        servo, joint = self._ids[index], self._wiring.joints[index]
        tick, (low, high) = self._bus.read(servo, dxl.PRESENT_POSITION), joint.tick_limits
        if not low - _SLACK_TICKS <= tick <= high + _SLACK_TICKS:
            angle = joint.direction * (tick - joint.zero_tick) / dxl.TICKS_PER_RAD
            raise BusError(
                f"{joint.joint} is at {angle:.2f} rad, outside of its limits {joint.lower_rad:.2f} to "
                f"{joint.upper_rad:.2f}: move it by hand, or correct the wiring"
            )
        return min(max(tick, low), high)

    def _refuse_unfit(self, servo: int) -> None:
        where = f"servo {servo} ({self._names[servo]})"
        if faults := self._bus.read(servo, dxl.HARDWARE_ERROR):
            raise BusError(
                f"{where} reports {fault_text(faults)}: let it cool, check the power, and switch it off and on"
            )
        if self._bus.read(servo, dxl.DRIVE_MODE) & 1 or self._bus.read(servo, dxl.HOMING_OFFSET):
            raise BusError(f"{where} has Reverse Mode or a Homing Offset: set both to 0, and wire it anew")

    def go_limp(self) -> None:
        """Switch all torque off; see `Servos.go_limp`."""
        self._is_stiff = False
        off = dict.fromkeys(self._ids, 0)
        for _ in range(2):  # the first packet may get lost
            with contextlib.suppress(Exception):
                self._bus.write_all(dxl.TORQUE_ENABLE, off)
        for servo in self._ids:
            with contextlib.suppress(Exception):
                self._bus.write(servo, dxl.TORQUE_ENABLE, 0)

    def close(self) -> None:
        """Let go of the bus; see `Servos.close`."""
        self._bus.close()

    def _ask_last(self, blocks: dict[int, Block]) -> list[int]:
        """Return who is missing, in the order of asking, with the first of them at the end from now on."""
        missing = [servo for servo in self._order if servo not in blocks]
        if missing:
            self._order.remove(missing[0])
            self._order.append(missing[0])
            missing.append(missing.pop(0))
        return missing

    def _arm_watchdogs(self) -> None:
        self.watchdog_trips += 1
        self._bus.forget_silence()
        for value in (0, self._watchdog):
            self._bus.write_all(dxl.BUS_WATCHDOG, dict.fromkeys(self._ids, value))

    def _identify(self, servo: int) -> ServoFacts:
        number = self._bus.read(servo, dxl.MODEL_NUMBER)
        model = MODELS.get(number)
        if model is None:
            raise BusError(f"servo {servo} ({self._names[servo]}) is of model number {number}, which is not known here")
        return ServoFacts(model, self._bus.read(servo, dxl.FIRMWARE))

    def _look_into_faults(self, blocks: dict[int, Block]) -> None:
        """Ask one servo per step what its fault is: an answer says only that there is one."""
        unknown = [servo for servo, block in blocks.items() if block.has_fault and not self._faults[servo]]
        for servo, block in blocks.items():
            if not block.has_fault:
                self._faults[servo] = 0
        if unknown:
            with contextlib.suppress(BusError):
                self._faults[unknown[0]] = self._bus.read(unknown[0], dxl.HARDWARE_ERROR, in_step=True)

    def _look_into_returns(self, blocks: dict[int, Block]) -> None:
        """Look after servos that answer again after so long that they have stopped by themselves, or have started anew.

        Raises:
            BusError: one has started anew.
        """
        now = time.monotonic()
        back = [servo for servo in blocks if now - self._heard_s[servo] > self._longest_silence_s]
        self._heard_s.update({servo: now for servo in blocks if servo not in back or not self._is_stiff})
        for servo in back if self._is_stiff else ():
            try:
                is_on = self._bus.read(servo, dxl.TORQUE_ENABLE, in_step=True)
            except BusError:
                return  # it is asked again in the next step
            if not is_on:
                name = self._names[servo]
                raise BusError(f"servo {servo} ({name}) has lost its torque: look at its cable and its power")
            self._heard_s[servo] = now
            self._arm_watchdogs()


def fault_text(bits: int) -> str:
    """Return the names of hardware errors."""
    return ", ".join(name for bit, name in FAULTS.items() if bits & bit) or f"error {bits}"


_SLACK_TICKS = 23
"""How far outside of its limits a joint may stand and still be taken to them: two degrees."""
_SLOPE_FIRMWARE = 52
"""Firmware of the X330 series whose control table has PWM Slope (dynamixel-sdk 4.1.0, xl330_m288_fw52.model)."""
