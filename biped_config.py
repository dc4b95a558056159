"""Every number of the application, as frozen dataclasses with a docstring under each field.

Nothing ever writes into a config: `dataclasses.replace` makes a changed copy, and on the command line
`--set env.gait.frequency_hz=1.6` does the same. Units and frames are in the names: `_s`, `_m`, `_rad`, `_n` (newton),
`_nm` (newton metre), `_w` (world frame), `_b` (base frame). Angles are radians.

A preset is a whole `Config`; `PRESETS` names them. This module imports only the standard library.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any


class ConfigError(ValueError):
    """A value that the configuration cannot hold. The message is one line: what is wrong and what to do."""


def short(value: Any) -> str:
    """Return a value as it is written in Python, cut where it is too long for a line."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**60 else "a number of over 60 digits"
    return text if len(text) <= 60 else f"{text:.57}..."


def _checked(default: Any, rule: str, holds: Callable[[Any], bool]) -> Any:
    return field(default=default, metadata={"rule": rule, "holds": holds})


def _positive(default: float) -> Any:
    return _checked(default, "a number above 0", lambda value: math.isfinite(value) and value > 0)


def _not_negative(default: float) -> Any:
    return _checked(default, "a number of at least 0", lambda value: math.isfinite(value) and value >= 0)


def _finite(default: float) -> Any:
    return _checked(default, "a finite number", math.isfinite)


def _between(default: float, low: float, high: float) -> Any:
    return _checked(default, f"between {low} and {high}", lambda value: low <= value <= high)


def _fraction(default: float) -> Any:
    return _between(default, 0, 1)


def _interval(low: float, high: float) -> Any:
    return _checked(
        (low, high), "a pair (low, high), low first", lambda pair: -math.inf < pair[0] <= pair[1] < math.inf
    )


def _finite_each(*default: float) -> Any:
    return _checked(default, "finite numbers", lambda values: all(map(math.isfinite, values)))


def _widths(*default: int) -> Any:
    return _checked(default, "at least one width above 0", lambda widths: len(widths) > 0 and min(widths) > 0)


def _choice(default: Any, *others: Any) -> Any:
    options = (default, *others)
    return _checked(default, "one of " + ", ".join(map(str, options)), lambda value: value in options)


def _section(factory: type) -> Any:
    return field(default_factory=factory)


@dataclass(frozen=True)
class Section:
    """Base of every part of the configuration: checks each field against its rule when it is made.

    Raises:
        ConfigError: a field's value breaks its rule.
    """

    def __post_init__(self) -> None:
        for item in fields(self):
            if "rule" in item.metadata:
                try:
                    holds = item.metadata["holds"](getattr(self, item.name))
                except OverflowError:  # a whole number of hundreds of digits
                    holds = False
                self._require(holds, item.name, item.metadata["rule"])

    def _require(self, condition: bool, name: str, rule: str) -> None:
        if not condition:
            raise ConfigError(f"{type(self).__name__}.{name} is {short(getattr(self, name))}, but it must be {rule}")


LEG_PITCH = ("hip_pitch", "knee", "ankle")
"""The joints of a leg that the gait swings."""
JOINT_NAMES = (
    "left_hip_roll",
    "left_hip_pitch",
    "left_knee",
    "left_ankle",
    "right_hip_roll",
    "right_hip_pitch",
    "right_knee",
    "right_ankle",
    "torso_yaw",
)
"""The actuated joints, in the order of actions and of every per-joint tensor."""


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


@dataclass(frozen=True)
class ServoConfig(Section):
    """The actuator: ROBOTIS XM430-W210-T at 12 V, from the e-Manual's specification table."""

    stall_torque_nm: float = _positive(3.0)
    """Torque at standstill (N·m); the simulator clamps every joint to it."""
    no_load_speed_rad_s: float = _positive(8.06)
    """Speed at which no torque is left (rad/s); 77 rev/min."""


