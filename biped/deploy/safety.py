"""When a robot may start, and when it must stop: pure rules on readings, each with its reason in one line."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from biped.base.errors import UsageError
from biped.deploy.contract_file import PolicyContract
from biped.deploy.dynamixel import Model
from biped.deploy.hardware import Array, ImuReading, JointReading
from biped.deploy.wiring import Wiring


@dataclass(frozen=True)
class Limits:
    """What is allowed; the defaults are for hobby servos."""

    lower_rad: Array
    """Smallest joint positions, (num_joints,), rad."""
    upper_rad: Array
    """Largest joint positions, (num_joints,), rad."""
    min_voltage_v: float = 0.0
    """Supply voltage under which the robot does not walk (V); 0: the servos judge it alone."""
    max_temperature_c: float = 70.0
    """Temperature of a servo from which it must rest (°C); Dynamixels switch themselves off at 70 to 80."""
    max_current_share: float = 0.8
    """Largest mean current over `current_window_s`, as a share of what a servo that is held draws at this voltage."""
    stall_current_a: Array | float = np.inf
    """Current of a servo that is held, (num_joints,) or one for all (A); infinite: not looked at."""
    stall_voltage_v: Array | float = 12.0
    """Supply voltage at which it draws that, (num_joints,) or one for all (V)."""
    current_window_s: float = 1.0
    """Time over which currents are averaged (s)."""
    max_pose_error_rad: float = 0.6
    """How far from the default pose the robot may be when it starts (rad)."""
    max_start_tilt_rad: float = 0.35
    """How far from upright the IMU may be when the robot starts (rad)."""
    max_tilt_rad: float | None = None
    """How far from upright the robot may come under torque (rad); None: as far as training allowed."""
    max_start_rate_rad_s: float = 0.5
    """How fast the trunk may turn when the robot starts (rad/s)."""
    max_missed_steps: int = 3
    """How many steps in a row a servo may stay silent: at 50 Hz, 60 ms."""
    max_imu_age_s: float = 0.06
    """How old the IMU's newest measurement may be (s)."""
    max_late_s: float = 0.06
    """How late a step may begin (s)."""
    limit_margin_rad: float = 0.1
    """How far beyond its limits a joint may be read (rad): gears give."""
    min_answers: float = 0.8
    """Share of the readings that each servo must answer in the check at the start."""
    max_read_share: float = 0.6
    """Share of a step that reading may take, in the check of the rate."""


def limits_for(wiring: Wiring, servos: Sequence[Model], min_voltage_v: float) -> Limits:
    """Return what is allowed for a robot: joint limits of its wiring, currents of its servos.

    A servo that measures its load in place of its current is not watched for it: a load has no unit.
    """
    lower_rad, upper_rad = wiring.limits_rad
    stall_a = np.array([model.stall_current_a if model.current_unit_a else np.inf for model in servos])
    stall_v = np.array([model.voltage_v for model in servos])
    return Limits(lower_rad, upper_rad, min_voltage_v=min_voltage_v, stall_current_a=stall_a, stall_voltage_v=stall_v)


def check_pose(contract: PolicyContract, limits: Limits) -> None:
    """Check that the joints may go to the default pose.

    Raises:
        UsageError: one may not.
    """
    pose_rad = contract.default_pose_rad
    outside = (pose_rad < limits.lower_rad) | (pose_rad > limits.upper_rad)
    for name, pos_rad in zip(np.array(contract.joint_names)[outside], pose_rad[outside], strict=True):
        raise UsageError(
            f"the default pose has {name} at {pos_rad:+.2f} rad, outside of the wiring's limits: see its zero_tick"
        )


def newest(readings: Sequence[JointReading]) -> tuple[JointReading, Array]:
    """Return each servo's newest answer, NaN where there is none, and the share of readings that it answered."""
    answered = np.array([reading.answered for reading in readings])
    row = len(readings) - 1 - answered[::-1].argmax(axis=0)
    joints = np.arange(answered.shape[1])
    columns = {
        item.name: np.array([getattr(reading, item.name) for reading in readings])[row, joints]
        for item in fields(JointReading)
    }
    return JointReading(**columns), answered.mean(axis=0)


