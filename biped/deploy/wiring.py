"""Which servo drives which joint, which way round and from where: the file `wiring.json` of one robot."""

import difflib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biped.base.errors import UsageError, disk_error
from biped.base.files import write_whole
from biped.deploy.dynamixel import LARGEST_GAIN, TICKS_PER_RAD, TICKS_PER_TURN, Array, Ticks

FORMAT, VERSION = "biped-wiring", 1
BAUDS = (57600, 115200, 1000000, 2000000, 3000000, 4000000)
"""Rates that both the servos and ROBOTIS' package know (bit/s)."""
LARGEST_ID = 252
_LARGEST = 1e9
"""No number of a wiring comes near it; Python's whole numbers have no end, and 1e308 becomes infinite in a sum."""


@dataclass(frozen=True)
class JointWiring:
    """The servo of one joint."""

    joint: str
    """Name of the joint, as in the contract."""
    id: int
    """ID of the servo on the bus."""
    direction: int
    """1 if the joint's angle grows as the servo's ticks do, else -1."""
    zero_tick: int
    """Position of the servo at which the joint is at 0 rad."""
    lower_rad: float
    """Lowest angle that the joint is driven to (rad)."""
    upper_rad: float
    """Highest angle that the joint is driven to (rad)."""
    position_p: int | None = None
    """The servo's P gain register; None: converted from the contract. To keep what `identify` has measured."""
    position_d: int | None = None
    """The servo's D gain register; None: converted from the contract."""

    def tick(self, angle_rad: float) -> int:
        """Return the servo's position at an angle of the joint."""
        return round(self.zero_tick + self.direction * angle_rad * TICKS_PER_RAD)

    @property
    def tick_limits(self) -> tuple[int, int]:
        """Lowest and highest position of the servo."""
        low, high = sorted((self.tick(self.lower_rad), self.tick(self.upper_rad)))
        return low, high


def mount(axes: str) -> Array:
    """Return the rotation (3, 3) from the sensor's frame into the base frame.

    Args:
        axes: which of the sensor's axes point forward, left and up, such as "+x+y+z" or "+y-x+z".

    Raises:
        UsageError: it is none, or a left-handed one, which no mounting has.
    """
    rotation = np.zeros((3, 3))
    if len(axes) == 6:
        for row, (sign, axis) in enumerate(zip(axes[::2], axes[1::2], strict=True)):
            if sign in "+-" and axis in "xyz":
                rotation[row, "xyz".index(axis)] = 1.0 if sign == "+" else -1.0
    if not math.isclose(np.linalg.det(rotation), 1.0):
        raise UsageError(
            f"imu.axes: {axes!r} is no mounting: name the sensor's axes that point forward, left and up, such as +x+y+z"
        )
    return rotation


