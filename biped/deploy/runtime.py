"""Runs a policy on a robot: limp, checked, slowly to the default pose, then a step every 20 ms, and limp at the end.

Whatever happens, the servos lose their torque before this ends; if the process itself is killed, their own watchdog
stops them (`biped.deploy.servos`).
"""

import contextlib
import gc
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from biped.base.errors import disk_error
from biped.deploy.controller import Controller, Decision
from biped.deploy.hardware import Array, BusError, Imu, ImuReading, JointReading, Servos
from biped.deploy.operator import Operator, Wish
from biped.deploy.run_log import PHASES, LogWriter, RunLog
from biped.deploy.safety import Guard, Limits, Stop, obstacles
from biped.deploy.wiring import Wiring

CHECK_S = 1.0
"""How long the limp robot is read before it may start (s)."""
POSE_RATE_RAD_S = 0.5
"""Largest joint velocity on the way to a pose (rad/s)."""
CROUCH_S = 1.5
"""How long a crouch takes (s)."""
ENDED = "ended by the person"
"""Why a run ended in which nothing was wrong."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Body:
    """The robot's devices."""

    servos: Servos
    """Its joints."""
    imu: Imu
    """Its IMU."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    log: RunLog
    """All of its steps."""
    ended: str
    """Why it ended, in one line."""
    is_safe: bool
    """Nothing was wrong: the person or the time ended it."""

    def save(self, path: Path, wiring: Wiring, say: Callable[[str], None] = print) -> None:
        """Save the log with how the robot is wired, and say how the run went.

        Raises:
            MachineError: the disk refuses the log.
        """
        about = {**self.log.about, "wiring": wiring.as_json(), "date": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        try:
            replace(self.log, about=about).save(path)
        except OSError as error:
            raise disk_error(path, error, "--log") from error
        for line in (self.log.timing(), self.ended, f"log: {path}"):
            if line:
                say(line)


@dataclass(frozen=True)
class _Step:
    """What was read at the beginning of a step, and what the person wants."""

    joints: JointReading
    imu: ImuReading
    wish: Wish
    row: dict[str, Any]


class _EndError(Exception):
    """Ends a run; the reason is its message."""

    def __init__(self, stop: Stop, *, is_safe: bool = False) -> None:
        super().__init__(stop.reason)
        self.stop, self.is_safe = stop, is_safe


class Deadlines:
    """Lets steps begin at equal distances, and says how late each began."""

    def __init__(self, dt_s: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        """Begin the first step now.

        Args:
            dt_s: time between two steps (s).
            clock: returns the time (s).
            sleep: waits for a time (s).
        """
        self._dt_s, self._clock, self._sleep = dt_s, clock, sleep
        self.restart()

    def restart(self) -> None:
        """Begin the next step now, after something that took longer than a step."""
        self._next_s = self._clock()

    def wait(self) -> float:
        """Wait for the next step; return how much later than planned it begins (s)."""
        if (early_s := self._next_s - self._clock()) > 0.0:
            self._sleep(early_s)
        late_s = self._clock() - self._next_s
        # What is lost is not made up for: two steps at once would be worse than one that is late.
        self._next_s = max(self._next_s, self._clock() - self._dt_s) + self._dt_s
        return late_s


class Runtime:
    """One run of a policy on a robot."""

    def __init__(
        self,
        controller: Controller,
        body: Body,
        operator: Operator,
        limits: Limits,
        *,
        say: Callable[[str], None] = print,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        crouches: bool = False,
    ) -> None:
        """Prepare a run; nothing moves before `run`.

        Args:
            controller: the policy.
            body: the robot's devices.
            operator: the person who holds the dead-man's key.
            limits: what is allowed.
            say: receives lines for the person.
            clock: returns the time (s).
            sleep: waits for a time (s).
            crouches: on heat and on low voltage, crouch before going limp.
        """
        self._controller, self._body, self._operator, self._limits = controller, body, operator, limits
        self._say, self._clock, self._sleep, self._crouches = say, clock, sleep, crouches
        self._contract = controller.contract
        self._writer = LogWriter(self._contract)
        self._guard = Guard(self._contract, limits)
        self._deadlines = Deadlines(self._contract.dt_s, clock, sleep)
        self._began_s: float | None = None
        self._signal: int | None = None
        self._targets = self._contract.default_pose_rad

    def check(self) -> list[str]:
        """Read the limp robot for a while, and return why it must not start, one line each."""
        self._body.servos.go_limp()
        steps = max(2, round(CHECK_S / self._contract.dt_s))
        seen = [self._begin("limp") for _ in range(steps) if self._signal is None]
        if not seen:
            return []
        for step in seen:
            self._writer.add(**step.row)
        read_s = np.array([step.row["read_s"] for step in seen])
        return list(obstacles(self._contract, self._limits, seen[-1].joints, seen[-1].imu, read_s))

    def run(
        self,
        seconds: float = np.inf,
        excitation: Array | None = None,
        at_pose: Callable[[], None] | None = None,
    ) -> Outcome:
        """Check the robot, bring it to the default pose, and let it walk while the person holds the key.

        Args:
            seconds: how long the policy may run (s).
            excitation: joint targets (num_steps, num_joints), rad, to play in place of the policy.
            at_pose: called once the robot is in the default pose.

        Returns:
            How it ended. The servos are limp then, and a fault on the way is in it, not raised.
        """
        ended, is_safe = ENDED, True
        with self._listening():
            try:
                self._start()
                if at_pose is not None and excitation is None:
                    at_pose()
                self._play(excitation) if excitation is not None else self._walk(seconds)
            except _EndError as end:
                ended, is_safe = end.stop.reason, end.is_safe
                if end.stop.is_gentle and self._crouches:
                    self._crouch()
            except BusError as error:
                ended, is_safe = str(error), False
            finally:
                self._body.servos.go_limp()
        return Outcome(self._writer.finish({"ended": ended}), ended, is_safe)

    def _start(self) -> None:
        if reasons := self.check():
            for reason in reasons:
                self._say(f"not ready: {reason}")
            raise _EndError(Stop(f"not ready: {reasons[0]}"))
        self._say("ready: hold the dead-man's key to move to the default pose")
        self._move("to pose", self._contract.default_pose_rad)

    def _walk(self, seconds: float) -> None:
        self._say(
            "in the default pose: put the robot on its feet; hold the key to walk, let go to stand, Ctrl-C to end"
        )
        self._controller.forget()
        step = self._begin("standing")
        while not step.wish.is_held:
            self._finish(step, self._targets)
            step = self._begin("standing")
        left = seconds / self._contract.dt_s
        while True:
            given = step.wish.command * step.wish.is_held
            began_s = self._clock()
            decision = self._controller.step(step.imu, step.joints, given)
            step.row.update(_decided(decision, given, self._clock() - began_s))
            if self._controller.must_stop:
                raise _EndError(Stop(f"readings were not finite for {self._controller.held} steps: see the log"))
            self._finish(step, decision.targets_rad)
            left -= 1.0
            if left < 0.5:
                raise _EndError(Stop(f"ended after {seconds:.0f} s"), is_safe=True)
            step = self._begin("standing")

    def _play(self, excitation: Array) -> None:
        self._say("exciting the joints: the trunk must hang freely; hold the key, Ctrl-C ends it")
        for targets_rad in excitation:
            step = self._begin("exciting")
            if not step.wish.is_held:
                raise _EndError(Stop("the key was let go"), is_safe=True)
            self._finish(step, targets_rad)

    def _move(self, phase: str, pose_rad: Array) -> None:
        """Go to a pose at a limited rate, while the key is held."""
        step = self._begin("limp")
        while not step.wish.is_held:
            self._writer.add(**step.row)
            step = self._begin("limp")
        self._body.servos.stiffen()
        self._deadlines.restart()
        targets_rad = np.where(step.joints.answered, step.joints.pos_rad, pose_rad)
        while np.abs(pose_rad - targets_rad).max() > 0.0:
            step = self._begin(phase)
            reach_rad = POSE_RATE_RAD_S * self._contract.dt_s * step.wish.is_held
            targets_rad = targets_rad + np.clip(pose_rad - targets_rad, -reach_rad, reach_rad)
            self._finish(step, targets_rad)

    def _crouch(self) -> None:
        """Bend the legs twice as far as in the default pose, which keeps flat feet flat, then let go."""
        start_rad = self._targets
        end_rad = np.clip(2.0 * self._contract.default_pose_rad, self._limits.lower_rad, self._limits.upper_rad)
        steps = round(CROUCH_S / self._contract.dt_s)
        with contextlib.suppress(BusError, _EndError):
            for index in range(1, steps + 1):
                step = self._read("crouching")
                self._finish(step, start_rad + index / steps * (end_rad - start_rad))

    def _begin(self, phase: str) -> _Step:
        """Wait for the next step, read, and look whether the robot may go on.

        Raises:
            _EndError: it may not, or a signal has come.
            BusError: the bus has gone.
        """
        step = self._read(phase)
        if self._signal is not None:
            self._writer.add(**step.row)
            raise _EndError(Stop(ENDED), is_safe=True)
        is_limp = phase == "limp"
        if not is_limp and (stop := self._guard.judge(step.joints, step.imu, step.row["late_s"])) is not None:
            self._writer.add(**step.row)
            raise _EndError(stop)
        return step

    def _read(self, phase: str) -> _Step:
        late_s = self._deadlines.wait()
        began_s = self._clock()
        self._began_s = began_s if self._began_s is None else self._began_s
        joints, imu = self._body.servos.read(), self._body.imu.read()
        row = {
            "time_s": began_s - self._began_s,
            "late_s": late_s,
            "read_s": self._clock() - began_s,
            "phase": PHASES.index(phase),
            "gravity_b": imu.gravity_b,
            "ang_vel_b": imu.ang_vel_b,
            "imu_age_s": imu.age_s,
            **{name: getattr(joints, name) for name in JointReading.__dataclass_fields__},
        }
        return _Step(joints, imu, self._operator.wish(), row)

    def _finish(self, step: _Step, targets_rad: Array) -> None:
        began_s = self._clock()
        self._body.servos.write(targets_rad)
        self._targets = targets_rad
        self._writer.add(**step.row, target_rad=targets_rad, write_s=self._clock() - began_s)

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """Take signals as a wish to end, and keep the garbage collector out of the steps."""

        def take(number: int, _: FrameType | None) -> None:
            if self._signal is not None:  # a second one: at once, by the exception that makes the servos limp
                raise KeyboardInterrupt
            self._signal = number

        before = {number: signal.signal(number, take) for number in _SIGNALS}
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if was_enabled:
                gc.enable()
            for number, handler in before.items():
                signal.signal(number, handler)


def _decided(decision: Decision, given: Array, policy_s: float) -> dict[str, Any]:
    walks = bool(decision.command.any())
    row = {
        "phase": PHASES.index("walking" if walks else "standing"),
        "given_command": given,
        "command": decision.command,
        "observation": decision.observation,
        "action": decision.action,
        "policy_s": policy_s,
    }
    return row if decision.estimate is None else {**row, "estimate": decision.estimate}