def hanging(limits: Limits) -> Limits:
    """Return what is allowed for a robot whose trunk hangs or is clamped, at any angle."""
    return replace(limits, max_start_tilt_rad=np.pi, max_tilt_rad=np.pi)


def tilt_of(gravity_b: Array) -> float:
    """Return how far the base is from upright (rad); NaN for a reading that is not finite."""
    length = np.linalg.norm(gravity_b)
    return float(np.arccos(np.clip(-gravity_b[2] / length, -1.0, 1.0))) if length > 0.0 else np.nan


def obstacles(
    contract: PolicyContract, limits: Limits, joints: JointReading, answered: Array, imu: ImuReading, read_s: Array
) -> Iterator[str]:
    """Yield why the robot must not start, one line each; nothing where it may.

    Args:
        contract: the policy's.
        limits: what is allowed.
        joints: the newest answers of the servos, limp.
        answered: share of the readings that each servo answered, (num_joints,).
        imu: the IMU.
        read_s: how long each of several readings took, (n,), s.
    """
    names = np.array(contract.joint_names)
    if (answered < limits.min_answers).any():
        silent = answered < limits.min_answers
        yield f"no answer from {_list(names[silent])} in {1 - answered.min():.0%} of the readings: see cable and id"
        return
    for name, fault in zip(names[joints.faults != 0], joints.faults[joints.faults != 0], strict=True):
        yield f"{name} reports hardware error {fault}: see its manual, mend it, and reboot the servo"
    beyond = _beyond(joints, limits, limits.limit_margin_rad)
    for name, pos_rad in zip(names[beyond], joints.pos_rad[beyond], strict=True):
        yield f"{name} is at {pos_rad:+.2f} rad, outside of its limits: move it, or see its zero in the wiring"
    off = np.abs(joints.pos_rad - contract.default_pose_rad)
    for name, error in zip(names[off > limits.max_pose_error_rad], off[off > limits.max_pose_error_rad], strict=True):
        yield f"{name} is {error:.2f} rad from the default pose: bring the robot near to it by hand"
    if (low := joints.voltage_v.min()) < limits.min_voltage_v:
        yield f"the supply has {low:.1f} V, less than {limits.min_voltage_v:.1f} V: charge the battery"
    if (hot := joints.temperature_c.max()) >= limits.max_temperature_c:
        yield f"{names[joints.temperature_c.argmax()]} is at {hot:.0f} °C: let it cool"
    yield from _imu_obstacles(limits, imu)
    if (slow := float(np.quantile(read_s, 0.75))) > limits.max_read_share * contract.dt_s:
        yield (
            f"reading takes {1e3 * slow:.1f} ms of a step's {1e3 * contract.dt_s:.0f} ms: raise the servos' baud rate, "
            "lower their return delay, and set the port's latency timer to 1 ms"
        )


def _imu_obstacles(limits: Limits, imu: ImuReading) -> Iterator[str]:
    length, tilt = float(np.linalg.norm(imu.gravity_b)), tilt_of(imu.gravity_b)
    if not (imu.age_s <= limits.max_imu_age_s):
        yield f"the IMU's newest measurement is {1e3 * imu.age_s:.0f} ms old: see its cable and its rate"
    if not (abs(length - 1.0) < 0.05):
        yield f"the IMU's gravity has length {length:.2f}, not 1: see its driver"
    elif not (tilt <= limits.max_start_tilt_rad):
        yield f"the IMU says that the trunk is {tilt:.2f} rad from upright: hold it upright, or see imu.axes"
    if not (np.abs(imu.ang_vel_b).max() <= limits.max_start_rate_rad_s):
        yield "the trunk is not still: hold the robot still"


def _beyond(joints: JointReading, limits: Limits, margin_rad: float) -> np.ndarray:
    low, high = limits.lower_rad - margin_rad, limits.upper_rad + margin_rad
    return (joints.pos_rad < low) | (joints.pos_rad > high)


def _list(names: np.ndarray) -> str:
    return ", ".join(names)


