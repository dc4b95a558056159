"""A training that stands still is named, once, and so is its going on."""

import subprocess
import sys
import time
from pathlib import Path

from biped.watchdog import Watchdog
from tests.conftest import ROOT


def wait_for(lines: list[str], count: int) -> None:
    end = time.monotonic() + 20
    while len(lines) < count:
        assert time.monotonic() < end, lines
        time.sleep(0.01)


def test_it_names_the_place_once_and_says_when_it_goes_on() -> None:
    lines: list[str] = []
    with Watchdog(0.1, lines.append) as watchdog:
        wait_for(lines, 1)
        time.sleep(0.3)  # not again
        watchdog.sign_of_life()
        wait_for(lines, 2)
    assert lines[0].startswith("watchdog: nothing has happened for 0 s, in ")
    # The innermost line of this project: this thread sleeps in this file, whatever time.sleep is made of.
    assert "(tests/test_watchdog.py:" in lines[0]
    assert lines[1].startswith("watchdog: it goes on after ")


def test_it_is_silent_while_there_are_signs_of_life_and_after_its_end() -> None:
    lines: list[str] = []
    with Watchdog(0.5, lines.append) as watchdog:
        for _ in range(20):
            time.sleep(0.05)
            watchdog.sign_of_life()
    time.sleep(0.6)
    assert lines == []


STALLING = """
import sys, time
import biped_train
from biped_env import BipedVecEnv

step, calls = BipedVecEnv.step_tensor, []

def slow(self, actions):
    calls.append(1)
    if len(calls) == 20:
        time.sleep(5.0)  # a driver that hangs for a while
    return step(self, actions)

BipedVecEnv.step_tensor = slow
sys.exit(biped_train.main(sys.argv[1:]))
"""


def test_a_training_that_hangs_says_so_and_ends_well(tmp_path: Path) -> None:
    flags = [
        "--preset",
        "smoke",
        "--sim",
        "mujoco",
        "--eval_freq",
        "0",
        "--total_timesteps",
        "1024",
        "--log_dir",
        str(tmp_path),
    ]
    command = [sys.executable, "-c", STALLING, *flags, "--set", "train.stall_after_s=2.5"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    lines = [line for line in ended.stderr.splitlines() if line.startswith("watchdog: ")]
    assert len(lines) == 2, ended.stderr
    assert "nothing has happened for" in lines[0]
    assert "it goes on after 5 s" in lines[1]