@dataclass(frozen=True)
class RobotConfig(Section):
    """The robot model and the pose that it starts from and that actions are measured from."""

    model_path: str = "assets/biped/biped.xml"
    """The MJCF or URDF (by its ending, .urdf), relative to the repository (or absolute)."""
    base_link: str = "pelvis"
    """The floating base: its frame is the base frame `_b` (x forward, y left, z up)."""
    torso_link: str = "torso"
    """The link that carries what a builder adds: `randomization.torso_mass_kg` goes there."""
    foot_links: tuple[str, str] = ("left_foot", "right_foot")
    """The feet, left first."""
    foot_sole_offset_m: tuple[float, float, float] = _finite_each(0.015, 0.0, -0.035)
    """Centre of the sole in the foot link's frame (m)."""
    joint_names: tuple[str, ...] = JOINT_NAMES
    """Actuated joints, in the order of actions."""
    swing_joints: tuple[str, ...] = tuple(f"{side}_{name}" for side in ("left", "right") for name in LEG_PITCH)
    """The joints that the gait swings: hip pitch, knee and ankle pitch of the left leg, then of the right."""
    swing_signs: tuple[float, float, float] = _finite_each(-1.0, 1.0, -1.0)
    """Direction of hip forward, knee bent and ankle up, as the joints' axes have it: 1 or -1."""
    mirror_joints: tuple[str, ...] = ()
    """What each joint is in a mirror, in the order of `joint_names`; empty: left_ and right_ change places by name."""
    mirror_signs: tuple[float, ...] = ()
    """1 where a joint turns alike in the mirror, -1 where not; empty: -1 for names that end in roll or yaw."""
    default_joint_pos_rad: tuple[float, ...] = _finite_each(0.0, -0.35, 0.7, -0.35, 0.0, -0.35, 0.7, -0.35, 0.0)
    """Joint positions of the default pose: standing with bent knees (rad)."""
    default_base_height_m: float = _positive(0.404)
    """Height of the base over the ground in the default pose (m)."""
    kp_nm_per_rad: float = _positive(20.0)
    """Proportional gain of every joint's position controller (N·m/rad)."""
    kd_nm_s_per_rad: float = _not_negative(0.5)
    """Derivative gain of every joint's position controller (N·m·s/rad)."""
    urdf_armature_kg_m2: float = _not_negative(0.01)
    """Reflected inertia of each motor, for a URDF, which has no place for it (kg·m²); an MJCF names its own."""
    servo: ServoConfig = _section(ServoConfig)
    """Torque and speed limits of the actuators."""

    def __post_init__(self) -> None:
        super().__post_init__()
        count = len(self.joint_names)
        self._require(len(self.default_joint_pos_rad) == count, "default_joint_pos_rad", f"{count} values, one a joint")
        self._require(len(self.swing_joints) == 2 * len(LEG_PITCH), "swing_joints", "six names, three of each leg")
        self._require(set(self.swing_signs) <= {1.0, -1.0}, "swing_signs", "1 or -1 each")
        self._require(
            not self.mirror_joints or sorted(self.mirror_joints) == sorted(self.joint_names),
            "mirror_joints",
            "every one of joint_names once",
        )
        self._require(
            not self.mirror_signs or (len(self.mirror_signs) == count and set(self.mirror_signs) <= {1.0, -1.0}),
            "mirror_signs",
            f"{count} times 1 or -1",
        )


@dataclass(frozen=True)
class SimConfig(Section):
    """How the physics is integrated."""

    control_dt_s: float = _between(0.02, 0.001, 0.1)
    """Time between two actions (s): 50 Hz."""
    substeps: int = _positive(2)
    """Physics steps per action."""
    max_collision_pairs: int = _positive(20)
    """Upper bound of contact candidates an environment; only the feet and the ground collide."""
    performance_mode: bool = False
    """Genesis' static arrays: about a quarter faster, with a longer first build."""
    kernel_seed: int = _checked(1, "between 0 and 4294967295", lambda value: 0 <= value < 2**32)
    """Genesis' own seed. It is part of the compiled kernels' cache key, so it stays fixed; `seed` seeds the run."""


@dataclass(frozen=True)
class ControlConfig(Section):
    """From actions to joint targets: target = default pose + scale × clipped action."""

    action_scale_rad: float = _positive(0.25)
    """Joint offset for an action of 1 (rad)."""
    action_clip: float = _positive(4.0)
    """Actions are clipped to ± this before they are scaled."""
    latency_share: float = _fraction(0.25)
    """Share of the episodes in which every action takes effect one control step late; 1: all."""