@dataclass(frozen=True)
class Stop:
    """Why the robot is stopped."""

    reason: str
    """One line: what happened, and what to do."""
    is_gentle: bool = False
    """The robot may crouch first; otherwise it goes limp at once."""


class Guard:
    """Watches a robot that is under torque; remembers what lasts over steps."""

    def __init__(self, contract: PolicyContract, limits: Limits) -> None:
        """Begin with nothing seen."""
        self._contract, self._limits = contract, limits
        self._names = np.array(contract.joint_names)
        self._silent = np.zeros(len(contract.motors), int)
        self._blind = 0
        self._current_a = np.zeros(len(contract.motors))

    def judge(self, joints: JointReading, imu: ImuReading, late_s: float, *, but_gentle: bool = False) -> Stop | None:
        """Return why to stop after a step's readings; None to go on.

        Args:
            joints: the servos.
            imu: the IMU.
            late_s: how much later this step began than it should have (s).
            but_gentle: leave out what lets the robot crouch: it does so already.
        """
        self._count(joints, imu)
        return next((stop for stop in self._reasons(joints, imu, late_s) if not (but_gentle and stop.is_gentle)), None)

    def _count(self, joints: JointReading, imu: ImuReading) -> None:
        """Remember what lasts over steps."""
        answered = joints.answered
        self._silent = np.where(answered, 0, self._silent + 1)
        is_seen = bool(np.isfinite(imu.gravity_b).all() and np.isfinite(imu.ang_vel_b).all())
        self._blind = 0 if is_seen else self._blind + 1
        weight = min(1.0, self._contract.dt_s / self._limits.current_window_s)
        present_a = np.where(answered, np.abs(np.nan_to_num(joints.current_a)), self._current_a)
        self._current_a += weight * (present_a - self._current_a)

    def _reasons(self, joints: JointReading, imu: ImuReading, late_s: float) -> Iterator[Stop]:
        limits, names, answered = self._limits, self._names, joints.answered
        tilt = tilt_of(imu.gravity_b)
        if tilt > (self._contract.max_tilt_rad if limits.max_tilt_rad is None else limits.max_tilt_rad):
            yield Stop(f"the trunk is {tilt:.2f} rad from upright: the robot has fallen")
        if (silent := self._silent > limits.max_missed_steps).any():
            yield Stop(f"no answer from {_list(names[silent])} for {self._silent.max()} steps: see cable and power")
        if self._blind > self._contract.max_held_steps:
            yield Stop(f"the IMU has said nothing that is a number for {self._blind} steps: see its driver")
        if not (imu.age_s <= limits.max_imu_age_s):
            yield Stop(f"the IMU has been silent for {1e3 * imu.age_s:.0f} ms: see its cable")
        if not (late_s <= limits.max_late_s):
            yield Stop(f"a step began {1e3 * late_s:.0f} ms late: close other programs on this computer")
        if (faults := joints.faults != 0).any():
            yield Stop(f"{_list(names[faults])} report hardware error {joints.faults[faults].max()}: see the manual")
        if (hot := np.nan_to_num(joints.temperature_c)).max() >= limits.max_temperature_c:
            yield Stop(f"{names[hot.argmax()]} is at {hot.max():.0f} °C: let it cool", is_gentle=True)
        if (over := self._current_a > self._largest_current_a(joints)).any():
            yield Stop(f"{names[over][0]} draws {self._current_a[over][0]:.1f} A: something holds it")
        if answered.any() and (low := np.nanmin(joints.voltage_v)) < limits.min_voltage_v:
            yield Stop(f"the supply has fallen to {low:.1f} V: charge the battery", is_gentle=True)
        if (beyond := _beyond(joints, limits, 3.0 * limits.limit_margin_rad)).any():
            yield Stop(f"{_list(names[beyond])} beyond its limits: see its zero and direction in the wiring")

    def _largest_current_a(self, joints: JointReading) -> Array:
        """Return the mean current that each servo may draw, (num_joints,), A."""
        limits = self._limits
        voltage_v = np.where(joints.answered, joints.voltage_v, limits.stall_voltage_v)
        return limits.max_current_share * limits.stall_current_a * (voltage_v / limits.stall_voltage_v)
