"""The motors of a robot: groups of joints with their gains and limits, and what each joint ends up with."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, replace

from biped.config.section import NotNegative, Positive, Section, section
from biped.config.servos import SERVOS


@section
class ServoConfig(Section):
    """The actuator: ROBOTIS XM430-W210-T at 12 V, from the e-Manual's specification table."""

    stall_torque_nm: Positive | tuple[Positive, ...] = 3.0
    """Torque at standstill (N·m), or one per joint; the simulator limits the joint's torque to it."""
    no_load_speed_rad_s: Positive | tuple[Positive, ...] = 8.06
    """Speed at which the servo has no torque left (rad/s), or one per joint; 77 rev/min."""


@section
class ActuatorConfig(Section):
    """The motors of a group of joints; a field that is left out is the servo's, or else the robot's or its model's."""

    joints: tuple[str, ...] = ("*",)
    """Joints of the group: names, or shell patterns such as `*_knee*`; a joint belongs to the first group that fits."""
    servo: str = ""
    """Name in the library of servos (`biped/config/servos.py`), such as XM430-W350; it sets limits and armature."""
    kp_nm_per_rad: Positive | None = None
    """Proportional gain of the position controller (N·m/rad)."""
    kd_nm_s_per_rad: NotNegative | None = None
    """Derivative gain of the position controller (N·m·s/rad)."""
    effort_limit_nm: Positive | None = None
    """Largest torque that the controller applies (N·m)."""
    stall_torque_nm: Positive | None = None
    """Torque at which the torque-speed curve begins, at standstill (N·m); the effort limit if it is left out."""
    velocity_limit_rad_s: Positive | None = None
    """Speed at which the motor has no torque left (rad/s)."""
    armature_kg_m2: NotNegative | None = None
    """Inertia of the rotor, reflected through the gears (kg·m²)."""
    friction_nm: NotNegative | None = None
    """Dry friction of the joint and its gears (N·m)."""
    damping_nm_s_per_rad: NotNegative | None = None
    """Viscous friction of the joint and its gears (N·m·s/rad)."""

    def __post_init__(self) -> None:
        self._require(bool(self.joints), "joints", "at least one name or pattern")
        known = f"empty, or one of {', '.join(SERVOS)}"
        self._require(not self.servo or self.servo in SERVOS, "servo", known)

    def drives(self, joint: str) -> bool:
        """Return whether a joint belongs to the group by its name."""
        return any(fnmatch.fnmatchcase(joint, pattern) for pattern in self.joints)


@dataclass(frozen=True)
class Motor:
    """What drives one joint."""

    servo: str
    """Name in the library of servos; empty if it is not known."""
    kp_nm_per_rad: float
    """Proportional gain (N·m/rad)."""
    kd_nm_s_per_rad: float
    """Derivative gain (N·m·s/rad)."""
    effort_limit_nm: float
    """Largest torque that the controller applies (N·m)."""
    stall_torque_nm: float
    """Torque-speed curve at standstill (N·m)."""
    velocity_limit_rad_s: float
    """Speed at which the torque-speed curve ends (rad/s)."""
    armature_kg_m2: float | None = None
    """Reflected inertia (kg·m²); None: the model's."""
    friction_nm: float | None = None
    """Dry friction (N·m); None: the model's."""
    damping_nm_s_per_rad: float | None = None
    """Viscous friction (N·m·s/rad); None: the model's."""


def motor_of(joint: str, groups: Sequence[ActuatorConfig], others: Motor) -> Motor:
    """Return the motor of a joint.

    Args:
        joint: its name.
        groups: the robot's groups; the first that fits counts.
        others: motor of joints in no group; it also fills what a group and its servo leave open.
    """
    group = next((group for group in groups if group.drives(joint)), None)
    if group is None:
        return others
    servo = SERVOS.get(group.servo)
    torque = servo.stall_torque_nm if servo else None
    effort = _first(group.effort_limit_nm, torque, group.stall_torque_nm)
    stall = _first(group.stall_torque_nm, torque, effort)
    speed = _first(group.velocity_limit_rad_s, servo.no_load_speed_rad_s if servo else None)
    armature = _first(group.armature_kg_m2, servo.armature_kg_m2 if servo else None)
    friction = _first(group.friction_nm, servo.friction_nm if servo else None)
    stated = {
        "kp_nm_per_rad": group.kp_nm_per_rad,
        "kd_nm_s_per_rad": group.kd_nm_s_per_rad,
        "effort_limit_nm": effort,
        "stall_torque_nm": stall,
        "velocity_limit_rad_s": speed,
        "armature_kg_m2": armature,
        "friction_nm": friction,
        "damping_nm_s_per_rad": group.damping_nm_s_per_rad,
    }
    known = {name: value for name, value in stated.items() if value is not None}
    return replace(others, servo=group.servo, **known)


def _first(*values: float | None) -> float | None:
    """Return the first number that is known."""
    return next((value for value in values if value is not None), None)