@dataclass(frozen=True)
class CommandConfig(Section):
    """Velocity commands in the base frame, drawn uniformly and drawn anew on a timer."""

    lin_vel_x_m_s: tuple[float, float] = _interval(-0.2, 0.6)
    """Range of the forward velocity (m/s)."""
    lin_vel_y_m_s: tuple[float, float] = _interval(-0.15, 0.15)
    """Range of the velocity to the left (m/s)."""
    ang_vel_rad_s: tuple[float, float] = _interval(-0.6, 0.6)
    """Range of the yaw rate, counter-clockwise (rad/s)."""
    start_share: float = _fraction(0.5)
    """Share of each range, around its middle, that commands are drawn from at first; 1: everything from the start."""
    widen_by: float = _fraction(0.02)
    """What the share grows by after a rollout that tracked well."""
    widen_above: float = _fraction(0.5)
    """Mean share of the commanded velocity that is made good from which a rollout tracked well."""
    resample_s: float = _positive(8.0)
    """Time until a new command (s)."""
    standing_fraction: float = _fraction(0.1)
    """Share of commands that are exactly zero: stand still."""
    turning_fraction: float = _fraction(0.25)
    """Share of commands that turn on the spot: no linear velocity."""
    turning_lever_m: float = _positive(0.5)
    """A yaw rate of 1 rad/s counts as this speed (m/s) when commands are compared by size."""
    moving_threshold_m_s: float = _positive(0.1)
    """Commands smaller than this are made zero: stand still; the gait terms do not pay."""

    def __post_init__(self) -> None:
        super().__post_init__()
        within = self.standing_fraction + self.turning_fraction <= 1
        self._require(within, "turning_fraction", "at most what standing_fraction leaves of 1")


@dataclass(frozen=True)
class GaitConfig(Section):
    """The phase clock, the sinusoidal joint reference and what counts as a step."""

    frequency_hz: float = _positive(1.4)
    """Strides a second; each foot steps once a stride."""
    hip_amplitude_rad: float = _not_negative(0.25)
    """Hip flexion at mid-swing over the default pose (rad)."""
    knee_amplitude_rad: float = _not_negative(0.50)
    """Knee flexion at mid-swing over the default pose (rad)."""
    ankle_amplitude_rad: float = _not_negative(0.25)
    """Ankle flexion at mid-swing over the default pose (rad)."""
    swing_share: float = _between(0.36, 0.05, 0.5)
    """Share of a stride that each leg swings; more than a half would be running."""
    contact_on_n: float = _positive(3.0)
    """Vertical force at which a foot counts as landed (N)."""
    contact_off_n: float = _positive(1.0)
    """Vertical force under which a landed foot counts as lifted (N)."""
    min_swing_s: float = _positive(0.20)
    """A shorter time in the air is chatter, not a step (s)."""
    max_swing_s: float = _positive(0.60)
    """A longer time in the air is a leg held up, not a step (s)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.contact_off_n <= self.contact_on_n, "contact_off_n", "at most contact_on_n")
        self._require(self.min_swing_s < self.max_swing_s, "min_swing_s", "less than max_swing_s")


@dataclass(frozen=True)
class RewardWeights(Section):
    """One weight a term of `biped.mdp.rewards.TERMS`, per second (the control step multiplies at use); 0 is off."""

    tracking_lin_vel_x: float = _finite(1.5)
    """Follow the commanded forward velocity."""
    tracking_lin_vel_y: float = _finite(2.25)
    """Follow the commanded velocity to the left."""
    tracking_ang_vel: float = _finite(5.0)
    """Follow the commanded yaw rate."""
    alive_bonus: float = _finite(0.3)
    """Not having fallen."""
    sinusoidal_gait: float = _finite(1.5)
    """Pitch joints on the phase-clocked reference, legs in antiphase."""
    foot_alternation: float = _finite(1.0)
    """Touchdowns of the other foot after a swing of sensible length."""
    contact_schedule: float = _finite(2.5)
    """Exactly those feet on the ground that the clock wants there."""
    standing_still: float = _finite(1.0)
    """Both feet on the ground while the command asks to stand."""
    height_maintenance: float = _finite(-10.0)
    """Base height off its target."""
    torso_stability: float = _finite(-2.0)
    """Base tilted or rocking."""
    lin_vel_z: float = _finite(-1.0)
    """Base moving up and down."""
    action_rate: float = _finite(-0.01)
    """Actions that change quickly."""
    similar_to_default: float = _finite(-0.05)
    """Hip roll and torso yaw away from the default pose."""
    foot_slip: float = _finite(-0.1)
    """Feet sliding while on the ground."""
    actuator_constraint: float = _finite(-0.2)
    """Torque beyond what the servo has at that speed."""
    fall_penalty: float = _finite(-2.0)
    """Per fall, not per second."""


@dataclass(frozen=True)
class RewardConfig(Section):
    """Weights, and the shape of the terms that have one."""

    weights: RewardWeights = _section(RewardWeights)
    """The price of each term."""
    lin_vel_x_scale_m_s: float = _positive(0.25)
    """Scale of exp(-|error| / scale) for the forward velocity (m/s)."""
    lin_vel_y_scale_m_s: float = _positive(0.1)
    """Scale of exp(-|error| / scale) for the velocity to the left (m/s)."""
    ang_vel_scale_rad_s: float = _positive(0.4)
    """Scale of exp(-|error| / scale) for the yaw rate (rad/s)."""
    gait_variance_rad2: float = _positive(0.25)
    """Width of exp(-Σ error² / width) for the six pitch joints (rad²)."""
    gait_full_pay_progress: float = _positive(0.5)
    """Share of the commanded velocity from which the gait term pays in full; below, pay shrinks to nothing at rest."""
    target_height_m: float = _positive(0.40)
    """Base height that `height_maintenance` asks for (m)."""
    rocking_scale_s2: float = _not_negative(0.01)
    """Weight of the squared roll and pitch rate beside the squared tilt in `torso_stability` (s²)."""


@dataclass(frozen=True)
class TerminationConfig(Section):
    """When an episode ends."""

    min_base_height_m: float = _positive(0.30)
    """Under this height the robot has fallen (m)."""
    max_tilt_rad: float = _between(math.pi / 4, 0, 3.2)
    """Past this angle between the base's z axis and vertical the robot has fallen (rad)."""
    episode_s: float = _between(20.0, 0.1, 3600)
    """Time-out; counted as truncation, not as failure (s)."""