@dataclass(frozen=True)
class ImuWiring:
    """Where the IMU is, and how it is mounted."""

    source: str
    """Its serial line, such as /dev/ttyUSB1; or ros2:TOPIC for a driver of ROS 2."""
    axes: str = "+x+y+z"
    """Which of its axes point forward, left and up; see `mount`. A ROS 2 driver has turned them."""
    baud: int = 230400
    """Speed of the line (bit/s)."""
    rate_hz: float = 200.0
    """How often it is set to measure (Hz)."""

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            UsageError: the axes are no mounting.
        """
        mount(self.axes)

    @classmethod
    def of(cls, raw: Any) -> "ImuWiring":
        """Read the entry `imu`.

        Raises:
            UsageError: a word is missing, unknown or of the wrong kind, or the axes are no mounting.
        """
        if not isinstance(raw, Mapping):
            raise UsageError("imu must have names and values")
        _exactly({**asdict(cls("")), **raw}, [item.name for item in fields(cls)], "imu.")
        kinds: Mapping[str, Any] = {"source": str, "axes": str, "baud": int, "rate_hz": (int, float)}
        read = cls(**{name: typed(value, kinds[name], f"imu.{name}") for name, value in raw.items()})
        if read.baud <= 0 or not 10.0 <= read.rate_hz <= 10_000.0:
            raise UsageError("imu.baud must be above 0, and imu.rate_hz from 10 to 10000")
        return read


@dataclass(frozen=True)
class Wiring:
    """The servos of a robot, one entry per joint."""

    port: str
    """Device of the bus, such as /dev/ttyUSB0."""
    baud: int
    """Its rate (bit/s)."""
    joints: tuple[JointWiring, ...]
    """One per joint."""
    imu: ImuWiring | None = None
    """The IMU; None where the file does not say."""

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            UsageError: an ID is there twice, or a number cannot be.
        """
        _check(self)

    @property
    def ids(self) -> tuple[int, ...]:
        """IDs, in the order of the joints."""
        return tuple(joint.id for joint in self.joints)

    @property
    def directions(self) -> Array:
        """Directions, (num_joints,), 1 or -1."""
        return np.array([joint.direction for joint in self.joints], float)

    @property
    def zero_ticks(self) -> Array:
        """Positions at 0 rad, (num_joints,), ticks."""
        return np.array([joint.zero_tick for joint in self.joints], float)

    @property
    def limits_rad(self) -> tuple[Array, Array]:
        """Lowest and highest angles, (num_joints,), rad."""
        return np.array([j.lower_rad for j in self.joints]), np.array([j.upper_rad for j in self.joints])

    def to_rad(self, ticks: NDArray[Any]) -> Array:
        """Return the angles of joints (num_joints,), rad, at positions of servos; NaN stays NaN."""
        return self.directions * (np.asarray(ticks, float) - self.zero_ticks) / TICKS_PER_RAD

    def to_ticks(self, angles_rad: Array) -> Ticks:
        """Return positions of servos (num_joints,) for angles of joints, (num_joints,), rad, within the limits.

        Raises:
            ValueError: an angle is not finite.
        """
        if not np.isfinite(angles_rad).all():
            raise ValueError("an angle is not finite")
        angles = np.clip(angles_rad, *self.limits_rad)
        return np.rint(self.zero_ticks + self.directions * angles * TICKS_PER_RAD).astype(np.int64)

    def ordered(self, names: Sequence[str]) -> "Wiring":
        """Return it with the joints in another order, such as a contract's.

        Raises:
            UsageError: these are not its joints.
        """
        known = {joint.joint: joint for joint in self.joints}
        for name in known:
            if name not in names:
                raise UsageError(f"the wiring has a joint {name}, and the policy has none{suggestion(name, names)}")
        if missing := [name for name in names if name not in known]:
            raise UsageError(f"the wiring has no servo for {', '.join(missing)}: run biped_run.py --wire")
        return replace(self, joints=tuple(known[name] for name in names))

    def imu_with(self, source: str | None, axes: str | None) -> ImuWiring:
        """Return where the IMU is; what is given comes before what the file says.

        Raises:
            UsageError: neither says it, or the axes are no mounting.
        """
        imu = self.imu if source is None else ImuWiring(source)
        if imu is None:
            raise UsageError("the wiring names no IMU: name it with --imu /dev/ttyUSB1, or as imu in the file")
        return imu if axes is None else replace(imu, axes=axes)

    def as_json(self) -> dict[str, Any]:
        """Return what the file has."""
        known = [{name: value for name, value in asdict(joint).items() if value is not None} for joint in self.joints]
        raw = {"format": FORMAT, "version": VERSION, "port": self.port, "baud": self.baud, "joints": known}
        return raw if self.imu is None else {**raw, "imu": asdict(self.imu)}

    def save(self, path: Path) -> None:
        """Write the file completely or not at all.

        Raises:
            MachineError: the disk refuses the write.
        """
        try:
            write_whole(path, (json.dumps(self.as_json(), indent=2) + "\n").encode())
        except OSError as error:
            raise disk_error(path, error, "--wiring") from error

    @classmethod
    def load(cls, path: Path) -> "Wiring":
        """Read a file.

        Raises:
            UsageError: it is missing, or not a wiring in each of its words.
        """
        raw = read_json(path)
        try:
            return cls.of(raw)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error

    @classmethod
    def of(cls, raw: Any) -> "Wiring":
        """Read the content of a file.

        Raises:
            UsageError: it is not a wiring in each of its words.
        """
        try:
            return cls._of(raw)
        except RecursionError as error:
            raise UsageError("it is no wiring: it has lists within lists without end") from error

    @classmethod
    def _of(cls, raw: Any) -> "Wiring":
        if not isinstance(raw, Mapping) or raw.get("format") != FORMAT:
            raise UsageError("it is no wiring of biped_run.py --wire")
        if raw.get("version") != VERSION:
            raise UsageError(f"it is of version {raw.get('version')!r}, and this program understands version {VERSION}")
        _exactly({"imu": None, **raw}, ("format", "version", "port", "baud", "joints", "imu"), "")
        if not isinstance(raw["joints"], list) or not raw["joints"]:
            raise UsageError("joints must be a list with an entry per joint")
        joints = tuple(joint_of(entry, index) for index, entry in enumerate(raw["joints"]))
        imu = None if raw.get("imu") is None else ImuWiring.of(raw["imu"])
        return cls(typed(raw["port"], str, "port"), typed(raw["baud"], int, "baud"), joints, imu)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UsageError: it is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path} ({error.strerror}): make it with biped_run.py --wire") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON ({error})") from error


