"""What actor and critic observe: two groups of terms, by name, and the scale of each."""

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
"""Names of all terms; `biped.mdp.observations.TERMS` says what each is."""

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
"""What the sensors and the computer of a small robot give: an IMU, encoders, switches under the feet if it has any."""
ESTIMATED: tuple[Term, ...] = (*SENSED[:2], "base_lin_vel_xy_b", "base_height_m", *SENSED[2:])
"""The same, and what only a state estimator could give: the base's velocity and height. Version 0.10 observed it."""
SIMULATED: tuple[Term, ...] = (*SENSED, *get_args(Term)[get_args(Term).index("base_lin_vel_b") :], "base_height_m")
"""All that a simulator knows, without noise."""

POLICY_GROUPS = {"measured": SENSED, "privileged": ESTIMATED}
"""Names for lists of terms, for the actor."""
CRITIC_GROUPS = {"privileged": SIMULATED, "policy": ()}
"""The same for the critic; `policy` is the actor's group, noise included."""


def _named(groups: dict[str, tuple[Term, ...]]) -> Any:
    def expand(value: Any) -> Any:
        if isinstance(value, list):  # as JSON has it; the type is strict about tuples
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
    """What actor and critic observe, and the scale of each observation."""

    policy: Annotated[tuple[Term, ...], Field(min_length=1), _named(POLICY_GROUPS)] = SENSED
    """The actor's terms, with the errors of sensors: a list, `measured` (what a robot can measure) or `privileged`
    (velocity and height of the base too). `foot_contact` is left out where `env.robot.foot_switches` is false."""
    critic: Annotated[tuple[Term, ...], _named(CRITIC_GROUPS)] = SIMULATED
    """The critic's terms, without errors: a list, `privileged` (all that a simulator knows) or `policy` (the actor's
    own observation)."""
    ang_vel_scale: Positive = 0.5
    """Multiplies base angular velocity (rad/s)."""
    lin_vel_scale: Positive = 2.0
    """Multiplies base linear velocity (m/s)."""
    command_scale: tuple[Finite, Finite, Finite] = (2.0, 6.0, 2.0)
    """Multiplies the velocity commands: forward (m/s), to the left (m/s), yaw rate (rad/s). Each reaches about 1."""
    joint_vel_scale: Positive = 0.05
    """Multiplies joint velocity (rad/s)."""
    clip: Positive = 100.0
    """Observations are clipped to ± this."""

    def __post_init__(self) -> None:
        for name in ("policy", "critic"):
            self._require(_once_each(getattr(self, name)), name, "a list that names each term once")
