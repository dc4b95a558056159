"""The size of a robot: the biped's numbers stay as they are, and others follow Froude's law."""

import math
from dataclasses import replace

import pytest

from biped.config import scale
from biped.config.robot import LEG_LENGTH_M, MASS_KG
from biped.config.scale import BIPED, Scale, merged, scaled_randomization, scaled_sections, size_warning
from biped.config.serial import flatten, to_dict
from biped.config.task import EnvConfig
from biped.eval.figures import WALKING_M_S, walking_m_s
from biped.eval.gate import GATE, gate_of
from biped.eval.robustness import AXES, scaled_axes
from biped_config import randomization_preset


def test_nothing_changes_for_the_biped_itself() -> None:
    assert Scale.of(LEG_LENGTH_M, MASS_KG) == BIPED
    assert scaled_sections(BIPED) == {}
    assert gate_of(BIPED) == GATE
    assert walking_m_s(BIPED) == WALKING_M_S


def test_four_times_the_legs_walk_twice_as_fast_with_half_the_steps() -> None:
    sections = scaled_sections(Scale(4.0, 64.0))
    assert sections["command"]["lin_vel_x_m_s"] == [-0.4, 1.2]
    assert sections["command"]["ang_vel_rad_s"] == [-0.3, 0.3]
    assert sections["gait"]["frequency_hz"] == 0.7
    assert sections["gait"]["min_swing_s"] == 0.4
    assert sections["gait"]["contact_on_n"] == 192.0
    assert sections["reward"]["lin_vel_y_scale_m_s"] == 0.2
    # A tenth of the leg's length off the target costs what it costs the biped.
    weight = EnvConfig().reward.weights.height_maintenance
    assert sections["reward"]["weights"]["height_maintenance"] == pytest.approx(weight / 16.0, rel=0.01)


def test_the_froude_number_stays() -> None:
    for length in (0.5, 1.7, 2.5):
        made = scaled_sections(Scale(length))["command"]["lin_vel_x_m_s"][1]
        before = EnvConfig().command.lin_vel_x_m_s[1]
        assert made**2 / length == pytest.approx(before**2, rel=0.01)


def test_bars_grow_by_their_units() -> None:
    bars = {line.name: (line.low, line.high) for line in gate_of(Scale(4.0))}
    assert bars["error_lin_vel_x_m_s"][1] == pytest.approx(0.16)
    assert bars["error_ang_vel_rad_s"][1] == pytest.approx(0.125)
    assert bars["swing_apex_left_m"][0] == pytest.approx(0.06)
    assert bars["step_frequency_left_hz"] == pytest.approx((0.35, 1.5))
    assert bars["alternation"] == (0.97, math.inf)


def test_every_unit_of_the_gate_and_every_field_is_known() -> None:
    for line in GATE:
        assert Scale(4.0).factor(line.unit) > 0.0
    named = {
        *scale.LENGTHS,
        *scale.SPEEDS,
        *scale.RATES,
        *scale.TIMES,
        *scale.SQUARED_TIMES,
        *scale.FORCES,
        *scale.LEVERS,
    }
    assert named <= set(flatten({name: to_dict(EnvConfig())[name] for name in ("reset", "command", "reward", "gait")}))


def test_the_second_of_two_mappings_wins() -> None:
    assert merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 4}, "e": 5}) == {"a": {"b": 4, "c": 2}, "d": 3, "e": 5}


def test_a_randomisation_grows_with_the_robot() -> None:
    full = randomization_preset("full")
    assert scaled_randomization(full, BIPED) == full
    made = scaled_randomization(full, Scale(4.0, 64.0))
    assert made.torso_mass_kg.range == (-21.8, 21.8)
    assert made.torso_com_m.range == (-0.08, 0.08)
    assert made.joint_friction_nm.range == (-10.2, 12.8)
    assert (made.push.velocity_m_s, made.push.force_n, made.push.force_s) == (1.6, 192.0, 0.4)
    assert made.push.interval_s == 8.0
    assert (made.start.lin_vel_m_s, made.start.ang_vel_rad_s, made.start.tilt_rad) == (0.4, 0.15, 0.05)
    assert made.bumps.heights_m == (0.02, 0.04, 0.06, 0.08)
    assert made.bumps.field_m == 32.0
    same = ("friction", "strength", "slope_rad", "latency_steps", "noise", "imu", "encoders", "nominal_share")
    for name in same:
        assert getattr(made, name) == getattr(full, name), name


def test_a_mass_that_the_model_does_not_have_is_said_where_something_is_sized_by_it() -> None:
    varied = replace(EnvConfig(), randomization=randomization_preset("full"))
    assert size_warning(varied, MASS_KG) is size_warning(varied, 1.09 * MASS_KG) is None
    assert size_warning(EnvConfig(), 5.0 * MASS_KG) is None
    for mass_kg in (1.2 * MASS_KG, 0.8 * MASS_KG):
        text = size_warning(varied, mass_kg)
        assert text is not None
        assert f"weighs {mass_kg:.2f} kg, but robot.mass_kg is {MASS_KG:g}" in text


def test_torque_beyond_the_motors_costs_a_robot_of_any_size_alike() -> None:
    weight = scaled_sections(Scale(4.0, 64.0))["reward"]["weights"]["actuator_constraint"]
    assert weight == pytest.approx(EnvConfig().reward.weights.actuator_constraint / 256.0, rel=0.01)
    assert scaled_sections(Scale(4.0))["reward"]["rocking_scale_s2"] == 0.04


def test_pushes_and_bumps_of_a_report_grow_with_the_robot() -> None:
    assert scaled_axes(BIPED) == AXES
    axes = {axis.name: axis for axis in scaled_axes(Scale(4.0, 64.0))}
    assert axes["push"].levels[:3] == (0.0, 0.5, 1.0)
    assert axes["bumps"].levels[1] == 4.0
    assert axes["push_heading"].unit == "degrees, 1 m/s"
    assert axes["latency"] == next(axis for axis in AXES if axis.name == "latency")