def joint_of(raw: Any, index: int) -> JointWiring:
    """Read one entry of `joints`.

    Raises:
        UsageError: a word is missing, unknown or of the wrong kind.
    """
    where = f"joints[{index}]."
    if not isinstance(raw, Mapping):
        raise UsageError(f"joints[{index}] must have names and values")
    gains = {name: raw.get(name) for name in ("position_p", "position_d")}
    _exactly({**gains, **raw}, [item.name for item in fields(JointWiring)], where)
    return JointWiring(
        *(typed(raw[name], str if name == "joint" else int, where + name) for name in ("joint", "id")),
        *(typed(raw[name], int, where + name) for name in ("direction", "zero_tick")),
        *(float(typed(raw[name], (int, float), where + name)) for name in ("lower_rad", "upper_rad")),
        **{name: value if value is None else typed(value, int, where + name) for name, value in gains.items()},
    )


def typed(value: Any, kind: type | tuple[type, ...], name: str) -> Any:
    """Return a value of a JSON file if it is of a kind.

    Raises:
        UsageError: it is not, or is a number beyond all measure; true and false are no numbers.
    """
    if isinstance(value, bool) or not isinstance(value, kind):
        wanted = {str: "text", int: "a whole number"}.get(kind, "a number")  # type: ignore[arg-type]
        raise UsageError(f"{name} must be {wanted}, and is {value!r}")
    if not isinstance(value, str) and abs(value) > _LARGEST:
        raise UsageError(f"{name} is beyond all measure: its size must be below {_LARGEST:.0f}")
    return value


def _exactly(raw: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    for name in raw:
        if name not in names:
            raise UsageError(f"there is no {where}{name}{suggestion(name, names)}")
    if missing := [name for name in names if name not in raw]:
        raise UsageError(f"{where}{missing[0]} is missing")


def _check(wiring: Wiring) -> None:
    if wiring.baud not in BAUDS:
        raise UsageError(f"baud {wiring.baud} is none of {', '.join(map(str, BAUDS))}")
    names: list[Any] = [joint.joint for joint in wiring.joints]
    for kind, values in (("joint", names), ("id", list(wiring.ids))):
        if twice := [value for value in values if values.count(value) > 1]:
            raise UsageError(f"{kind} {twice[0]} is there twice")
    for joint in wiring.joints:
        if not 0 <= joint.id <= LARGEST_ID:
            raise UsageError(f"{joint.joint}: id must be from 0 to {LARGEST_ID}")
        if any(gain is not None and not 0 <= gain <= LARGEST_GAIN for gain in (joint.position_p, joint.position_d)):
            raise UsageError(f"{joint.joint}: position_p and position_d must be from 0 to {LARGEST_GAIN}")
        if joint.direction not in (1, -1):
            raise UsageError(f"{joint.joint}: direction must be 1 or -1")
        if not (np.isfinite((joint.lower_rad, joint.upper_rad)).all() and joint.lower_rad < joint.upper_rad):
            raise UsageError(f"{joint.joint}: lower_rad must be less than upper_rad")
        low, high = joint.tick_limits
        if low < 0 or high >= TICKS_PER_TURN:
            raise UsageError(
                f"{joint.joint}: its limits are at ticks {low} and {high}, and a servo has 0 to {TICKS_PER_TURN - 1}: "
                "narrow them, or turn the horn and wire it anew"
            )


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the closest known one, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=1)
    return f": did you mean {close[0]}?" if close else f": choose from {', '.join(known)}"
