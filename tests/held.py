"""A training that stands still where a test wants it to, as with a driver that hangs, until the test has it go on.

    python -m tests.held PLACE CALL FLAG...    at which call of which place; flags of biped_train.py

It prints `held:` there and goes on when it is sent a line. It says `noted:` after each signal that it takes note of and
in the end how often the place was called.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import biped_train
from biped.base.interrupts import Interrupts
from biped.env.env import BipedVecEnv
from biped.ppo.acting import DeterministicActor
from biped.ppo.gradients import PpoGradient
from biped.sim.quick_import import knowing_frozen_files


def place(name: str) -> tuple[Any, str]:
    """Return a class and the method of it that is called once per control step, minibatch, step or building."""
    if name == "build":
        with knowing_frozen_files():
            from genesis.engine.scene import Scene

        return Scene, "build"
    places = {
        "rollout": (BipedVecEnv, "step_tensor"),
        "update": (PpoGradient, "add"),
        "evaluation": (DeterministicActor, "__call__"),
    }
    return places[name]


def hold(owner: Any, method: str, call: int) -> list[int]:
    """Hold a call, counted from 1, of a method before its end; return a list that grows by each call."""
    real: Callable[..., Any] = getattr(owner, method)
    calls: list[int] = []

    def held(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        result = real(*args, **kwargs)
        if len(calls) == call:
            print(f"held: {method}", flush=True)
            wait_for_a_line()
        return result

    setattr(owner, method, held)
    return calls


def wait_for_a_line() -> None:
    """Wait as Genesis does in its callbacks: a `KeyboardInterrupt` is swallowed."""
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            sys.stdin.readline()
            return


def tell_of_signals() -> None:
    """Say of each signal that is not the last that it was noted."""
    real = Interrupts._receive

    def receive(interrupts: Interrupts, number: int, frame: FrameType | None) -> None:
        real(interrupts, number, frame)
        os.write(1, f"noted: {signal.Signals(number).name}\n".encode())  # print may be under way

    Interrupts._receive = receive


def main() -> int:
    """Train, and return the exit code."""
    name, call, *flags = sys.argv[1:]
    calls = hold(*place(name), int(call))
    tell_of_signals()
    try:
        return biped_train.main(flags)
    finally:
        print(f"calls: {len(calls)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
