"""Clips as data sets and other trainers publish them, which name their joints elsewhere or nowhere.

- A CSV without a header, as of LAFAN1 retargeted to Unitree's robots: x, y, z (m), the quaternion with w last, and the
  joints (rad) in the order of the robot's model; its rate is in the data set's description.
- An NPZ of Isaac Lab's tasks: `fps`, `dof_names`, `dof_positions`, `body_positions`, `body_rotations` (w first).
- An NPZ of trackers such as BeyondMimic and mjlab: `fps`, `joint_pos`, `body_pos_w`, `body_quat_w` (w first).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from biped.robot.motion import POSITION, ROTATION, TIME, Array, Motion, checked
from biped.robot.motion_files import PARTS, arrays_of, names_of, numbers_of, read_file, rows_of, table_of

_BASE = len(POSITION) + len(ROTATION)
"""Columns of a CSV before those of the joints."""
_JOINTS, _BODIES, _TURNS = (
    ("dof_positions", "joint_pos"),
    ("body_positions", "body_pos_w"),
    ("body_rotations", "body_quat_w"),
)
"""Arrays of an NPZ by any of their names: (T, J), (T, bodies, 3) and (T, bodies, 4)."""
_FASTEST_HZ = 10_000.0
"""Frames per second beyond which a rate is a mistake."""
_OURS = "it names its columns: the other commands read it as it is"


@dataclass(frozen=True)
class Origin:
    """What a published clip does not say itself."""

    joint_names: Sequence[str] | None
    """Names of its joints in their order; None: the file has them."""
    model_joints: Sequence[str]
    """The joints of the robot's model in their order, for a CSV, which names none."""
    rate_hz: float | None
    """Frames per second; None: the file says it."""
    w_first: bool = False
    """Whether the quaternions of a CSV begin with w."""
    base_link: str = ""
    """The base, where a file names its bodies; in others, and where none has this name, it is the first."""


def read_published(file: Path, origin: Origin) -> Motion:
    """Read a published clip.

    Raises:
        UsageError: the file is missing or none, or what `origin` says does not fit; the message says what is wrong.
        MachineError: it cannot be read.
    """

    def read(content: bytes) -> Motion:
        is_npz = file.suffix.lower() == ".npz"
        return checked(_from_npz(content, origin) if is_npz else _from_csv(content.decode("utf-8-sig"), origin))

    return read_file(file, read, f"there is no file {file}", "no published motion")


def _from_csv(text: str, origin: Origin) -> Motion:
    rows = rows_of(text)
    if rows and TIME in (name.strip() for name in rows[0]):
        raise ValueError(_OURS)
    columns = [f"column {number}" for number in range(1, len(rows[0]) + 1)] if rows else []
    table = table_of(rows, columns, first_row=1)
    if table.shape[1] <= _BASE:
        raise ValueError(f"its rows have {table.shape[1]} values: {_BASE} of the base and those of joints are needed")
    turned = table[:, len(POSITION) : _BASE]
    quats = turned if origin.w_first else np.roll(turned, 1, axis=1)
    return _motion(table[:, : len(POSITION)], quats, table[:, _BASE:], origin)


def _from_npz(content: bytes, origin: Origin) -> Motion:
    file = arrays_of(content)
    if set(PARTS) <= set(file):
        raise ValueError(_OURS)
    if missing := [names for names in (_JOINTS, _BODIES, _TURNS) if not set(names) & set(file)]:
        raise ValueError(f"it has no array {' or '.join(missing[0])}")
    if origin.w_first:
        raise ValueError("--wxyz is for a CSV: the quaternions of an NPZ begin with w")
    joints, bodies, turns = (
        numbers_of(next(file[name] for name in names if name in file)) for names in (_JOINTS, _BODIES, _TURNS)
    )
    rate = float(numbers_of(file["fps"]).reshape(())) if "fps" in file else None
    names, links = (names_of(file[name]) if name in file else () for name in ("dof_names", "body_names"))
    if joints.ndim != 2 or bodies.shape[2:] != (3,) or turns.shape[2:] != (4,):
        raise ValueError(f"its arrays are {joints.shape}, {bodies.shape} and {turns.shape}")
    if not len(joints) == len(bodies) == len(turns):
        raise ValueError(f"its arrays have {len(joints)}, {len(bodies)} and {len(turns)} frames")
    base = links.index(origin.base_link) if origin.base_link in links else 0
    if base >= min(bodies.shape[1], turns.shape[1]):
        raise ValueError(f"its arrays have {bodies.shape[1]} and {turns.shape[1]} bodies")
    pos, quats = bodies[:, base], turns[:, base]
    if not (names or origin.joint_names):  # Isaac's joints are in another order than the model's
        raise ValueError("it names no joints: name them in the trainer's order with --joints")
    return _motion(pos, quats, joints, origin, names, rate)


def _motion(
    pos: Array, quats: Array, joints: Array, origin: Origin, names: Sequence[str] = (), rate_hz: float | None = None
) -> Motion:
    """Return the clip; `names` of joints and `rate_hz` are what the file says, and `origin` goes before them."""
    rate_hz = origin.rate_hz or rate_hz
    if rate_hz is None:
        raise ValueError("it does not say its rate: add --fps, from the data set's description")
    if not 1.0 <= rate_hz <= _FASTEST_HZ:
        raise ValueError(
            f"its rate is {rate_hz:g} frames per second: between 1 and {_FASTEST_HZ:g} are known, see --fps"
        )
    source = "--joints" if origin.joint_names else "the file" if names else "the robot's model"
    names = tuple(origin.joint_names or names or origin.model_joints)
    if len(names) != joints.shape[1]:
        remedy = "" if origin.joint_names else ": name its joints in their order with --joints"
        raise ValueError(f"it has {joints.shape[1]} joints, and {source} names {len(names)}{remedy}")
    return Motion(np.arange(len(joints)) / rate_hz, pos, quats, names, joints)
