"""What the robot is asked to do, what it is paid for, and the environment that all of it makes up."""

import math
from typing import Annotated

from pydantic import Field

from biped.config.observation import ObservationConfig
from biped.config.randomization import RandomizationConfig
from biped.config.robot import ControlConfig, RobotConfig, SimConfig
from biped.config.section import Finite, Fraction, Interval, NotNegative, Positive, Section, section


@section
class CommandConfig(Section):
    """Velocity commands in the base frame, drawn uniformly and drawn anew on a timer."""

    lin_vel_x_m_s: Interval = (-0.2, 0.6)
    """Range of the forward velocity (m/s)."""
    lin_vel_y_m_s: Interval = (-0.15, 0.15)
    """Range of the velocity to the left (m/s)."""
    ang_vel_rad_s: Interval = (-0.6, 0.6)
    """Range of the yaw rate, counter-clockwise (rad/s)."""
    start_share: Fraction = 0.5
    """Share of each range, around its middle, that commands are drawn from at first; 1: everything from the start."""
    widen_by: Fraction = 0.02
    """What the share grows by after a rollout that tracked well."""
    widen_above: Fraction = 0.5
    """Mean share of the commanded velocity that is made good from which a rollout tracked well."""
    resample_s: Positive = 8.0
    """Time until a new command (s)."""
    standing_fraction: Fraction = 0.1
    """Share of commands that are exactly zero: stand still."""
    turning_fraction: Fraction = 0.25
    """Share of commands that turn on the spot: no linear velocity."""
    turning_lever_m: Positive = 0.5
    """A yaw rate of 1 rad/s counts as this speed (m/s) when commands are compared by size."""
    moving_threshold_m_s: Positive = 0.1
    """Commands smaller than this are made zero: stand still; the gait terms do not pay."""

    def __post_init__(self) -> None:
        within = self.standing_fraction + self.turning_fraction <= 1
        self._require(within, "turning_fraction", "at most what standing_fraction leaves of 1")


@section
class GaitConfig(Section):
    """The phase clock, the sinusoidal joint reference and what counts as a step."""

    frequency_hz: Positive = 1.4
    """Strides a second; each foot steps once a stride."""
    hip_amplitude_rad: NotNegative = 0.25
    """Hip flexion at mid-swing over the default pose (rad)."""
    knee_amplitude_rad: NotNegative = 0.50
    """Knee flexion at mid-swing over the default pose (rad)."""
    ankle_amplitude_rad: NotNegative = 0.25
    """Ankle flexion at mid-swing over the default pose (rad)."""
    swing_share: Annotated[float, Field(ge=0.05, le=0.5)] = 0.36
    """Share of a stride that each leg swings; more than a half would be running."""
    contact_on_n: Positive = 3.0
    """Vertical force at which a foot counts as landed (N)."""
    contact_off_n: Positive = 1.0
    """Vertical force under which a landed foot counts as lifted (N)."""
    min_swing_s: Positive = 0.20
    """A shorter time in the air is chatter, not a step (s)."""
    max_swing_s: Positive = 0.60
    """A longer time in the air is a leg held up, not a step (s)."""

    def __post_init__(self) -> None:
        self._require(self.contact_off_n <= self.contact_on_n, "contact_off_n", "at most contact_on_n")
        self._require(self.min_swing_s < self.max_swing_s, "min_swing_s", "less than max_swing_s")