@dataclass(frozen=True)
class ObservationConfig(Section):
    """Scale of each observation; the layout itself is `biped.mdp.observations.ObservationLayout`."""

    ang_vel_scale: float = _positive(0.5)
    """Multiplies base angular velocity (rad/s)."""
    lin_vel_scale: float = _positive(2.0)
    """Multiplies base linear velocity (m/s)."""
    command_scale: tuple[float, float, float] = _finite_each(2.0, 6.0, 2.0)
    """Multiplies the velocity commands: forward (m/s), to the left (m/s), yaw rate (rad/s). Each reaches about 1."""
    joint_vel_scale: float = _positive(0.05)
    """Multiplies joint velocity (rad/s)."""
    clip: float = _positive(100.0)
    """Observations are clipped to ± this."""


@dataclass(frozen=True)
class ResetConfig(Section):
    """How an episode starts."""

    joint_noise_rad: float = _not_negative(0.05)
    """Joint positions start within ± this of the default pose (rad)."""
    clearance_m: float = _not_negative(0.005)
    """Height added to the default pose, so that no noise starts a foot in the ground (m)."""


@dataclass(frozen=True)
class Randomized(Section):
    """A quantity that no builder knows exactly, drawn uniformly from a range, for each robot on its own."""

    mode: str = _choice("off", "startup", "reset")
    """`off` (the model's own value), `startup` (one draw for the whole run) or `reset` (a draw an episode)."""
    range: tuple[float, float] = _interval(0.0, 0.0)
    """Smallest and largest value."""

    def scaled(self, share: float, nominal: float) -> "Randomized":
        """Return a range whose ends are `share` of the way from the nominal value to these, drawn once a run."""
        low, high = (nominal + share * (end - nominal) for end in self.range)
        return Randomized("startup" if share else "off", (low, high))


def _randomized(low: float, high: float) -> Any:
    return field(default_factory=lambda: Randomized("off", (low, high)))


@dataclass(frozen=True)
class NoiseConfig(Section):
    """Standard deviation of the Gaussian noise on what the policy sees, a channel, in the channel's own unit."""

    projected_gravity: float = _not_negative(0.0)
    """Direction of gravity (1)."""
    base_ang_vel_rad_s: float = _not_negative(0.0)
    """Gyroscope (rad/s)."""
    base_lin_vel_m_s: float = _not_negative(0.0)
    """Velocity estimate (m/s)."""
    base_height_m: float = _not_negative(0.0)
    """Height estimate (m)."""
    joint_pos_rad: float = _not_negative(0.0)
    """Joint encoders (rad)."""
    joint_vel_rad_s: float = _not_negative(0.0)
    """Joint velocities (rad/s)."""


@dataclass(frozen=True)
class ContactSensorConfig(Section):
    """What the switches under the feet get wrong. Rewards and the gate see the truth."""

    miss_rate: float = _fraction(0.0)
    """Probability, at each step, that a foot on the ground is not felt."""
    false_rate: float = _fraction(0.0)
    """Probability, at each step, that a foot in the air is felt."""
    late_share: float = _fraction(0.0)
    """Share of the episodes in which contacts are felt one control step late."""


@dataclass(frozen=True)
class PushConfig(Section):
    """Pushes at random moments. Their size grows with the curriculum of the commands, up to these."""

    interval_s: float = _positive(5.0)
    """Mean time between two (s): each is between a half and one and a half of it."""
    velocity_m_s: float = _not_negative(0.0)
    """Largest sudden change of the base's horizontal velocity, in any direction (m/s); 0 for none."""
    force_n: float = _not_negative(0.0)
    """Largest horizontal force on the base, in any direction (N); 0 for none."""
    force_s: float = _positive(0.2)
    """How long a force lasts (s)."""


