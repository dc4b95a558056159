"""The person with the dead-man's key: a keyboard in a pseudo-terminal, a gamepad's events, a script."""

import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from biped.base.errors import MachineError, UsageError
from biped.deploy.contract_file import CommandRule
from biped.deploy.operator import HELD_S, Gamepad, Keyboard, Script

RULE = CommandRule(np.array(((-0.2, 0.6), (-0.15, 0.15), (-0.6, 0.6))), 0.5, 0.1)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    master, slave = os.openpty()
    with os.fdopen(slave, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield master
    os.close(master)


def test_the_key_counts_as_held_as_long_as_it_repeats(terminal: int) -> None:
    now = [0.0]
    keyboard = Keyboard(RULE, np.zeros(3), clock=lambda: now[0])
    assert not keyboard.wish().is_held
    os.write(terminal, b" ")
    assert keyboard.wish().is_held
    now[0] = HELD_S - 0.01
    assert keyboard.wish().is_held
    now[0] = HELD_S + 0.01
    assert not keyboard.wish().is_held
    keyboard.close()


def test_keys_change_the_command_within_what_the_policy_knows(terminal: int) -> None:
    keyboard = Keyboard(RULE, np.array((0.3, 0.0, 0.0)))
    os.write(terminal, b"wWaq")
    np.testing.assert_allclose(keyboard.wish().command, (0.46, 0.03, 0.12))
    os.write(terminal, b"w" * 20 + b"e" * 30)
    np.testing.assert_allclose(keyboard.wish().command, (0.6, 0.03, -0.6))
    os.write(terminal, b"x")
    np.testing.assert_allclose(keyboard.wish().command, np.zeros(3))
    keyboard.close()


def test_a_terminal_that_has_gone_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = os.openpty()
    with os.fdopen(slave, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        now = [0.0]
        keyboard = Keyboard(RULE, np.zeros(3), clock=lambda: now[0])
        os.write(master, b" ")
        assert keyboard.wish().is_held
        os.close(master)
        now[0] = 9.0
        assert not keyboard.wish().is_held
        keyboard.close()


def test_without_a_terminal_nobody_could_let_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(" ")
    with file.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(UsageError, match=r"^nobody holds the dead-man's key: "):
            Keyboard(RULE, np.zeros(3))


def event(value: int, kind: int, number: int) -> bytes:
    return struct.pack("IhBB", 1234, value, kind, number)


def test_a_gamepads_button_is_the_dead_mans_and_its_sticks_reach_the_ranges(tmp_path: Path) -> None:
    pipe = tmp_path / "js0"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(pipe, os.O_WRONLY)
    pad = Gamepad(pipe, RULE)
    os.write(writer, event(0, 0x81, 4) + event(1, 1, 0) + event(-32767, 2, 1))
    assert not pad.wish().is_held
    os.write(writer, event(1, 1, 4) + event(16384, 2, 3))
    wish = pad.wish()
    assert wish.is_held
    np.testing.assert_allclose(wish.command, (0.6, 0.0, -0.3), atol=1e-4)
    os.write(writer, event(32767, 2, 1) + event(0, 1, 4))
    wish = pad.wish()
    assert not wish.is_held
    np.testing.assert_allclose(wish.command[0], -0.2)
    os.write(writer, event(1, 1, 4))
    assert pad.wish().is_held
    os.close(writer)
    assert not pad.wish().is_held, "a gamepad that is unplugged holds nothing"
    pad.close()
    os.close(reader)


def test_a_gamepad_that_is_missing_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"^cannot open the gamepad .*js7 .*: see ls /dev/input$"):
        Gamepad(tmp_path / "js7", RULE)
    (tmp_path / "file").write_bytes(event(1, 1, 4))
    for path in (tmp_path / "file", tmp_path):
        with pytest.raises(MachineError, match=r"is no gamepad: see ls /dev/input$"):
            Gamepad(path, RULE)


def test_a_script_stands_and_then_walks() -> None:
    now = [5.0]
    script = Script(np.array((0.3, 0.0, 0.1)), stand_s=2.0, clock=lambda: now[0])
    assert script.wish().is_held
    assert not script.wish().command.any()
    now[0] = 90.0
    assert not script.wish().command.any(), "the policy has not begun"
    script.begin()
    now[0] = 91.9
    assert not script.wish().command.any()
    now[0] = 92.1
    np.testing.assert_allclose(script.wish().command, (0.3, 0.0, 0.1))
