"""Runs a policy on a robot: limp, checked, slowly to the default pose, then a step every 20 ms, and limp at the end.

Whatever happens, the servos lose their torque before this ends; if the process itself is killed, their own watchdog
stops them (`biped.deploy.servos`).
"""

import contextlib
import gc
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from traceback import format_exc
from types import FrameType
from typing import Any

import numpy as np

from biped.base.errors import disk_error, first_line
from biped.base.platforms import signals
from biped.deploy.controller import Controller, Decision
from biped.deploy.hardware import Array, BusError, Imu, ImuReading, JointReading, Servos
from biped.deploy.operator import Operator, Wish
from biped.deploy.run_log import PHASES, LogWriter, RunLog
from biped.deploy.safety import Guard, Limits, Stop, check_pose, newest, obstacles
from biped.deploy.wiring import Wiring

CHECK_S = 1.0
"""How long the limp robot is read before it may start (s)."""
POSE_RATE_RAD_S = 0.5
"""Largest joint velocity on the way to a pose (rad/s)."""
CROUCH_S = 1.5
"""How long a crouch takes (s)."""
ENDED = "ended by the person"
"""Why a run ended in which nothing was wrong."""
_SIGNALS = signals("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGTSTP")
_ON_ITS_FEET = ("standing", "walking")


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
        with contextlib.suppress(OSError):  # a terminal that has gone
            say("\n".join(line for line in (self.log.timing(), self.ended, f"log: {path}") if line))


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
        now_s = self._clock()
        late_s = now_s - self._next_s
        # What is lost is not made up for: two steps at once would be worse than one that is late.
        self._next_s = (self._next_s if late_s < self._dt_s else now_s) + self._dt_s
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

        Raises:
            UsageError: the default pose is outside of the limits.
        """
        self._controller, self._body, self._operator, self._limits = controller, body, operator, limits
        self._print, self._clock, self._sleep, self._crouches = say, clock, sleep, crouches
        self._contract = controller.contract
        check_pose(self._contract, limits)
        self._writer = LogWriter(self._contract)
        self._guard = Guard(self._contract, limits)
        self._deadlines = Deadlines(self._contract.dt_s, clock, sleep)
        self._began_s: float | None = None
        self._signal: int | None = None
        self._targets: Array | None = None
        # While the robot is limp only the last second is kept: a person may take long.
        self._limp: deque[_Step] = deque(maxlen=max(2, round(CHECK_S / self._contract.dt_s)))

    def check(self) -> list[str]:
        """Read the limp robot for a while, and return why it must not start, one line each."""
        self._body.servos.go_limp()
        self._deadlines.restart()
        for _ in range(self._limp.maxlen or 0):
            self._limp.append(self._begin("limp"))
        return self._obstacles()

    def _obstacles(self) -> list[str]:
        """Return what is wrong by the last second of readings."""
        joints, answered = newest([step.joints for step in self._limp])
        read_s = np.array([step.row["read_s"] for step in self._limp])
        found = obstacles(self._contract, self._limits, joints, answered, self._limp[-1].imu, read_s)
        return [*found, *([said] if (said := self._body.imu.complaint()) else [])]

    def run(
        self,
        seconds: float = np.inf,
        excitation: Array | None = None,
        at_pose: Callable[[], None] | None = None,
        keep: Callable[[Outcome], None] | None = None,
    ) -> Outcome:
        """Check the robot, bring it to the default pose, and let it walk while the person holds the key.

        Args:
            seconds: how long the policy may run (s).
            excitation: joint targets (num_steps, num_joints), rad, to play in place of the policy.
            at_pose: called once the robot is in the default pose.
            keep: saves the outcome; until it has, signals do not end the process.

        Returns:
            How it ended. The servos are limp then, and a fault on the way is in it, not raised.
        """
        with self._listening():
            ended, is_safe, trace = self._until_the_end(seconds, excitation, at_pose)
            for step in self._limp:
                self._writer.add(**step.row)
            about = {"ended": ended} if trace is None else {"ended": ended, "traceback": trace}
            outcome = Outcome(self._writer.finish(about), ended, is_safe)
            if keep is not None:
                keep(outcome)
        return outcome

    def _until_the_end(
        self, seconds: float, excitation: Array | None, at_pose: Callable[[], None] | None
    ) -> tuple[str, bool, str | None]:
        """Return why the run ended, whether nothing was wrong, and the traceback of a fault of this program."""
        try:
            self._start()
            if at_pose is not None:
                at_pose()
                self._deadlines.restart()
            self._play(excitation) if excitation is not None else self._walk(seconds)
        except _EndError as end:
            if end.stop.is_gentle and self._crouches and excitation is None:
                self._crouch()
            return end.stop.reason, end.is_safe, None
        except BusError as error:
            return str(error), False, None
        except Exception as error:  # whatever it is, the robot must become limp and the log must be kept
            return f"this program failed ({type(error).__name__}: {first_line(error)})", False, format_exc()
        finally:
            self._body.servos.go_limp()
        return ENDED, True, None

    def _start(self) -> None:
        self._refuse(self.check())
        self._say("ready: hold the dead-man's key to move to the default pose")
        while not (step := self._begin("limp")).wish.is_held:
            self._limp.append(step)
        self._limp.append(step)
        # The robot may have been moved, or have become warm, since.
        self._refuse(self._obstacles())
        for step in self._limp:
            self._writer.add(**step.row)
        self._limp.clear()
        self._body.servos.stiffen()
        self._deadlines.restart()
        self._go_to(self._contract.default_pose_rad)

    def _refuse(self, reasons: list[str]) -> None:
        for reason in reasons:
            self._say(f"not ready: {reason}")
        if reasons:
            raise _EndError(Stop(f"not ready: {reasons[0]}"))

    def _walk(self, seconds: float) -> None:
        self._say("in the default pose: let go of the key, and put the robot on its feet")
        self._controller.forget()
        # A key that is still held from the way to the pose must not start the policy in somebody's hands.
        has_let_go, step = not self._operator.is_person, self._begin("standing")
        while not (has_let_go and step.wish.is_held):
            if not has_let_go and not step.wish.is_held:
                has_let_go = True
                self._say("hold the key to walk, let go to stand, Ctrl-C to end")
            self._finish(step, self._contract.default_pose_rad)
            step = self._begin("standing")
        self._operator.begin()
        left = seconds / self._contract.dt_s
        while True:
            self._decide(step)
            left -= 1.0
            if left < 0.5:
                raise _EndError(Stop(f"ended after {seconds:.0f} s"), is_safe=True)
            step = self._begin("standing")

    def _decide(self, step: _Step) -> None:
        """Let the policy make one step."""
        given = step.wish.command * step.wish.is_held
        began_s = self._clock()
        decision = self._controller.step(step.imu, step.joints, given)
        step.row.update(_decided(decision, given, self._clock() - began_s))
        if self._controller.must_stop:
            self._writer.add(**step.row)
            raise _EndError(Stop(f"readings were not finite for {self._controller.held} steps: see the log"))
        self._finish(step, decision.targets_rad)

    def _play(self, excitation: Array) -> None:
        self._say("exciting the joints: the trunk must be clamped; hold the key, Ctrl-C ends it")
        for targets_rad in excitation:
            step = self._begin("exciting")
            if not step.wish.is_held:
                raise _EndError(Stop("the key was let go"), is_safe=True)
            self._finish(step, targets_rad)
        raise _EndError(Stop("the excitation is complete"), is_safe=True)

    def _go_to(self, pose_rad: Array) -> None:
        """Go to a pose at a limited rate, while the key is held, from where the stiff joints are."""
        step = self._begin("to pose")
        while not step.joints.answered.all():  # the guard ends this if one stays silent
            self._writer.add(**step.row)
            step = self._begin("to pose")
        targets_rad = step.joints.pos_rad
        while True:
            reach_rad = POSE_RATE_RAD_S * self._contract.dt_s * step.wish.is_held
            targets_rad = targets_rad + np.clip(pose_rad - targets_rad, -reach_rad, reach_rad)
            self._finish(step, targets_rad)
            if not np.abs(pose_rad - targets_rad).max() > 0.0:
                return
            step = self._begin("to pose")

    def _crouch(self) -> None:
        """Bend the legs twice as far as in the default pose, which keeps flat feet flat, then let go."""
        start_rad = self._targets
        if start_rad is None or self._writer.phase not in _ON_ITS_FEET:
            return
        end_rad = np.clip(2.0 * self._contract.default_pose_rad, self._limits.lower_rad, self._limits.upper_rad)
        steps = round(CROUCH_S / self._contract.dt_s)
        with contextlib.suppress(BusError, _EndError):
            for index in range(1, steps + 1):
                step = self._begin("crouching")
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
        if phase != "limp":
            late_s, is_crouching = step.row["late_s"], phase == "crouching"
            stop = self._guard.judge(step.joints, step.imu, late_s, but_gentle=is_crouching)
            if stop is not None:
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
        """Send targets, within the joints' limits, and write the step down."""
        began_s = self._clock()
        sent_rad = np.clip(targets_rad, self._limits.lower_rad, self._limits.upper_rad)
        self._body.servos.write(sent_rad)
        self._targets = sent_rad
        self._writer.add(**step.row, target_rad=sent_rad, write_s=self._clock() - began_s)

    def _say(self, text: str) -> None:
        """Tell the person; a terminal that has gone must not end a run."""
        with contextlib.suppress(OSError):
            self._print(text)

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """Take signals as a wish to end, however many come, and keep the garbage collector out of the steps."""

        def take(number: int, _: FrameType | None) -> None:
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