@dataclass(frozen=True)
class BumpsConfig(Section):
    """Ground that is not flat, beside the plane: square fields of bumps, one behind the other.

    A robot starts an episode on the plane, or in the middle of a field. As the curriculum of the commands grows,
    fields with larger bumps are used.
    """

    heights_m: tuple[float, ...] = _checked(
        (), "heights above 0 and at most 0.2", lambda heights: all(0 < height <= 0.2 for height in heights)
    )
    """Largest height of the bumps of each field, from small to large (m); empty for no fields."""
    mode: str = _choice("reset", "startup")
    """Which field is drawn for each episode (`reset`) or once for the whole run (`startup`)."""
    share: float = _fraction(0.0625)
    """Share of the robots that start on a field: bumps cost the simulator time."""
    cell_m: float = _between(0.25, 0.05, 2.0)
    """Distance of the points that each have a height of their own (m)."""
    field_m: float = _between(16.0, 1.0, 100.0)
    """Side of a field (m). Beyond it is the plane."""


@dataclass(frozen=True)
class StartConfig(Section):
    """How far from standing at rest an episode starts."""

    lin_vel_m_s: float = _not_negative(0.0)
    """Each horizontal velocity of the base starts within ± this (m/s)."""
    ang_vel_rad_s: float = _not_negative(0.0)
    """Each angular velocity of the base starts within ± this (rad/s)."""
    tilt_rad: float = _between(0.0, 0.0, 0.5)
    """Roll and pitch of the base start within ± this (rad)."""


@dataclass(frozen=True)
class RandomizationConfig(Section):
    """What differs from robot to robot and from the model, what disturbs, and what sensors get wrong; all off at first.

    `--randomize mild` and `full` (`randomization_preset`) switch all of it on.
    """

    friction: Randomized = _randomized(0.4, 1.2)
    """Coefficient of friction between feet and ground (1); the model has 1."""
    torso_mass_kg: Randomized = _randomized(-0.34, 0.34)
    """Mass added to the torso (kg): ± a fifth of the robot."""
    torso_com_m: Randomized = _randomized(-0.02, 0.02)
    """Shift of the torso's centre of mass, along each axis (m)."""
    strength: Randomized = _randomized(0.8, 1.2)
    """Factor on each motor's stiffness and stall torque (1)."""
    damping: Randomized = _randomized(0.8, 1.2)
    """Factor on each motor's damping (1)."""
    joint_friction_nm: Randomized = _randomized(-0.04, 0.05)
    """Dry friction that each joint has beyond the model's (N·m); the sum is at least 0."""
    armature: Randomized = _randomized(0.8, 1.2)
    """Factor on each motor's reflected inertia (1)."""
    slope_rad: Randomized = _randomized(0.0, 0.0873)
    """Slope of the ground, in any direction (rad); 5 degrees at most."""
    latency_steps: Randomized = _randomized(0.0, 2.0)
    """Control steps by which actions take effect late, whole; `env.control.latency_share` rules where this is off."""
    backlash_rad: Randomized = _randomized(0.0, 0.02)
    """Play of each joint's gear (rad)."""
    noise: NoiseConfig = _section(NoiseConfig)
    """On observations."""
    contact_sensors: ContactSensorConfig = _section(ContactSensorConfig)
    """Under the feet."""
    push: PushConfig = _section(PushConfig)
    """Disturbances."""
    start: StartConfig = _section(StartConfig)
    """First states."""
    bumps: BumpsConfig = _section(BumpsConfig)
    """Ground that is not flat."""
    nominal_share: float = _fraction(0.0)
    """Share of the robots, always the same, that none of this touches: what is learned stays good for the model."""

    def __post_init__(self) -> None:
        super().__post_init__()
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


@dataclass(frozen=True)
class EnvConfig(Section):
    """The environment: robot, simulation and task."""

    num_envs: int = _between(1024, 1, 10_000_000)
    """Environments stepped in parallel."""
    robot: RobotConfig = _section(RobotConfig)
    """Model, default pose, gains."""
    sim: SimConfig = _section(SimConfig)
    """Time steps and solver."""
    control: ControlConfig = _section(ControlConfig)
    """Actions."""
    command: CommandConfig = _section(CommandConfig)
    """What the robot is asked to do."""
    gait: GaitConfig = _section(GaitConfig)
    """Clock and steps."""
    reward: RewardConfig = _section(RewardConfig)
    """What it is paid for."""
    termination: TerminationConfig = _section(TerminationConfig)
    """When an episode ends."""
    observation: ObservationConfig = _section(ObservationConfig)
    """Scales."""
    reset: ResetConfig = _section(ResetConfig)
    """How an episode starts."""
    randomization: RandomizationConfig = _section(RandomizationConfig)
    """What the policy must not rely on."""


