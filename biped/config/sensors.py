"""What an IMU and the encoders of servos get wrong."""

from biped.config.section import CountOrNone, Fraction, NotNegative, Positive, Section, section


@section
class ImuConfig(Section):
    """An IMU and the filter that finds gravity with it; errors are drawn for each episode."""

    gyro_bias_rad_s: NotNegative = 0.0
    """Constant error of each axis of the gyroscope, within ± this (rad/s)."""
    mounting_rad: NotNegative = 0.0
    """How far the IMU is turned against the base about each axis, within ± this (rad)."""
    tilt_drift_rad: NotNegative = 0.0
    """Standard deviation of the filter's error about each axis, which wanders (rad)."""
    tilt_drift_s: Positive = 2.0
    """How long that error takes to become another (s)."""
    late_share: Fraction = 0.0
    """Share of the episodes in which the IMU lags a control step behind."""


@section
class EncoderConfig(Section):
    """The encoders in the servos, and the velocity that the servos make of them."""

    counts_per_turn: CountOrNone = 0
    """Positions that an encoder tells apart in a turn; 0: all of them."""
    play_rad: NotNegative = 0.0
    """Play between a joint and the encoder's shaft (rad)."""
    servo_velocity: bool = False
    """Velocities are the servo's: differences of its positions, smoothed, a sample late; else the joint's own."""
    velocity_smoothing: Fraction = 0.0
    """Share of the smoothed velocity that stays at each sample; 0 for no smoothing."""
    late_share: Fraction = 0.0
    """Share of the episodes in which the encoders lag a control step behind."""
