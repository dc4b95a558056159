"""A training that stands still is named, once, and so is its going on."""

import queue
import subprocess
import threading
from pathlib import Path

from biped.base.watchdog import Watchdog
from tests.processes import PATIENCE_S, Process, release, start_held, until, until_it_says


class Clock:
    """A clock that stands still until it is set; it knows how often the watchdog has looked at it."""

    def __init__(self) -> None:
        self.now_s, self.looks = 0.0, 0

    def __call__(self) -> float:
        self.looks += threading.current_thread().name == "watchdog"
        return self.now_s

    def wait_for_looks(self, count: int = 2) -> None:
        """Wait until the watchdog has looked, and done something about it: one more look is one look too early."""
        wanted = self.looks + count
        until(lambda: self.looks >= wanted)


def test_it_names_the_place_once_and_says_when_it_goes_on() -> None:
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    clock = Clock()
    with Watchdog(0.1, lines.put, clock) as watchdog:
        clock.now_s = 7.0
        stalled = lines.get(timeout=PATIENCE_S)
        clock.now_s = 70.0
        clock.wait_for_looks(5)  # not again
        watchdog.sign_of_life()
        goes_on = lines.get(timeout=PATIENCE_S)
        clock.wait_for_looks(5)  # nor that
    assert stalled.startswith("watchdog: nothing has happened for 7 s, in ")
    # The innermost line of this project: this thread waits in these files, whatever waiting is made of.
    assert "(tests/" in stalled
    assert goes_on == "watchdog: it goes on after 70 s"
    assert lines.empty()


def test_it_is_silent_while_there_are_signs_of_life_and_after_its_end() -> None:
    lines: list[str] = []
    clock = Clock()
    with Watchdog(0.1, lines.append, clock) as watchdog:
        for _ in range(5):
            clock.now_s += 0.09
            clock.wait_for_looks()
            watchdog.sign_of_life()
    assert "watchdog" not in {thread.name for thread in threading.enumerate()}
    assert lines == []


def test_a_sign_of_life_that_comes_while_the_watchdog_is_held_up_counts() -> None:
    lines: list[str] = []
    clock = Clock()

    def held_up() -> float:
        if threading.current_thread().name == "watchdog":
            clock.now_s += 100.0
            other = threading.Thread(target=watchdog.sign_of_life)
            other.start()
            other.join()
        return clock()

    with Watchdog(0.1, lines.append, held_up) as watchdog:
        clock.wait_for_looks(3)
    assert lines == []


def until_it_is_said_to_stall(training: Process) -> None:
    """Read on until a training is held and the last that was said of it is that it stalls.

    On a slow machine it may stall before, and then be held.
    """
    is_held, last = False, ""
    assert training.stdout
    for line in training.stdout:
        is_held = is_held or "held:" in line
        last = line if line.startswith("watchdog: ") else last
        if is_held and "nothing has happened for" in last:
            return
    raise AssertionError(last)


def test_a_training_that_hangs_says_so_and_goes_on(tmp_path: Path) -> None:
    flags = ["--preset", "smoke", "--sim", "mujoco", "--eval_freq", "0", "--total_timesteps", "100000000"]
    flags += ["--log_dir", str(tmp_path), "--set", "train.stall_after_s=1"]
    with start_held("rollout", 20, *flags, stderr=subprocess.STDOUT) as training:
        until_it_is_said_to_stall(training)
        release(training)
        assert "it goes on after" in until_it_says(training, "watchdog: ")
        training.terminate()
        training.communicate(timeout=PATIENCE_S)
    assert training.returncode == 143
