"""What the size of a robot changes: two walkers move alike if lengths, times and forces are in the same proportions.

Dynamic similarity: with a leg s times as long under the same gravity, lengths grow by s, times and speeds by √s, rates
fall by √s, and the Froude number v²/(g L) stays (Alexander and Jayes 1983, "A dynamic similarity hypothesis for the
gaits of quadrupedal mammals"; for bipeds Alexander 1989, "Optimization and gaits in the locomotion of vertebrates").
Forces grow with the weight.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from biped.config.randomization import RandomizationConfig, Randomized
from biped.config.robot import LEG_LENGTH_M, MASS_KG, RobotConfig
from biped.config.task import EnvConfig

_DIGITS = 3
SIZE_ERROR = 0.1
"""Difference of a robot's leg length or mass from the file's that is worth a word, as a share."""

LENGTHS = ("reset.clearance_m", "reward.feet_apart_m")
SPEEDS = (
    "command.lin_vel_x_m_s",
    "command.lin_vel_y_m_s",
    "command.moving_threshold_m_s",
    "reward.lin_vel_x_scale_m_s",
    "reward.lin_vel_y_scale_m_s",
)
RATES = ("command.ang_vel_rad_s", "gait.frequency_hz", "reward.ang_vel_scale_rad_s")
TIMES = ("gait.min_swing_s", "gait.max_swing_s")
SQUARED_TIMES = ("reward.rocking_scale_s2",)
FORCES = ("gait.contact_on_n", "gait.contact_off_n")
LEVERS = ("command.turning_lever_m",)
"""Fields of the environment whose defaults grow with the robot: a turning lever is a speed over a rate."""
_WEIGHTS = {
    "height_maintenance": "m",
    "lin_vel_z": "m/s",
    "foot_slip": "m/s",
    "actuator_constraint": "N m",
}
"""Weights of rewards that are paid by something with a unit, which is divided out of them."""
_SQUARED = ("height_maintenance", "lin_vel_z")
"""Those that are paid by its square."""


@dataclass(frozen=True)
class Scale:
    """How a robot's size compares with that of the biped of the defaults."""

    length: float
    """Leg length over the biped's."""
    mass: float = 1.0
    """Mass over the biped's."""

    @classmethod
    def of(cls, leg_length_m: float, mass_kg: float = MASS_KG) -> "Scale":
        """Compare a robot's leg length (m) and mass (kg) with the biped's."""
        return cls(leg_length_m / LEG_LENGTH_M, mass_kg / MASS_KG)

    @property
    def speed(self) -> float:
        """Factor on speeds, and on times."""
        return math.sqrt(self.length)

    def factor(self, unit: str) -> float:
        """Return the factor on a quantity by its unit; 1 for what has none.

        Raises:
            KeyError: nobody has thought of the unit.
        """
        return {
            "1": 1.0,
            "m": self.length,
            "s": self.speed,
            "m/s": self.speed,
            "rad/s": 1.0 / self.speed,
            "Hz": 1.0 / self.speed,
            "N": self.mass,
            "N m": self.mass * self.length,
            "kg": self.mass,
            "s2": self.length,
        }[unit]


def scale_of(robot: RobotConfig) -> Scale:
    """Compare a robot's size with the biped's."""
    return Scale.of(robot.leg_length_m, robot.mass_kg)


BIPED = Scale(1.0)
"""The biped's own size."""


def size_warning(cfg: EnvConfig, mass_kg: float) -> str | None:
    """Return what is wrong with the mass that a randomisation is sized by; None: nothing, or there is none.

    Args:
        cfg: the environment.
        mass_kg: the mass of the robot's model (kg).
    """
    said_kg = cfg.robot.mass_kg
    if cfg.randomization == RandomizationConfig() or abs(mass_kg / said_kg - 1.0) <= SIZE_ERROR:
        return None
    return (
        f"the robot weighs {mass_kg:.2f} kg, but robot.mass_kg is {said_kg:g}: pushes and added masses are sized to "
        "that; set robot.mass_kg and robot.leg_length_m in the robot's file"
    )


