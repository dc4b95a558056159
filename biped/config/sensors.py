"""Errors of an IMU and of the encoders in servos."""

from biped.config.section import CountOrNone, Fraction, NotNegative, Positive, Section, section


@section
class ImuConfig(Section):
    """Errors of an IMU and of the filter that estimates gravity from it; drawn for each episode."""

    gyro_bias_rad_s: NotNegative = 0.0
    """Constant error of each gyroscope axis, drawn within ± this value (rad/s)."""
    mounting_rad: NotNegative = 0.0
    """Rotation of the IMU relative to the base about each axis, drawn within ± this value (rad)."""
    tilt_drift_rad: NotNegative = 0.0
    """Standard deviation of the filter's slowly drifting error about each axis (rad)."""
    tilt_drift_s: Positive = 2.0
    """Time constant of that drift (s)."""
    late_share: Fraction = 0.0
    """Share of the episodes in which the IMU is read one control step late."""


@section
class EncoderConfig(Section):
    """Errors of the encoders in the servos, and of the velocities that the servos compute from them."""

    counts_per_turn: CountOrNone = 0
    """Encoder positions per turn; 0: continuous."""
    play_rad: NotNegative = 0.0
    """Backlash between a joint and the encoder's shaft (rad)."""
    servo_velocity: bool = False
    """Use the servo's velocity: differences of its positions, smoothed, one sample late; if false, the joint's own."""
    velocity_smoothing: Fraction = 0.0
    """Share of the smoothed velocity that is kept at each sample; 0: no smoothing."""
    late_share: Fraction = 0.0
    """Share of the episodes in which the encoders are read one control step late."""
