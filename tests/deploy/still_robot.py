"""A robot of which everything can be told: servos that go where they are sent at once, and an IMU that lies still.

Time passes only while the runtime sleeps, reads or writes.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from biped.deploy.controller import Controller, OnnxPolicy
from biped.deploy.hardware import BusError, ImuReading, JointReading
from biped.deploy.operator import Wish
from biped.deploy.runtime import Body, Runtime
from biped.deploy.safety import Limits

POLICY = Path(__file__).resolve().parents[2] / "assets" / "policies" / "robust" / "policy.onnx"
READ_S, STIFFEN_S = 0.003, 0.05


class StillRobot:
    """Servos, IMU, person and clock in one; `at` changes any of them at a time."""

    def __init__(self) -> None:
        self.controller = Controller(OnnxPolicy(POLICY))
        self.now_s = 100.0
        self.joints = len(self.controller.contract.motors)
        self.pos_rad = self.controller.contract.default_pose_rad + 0.2
        self.is_stiff, self.limp_since_s = False, -np.inf
        self.sent: list[tuple[float, np.ndarray]] = []
        self.command, self.is_held = np.array((0.3, 0.0, 0.0)), True
        self.gravity_b, self.ang_vel_b, self.imu_age_s = np.array((0.0, 0.0, -1.0)), np.zeros(3), 0.005
        self.silent = np.zeros(self.joints, bool)
        self.voltage_v, self.temperature_c, self.current_a, self.fault = 12.0, 40.0, 0.1, 0
        self.read_s = READ_S
        self.has_gone = False
        self._later: list[tuple[float, Callable[[], object]]] = []
        self.said: list[str] = []
        self.is_person = False
        self.began_s: float | None = None
        self.complains = ""

    def after(self, seconds: float, do: Callable[[], object]) -> None:
        """Let something happen at a time from now."""
        self._later.append((self.now_s + seconds, do))

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        due = [do for at_s, do in self._later if at_s <= self.now_s]
        self._later = [(at_s, do) for at_s, do in self._later if at_s > self.now_s]
        for do in due:
            do()

    def clock(self) -> float:
        return self.now_s

    def read(self) -> JointReading:
        if self.has_gone:
            raise BusError("the bus at /dev/ttyUSB0 has gone")
        self.now_s += self.read_s
        full = np.where(self.silent, np.nan, 1.0)
        return JointReading(
            self.pos_rad * full,
            0.0 * full,
            self.current_a * full,
            self.voltage_v * full,
            self.temperature_c * full,
            np.where(self.silent, 0, self.fault),
        )

    def write(self, targets_rad: np.ndarray) -> None:
        assert targets_rad.shape == (self.joints,)
        self.sent.append((self.now_s, targets_rad.copy()))
        if self.is_stiff:
            self.pos_rad = targets_rad.copy()

    def stiffen(self) -> None:
        self.now_s += STIFFEN_S
        self.is_stiff = True

    def go_limp(self) -> None:
        if self.is_stiff:
            self.limp_since_s = self.now_s
        self.is_stiff = False

    def imu(self) -> ImuReading:
        return ImuReading(self.gravity_b, self.ang_vel_b, self.imu_age_s)

    def begin(self) -> None:
        self.began_s = self.now_s

    def wish(self) -> Wish:
        return Wish(self.is_held, self.command)

    def close(self) -> None:
        pass

    def limits(self, **changes: Any) -> Limits:
        wide = np.full(self.joints, 2.0)
        return replace(Limits(-wide, wide, min_voltage_v=10.0, stall_current_a=2.3), **changes)

    def runtime(self, *, crouches: bool = False, **changes: Any) -> Runtime:
        return Runtime(
            self.controller,
            Body(self, ImuOf(self)),
            self,
            self.limits(**changes),
            say=self.said.append,
            clock=self.clock,
            sleep=self.sleep,
            crouches=crouches,
        )


class ImuOf:
    def __init__(self, robot: StillRobot) -> None:
        self._robot = robot

    def complaint(self) -> str:
        return self._robot.complains

    def read(self) -> ImuReading:
        return self._robot.imu()

    def close(self) -> None:
        pass