def scaled_sections(scale: Scale) -> dict[str, dict[str, Any]]:
    """Return the sections of a robot's file in which the defaults are scaled; fields that stay are left out."""
    env = EnvConfig()
    factors = {
        **dict.fromkeys(LENGTHS, scale.factor("m")),
        **dict.fromkeys(SPEEDS, scale.factor("m/s")),
        **dict.fromkeys(RATES, scale.factor("rad/s")),
        **dict.fromkeys(TIMES, scale.factor("s")),
        **dict.fromkeys(SQUARED_TIMES, scale.factor("s2")),
        **dict.fromkeys(FORCES, scale.factor("N")),
        **dict.fromkeys(LEVERS, scale.factor("m")),
    }
    sections: dict[str, dict[str, Any]] = {}
    for path, factor in factors.items():
        section, name = path.split(".")
        value = getattr(getattr(env, section), name)
        made = [_rounded(part * factor) for part in value] if isinstance(value, tuple) else _rounded(value * factor)
        if made != (list(value) if isinstance(value, tuple) else value):
            sections.setdefault(section, {})[name] = made
    weights = {
        name: _rounded(getattr(env.reward.weights, name) / scale.factor(unit) ** (2 if name in _SQUARED else 1))
        for name, unit in _WEIGHTS.items()
    }
    changed = {name: value for name, value in weights.items() if value != getattr(env.reward.weights, name)}
    if changed:
        sections.setdefault("reward", {})["weights"] = changed
    return sections


def scaled_randomization(randomization: RandomizationConfig, scale: Scale) -> RandomizationConfig:
    """Return a randomisation of the biped as one of a robot of another size.

    Masses, torques, pushes, starts and bumps grow with the robot. Angles and shares stay, and so does what belongs to
    a sensor and not to the robot that carries it.
    """
    if scale == BIPED:
        return randomization
    push, start, bumps = randomization.push, randomization.start, randomization.bumps

    def grown(quantity: Randomized, unit: str) -> Randomized:
        low, high = (_rounded(end * scale.factor(unit)) for end in quantity.range)
        return replace(quantity, range=(low, high))

    return replace(
        randomization,
        torso_mass_kg=grown(randomization.torso_mass_kg, "kg"),
        torso_com_m=grown(randomization.torso_com_m, "m"),
        joint_friction_nm=grown(randomization.joint_friction_nm, "N m"),
        push=replace(
            push,
            interval_s=_rounded(push.interval_s * scale.factor("s")),
            velocity_m_s=_rounded(push.velocity_m_s * scale.factor("m/s")),
            force_n=_rounded(push.force_n * scale.factor("N")),
            force_s=_rounded(push.force_s * scale.factor("s")),
        ),
        start=replace(
            start,
            lin_vel_m_s=_rounded(start.lin_vel_m_s * scale.factor("m/s")),
            ang_vel_rad_s=_rounded(start.ang_vel_rad_s * scale.factor("rad/s")),
        ),
        bumps=replace(
            bumps,
            heights_m=tuple(_rounded(height * scale.factor("m")) for height in bumps.heights_m),
            cell_m=_rounded(bumps.cell_m * scale.factor("m")),
            field_m=_rounded(bumps.field_m * scale.factor("m/s")),  # it grows like the way of an episode
        ),
    )


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return two nested mappings as one; where both have a value, the second one's."""
    both = {name: (first[name], second[name]) for name in first if name in second}
    inside = {
        name: merged(one, other) if isinstance(one, Mapping) and isinstance(other, Mapping) else other
        for name, (one, other) in both.items()
    }
    return {**first, **second, **inside}


def _rounded(value: float) -> float:
    """Round to three significant digits, so that a person can read it; what is not scaled stays as it is."""
    return float(f"{value:.{_DIGITS}g}")
