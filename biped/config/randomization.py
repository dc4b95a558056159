"""What differs from robot to robot and from the model, what disturbs, and what sensors get wrong."""

from typing import Annotated, Literal

from pydantic import Field

from biped.config.section import Fraction, Interval, NotNegative, Positive, Section, section
from biped.config.sensors import EncoderConfig, ImuConfig

MAX_LATENCY_STEPS = 4
"""Most control steps that an action may be late."""
DYNAMICS = (
    "friction",
    "torso_mass_kg",
    "torso_com_m",
    "strength",
    "damping",
    "joint_friction_nm",
    "armature",
    "slope_rad",
)
"""Fields of `RandomizationConfig` that the simulator applies."""
NOMINAL = {"friction": 1.0, "strength": 1.0, "damping": 1.0, "armature": 1.0}
"""What they are where nothing is randomised; 0 where it is not said."""


@section
class Randomized(Section):
    """A quantity that no builder knows exactly, drawn uniformly from a range, for each robot on its own."""

    mode: Literal["off", "startup", "reset"] = "off"
    """`off` (the model's own value), `startup` (one draw for the whole run) or `reset` (a draw an episode)."""
    range: Interval = (0.0, 0.0)
    """Smallest and largest value."""

    def scaled(self, share: float, nominal: float) -> "Randomized":
        """Return a range whose ends are `share` of the way from the nominal value to these, drawn once a run."""
        low, high = (nominal + share * (end - nominal) for end in self.range)
        return Randomized("startup" if share else "off", (low, high))


@section
class NoiseConfig(Section):
    """Standard deviation of the Gaussian noise on what the policy sees, a channel, in the channel's own unit."""

    projected_gravity: NotNegative = 0.0
    """Direction of gravity (1)."""
    base_ang_vel_rad_s: NotNegative = 0.0
    """Gyroscope (rad/s)."""
    base_lin_vel_m_s: NotNegative = 0.0
    """Velocity estimate (m/s)."""
    base_height_m: NotNegative = 0.0
    """Height estimate (m)."""
    joint_pos_rad: NotNegative = 0.0
    """Joint encoders (rad)."""
    joint_vel_rad_s: NotNegative = 0.0
    """Joint velocities (rad/s)."""


@section
class ContactSensorConfig(Section):
    """What the switches under the feet get wrong. Rewards and the gate see the truth."""

    miss_rate: Fraction = 0.0
    """Probability, at each step, that a foot on the ground is not felt."""
    false_rate: Fraction = 0.0
    """Probability, at each step, that a foot in the air is felt."""
    late_share: Fraction = 0.0
    """Share of the episodes in which contacts are felt one control step late."""


@section
class PushConfig(Section):
    """Pushes at random moments. Their size grows with the curriculum of the commands, up to these."""

    interval_s: Positive = 5.0
    """Mean time between two (s): each is between a half and one and a half of it."""
    velocity_m_s: NotNegative = 0.0
    """Largest sudden change of the base's horizontal velocity, in any direction (m/s); 0 for none."""
    force_n: NotNegative = 0.0
    """Largest horizontal force on the base, in any direction (N); 0 for none."""
    force_s: Positive = 0.2
    """How long a force lasts (s)."""


@section
class BumpsConfig(Section):
    """Ground that is not flat, beside the plane: square fields of bumps, one behind the other.

    A robot starts an episode on the plane, or in the middle of a field. As the curriculum of the commands grows,
    fields with larger bumps are used.
    """

    heights_m: tuple[Annotated[float, Field(gt=0, le=0.2)], ...] = ()
    """Largest height of the bumps of each field, from small to large (m); empty for no fields."""
    mode: Literal["reset", "startup"] = "reset"
    """Which field is drawn for each episode (`reset`) or once for the whole run (`startup`)."""
    share: Fraction = 0.0625
    """Share of the robots that start on a field: bumps cost the simulator time."""
    cell_m: Annotated[float, Field(ge=0.05, le=2.0)] = 0.25
    """Distance of the points that each have a height of their own (m)."""
    field_m: Annotated[float, Field(ge=1.0, le=100.0)] = 16.0
    """Side of a field (m). Beyond it is the plane."""


