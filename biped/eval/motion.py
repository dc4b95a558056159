"""Clips from recordings and from the gait's reference, and how far a policy's motion is from a clip."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from biped.base.errors import UsageError
from biped.config.task import EnvConfig
from biped.eval.recording import Recording
from biped.mdp.gait import GaitReference
from biped.robot.motion import SHORTEST, Motion

Array = NDArray[np.float64]


def motion_of(record: Recording, joint_names: Sequence[str], robot: int, start_s: float, length_s: float) -> Motion:
    """Return a part of an episode as a clip that begins at the origin, heading along x.

    Args:
        record: the recording.
        joint_names: names of its joints.
        robot: which of its episodes.
        start_s: where the clip begins (s).
        length_s: how long it is (s).

    Raises:
        UsageError: the episode ended before the end of the clip.
    """
    first, count = round(start_s / record.dt_s), round(length_s / record.dt_s) + 1
    part = slice(first, first + count)
    lasted = int(record.running[:, robot].sum())
    if count < SHORTEST:
        raise UsageError(f"a clip of {length_s:.3g} s has {count} frames, and {SHORTEST} are needed")
    if lasted < first + count:
        raise UsageError(
            f"the episode lasts {lasted * record.dt_s:.2f} s, and the clip is to end at {start_s + length_s:.2f} s"
        )
    motion = Motion(
        record.dt_s * np.arange(count, dtype=np.float64),
        record.base_pos_w[part, robot].astype(np.float64),
        record.base_quat_w[part, robot].astype(np.float64),
        tuple(joint_names),
        record.joint_pos_rad[part, robot].astype(np.float64),
    )
    return motion.from_origin()


def mean_stride(
    record: Recording, joint_names: Sequence[str], robot: int, start_s: float, frequency_hz: float
) -> Motion:
    """Return the mean of an episode's strides by the gait clock, as a clip that is a loop: it begins at phase 0.

    Args:
        record: the recording.
        joint_names: names of its joints.
        robot: which of its episodes.
        start_s: from when on strides count (s).
        frequency_hz: strides per second of the gait clock.

    Raises:
        UsageError: there is no whole stride in the rest of the episode.
    """
    lasted = int(record.running[:, robot].sum())
    whole = motion_of(record, joint_names, robot, 0.0, (lasted - 1) * record.dt_s)
    phase = record.phase[:lasted, robot]
    begins = whole.time_s[1:] - phase[1:] / frequency_hz
    begins = begins[(np.diff(phase) < 0.0) & (begins >= start_s) & (begins + 1.0 / frequency_hz <= whole.length_s)]
    if not len(begins):
        raise UsageError(f"there is no whole stride after {start_s:.2f} s of {lasted * record.dt_s:.2f} s")
    count = round(1.0 / (frequency_hz * record.dt_s)) + 1
    times = np.linspace(0.0, 1.0 / frequency_hz, count)
    strides = [whole.at(begin + times).from_origin() for begin in begins]
    joints = np.mean([stride.joint_pos_rad for stride in strides], axis=0)
    joints -= np.linspace(-0.5, 0.5, count)[:, None] * (joints[-1] - joints[0])
    quats = np.mean([stride.base_quat_w for stride in strides], axis=0)
    return Motion(
        times,
        np.mean([stride.base_pos_w for stride in strides], axis=0),
        quats / np.linalg.norm(quats, axis=1, keepdims=True),
        tuple(joint_names),
        joints,
    )


def reference_motion(cfg: EnvConfig, velocity_m_s: float, length_s: float) -> Motion:
    """Return the sinusoidal reference of the gait as a clip: upright, straight ahead, at the default height.

    Raises:
        ConfigError: the robot lacks a joint that the gait moves.
    """
    robot, dt_s = cfg.robot, cfg.sim.control_dt_s
    times = np.linspace(0.0, length_s, max(SHORTEST, round(length_s / dt_s) + 1))
    reference = GaitReference.build(cfg.gait, robot, torch.device("cpu"))
    phase = torch.tensor(np.mod(times * cfg.gait.frequency_hz, 1.0), dtype=torch.float32)
    joints = np.tile(np.array(robot.default_joint_pos_rad), (len(times), 1))
    joints[:, reference.joint_indices.numpy()] = reference.at(phase).numpy()
    pos = np.zeros((len(times), 3))
    pos[:, 0], pos[:, 2] = velocity_m_s * times, robot.default_base_height_m
    return Motion(times, pos, np.tile((1.0, 0.0, 0.0, 0.0), (len(times), 1)), robot.joint_names, joints)


def warped_distance(wanted: Array, done: Array) -> float:
    """Return how far a motion is from any part of another one, if each may run faster or slower in between.

    Dynamic time warping with free ends in `done` (Müller 2007, "Information Retrieval for Music and Motion", section
    4.4): the smallest sum of distances along a path through both, over the length of `wanted`.

    Args:
        wanted: the clip, (T,), in any unit.
        done: the motion, (N,), in the same unit.
    """
    costs = np.abs(wanted[:, None] - done[None, :])
    best = costs[0]
    for row in costs[1:]:
        above = np.minimum(best, np.concatenate(([np.inf], best[:-1])))
        # best'[j] = row[j] + min(above[j], best'[j - 1]), for all j at once.
        sums = np.cumsum(row)
        best = sums + np.minimum.accumulate(above - (sums - row))
    return float(best.min() / len(wanted))


def distances_rad(clip: Motion, done: Motion) -> dict[str, float]:
    """Return `warped_distance` of each joint of a clip to a motion at the same rate, rad.

    Raises:
        UsageError: a joint is missing.
    """
    done = done.of_joints(clip.joint_names)
    return {
        name: warped_distance(clip.joint_pos_rad[:, joint], done.joint_pos_rad[:, joint])
        for joint, name in enumerate(clip.joint_names)
    }
