"""The process of the simulated robot: other devices, time that stands still, and its end."""

import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biped.base.errors import MachineError
from biped.deploy import simulated_process
from biped.deploy.simulated_bus import Trouble
from biped.deploy.simulated_process import LARGEST_LAG_S, SimulatedRobot
from biped.deploy.simulated_servo import ServoKind
from tests.servo_bus import XM430, Array, WheelPlant, Wheels, until

ROOT = Path(__file__).resolve().parents[2]
WHEELS, KINDS = Wheels((XM430, XM430), (1000.0, 2000.0)), [ServoKind(1, XM430), ServoKind(2, XM430)]


@dataclass
class Ticker:
    """A device that says each 10 ms where the first servo is."""

    next_s: float = 0.0

    def due(self, now_s: float, plant: Any) -> bytes:
        if now_s < self.next_s:
            return b""
        self.next_s = now_s + 0.01
        return f"{plant.pos_ticks[0]:.0f}\n".encode()


@dataclass
class SlowPlant:
    """A plant that takes three times as long as real time."""

    pos_ticks: Array = field(default_factory=lambda: np.zeros(1))
    vel_rad_s: Array = field(default_factory=lambda: np.zeros(1))
    current_a: Array = field(default_factory=lambda: np.zeros(1))
    time_s: float = 0.0
    longest_s: float = 0.0

    def advance(self, to_s: float, command: Any) -> None:
        time.sleep(3.0 * (to_s - self.time_s))
        self.longest_s, self.time_s = max(self.longest_s, to_s - self.time_s), to_s


def broken_plant() -> SlowPlant:
    raise ValueError("no such robot\nat all")


def test_another_device_has_its_own_terminal() -> None:
    with SimulatedRobot(WHEELS, KINDS, make_devices=(Ticker,)) as robot:
        assert len(robot.device_ports) == 1
        line = os.open(robot.device_ports[0], os.O_RDONLY | os.O_NOCTTY)
        content = bytearray()

        def enough() -> bool:
            if select.select([line], [], [], 0.1)[0]:
                content.extend(os.read(line, 1000))
            return bytes(content).split().count(b"1000") >= 8  # one line may be cut in two where the terminal was full

        assert until(enough), content
        os.close(line)


def test_a_device_that_nobody_reads_does_not_stop_the_robot() -> None:
    with SimulatedRobot(WHEELS, KINDS, make_devices=(Flood,)) as robot:
        assert until(lambda: robot.ask("plant", "time_s") > 0.05)


class Flood:
    """A device that sends more than a terminal holds."""

    def due(self, now_s: float, plant: Any) -> bytes:
        return bytes(4000)


def test_time_stands_still_for_a_plant_that_cannot_follow() -> None:
    with SimulatedRobot(SlowPlant, KINDS[:1]) as robot:
        assert until(lambda: robot.ask("figures")["slipped_s"] > 0.3)
        # The clock is read twice per round.
        assert 0.0 < robot.ask("plant", "longest_s") <= 2.0 * LARGEST_LAG_S + 1e-6


def test_a_plant_that_cannot_be_built_is_one_line() -> None:
    with pytest.raises(MachineError, match=r"cannot start \(no such robot\)$"):
        SimulatedRobot(broken_plant, KINDS)


def test_a_request_that_fails_is_an_error_and_the_robot_goes_on() -> None:
    with SimulatedRobot(WHEELS, KINDS) as robot:
        with pytest.raises(MachineError, match="cannot: plant"):
            robot.ask("plant", "fly")
        with pytest.raises(MachineError, match="cannot: registers"):
            robot.ask("registers", 9)
        assert robot.ask("trouble", Trouble(lost_share=1.0)) is None


def test_after_its_end_it_is_gone() -> None:
    with SimulatedRobot(WHEELS, KINDS) as robot:
        pass
    with pytest.raises(MachineError, match="is gone"):
        robot.ask("figures")
    assert not Path(robot.port).exists()


def never_built() -> WheelPlant:
    time.sleep(60.0)
    return WHEELS()


def test_one_that_does_not_start_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated_process, "_STARTUP_S", 0.2)
    with pytest.raises(MachineError, match="does not start"):
        SimulatedRobot(never_built, KINDS)
    assert not multiprocessing.active_children()


OF_A_TERMINAL = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP)


def state_of(process: int) -> str:
    """The state of a process, empty where it is gone; Z: it is dead, and nobody asks for its exit code."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


@pytest.mark.parametrize("number", OF_A_TERMINAL)
def test_what_a_terminal_sends_to_all_does_not_end_it(number: signal.Signals) -> None:
    with SimulatedRobot(WHEELS, KINDS) as robot:
        os.kill(robot._process.pid or 0, number)
        before = robot.ask("plant", "time_s")
        assert until(lambda: robot.ask("plant", "time_s") > before)


def test_ctrl_c_while_it_starts_does_not_end_it() -> None:
    def interrupt() -> None:
        until(lambda: bool(multiprocessing.active_children()))
        for child in multiprocessing.active_children():
            os.kill(child.pid or 0, signal.SIGINT)
            sent.append(child.pid)

    sent: list[int | None] = []
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with SimulatedRobot(WHEELS, KINDS) as robot:
            assert sent == [robot._process.pid]
            assert robot.ask("plant", "time_s") >= 0.0
    finally:
        thread.join()
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(OF_A_TERMINAL), "the parent hears them again"


def orphan() -> WheelPlant:
    """End the parent while the plant is built."""
    parent = os.getppid()
    os.kill(parent, signal.SIGKILL)
    until(lambda: os.getppid() != parent)
    return WHEELS()


def broken_orphan() -> WheelPlant:
    orphan()
    raise ValueError("no such robot")


PARENT = """
import os, signal
from tests.deploy.test_simulated_process import KINDS, WHEELS, SimulatedRobot, broken_orphan, orphan
if __name__ == "__main__":
    robot = SimulatedRobot(MAKER, KINDS)
    print(robot._process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def parent(folder: Path, maker: str) -> subprocess.CompletedProcess[str]:
    """Run a parent until it and its child have closed their output."""
    script = folder / "parent.py"
    script.write_text(PARENT.replace("MAKER", maker))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, timeout=60)


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    child = int(parent(tmp_path, "WHEELS").stdout)
    assert until(lambda: state_of(child) in ("", "Z"))


@pytest.mark.parametrize("maker", ["orphan", "broken_orphan"])
def test_a_parent_that_dies_while_it_starts_is_no_traceback(tmp_path: Path, maker: str) -> None:
    done = parent(tmp_path, maker)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")