@section
class StartConfig(Section):
    """How far from standing at rest an episode starts."""

    lin_vel_m_s: NotNegative = 0.0
    """Each horizontal velocity of the base starts within ± this (m/s)."""
    ang_vel_rad_s: NotNegative = 0.0
    """Each angular velocity of the base starts within ± this (rad/s)."""
    tilt_rad: Annotated[float, Field(ge=0.0, le=0.5)] = 0.0
    """Roll and pitch of the base start within ± this (rad)."""


@section
class RandomizationConfig(Section):
    """What differs from robot to robot and from the model, what disturbs, and what sensors get wrong; all off at first.

    `--randomize mild` and `full` (`randomization_preset`) switch all of it on.
    """

    friction: Randomized = Randomized("off", (0.4, 1.2))
    """Coefficient of friction between feet and ground (1); the model has 1."""
    torso_mass_kg: Randomized = Randomized("off", (-0.34, 0.34))
    """Mass added to the torso (kg): ± a fifth of the robot."""
    torso_com_m: Randomized = Randomized("off", (-0.02, 0.02))
    """Shift of the torso's centre of mass, along each axis (m)."""
    strength: Randomized = Randomized("off", (0.8, 1.2))
    """Factor on each motor's stiffness and stall torque (1)."""
    damping: Randomized = Randomized("off", (0.8, 1.2))
    """Factor on each motor's damping (1)."""
    joint_friction_nm: Randomized = Randomized("off", (-0.04, 0.05))
    """Dry friction that each joint has beyond the model's (N·m); the sum is at least 0."""
    armature: Randomized = Randomized("off", (0.8, 1.2))
    """Factor on each motor's reflected inertia (1)."""
    slope_rad: Randomized = Randomized("off", (0.0, 0.0873))
    """Slope of the ground, in any direction (rad); 5 degrees at most."""
    latency_steps: Randomized = Randomized("off", (0.0, 2.0))
    """Control steps by which actions take effect late, whole; `env.control.latency_share` rules where this is off."""
    backlash_rad: Randomized = Randomized("off", (0.0, 0.02))
    """Play of each joint's gear (rad)."""
    noise: NoiseConfig = NoiseConfig()
    """On observations."""
    imu: ImuConfig = ImuConfig()
    """In the base."""
    encoders: EncoderConfig = EncoderConfig()
    """In the servos."""
    contact_sensors: ContactSensorConfig = ContactSensorConfig()
    """Under the feet."""
    push: PushConfig = PushConfig()
    """Disturbances."""
    start: StartConfig = StartConfig()
    """First states."""
    bumps: BumpsConfig = BumpsConfig()
    """Ground that is not flat."""
    nominal_share: Fraction = 0.0
    """Share of the robots, always the same, that none of this touches: what is learned stays good for the model."""

    def __post_init__(self) -> None:
        for name, least in (("friction", 0.05), ("strength", 0.05), ("damping", 0.0)):
            self._require(getattr(self, name).range[0] >= least, name, f"a range from {least} on")
        for name, low, high in (("armature", 0.05, 20.0), ("slope_rad", 0.0, 0.5), ("backlash_rad", 0.0, 0.5)):
            ends = getattr(self, name).range
            self._require(low <= ends[0] and ends[1] <= high, name, f"a range within {low} and {high}")
        ends = self.latency_steps.range
        self._require(ends[0] >= 0 and ends[1] <= MAX_LATENCY_STEPS, "latency_steps", f"0 to {MAX_LATENCY_STEPS}")

    @property
    def changes_dynamics(self) -> bool:
        """The simulator must hold another model for each robot."""
        return any(getattr(self, name).mode != "off" for name in DYNAMICS)
