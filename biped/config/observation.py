"""Observations of actor and critic: two groups of named terms, and the scale of each term."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from biped.config.section import Finite, Positive, Section, section

Term = Literal[
    "projected_gravity_b",
    "base_ang_vel_b",
    "base_lin_vel_xy_b",
    "base_height_m",
    "command_lin_vel_x_b",
    "command_lin_vel_y_b",
    "command_ang_vel_b",
    "joint_pos_rad",
    "joint_vel_rad_s",
    "foot_contact",
    "previous_action",
    "gait_phase",
    "base_lin_vel_b",
    "ground_normal_b",
    "foot_force",
    "push_force_b",
    "friction",
    "torso_mass_kg",
    "torso_com_m",
    "strength",
    "damping",
    "joint_friction_nm",
    "armature",
    "backlash_rad",
    "latency_steps",
    "bump_height_m",
]
"""Names of all terms; `biped.mdp.observations.TERMS` describes each."""

SENSED: tuple[Term, ...] = (
    "projected_gravity_b",
    "base_ang_vel_b",
    "command_lin_vel_x_b",
    "command_lin_vel_y_b",
    "command_ang_vel_b",
    "joint_pos_rad",
    "joint_vel_rad_s",
    "foot_contact",
    "previous_action",
    "gait_phase",
)
"""Terms that a small robot can measure: from an IMU, encoders, its computer, and foot switches if it has them."""
ESTIMATED: tuple[Term, ...] = (*SENSED[:2], "base_lin_vel_xy_b", "base_height_m", *SENSED[2:])
"""`SENSED` plus terms that need a state estimator: the base's velocity and height. Version 0.10 observed these."""
SIMULATED: tuple[Term, ...] = (*SENSED, *get_args(Term)[get_args(Term).index("base_lin_vel_b") :], "base_height_m")
"""All terms that the simulator knows, without noise."""

POLICY_GROUPS = {"measured": SENSED, "privileged": ESTIMATED}
"""Named lists of terms for the actor."""
CRITIC_GROUPS = {"privileged": SIMULATED, "policy": ()}
"""Named lists of terms for the critic; `policy` is the actor's group, noise included."""


def _named(groups: dict[str, tuple[Term, ...]]) -> Any:
    def expand(value: Any) -> Any:
        if isinstance(value, list):  # JSON has only lists; the type accepts only tuples
            return tuple(value)
        if not isinstance(value, str):
            return value
        if value not in groups:
            raise PydanticCustomError("rule", "{names}, or a list of terms", {"names": " or ".join(groups)})
        return groups[value]

    return BeforeValidator(expand)


def _once_each(terms: tuple[Term, ...]) -> bool:
    return len(set(terms)) == len(terms)


@section
class ObservationConfig(Section):
    """Observations of actor and critic, and the scale of each term."""

    policy: Annotated[tuple[Term, ...], Field(min_length=1), _named(POLICY_GROUPS)] = SENSED
    """Terms that the actor observes, with sensor errors: a list, `measured` (what a robot can measure) or `privileged`
    (velocity and height of the base too). `foot_contact` is left out if `env.robot.foot_switches` is false."""
    critic: Annotated[tuple[Term, ...], _named(CRITIC_GROUPS)] = SIMULATED
    """Terms that the critic observes, without errors: a list, `privileged` (everything that the simulator knows) or
    `policy` (the actor's own observation)."""
    ang_vel_scale: Positive = 0.5
    """Factor on the base's angular velocity (rad/s)."""
    lin_vel_scale: Positive = 2.0
    """Factor on the base's linear velocity (m/s)."""
    command_scale: tuple[Finite, Finite, Finite] = (2.0, 6.0, 2.0)
    """Factors on the commands: forward (m/s), to the left (m/s), yaw rate (rad/s). Scaled commands reach about 1."""
    joint_vel_scale: Positive = 0.05
    """Factor on joint velocities (rad/s)."""
    clip: Positive = 100.0
    """Scaled observations are clipped to ± this value."""

    def __post_init__(self) -> None:
        for name in ("policy", "critic"):
            self._require(_once_each(getattr(self, name)), name, "a list that names each term once")