@section
class RewardWeights(Section):
    """One weight a term of `biped.mdp.rewards.TERMS`, per second (the control step multiplies at use); 0 is off."""

    tracking_lin_vel_x: Finite = 1.5
    """Follow the commanded forward velocity."""
    tracking_lin_vel_y: Finite = 2.25
    """Follow the commanded velocity to the left."""
    tracking_ang_vel: Finite = 5.0
    """Follow the commanded yaw rate."""
    alive_bonus: Finite = 0.3
    """Not having fallen."""
    sinusoidal_gait: Finite = 1.5
    """Pitch joints on the phase-clocked reference, legs in antiphase."""
    foot_alternation: Finite = 1.0
    """Touchdowns of the other foot after a swing of sensible length."""
    contact_schedule: Finite = 2.5
    """Exactly those feet on the ground that the clock wants there."""
    standing_still: Finite = 1.0
    """Both feet on the ground while the command asks to stand."""
    height_maintenance: Finite = -10.0
    """Base height off its target."""
    torso_stability: Finite = -2.0
    """Base tilted or rocking."""
    lin_vel_z: Finite = -1.0
    """Base moving up and down."""
    action_rate: Finite = -0.01
    """Actions that change quickly."""
    similar_to_default: Finite = -0.05
    """Hip roll and torso yaw away from the default pose."""
    foot_slip: Finite = -0.1
    """Feet sliding while on the ground."""
    actuator_constraint: Finite = -0.2
    """Torque beyond what the servo has at that speed."""
    fall_penalty: Finite = -2.0
    """Per fall, not per second."""


@section
class RewardConfig(Section):
    """Weights, and the shape of the terms that have one."""

    weights: RewardWeights = RewardWeights()
    """The price of each term."""
    lin_vel_x_scale_m_s: Positive = 0.25
    """Scale of exp(-|error| / scale) for the forward velocity (m/s)."""
    lin_vel_y_scale_m_s: Positive = 0.1
    """Scale of exp(-|error| / scale) for the velocity to the left (m/s)."""
    ang_vel_scale_rad_s: Positive = 0.4
    """Scale of exp(-|error| / scale) for the yaw rate (rad/s)."""
    gait_variance_rad2: Positive = 0.25
    """Width of exp(-Σ error² / width) for the six pitch joints (rad²)."""
    gait_full_pay_progress: Positive = 0.5
    """Share of the commanded velocity from which the gait term pays in full; below, pay shrinks to nothing at rest."""
    target_height_m: Positive = 0.40
    """Base height that `height_maintenance` asks for (m)."""
    rocking_scale_s2: NotNegative = 0.01
    """Weight of the squared roll and pitch rate beside the squared tilt in `torso_stability` (s²)."""


@section
class TerminationConfig(Section):
    """When an episode ends."""

    min_base_height_m: Positive = 0.30
    """Under this height the robot has fallen (m)."""
    max_tilt_rad: Annotated[float, Field(ge=0, le=3.2)] = math.pi / 4
    """Past this angle between the base's z axis and vertical the robot has fallen (rad)."""
    episode_s: Annotated[float, Field(ge=0.1, le=3600)] = 20.0
    """Time-out; counted as truncation, not as failure (s)."""


@section
class ResetConfig(Section):
    """How an episode starts."""

    joint_noise_rad: NotNegative = 0.05
    """Joint positions start within ± this of the default pose (rad)."""
    clearance_m: NotNegative = 0.005
    """Height added to the default pose, so that no noise starts a foot in the ground (m)."""


@section
class EnvConfig(Section):
    """The environment: robot, simulation and task."""

    num_envs: Annotated[int, Field(ge=1, le=10_000_000)] = 1024
    """Environments stepped in parallel."""
    robot: RobotConfig = RobotConfig()
    """Model, default pose, gains."""
    sim: SimConfig = SimConfig()
    """Time steps and solver."""
    control: ControlConfig = ControlConfig()
    """Actions."""
    command: CommandConfig = CommandConfig()
    """What the robot is asked to do."""
    gait: GaitConfig = GaitConfig()
    """Clock and steps."""
    reward: RewardConfig = RewardConfig()
    """What it is paid for."""
    termination: TerminationConfig = TerminationConfig()
    """When an episode ends."""
    observation: ObservationConfig = ObservationConfig()
    """What actor and critic see."""
    reset: ResetConfig = ResetConfig()
    """How an episode starts."""
    randomization: RandomizationConfig = RandomizationConfig()
    """What the policy must not rely on."""
