"""The task: commands, gait, rewards, terminations and resets, and the whole environment."""

import math
from typing import Annotated

from pydantic import Field

from biped.base.errors import ConfigError
from biped.config.observation import ObservationConfig
from biped.config.randomization import RandomizationConfig
from biped.config.robot import ControlConfig, RobotConfig, SimConfig
from biped.config.section import Finite, Fraction, Interval, NotNegative, Positive, Section, section
from biped.config.style import ImitationConfig


@section
class CommandConfig(Section):
    """Velocity commands in the base frame, drawn uniformly and redrawn at fixed intervals."""

    lin_vel_x_m_s: Interval = (-0.2, 0.6)
    """Range of the commanded forward velocity (m/s)."""
    lin_vel_y_m_s: Interval = (-0.15, 0.15)
    """Range of the commanded velocity to the left (m/s)."""
    ang_vel_rad_s: Interval = (-0.6, 0.6)
    """Range of the commanded yaw rate, counter-clockwise (rad/s)."""
    start_share: Fraction = 0.5
    """Share of each command range, around its middle, that is used at the start of training; 1: the full range."""
    widen_by: Fraction = 0.02
    """Increase of the used share after a rollout that tracked the commands well."""
    widen_above: Fraction = 0.5
    """A rollout tracks well if the robot reaches at least this mean share of the commanded velocity."""
    resample_s: Positive = 8.0
    """Time between two commands (s)."""
    standing_fraction: Fraction = 0.1
    """Share of commands that are exactly zero: the robot is to stand still."""
    turning_fraction: Fraction = 0.25
    """Share of commands that turn on the spot, without linear velocity."""
    turning_lever_m: Positive = 0.5
    """Speed (m/s) that a yaw rate of 1 rad/s counts as when commands are compared by size."""
    moving_threshold_m_s: Positive = 0.1
    """Smaller commands are set to zero (m/s): the robot is to stand still, and the gait terms do not pay."""

    def __post_init__(self) -> None:
        within = self.standing_fraction + self.turning_fraction <= 1
        self._require(within, "turning_fraction", "at most what standing_fraction leaves of 1")


@section
class GaitConfig(Section):
    """The phase clock, the sinusoidal joint reference, and the definition of a step."""

    frequency_hz: Positive = 1.4
    """Strides per second; each foot steps once per stride."""
    hip_amplitude_rad: NotNegative = 0.25
    """Hip flexion at mid-swing relative to the default pose (rad)."""
    knee_amplitude_rad: NotNegative = 0.50
    """Knee flexion at mid-swing relative to the default pose (rad)."""
    ankle_amplitude_rad: NotNegative = 0.25
    """Ankle flexion at mid-swing relative to the default pose (rad)."""
    swing_share: Annotated[float, Field(ge=0.05, le=0.5)] = 0.36
    """Share of a stride that each leg is in swing; more than 0.5 would be running."""
    contact_on_n: Positive = 3.0
    """Vertical force from which a foot in the air counts as landed (N)."""
    contact_off_n: Positive = 1.0
    """Vertical force below which a landed foot counts as lifted (N)."""
    min_swing_s: Positive = 0.20
    """Shortest time in the air that counts as a step; shorter ones are contact chatter (s)."""
    max_swing_s: Positive = 0.60
    """Longest time in the air that counts as a step; longer ones are a leg held up (s)."""

    def __post_init__(self) -> None:
        self._require(self.contact_off_n <= self.contact_on_n, "contact_off_n", "at most contact_on_n")
        self._require(self.min_swing_s < self.max_swing_s, "min_swing_s", "less than max_swing_s")


@section
class RewardWeights(Section):
    """Weight of each term of `biped.mdp.rewards.TERMS`, per second (multiplied by the control step); 0 is off."""

    tracking_lin_vel_x: Finite = 3.0
    """Reward for following the commanded forward velocity."""
    tracking_lin_vel_y: Finite = 3.5
    """Reward for following the commanded velocity to the left."""
    tracking_ang_vel: Finite = 6.5
    """Reward for following the commanded yaw rate."""
    alive_bonus: Finite = 0.3
    """Reward while the robot has not fallen."""
    sinusoidal_gait: Finite = 1.5
    """Reward for pitch joints that follow the phase-clocked reference, legs in antiphase."""
    foot_alternation: Finite = 1.0
    """Reward for a touchdown of the other foot than last time, after a swing of valid length."""
    contact_schedule: Finite = 4.0
    """Reward while exactly those feet are on the ground that the phase clock prescribes."""
    standing_still: Finite = 1.0
    """Reward for both feet on the ground while the command is to stand."""
    height_maintenance: Finite = -10.0
    """Penalty for the base's height deviating from its target."""
    torso_stability: Finite = -2.0
    """Penalty for a tilted or rocking base."""
    lin_vel_z: Finite = -1.0
    """Penalty for vertical motion of the base."""
    action_rate: Finite = -0.01
    """Penalty for actions that change quickly."""
    similar_to_default: Finite = -0.05
    """Penalty for hip roll and torso yaw away from the default pose."""
    feet_apart: Finite = 0.0
    """Penalty for feet that are closer to each other, sideways, than `reward.feet_apart_m`; 0: off."""
    foot_slip: Finite = -0.1
    """Penalty for feet that slide while on the ground."""
    imitation: Finite = 0.0
    """Reward for joints that are where the clip of `env.imitation` has them; 0: off."""
    actuator_constraint: Finite = -0.2
    """Penalty for torque beyond what the servo has at its speed."""
    fall_penalty: Finite = -2.0
    """Penalty per fall, not per second."""


