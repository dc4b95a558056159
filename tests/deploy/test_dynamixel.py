"""Facts of the servos against ROBOTIS' own files, and the gain mapping against numbers that were computed by hand."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biped.config.servos import SERVOS
from biped.deploy import dynamixel as dxl
from biped.deploy.contract_file import MotorRow
from biped.deploy.dynamixel import MODELS, REGISTERS, Registers, TorqueLaw, gains_for, gains_of

XM430 = MODELS[1030]


def motor(kp: float = 20.0, kd: float = 0.5, torque: float = 3.0, speed: float = 8.06, servo: str = "") -> MotorRow:
    return MotorRow("knee", 0.0, kp, kd, torque, speed, servo)


@pytest.fixture(scope="module")
def robotis() -> Path:
    """ROBOTIS' control tables, that their package brings."""
    package = pytest.importorskip("dynamixel_easy_sdk")
    return Path(package.__file__).parent / "control_table"


def table(file: Path) -> dict[str, tuple[int, int]]:
    rows = [line.split("\t") for line in file.read_text().splitlines()]
    return {row[2].strip(): (int(row[0]), int(row[1])) for row in rows if len(row) == 3 and row[0].isdigit()}


@pytest.mark.parametrize("name", ["xm430_w210", "xm540_w270", "xl430_w250", "xl330_m288_fw52", "xc330_t288_fw52"])
def test_registers_are_where_robotis_says(robotis: Path, name: str) -> None:
    theirs = table(robotis / f"{name}.model")
    has_load = "Present Load" in theirs
    for register in REGISTERS:
        if register is dxl.PWM_SLOPE and "PWM Slope" not in theirs:
            continue
        if has_load and register in (dxl.PRESENT_CURRENT, dxl.CURRENT_LIMIT):
            continue
        assert theirs[register.name] == (register.address, register.size), register.name
    if has_load:
        assert theirs["Present Load"] == (dxl.PRESENT_CURRENT.address, 2)


def test_model_numbers_are_those_of_robotis(robotis: Path) -> None:
    lines = (robotis / "dynamixel.model").read_text().splitlines()[1:]
    theirs = {int(number): name for number, name in (line.split() for line in lines)}
    assert {number: model.name.lower().replace("-", "_") + ".model" for number, model in MODELS.items()} == {
        number: theirs[number] for number in MODELS
    }


def test_motors_are_those_of_the_projects_library() -> None:
    for model in MODELS.values():
        if (known := SERVOS.get(model.name)) is not None:
            assert (model.stall_torque_nm, model.no_load_speed_rad_s, model.voltage_v) == (
                known.stall_torque_nm,
                known.no_load_speed_rad_s,
                known.voltage_v,
            )


def test_gains_of_an_xm430_by_hand() -> None:
    # 4096 / 2π = 651.90 ticks per radian. 3 N·m · 651.90 / (128 · 885) = 0.017264 N·m/rad per unit of P: 20 are 1158.
    # 3 / 8.063 = 0.37207 N·m·s/rad are the motor's own; the other 0.12793 are 926 times
    # 3 N·m · 651.90 · 0.001 s / (16 · 885) = 0.00013811.
    registers = gains_for(motor(), XM430, 12.0)
    assert (registers.position_p, registers.position_d, registers.pwm_limit) == (1158, 926, 885)
    assert [warning.kind for warning in registers.warnings] == ["kd assumed"]
    assert gains_of(registers, XM430, 12.0) == pytest.approx((20.0, 0.5, 3.0), rel=1e-3)


def test_a_weaker_supply_needs_larger_gains() -> None:
    # At 6 V the same PWM is half of the torque, and the motor brakes as before.
    registers = gains_for(motor(torque=1.0), XM430, 6.0)
    assert (registers.position_p, registers.position_d) == (2317, 1853)
    assert registers.pwm_limit == 590  # 1 of 1.5 N·m


def test_the_small_series_needs_twice_the_register() -> None:
    # Measured divisor 256: 0.52 N·m · 651.90 / (256 · 885) = 0.0014963 N·m/rad per unit.
    assert gains_for(motor(kp=0.6, kd=0.0, torque=0.5), MODELS[1200], 5.0).position_p == 401