@dataclass(frozen=True)
class PolicyConfig(Section):
    """The network: an MLP into an LSTM, one of each for the actor and for the critic."""

    hidden_sizes: tuple[int, ...] = _widths(512, 256, 128)
    """Widths of the MLP in front of the LSTM (ELU)."""
    lstm_hidden_size: int = _positive(512)
    """Width of the LSTM."""
    lstm_layers: int = _positive(2)
    """Layers of the LSTM."""
    initial_std: float = _between(1.0, 0.001, 10)
    """Standard deviation of the actions at the start."""
    min_std: float = _between(0.01, 0.001, 10)
    """Floor of the standard deviation: exploration never dries up."""
    max_std: float = _between(5.0, 0.001, 100)
    """Ceiling of the standard deviation."""
    normalize_observations: bool = False
    """Normalise observations by their running mean and variance, kept in the policy; the scales are fixed otherwise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.min_std <= self.initial_std <= self.max_std, "initial_std", "between min_std and max_std")


@dataclass(frozen=True)
class PPOConfig(Section):
    """Hyperparameters of recurrent PPO (Schulman et al. 2017), by their usual names."""

    n_steps: int = _positive(32)
    """Steps an environment and rollout."""
    n_minibatches: int = _positive(4)
    """Minibatches an epoch: batch size = num_envs × n_steps / n_minibatches."""
    n_epochs: int = _positive(10)
    """Passes over a rollout."""
    learning_rate: float = _positive(1e-4)
    """Step size of Adam; the start of the adaptive rate."""
    adaptive_lr: bool = False
    """Steer the learning rate by the KL divergence of each epoch."""
    desired_kl: float = _positive(0.01)
    """KL divergence that the adaptive rate aims at (nats)."""
    min_learning_rate: float = _positive(1e-5)
    """Lower bound of the adaptive rate."""
    max_learning_rate: float = _positive(1e-2)
    """Upper bound of the adaptive rate."""
    clip_range: float = _positive(0.2)
    """Clip of the probability ratio."""
    gamma: float = _fraction(0.99)
    """Discount a step."""
    gae_lambda: float = _fraction(0.95)
    """Lambda of generalised advantage estimation."""
    ent_coef: float = _not_negative(0.005)
    """Weight of the entropy bonus."""
    vf_coef: float = _not_negative(0.5)
    """Weight of the value loss."""
    max_grad_norm: float = _positive(1.0)
    """Gradients are clipped to this norm."""
    mirror: bool = True
    """Learn as much from the mirror image of what happened as from what happened: left is as right."""
    precision: str = _choice("fp32", "bf16")
    """Of the networks up to their heads: `fp32`, or `bf16` for bfloat16 by autocast."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(
            self.min_learning_rate <= self.max_learning_rate, "min_learning_rate", "at most max_learning_rate"
        )
        if self.adaptive_lr:
            within = self.min_learning_rate <= self.learning_rate <= self.max_learning_rate
            self._require(within, "learning_rate", "between min_learning_rate and max_learning_rate where it adapts")
            steps = self.n_epochs * self.n_minibatches
            self._require(steps > 1, "n_epochs", "above 1 where the rate adapts: one step shows no divergence")


@dataclass(frozen=True)
class TrainConfig(Section):
    """The run around the learner."""

    total_timesteps: int = _positive(200_000_000)
    """Environment steps to train for, over all environments."""
    goal_timesteps: int = _not_negative(0)
    """Environment steps that a continued run is heading for; 0 in a run that was never continued."""
    seed: int = _checked(1, "between 0 and 4294967295", lambda value: 0 <= value < 2**32)
    """Seeds torch, numpy, Python and every draw of the environment."""
    device: str = _choice("auto", "cuda", "cpu")
    """`auto` (CUDA where it is found and the simulator runs on it), `cuda` (an error without) or `cpu`."""
    sim: str = _choice("genesis", "mujoco")
    """The simulator: `genesis`, or `mujoco` on the CPU."""
    torch_threads: int = _between(0, 0, 1024)
    """CPU threads of torch; 0 leaves the choice to torch. With 1, actor and critic are updated on a core each."""
    checkpoint_every_steps: int = _positive(10_000_000)
    """Environment steps between two checkpoints."""
    keep_checkpoints: int = _not_negative(5)
    """Periodic checkpoints that stay on the disk, the newest; 0 keeps all. The best and the final model always stay."""
    max_error_share: float = _fraction(0.5)
    """Training stops when the physics fails in more than this share of the environments within one rollout."""
    check_memory: bool = True
    """Refuse to begin where the estimate of the memory that it takes is above what is free."""
    stall_after_s: float = _between(120.0, 0.1, 1e6)
    """A line names a training in which nothing has happened for so long (s)."""
    eval_every_steps: int = _not_negative(10_000_000)
    """Environment steps between two evaluations in the walking gate; 0 for none."""
    eval_episodes: int = _positive(64)
    """Episodes of each of these evaluations, all in parallel."""
    video_every_steps: int = _not_negative(0)
    """Environment steps between two films of evaluations; 0 for none."""
    stop_when_walking: int = _not_negative(0)
    """Training ends once so many evaluations in a row have passed the gate; 0 for never."""

    def __post_init__(self) -> None:
        super().__post_init__()
        filmable = self.video_every_steps == 0 or self.eval_every_steps > 0
        self._require(filmable, "video_every_steps", "0 where eval_every_steps is: evaluations are what is filmed")


