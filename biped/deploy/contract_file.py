"""Reads a policy's contract from its ONNX file, without torch: what a robot's computer needs to know.

`docs/export.md` documents the fields.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biped.base.errors import UsageError

FORMAT, VERSION = "biped-policy-contract", 2
"""Name and version of the JSON format; the version rises when a field changes its meaning or is removed."""
METADATA_KEY = "contract"
"""Key of the JSON in the ONNX file's metadata."""

_DAMAGE = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError)
"""What reading a JSON of the wrong shape raises; the last two: numbers without end, and lists within lists."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Term:
    """One part of the observation."""

    name: str
    """Such as joint_pos_rad."""
    where: slice
    """Its place in the observation."""
    scale: float
    """Factor on the physical value."""


@dataclass(frozen=True)
class CommandRule:
    """Which commands the policy knows."""

    ranges: Array
    """Smallest and largest command, (3, 2): forward m/s, left m/s, counter-clockwise rad/s."""
    turning_lever_m: float
    """What a yaw rate counts against a speed (m)."""
    moving_threshold_m_s: float
    """Size of a command below which it means: stand still (m/s)."""

    def as_text(self) -> str:
        """Return the ranges for a person."""
        names = ("forward", "left", "turning")
        return ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in zip(names, self.ranges, strict=True))

    def followed(self, command: Sequence[float] | Array) -> Array:
        """Return the command that the policy gets, (3,): within its ranges, and zero where it is too small."""
        wanted = np.clip(np.asarray(command, float), *self.ranges.T)
        size = np.linalg.norm(wanted * (1.0, 1.0, self.turning_lever_m))
        return wanted if size >= self.moving_threshold_m_s else np.zeros(3)


@dataclass(frozen=True)
class MotorRow:
    """The motor of one joint, as the policy was trained with it."""

    joint: str
    """Name of the joint."""
    default_rad: float
    """Position in the default pose (rad)."""
    kp_nm_per_rad: float
    """Proportional gain (N·m/rad)."""
    kd_nm_s_per_rad: float
    """Derivative gain (N·m·s/rad)."""
    torque_limit_nm: float
    """Largest torque (N·m)."""
    velocity_limit_rad_s: float
    """Speed without load (rad/s)."""
    servo: str
    """Name of the servo in the library; empty where the robot's file has none."""
    direction: str = ""
    """What a person sees when the joint turns in its positive direction; empty in a contract that does not say it."""


@dataclass(frozen=True)
class PolicyContract:
    """A contract, read and checked; `raw` has all of it."""

    raw: Mapping[str, Any]
    """The JSON as it is in the file."""
    sha256: str
    """Hash of the ONNX file, in hexadecimal; empty where the contract came without one."""
    width: int
    """How many numbers an observation has."""
    terms: tuple[Term, ...]
    """Its parts, in order."""
    clip: float
    """What observations are clipped to."""
    motors: tuple[MotorRow, ...]
    """One per joint, in the order of actions."""
    action_scale_rad: float
    """Joint target = default pose + scale * action (rad)."""
    dt_s: float
    """Time between two actions (s)."""
    frequency_hz: float
    """Strides per second of the gait clock."""
    command: CommandRule
    """Which commands the policy knows."""
    memory_shapes: tuple[tuple[int, ...], ...]
    """Shapes of h and c."""
    max_held_steps: int
    """How many steps in a row may be held; see `policy.non_finite`."""
    max_tilt_rad: float
    """Tilt past which training called it a fall (rad)."""

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names of the joints, in the order of actions."""
        return tuple(motor.joint for motor in self.motors)

    @property
    def default_pose_rad(self) -> Array:
        """The default pose, (num_joints,), rad."""
        return np.array([motor.default_rad for motor in self.motors])

    @classmethod
    def of(cls, raw: Mapping[str, Any], sha256: str = "") -> "PolicyContract":
        """Read a contract's JSON.

        Raises:
            UsageError: it is of another format or version, damaged, or asks for what no sensor measures.
        """
        try:
            _check_kind(raw)
            contract = cls._read(raw, sha256)
            float(raw["action"]["clip"] or 1.0)
            sensors = {name: tuple(map(str, raw["sensors"][name])) for name in ("needed", "not_measured")}
        except _DAMAGE as error:
            raise UsageError(f"the contract is damaged ({error!r}): export the policy anew") from error
        if missing := sensors["not_measured"]:
            raise UsageError(
                f"the policy observes {', '.join(missing)}, which no sensor of a robot measures: train one with "
                "env.observation.policy=measured"
            )
        return contract

    @classmethod
    def _read(cls, raw: Mapping[str, Any], sha256: str) -> "PolicyContract":
        observation, action, motors, command = raw["observation"], raw["action"], raw["motors"], raw["command"]
        names = ("kp_nm_per_rad", "kd_nm_s_per_rad", "torque_limit_nm", "velocity_limit_rad_s", "servo")
        # New in 0.19: contracts of before do not have it.
        directions = action.get("positive_directions") or [""] * len(action["joint_names"])
        columns = (action["joint_names"], action["default_pose_rad"], *(motors[name] for name in names), directions)
        return cls(
            raw=raw,
            sha256=sha256,
            width=int(observation["width"]),
            terms=tuple(
                Term(term["name"], slice(term["start"], term["start"] + term["width"]), float(term["scale"]))
                for term in observation["terms"]
            ),
            clip=float(observation["clip"]),
            motors=tuple(MotorRow(*row) for row in zip(*columns, strict=True)),
            action_scale_rad=float(action["scale_rad"]),
            dt_s=float(raw["control"]["dt_s"]),
            frequency_hz=float(raw["gait_clock"]["frequency_hz"]),
            command=CommandRule(
                np.array(command["ranges"], float),
                float(command["turning_lever_m"]),
                float(command["moving_threshold_m_s"]),
            ),
            memory_shapes=tuple(tuple(part["shape"]) for part in raw["policy"]["inputs"][1:]),
            max_held_steps=int(raw["policy"]["non_finite"]["max_held_steps"]),
            max_tilt_rad=float(raw["fallen"]["max_tilt_rad"]),
        )


def _check_kind(raw: Mapping[str, Any]) -> None:
    if not isinstance(raw, Mapping) or raw.get("format") != FORMAT:
        raise UsageError(f"the file's metadata is no {FORMAT}: export the policy with biped_export.py")
    if raw.get("version") != VERSION:
        raise UsageError(
            f"the contract is of version {raw.get('version')!r}, and this program understands version {VERSION}: "
            "export the policy anew"
        )


def contract_in(metadata: Mapping[str, str], content: bytes, file: Path) -> PolicyContract:
    """Return the contract from an ONNX file's metadata.

    Args:
        metadata: the file's key-value pairs.
        content: the file, for its hash.
        file: its name, for messages.

    Raises:
        UsageError: there is no contract, or none that this program understands.
    """
    text = metadata.get(METADATA_KEY)
    if not text:
        raise UsageError(f"{file} has no contract in its metadata: export the policy with biped_export.py")
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the contract in {file} is not JSON: export the policy anew") from error
    try:
        return PolicyContract.of(raw, hashlib.sha256(content).hexdigest())
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from error
