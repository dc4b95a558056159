"""The process of the simulated robot: other devices, time that stands still, and its end."""

import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biped.base.errors import MachineError
from biped.deploy.simulated_bus import Trouble
from biped.deploy.simulated_process import SimulatedRobot
from biped.deploy.simulated_servo import ServoKind
from tests.servo_bus import XM430, Array, Wheels

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
        content, end = b"", time.monotonic() + 5.0
        while content.count(b"\n") < 10 and time.monotonic() < end:
            if select.select([line], [], [], 0.1)[0]:
                content += os.read(line, 1000)
        os.close(line)
        assert content.split()[1:9] == [b"1000"] * 8


def test_a_device_that_nobody_reads_does_not_stop_the_robot() -> None:
    with SimulatedRobot(WHEELS, KINDS, make_devices=(Flood,)) as robot:
        time.sleep(0.1)
        assert robot.ask("plant", "time_s") > 0.05


class Flood:
    """A device that sends more than a terminal holds."""

    def due(self, now_s: float, plant: Any) -> bytes:
        return bytes(4000)


def test_time_stands_still_for_a_plant_that_cannot_follow() -> None:
    with SimulatedRobot(SlowPlant, KINDS[:1]) as robot:
        time.sleep(1.5)
        assert robot.ask("figures")["slipped_s"] > 0.3
        assert robot.ask("plant", "longest_s") < 0.11  # the clock is read twice per round, 0.05 s each at most


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


PARENT = """
import os, signal
from tests.deploy.test_simulated_process import KINDS, WHEELS, SimulatedRobot
if __name__ == "__main__":
    robot = SimulatedRobot(WHEELS, KINDS)
    print(robot._process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, timeout=60)
    child, end = int(done.stdout), time.monotonic() + 10.0
    while Path(f"/proc/{child}/stat").exists() and time.monotonic() < end:
        if Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return  # dead, and nobody asks for its exit code
        time.sleep(0.05)
    assert not Path(f"/proc/{child}/stat").exists()