@dataclass(frozen=True)
class WandbConfig(Section):
    """Weights & Biases."""

    enabled: bool = False
    """Stream metrics to W&B."""
    project: str | None = None
    """Project name; None here and below: what W&B's variable says, or its settings file; else biped-rl-sb3."""
    entity: str | None = None
    """User or team; else the account's default."""
    run_name: str | None = None
    """Name of the run; else the experiment's name."""
    group: str | None = None
    """Runs that belong together, such as the seeds of an experiment."""
    tags: tuple[str, ...] = ()
    """Words to find the run by."""
    notes: str | None = None
    """What the run is for."""
    mode: str | None = _choice(None, "online", "offline", "disabled")
    """`online`, `offline` (a folder to send later) or `disabled`; None: what the variable WANDB_MODE says."""


@dataclass(frozen=True)
class Config(Section):
    """Everything about a run: what `config.json` in its directory holds."""

    preset: str = _choice("gpu", "cpu", "robust", "polish", "smoke")
    """The preset that this config started from."""
    env: EnvConfig = _section(EnvConfig)
    """The environment."""
    policy: PolicyConfig = _section(PolicyConfig)
    """The network."""
    ppo: PPOConfig = _section(PPOConfig)
    """The learner."""
    train: TrainConfig = _section(TrainConfig)
    """The run."""
    wandb: WandbConfig = _section(WandbConfig)
    """The tracker."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.env.num_envs * self.ppo.n_steps % self.ppo.n_minibatches:
            raise ConfigError(
                f"a rollout of {self.env.num_envs} environments x {self.ppo.n_steps} steps does not divide into "
                f"{self.ppo.n_minibatches} minibatches: change num_envs, ppo.n_steps or ppo.n_minibatches"
            )
        if self.batch_size < 2:
            raise ConfigError(f"a minibatch of {self.batch_size} transition has no spread: use fewer ppo.n_minibatches")

    @property
    def batch_size(self) -> int:
        """Transitions a minibatch: num_envs × n_steps / n_minibatches."""
        return self.env.num_envs * self.ppo.n_steps // self.ppo.n_minibatches


RANDOMIZATIONS = ("none", "mild", "full")
"""Names that `randomization_preset` knows."""


def randomization_preset(name: str) -> RandomizationConfig:
    """Return what `--randomize` stands for: `none`, `full`, or `mild`, half of it.

    Raises:
        KeyError: there is none of that name.
    """
    share = {"none": 0.0, "mild": 0.5, "full": 1.0}[name]
    full = RandomizationConfig()
    ranges = {
        item.name: getattr(full, item.name).scaled(share, NOMINAL.get(item.name, 0.0))
        for item in fields(full)
        if isinstance(getattr(full, item.name), Randomized)
    }
    # Drawn anew each episode: they cost the simulator nothing.
    for name in ("latency_steps", "backlash_rad"):
        ranges[name] = replace(ranges[name], mode="reset" if share else "off")
    return RandomizationConfig(
        **ranges,
        noise=NoiseConfig(0.02 * share, 0.1 * share, 0.05 * share, 0.005 * share, 0.01 * share, 0.3 * share),
        contact_sensors=ContactSensorConfig(0.02 * share, 0.01 * share, 0.5 * share),
        push=PushConfig(interval_s=4.0, velocity_m_s=0.8 * share, force_n=3.0 * share),
        start=StartConfig(0.2 * share, 0.3 * share, 0.05 * share),
        bumps=BumpsConfig(tuple(share * height for height in (0.005, 0.01, 0.015, 0.02)) if share else ()),
    )


def gpu_preset() -> Config:
    """The documents' sizes: 1024 environments, 512-256-128 into a 2-layer LSTM of 512, 200 million steps."""
    return Config(preset="gpu", train=TrainConfig(device="cuda"))


