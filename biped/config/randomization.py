"""Domain randomisation: how robots differ from each other and from the model, disturbances, and sensor errors."""

from typing import Annotated, Literal

from pydantic import Field

from biped.config.section import Fraction, Interval, NotNegative, Positive, Section, section
from biped.config.sensors import EncoderConfig, ImuConfig

MAX_LATENCY_STEPS = 4
"""Largest delay of an action, in control steps."""
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
"""Values of these fields without randomisation; 0 for fields not listed."""


@section
class Randomized(Section):
    """A physical quantity that is not known exactly, drawn uniformly from a range for each robot."""

    mode: Literal["off", "startup", "reset"] = "off"
    """`off` (the model's own value), `startup` (drawn once per run) or `reset` (drawn per episode)."""
    range: Interval = (0.0, 0.0)
    """Smallest and largest value, in the unit of the quantity."""

    def scaled(self, share: float, nominal: float) -> "Randomized":
        """Return this range with its ends moved to `share` of their distance from `nominal`, drawn once per run."""
        low, high = (nominal + share * (end - nominal) for end in self.range)
        return Randomized("startup" if share else "off", (low, high))


@section
class NoiseConfig(Section):
    """Standard deviation of the Gaussian noise on each observed value of the policy, in the value's own unit."""

    projected_gravity: NotNegative = 0.0
    """Noise on the direction of gravity (1)."""
    base_ang_vel_rad_s: NotNegative = 0.0
    """Noise on the gyroscope (rad/s)."""
    base_lin_vel_m_s: NotNegative = 0.0
    """Noise on the velocity estimate (m/s)."""
    base_height_m: NotNegative = 0.0
    """Noise on the height estimate (m)."""
    joint_pos_rad: NotNegative = 0.0
    """Noise on the joint encoders (rad)."""
    joint_vel_rad_s: NotNegative = 0.0
    """Noise on joint velocities (rad/s)."""


@section
class ContactSensorConfig(Section):
    """Errors of the switches under the feet. Rewards and the gate use the true contacts."""

    miss_rate: Fraction = 0.0
    """Probability per step that a foot on the ground is reported as in the air."""
    false_rate: Fraction = 0.0
    """Probability per step that a foot in the air is reported as on the ground."""
    late_share: Fraction = 0.0
    """Share of the episodes in which contacts are reported one control step late."""


@section
class PushConfig(Section):
    """Pushes at random moments. Their size grows with the command curriculum, up to the values given here."""

    interval_s: Positive = 5.0
    """Mean time between two pushes (s); each interval is between 0.5 and 1.5 times this value."""
    velocity_m_s: NotNegative = 0.0
    """Largest sudden change of the base's horizontal velocity, in any direction (m/s); 0: no such pushes."""
    force_n: NotNegative = 0.0
    """Largest horizontal force on the base, in any direction (N); 0: no such pushes."""
    force_s: Positive = 0.2
    """Duration of a force (s)."""


@section
class BumpsConfig(Section):
    """Uneven ground beside the plane: square fields of bumps, one behind the other.

    A robot starts an episode on the plane, or in the middle of a field. As the command curriculum grows, fields with
    larger bumps are used.
    """

    heights_m: tuple[Annotated[float, Field(gt=0, le=0.2)], ...] = ()
    """Largest bump height of each field, from small to large (m); empty: no fields."""
    mode: Literal["reset", "startup"] = "reset"
    """When a robot's field is drawn: for each episode (`reset`) or once per run (`startup`)."""
    share: Fraction = 0.0625
    """Share of the robots that start on a field; kept small because bumps slow down the simulator."""
    cell_m: Annotated[float, Field(ge=0.05, le=2.0)] = 0.25
    """Spacing of the grid points whose heights are drawn (m)."""
    field_m: Annotated[float, Field(ge=1.0, le=100.0)] = 16.0
    """Side length of a field (m); around it is the plane."""


@section
class StartConfig(Section):
    """Deviation of an episode's start from standing at rest."""

    lin_vel_m_s: NotNegative = 0.0
    """Each horizontal velocity of the base starts within ± this value (m/s)."""
    ang_vel_rad_s: NotNegative = 0.0
    """Each angular velocity of the base starts within ± this value (rad/s)."""
    tilt_rad: Annotated[float, Field(ge=0.0, le=0.5)] = 0.0
    """Roll and pitch of the base start within ± this value (rad)."""


@section
class RandomizationConfig(Section):
    """How robots differ from each other and from the model, disturbances, and sensor errors; all off by default.

    `--randomize mild` and `full` (`randomization_preset`) switch all of them on.
    """

    friction: Randomized = Randomized("off", (0.4, 1.2))
    """Coefficient of friction between feet and ground (1); the model's value is 1."""
    torso_mass_kg: Randomized = Randomized("off", (-0.34, 0.34))
    """Mass added to the torso (kg); the default range is ± a fifth of the robot's mass."""
    torso_com_m: Randomized = Randomized("off", (-0.02, 0.02))
    """Shift of the torso's centre of mass along each axis (m)."""
    strength: Randomized = Randomized("off", (0.8, 1.2))
    """Factor on each motor's stiffness and stall torque (1)."""
    damping: Randomized = Randomized("off", (0.8, 1.2))
    """Factor on each motor's damping (1)."""
    joint_friction_nm: Randomized = Randomized("off", (-0.04, 0.05))
    """Dry friction of each joint in addition to the model's (N·m); the sum is at least 0."""
    armature: Randomized = Randomized("off", (0.8, 1.2))
    """Factor on each motor's reflected inertia (1)."""
    slope_rad: Randomized = Randomized("off", (0.0, 0.0873))
    """Slope of the ground, in any direction (rad); the default range ends at 5 degrees."""
    latency_steps: Randomized = Randomized("off", (0.0, 2.0))
    """Delay of actions in whole control steps; if this is off, `env.control.latency_share` decides."""
    backlash_rad: Randomized = Randomized("off", (0.0, 0.02))
    """Backlash of each joint's gear (rad)."""
    noise: NoiseConfig = NoiseConfig()
    """Noise on the policy's observations."""
    imu: ImuConfig = ImuConfig()
    """Errors of the IMU in the base."""
    encoders: EncoderConfig = EncoderConfig()
    """Errors of the encoders in the servos."""
    contact_sensors: ContactSensorConfig = ContactSensorConfig()
    """Errors of the switches under the feet."""
    push: PushConfig = PushConfig()
    """Pushes against the base."""
    start: StartConfig = StartConfig()
    """Random initial velocity and tilt of the base."""
    bumps: BumpsConfig = BumpsConfig()
    """Fields of uneven ground."""
    nominal_share: Fraction = 0.0
    """Share of the robots, always the same ones, without any randomisation: the policy stays good on the model."""

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
        """Whether the simulator needs a different model for each robot."""
        return any(getattr(self, name).mode != "off" for name in DYNAMICS)
