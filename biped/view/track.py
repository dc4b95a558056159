"""A film of a simulated robot on its servos."""

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from biped.config.run import Config
from biped.eval.recording import Recording
from biped.view.film import film

Array = NDArray[np.float64]


class Track(Protocol):
    """Where the robot was; see `biped.deploy.simulated_devices.Track`."""

    @property
    def pos_w(self) -> Array:
        """Position of the base, (num_steps, 3), m."""
        ...

    @property
    def quat(self) -> Array:
        """Orientation of the base, (num_steps, 4), wxyz."""
        ...

    @property
    def feet_down(self) -> NDArray[np.bool_]:
        """Feet on the ground, left, right, (num_steps, 2)."""
        ...

    @property
    def joint_pos_rad(self) -> Array:
        """Joint positions, (num_steps, num_joints), rad."""
        ...


def film_track(track: Track, command: Array, phase: Array, config: Config, out: Path) -> None:
    """Draw where a robot was.

    Args:
        track: a row per control step.
        command: the command, (3,): forward m/s, left m/s, counter-clockwise rad/s.
        phase: the gait clock in each row, (num_steps,), from 0 to 1.
        config: configuration of the robot.
        out: path of the film, .gif or .mp4.

    Raises:
        MachineError: nothing here can draw, or the disk refuses the file.
    """
    film(recording_of(track, command, phase, config.env.sim.control_dt_s), config, out, flag="--film")


def recording_of(track: Track, command: Array, phase: Array, dt_s: float) -> Recording:
    """Return a track as the recording of one episode; what a film does not show is zero."""
    steps, joints = track.joint_pos_rad.shape
    lin_vel_b, ang_vel_b = _velocities(track.pos_w, track.quat, dt_s)

    def column(values: Array) -> NDArray[np.float32]:
        return values[:, None].astype(np.float32)

    nothing = np.zeros((steps, 1, joints), np.float32)
    feet = np.zeros((steps, 1, 2, 3), np.float32)
    return Recording(
        dt_s=dt_s,
        mass_kg=0.0,
        command=command[None].astype(np.float32),
        running=np.ones((steps, 1), np.bool_),
        fell=np.zeros(1, np.bool_),
        base_pos_w=column(track.pos_w),
        base_quat_w=column(track.quat),
        base_lin_vel_b=column(lin_vel_b),
        base_ang_vel_b=column(ang_vel_b),
        joint_pos_rad=column(track.joint_pos_rad),
        joint_vel_rad_s=nothing,
        joint_torque_nm=nothing,
        foot_pos_w=feet,
        foot_vel_w=feet,
        contacts=track.feet_down.astype(np.bool_)[:, None],
        phase=column(phase),
        estimate=np.zeros((steps, 1, 0), np.float32),
        rewards=np.zeros((steps, 1, 0), np.float32),
        reward_names=np.array([], np.str_),
    )


def _velocities(pos_w: Array, quat: Array, dt_s: float) -> tuple[Array, Array]:
    """Return velocity in the heading's frame (num_steps, 3), m/s, and the yaw rate as its third number, rad/s."""
    w, x, y, z = quat.T
    yaw = np.unwrap(np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)))
    moved = np.gradient(pos_w, dt_s, axis=0)
    ahead, across = np.cos(yaw), np.sin(yaw)
    forward, left = moved[:, 0] * ahead + moved[:, 1] * across, moved[:, 1] * ahead - moved[:, 0] * across
    turn = np.gradient(yaw, dt_s)
    zero = np.zeros_like(turn)
    return np.column_stack((forward, left, moved[:, 2])), np.column_stack((zero, zero, turn))