def cpu_preset() -> Config:
    """A small policy and 256 environments: passes the walking gate after minutes on two CPU cores."""
    return Config(
        preset="cpu",
        env=EnvConfig(num_envs=256),
        policy=PolicyConfig(hidden_sizes=(128, 64), lstm_hidden_size=64, lstm_layers=1, initial_std=0.5),
        # The rate begins at its upper bound and is lowered once updates change the policy by much.
        ppo=PPOConfig(
            n_steps=24, n_epochs=5, learning_rate=1.5e-3, adaptive_lr=True, desired_kl=0.04, max_learning_rate=1.5e-3
        ),
        # With one thread, and actor and critic on a core each, as fast as with two, and faster on a busy machine.
        train=TrainConfig(
            device="cpu",
            torch_threads=1,
            total_timesteps=5_000_000,
            checkpoint_every_steps=250_000,
            eval_every_steps=250_000,
            stop_when_walking=3,
        ),
    )


def robust_preset() -> Config:
    """The CPU preset's policy, once it walks (`--load_model`), made ready for robots that differ and for pushes."""
    cpu = cpu_preset()
    # Who is pushed walks slower and sways, to be safe: following the command must be worth more than that.
    weights = RewardWeights(
        tracking_lin_vel_x=14.0, tracking_lin_vel_y=6.0, tracking_ang_vel=32.0, contact_schedule=6.0
    )
    full = randomization_preset("full")
    return replace(
        cpu,
        preset="robust",
        env=replace(
            cpu.env,
            num_envs=512,
            command=CommandConfig(start_share=0.7, standing_fraction=0.2),
            # Quicker and smaller steps: the next one comes before a push has grown too large to catch.
            gait=GaitConfig(
                frequency_hz=1.8,
                hip_amplitude_rad=0.2,
                knee_amplitude_rad=0.4,
                ankle_amplitude_rad=0.2,
                swing_share=0.4,
            ),
            reward=RewardConfig(weights=weights, lin_vel_x_scale_m_s=0.15),
            randomization=replace(full, push=PushConfig(interval_s=1.5, velocity_m_s=0.8), nominal_share=0.35),
        ),
        # Without a ceiling the noise grows with updates as large as these, and pushes are learned more slowly.
        policy=replace(cpu.policy, initial_std=0.12, max_std=0.12),
        ppo=replace(cpu.ppo, learning_rate=2e-4, desired_kl=0.03, ent_coef=0.002),
        train=replace(
            cpu.train,
            total_timesteps=6_000_000,
            checkpoint_every_steps=500_000,
            eval_every_steps=500_000,
            stop_when_walking=0,
        ),
    )


def polish_preset() -> Config:
    """What follows `robust` (`--load_model`): smaller updates, half of the robots left alone, until the gate passes."""
    robust = robust_preset()
    env = robust.env
    weights = replace(
        env.reward.weights,
        tracking_lin_vel_x=16.0,
        tracking_lin_vel_y=8.0,
        tracking_ang_vel=36.0,
        contact_schedule=10.0,
    )
    return replace(
        robust,
        preset="polish",
        env=replace(
            env,
            command=replace(env.command, start_share=1.0),
            reward=replace(env.reward, weights=weights),
            randomization=replace(env.randomization, nominal_share=0.5),
        ),
        ppo=replace(robust.ppo, desired_kl=0.01, ent_coef=0.0),
        train=replace(robust.train, total_timesteps=5_000_000),
    )


def smoke_preset() -> Config:
    """The whole path in seconds, to see that everything works; learns nothing to speak of."""
    cpu = cpu_preset()
    return replace(
        cpu,
        preset="smoke",
        env=replace(cpu.env, num_envs=16, termination=TerminationConfig(episode_s=4.0)),
        policy=PolicyConfig(hidden_sizes=(32,), lstm_hidden_size=16, lstm_layers=1),
        ppo=replace(cpu.ppo, n_steps=16, n_epochs=2, adaptive_lr=False),
        train=replace(
            cpu.train, total_timesteps=4096, checkpoint_every_steps=2048, eval_every_steps=4096, eval_episodes=8
        ),
    )


PRESETS: Mapping[str, Callable[[], Config]] = MappingProxyType(
    {"gpu": gpu_preset, "cpu": cpu_preset, "robust": robust_preset, "polish": polish_preset, "smoke": smoke_preset}
)
"""Preset name to config. The command line's `auto` picks `gpu` where CUDA is found and `cpu` elsewhere."""