@section
class RewardConfig(Section):
    """Weights of the reward terms, and the shape parameters of some of them."""

    weights: RewardWeights = RewardWeights()
    """Weight of each reward term."""
    lin_vel_x_scale_m_s: Positive = 0.25
    """Scale of exp(-|error| / scale) for the forward velocity (m/s)."""
    lin_vel_y_scale_m_s: Positive = 0.1
    """Scale of exp(-|error| / scale) for the velocity to the left (m/s)."""
    ang_vel_scale_rad_s: Positive = 0.4
    """Scale of exp(-|error| / scale) for the yaw rate (rad/s)."""
    gait_variance_rad2: Positive = 0.25
    """Width of exp(-Σ error² / width) for the six pitch joints (rad²)."""
    gait_full_pay_progress: Positive = 0.5
    """Share of the commanded velocity from which the gait term pays fully; below it the pay falls to 0 at rest."""
    target_height_m: Positive = 0.40
    """Target of the base height for `height_maintenance` (m)."""
    feet_apart_m: Positive = 0.2
    """Sideways distance between the feet from which `feet_apart` costs nothing (m)."""
    rocking_scale_s2: NotNegative = 0.01
    """Weight of the squared roll and pitch rates relative to the squared tilt in `torso_stability` (s²)."""


@section
class TerminationConfig(Section):
    """Conditions that end an episode."""

    min_base_height_m: Positive = 0.30
    """Base height below which the robot has fallen (m)."""
    max_tilt_rad: Annotated[float, Field(ge=0, le=3.2)] = math.pi / 4
    """Angle between the base's z axis and vertical beyond which the robot has fallen (rad)."""
    episode_s: Annotated[float, Field(ge=0.1, le=3600)] = 20.0
    """Time limit of an episode; reaching it counts as truncation, not as failure (s)."""


@section
class ResetConfig(Section):
    """The state in which an episode starts."""

    joint_noise_rad: NotNegative = 0.05
    """Joint positions start within ± this value of the default pose (rad)."""
    clearance_m: NotNegative = 0.005
    """Height added to the default pose, so that noisy joint positions never start a foot in the ground (m)."""


@section
class EnvConfig(Section):
    """The environment: robot, simulation and task."""

    num_envs: Annotated[int, Field(ge=1, le=10_000_000)] = 1024
    """Number of environments simulated in parallel."""
    robot: RobotConfig = RobotConfig()
    """The robot: model file, joints, default pose and gains."""
    sim: SimConfig = SimConfig()
    """The simulation: time steps and solver."""
    control: ControlConfig = ControlConfig()
    """The conversion of actions to joint targets."""
    command: CommandConfig = CommandConfig()
    """Velocity commands that the robot is to follow."""
    gait: GaitConfig = GaitConfig()
    """The phase clock, the joint reference, and the definition of a step."""
    reward: RewardConfig = RewardConfig()
    """Reward terms: weights and shapes."""
    imitation: ImitationConfig = ImitationConfig()
    """A stride to follow."""
    termination: TerminationConfig = TerminationConfig()
    """Conditions that end an episode."""
    observation: ObservationConfig = ObservationConfig()
    """Observations of actor and critic."""
    reset: ResetConfig = ResetConfig()
    """The state in which an episode starts."""
    randomization: RandomizationConfig = RandomizationConfig()
    """Variation of robots, ground and sensors, so that the policy does not rely on the exact model."""

    def __post_init__(self) -> None:
        if self.follows_clip and not self.imitation.motion:
            raise ConfigError("imitation is wanted, but env.imitation.motion names no clip to follow")

    @property
    def follows_clip(self) -> bool:
        """Whether the clip of `imitation` is rewarded or ends episodes."""
        return self.reward.weights.imitation != 0.0 or self.imitation.max_error_rad > 0.0
