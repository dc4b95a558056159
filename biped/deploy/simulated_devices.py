"""What else is on a simulated robot: an IMU on a serial line, and a tape of where the robot really is.

Each is a `biped.deploy.simulated_process.Device`. What they know of the robot comes from `biped.sim.mujoco_servos`.
"""

import struct
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from biped.deploy.wiring import mount

GRAVITY_M_S2 = 9.81
_LARGEST = 32767
_LARGEST_CATCH_UP = 4


class Base(Protocol):
    """What an ideal IMU says; see `biped.sim.mujoco_servos.BaseReading`."""

    @property
    def specific_force_b(self) -> NDArray[np.float64]:
        """Acceleration less gravity, in the base frame, (3,), m/s²."""
        ...

    @property
    def ang_vel_b(self) -> NDArray[np.float64]:
        """Angular velocity in the base frame, (3,), rad/s."""
        ...


def wit_frames(acceleration_g: NDArray[np.float64], ang_vel_deg_s: NDArray[np.float64]) -> bytes:
    """Return WitMotion's frames of acceleration (3,), g, and angular velocity (3,), degrees per second.

    See `biped.deploy.imu.WitDecoder` for the format and its source.
    """
    return _frame(0x51, acceleration_g / 16.0) + _frame(0x52, ang_vel_deg_s / 2000.0)


def _frame(kind: int, shares: NDArray[np.float64]) -> bytes:
    words = np.clip(np.rint(shares * (_LARGEST + 1)), -_LARGEST - 1, _LARGEST).astype(int)
    body = struct.pack("<BB4h", 0x55, kind, *words, 2500)
    return body + bytes([sum(body) & 0xFF])


@dataclass
class WitSensor:
    """An IMU with noise and a bias, mounted anyhow, that sends WitMotion's frames."""

    axes: str = "+x+y+z"
    """Which of its axes point forward, left and up; see `biped.deploy.wiring.mount`."""
    rate_hz: float = 200.0
    """How often it measures (Hz)."""
    acceleration_noise_g: float = 0.004
    """Standard deviation (g): an MPU-6050's 400 µg/√Hz over 100 Hz (InvenSense PS-MPU-6000A)."""
    ang_vel_noise_deg_s: float = 0.05
    """Standard deviation (degrees per second): an MPU-6050's 0.005 °/s/√Hz over 100 Hz."""
    bias_deg_s: tuple[float, float, float] = (0.3, -0.2, 0.1)
    """What the gyroscope says at rest (degrees per second)."""
    seed: int = 0
    """Seed of the noise."""
    _next_s: float = 0.0
    _dice: np.random.Generator = field(init=False)
    _to_base: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        """Seed the noise."""
        self._dice, self._to_base = np.random.default_rng(self.seed), mount(self.axes)

    def due(self, now_s: float, plant: Any) -> bytes:
        """Return the frames that are due; see `Device.due`."""
        if now_s < self._next_s:
            return b""
        self._next_s = max(self._next_s + 1.0 / self.rate_hz, now_s - _LARGEST_CATCH_UP / self.rate_hz)
        base: Base = plant.base()
        force_g = self._to_base.T @ base.specific_force_b / GRAVITY_M_S2
        turn_deg_s = np.degrees(self._to_base.T @ base.ang_vel_b) + self.bias_deg_s
        return wit_frames(
            force_g + self.acceleration_noise_g * self._dice.normal(size=3),
            turn_deg_s + self.ang_vel_noise_deg_s * self._dice.normal(size=3),
        )


@dataclass(frozen=True)
class Track:
    """Where a simulated robot was, a row every control step."""

    time_s: NDArray[np.float64]
    """Time since it began, (num_steps,), s."""
    pos_w: NDArray[np.float64]
    """Position of the base, (num_steps, 3), m."""
    quat: NDArray[np.float64]
    """Orientation of the base, (num_steps, 4), wxyz."""
    feet_down: NDArray[np.bool_]
    """Feet on the ground, left, right, (num_steps, 2)."""
    joint_pos_rad: NDArray[np.float64]
    """Joint positions, (num_steps, num_joints), rad."""

    def last(self, steps: int) -> "Track":
        """Return its last rows."""
        return Track(*(getattr(self, item.name)[-steps:] for item in fields(self)))

    def how_it_walked(self, max_tilt_rad: float) -> str:
        """Return in one line how the robot walked.

        Args:
            max_tilt_rad: tilt past which it has fallen (rad).
        """
        _, x, y, _ = self.quat.T
        tilt = np.arccos(np.clip(1.0 - 2.0 * (x * x + y * y), -1.0, 1.0)).max()
        length_m = float(np.linalg.norm(np.diff(self.pos_w[:, :2], axis=0), axis=1).sum())
        how = "fell" if tilt > max_tilt_rad else "on its feet"
        spent_s = self.time_s[-1] - self.time_s[0]
        return f"{how}: {length_m:.2f} m along its path in {spent_s:.1f} s, tilted by {tilt:.2f} rad at most"


@dataclass
class Tape:
    """Writes down where the robot is, for a film and for judging how it walked; it sends nothing."""

    dt_s: float = 0.02
    """Time between two rows (s)."""
    _next_s: float = 0.0

    def due(self, now_s: float, plant: Any) -> bytes:
        """Add a row to the plant's `tape`; see `Track`."""
        if not hasattr(plant, "tape"):
            plant.tape = []
        if now_s >= self._next_s:
            self._next_s = max(self._next_s, now_s - self.dt_s) + self.dt_s
            base = plant.base()
            plant.tape.append((now_s, base.pos_w, base.quat, plant.feet_down, plant.pos_rad))
        return b""