@pytest.mark.parametrize(
    ("row", "voltage_v", "kind", "given"),
    [
        (motor(kd=0.2), 12.0, "kd below back-emf", 0.3721),
        (motor(kp=300.0), 12.0, "gain clipped", 282.84),
        (motor(torque=3.2), 12.0, "torque above stall", 3.0),
        (motor(torque=3.0), 11.0, "torque above stall", 2.75),
        (motor(speed=9.5), 12.0, "slower", 8.063),
        (motor(servo="XM430-W350"), 12.0, "other servo", 0.0),
    ],
)
def test_what_the_servo_cannot_is_said(row: MotorRow, voltage_v: float, kind: str, given: float) -> None:
    warnings = {warning.kind: warning for warning in gains_for(row, XM430, voltage_v).warnings}
    assert warnings[kind].given == pytest.approx(given, rel=1e-3)
    assert "knee" in warnings[kind].text and "\n" not in warnings[kind].text


def test_damping_below_the_motors_own_leaves_d_at_zero() -> None:
    assert gains_for(motor(kd=0.2), XM430, 12.0).position_d == 0


def law_of_one(model: dxl.Model, registers: Registers, error: float, vel: float, volts: float, pwm: int) -> float:
    column = np.array([1.0])
    torque, _ = TorqueLaw.of([model])(
        1000 + error * column,
        1000 * column,
        vel * column,
        registers.position_p * column,
        registers.position_d * column,
        pwm * column,
        volts,
    )
    return float(torque[0])


@pytest.mark.parametrize(
    ("pwm_limit", "torque_nm"),
    [
        # 1158 / 128 · 100 ticks - 926 / 16 · 0.001 s · 651.90 ticks/rad · 1 rad/s = 866.96; 3 · 866.96 / 885 - 0.37207
        (885, 2.5668),
        # 3 N·m · 442 / 885 - 0.37207
        (442, 1.1262),
        (0, 0.0),
    ],
)
def test_torque_by_hand(pwm_limit: int, torque_nm: float) -> None:
    registers = Registers(1158, 926, pwm_limit)
    assert law_of_one(XM430, registers, 100.0, 1.0, 12.0, pwm_limit) == pytest.approx(torque_nm, abs=2e-4)


def test_current_by_hand() -> None:
    one = np.array([1.0])
    _, amps = TorqueLaw.of([XM430])(one * 0, one * 0, one * -2.0, one, one * 0, one * 885, 12.0)
    assert amps[0] == pytest.approx(2 * 0.37207 * 2.3 / 3.0, rel=1e-3)  # turned backwards, it is a generator


@given(
    number=st.sampled_from(sorted(MODELS)),
    share_p=st.floats(0.05, 4.0),
    extra_d=st.floats(0.1, 2.0),
    error_ticks=st.floats(-20.0, 20.0),
    vel=st.floats(-0.1, 0.1),
    volts=st.floats(0.8, 1.2),
)
def test_the_servo_does_what_the_contract_asks(
    number: int, share_p: float, extra_d: float, error_ticks: float, vel: float, volts: float
) -> None:
    """Within its limits, and to within the rounding of its registers, it is the contract's PD controller."""
    model = MODELS[number]
    voltage_v, stall = volts * model.voltage_v, model.stall_at(volts * model.voltage_v)
    row = motor(kp=share_p * stall, kd=model.back_emf_nm_s_per_rad * (1.0 + extra_d), torque=stall)
    registers = gains_for(row, model, voltage_v)
    if registers.position_d == dxl.LARGEST_GAIN:
        return
    got = law_of_one(model, registers, error_ticks, vel, voltage_v, registers.pwm_limit)
    asked = row.kp_nm_per_rad * error_ticks / dxl.TICKS_PER_RAD - row.kd_nm_s_per_rad * vel
    assert got == pytest.approx(asked, rel=0.02, abs=0.002 * stall)


@pytest.mark.parametrize("register", [dxl.GOAL_POSITION, dxl.PRESENT_CURRENT, dxl.BUS_WATCHDOG])
def test_numbers_have_their_size_and_sign(register: dxl.Register) -> None:
    low = -(1 << (8 * register.size - 1)) if register.signed else 0
    for value in (low, 0, 1, (1 << (8 * register.size - int(register.signed))) - 1):
        assert register.decode(register.encode(value)) == value
    with pytest.raises(OverflowError):
        register.encode(low - 1)
