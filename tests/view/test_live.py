"""Watching and steering: real servers, real terminals, the shipped policy."""

import contextlib
import os
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import urllib.request
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest
import torch

import biped_eval
from biped.config.task import CommandConfig
from biped.env.env import BipedEnv, make_env
from biped.view.controls import Gamepad
from biped.view.live import PUSH_M_S, LiveLoop, LiveRequest, live_config
from biped.view.steering import STAND, Ranges, Wish, press
from biped_config import cpu_preset
from tests import processes
from tests.browser import Browser
from tests.loopback import free_port
from tests.processes import PATIENCE_S, ROOT, environment

MODEL = str(ROOT / "assets" / "policies" / "biped_walk.zip")
WATCH = ["--model", MODEL, "--sim", "mujoco"]
RANGES = Ranges.trained(CommandConfig())
LINE = re.compile(
    r"(?P<age>[\d.]+) s  command (?P<x>\S+) (?P<y>\S+) (?P<yaw>\S+)  measured (?P<vx>\S+) \S+ \S+  "
    r"feet (?P<feet>\S+)  falls (?P<falls>\d+)  pace (?P<pace>[\d.]+)"
)


class Session:
    """`biped_eval.py` in a pseudo-terminal of its own."""

    def __init__(self, *flags: str) -> None:
        self.terminal, inner = pty.openpty()
        self.inner = inner
        self.before = termios.tcgetattr(inner)
        self.text = ""
        self._ending = contextlib.ExitStack()
        self._ending.callback(os.close, self.terminal)
        self._ending.callback(os.close, inner)
        command = [sys.executable, "biped_eval.py", *WATCH, *flags]
        started = processes.start(command, stdin=inner, stdout=inner, stderr=inner)
        self.process = self._ending.enter_context(started)
        self._ending.callback(self.process.kill)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                self.text += os.read(self.terminal, 4096).decode(errors="replace")
            except OSError:
                return

    def until(self, wanted: Callable[[str], object]) -> None:
        """Wait until what was printed has something."""
        processes.until(lambda: wanted(self.text) or self.process.poll() is not None)
        assert wanted(self.text), f"it ended early: {self.text}"

    def until_line(self, wanted: Callable[[dict[str, str]], object]) -> dict[str, str]:
        """Wait for a new line about the robot that has something, and return it."""
        known = len(LINE.findall(self.text))
        found: list[dict[str, str]] = []

        def look(text: str) -> bool:
            lines = [match.groupdict() for match in LINE.finditer(text)][known:]
            found[:] = [line for line in lines if wanted(line)]
            return bool(found)

        self.until(look)
        return found[0]

    def press(self, keys: bytes) -> None:
        os.write(self.terminal, keys)

    def end(self, number: signal.Signals | None = None) -> int:
        if number is not None:
            self.process.send_signal(number)
        return self.process.wait(timeout=PATIENCE_S)

    def is_restored(self) -> bool:
        return termios.tcgetattr(self.inner) == self.before

    def close(self) -> None:
        self._ending.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Session]]:
    sessions: list[Session] = []

    def begin(*flags: str) -> Session:
        sessions.append(Session(*flags))
        return sessions[-1]

    yield begin
    for session in sessions:
        session.close()


def test_the_keyboard_alone_walks_the_robot_and_leaves_the_terminal_as_it_was(start) -> None:
    session = start("--keyboard")
    session.until(lambda text: "arrows or WASD" in text)
    assert not termios.tcgetattr(session.inner)[3] & (termios.ECHO | termios.ICANON)
    session.until_line(lambda line: line["x"] == "+0.00")
    session.press(b"www\x1b[A")
    walking = session.until_line(lambda line: line["x"] == "+0.40" and float(line["vx"]) > 0.25)
    assert walking["falls"] == "0"
    session.press(b"a")
    session.until_line(lambda line: line["yaw"] == "+0.20")
    session.press(b"r")
    again = session.until_line(lambda line: float(line["age"]) < float(walking["age"]))
    assert again["x"] == "+0.40", "the command stays"
    session.press(b" ")
    session.until_line(lambda line: line["x"] == line["yaw"] == "+0.00")
    session.press(b"\x1b")
    assert session.end() == 0
    assert session.is_restored()


def test_a_kill_leaves_the_terminal_as_it_was(start) -> None:
    session = start("--keyboard")
    session.until(lambda text: "arrows or WASD" in text)
    session.until_line(lambda line: line["falls"] == "0")
    assert session.end(signal.SIGTERM) == 143
    assert session.is_restored()


def test_a_browser_and_the_keyboard_steer_the_same_robot(start) -> None:
    pytest.importorskip("viser", reason="the package viser is not installed")
    port = free_port()
    session = start("--web", str(port), "--keyboard")
    session.until(lambda text: f"open http://127.0.0.1:{port}" in text and "arrows or WASD" in text)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as page:
        assert page.status == 200
        assert b"<html" in page.read().lower()
    browser = Browser(port)
    browser.set("forward (m/s)", 0.4)
    walking = session.until_line(lambda line: line["x"] == "+0.40" and float(line["vx"]) > 0.25)
    session.until_line(lambda line: float(line["age"]) > float(walking["age"]) + 2.0 and line["falls"] == "0")
    session.press(b"s")
    session.until_line(lambda line: line["x"] == "+0.30")
    browser.until(lambda: browser.value("forward (m/s)") == pytest.approx(0.3))
    browser.set("", "Stop")
    session.until_line(lambda line: line["x"] == "+0.00")
    browser.close()
    assert session.end(signal.SIGINT) == 0
    assert session.is_restored()


@pytest.mark.parametrize("sim", ["genesis", "mujoco"])
def test_without_a_display_one_line_says_so(sim: str, capsys, monkeypatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert biped_eval.main(["--model", MODEL, "--sim", sim, "--viewer"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "biped_eval.py: there is no display for --viewer: use --web, or --picture for a file\n"


def test_a_keyboard_needs_a_terminal(capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", StringIO())
    assert biped_eval.main([*WATCH, "--keyboard"]) == 2
    assert "a terminal as standard input: start it in a terminal, or steer with --web" in capsys.readouterr().err


def test_without_viser_one_line_says_how_to_install_it(capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    assert biped_eval.main([*WATCH, "--web"]) == 1
    said = capsys.readouterr().err
    assert "pip install 'biped-walking[sim]'" in said
    assert said.count("\n") == 1


def test_a_port_that_is_taken_is_named(capsys) -> None:
    pytest.importorskip("viser", reason="the package viser is not installed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert biped_eval.main([*WATCH, "--web", str(port)]) == 1
    said = capsys.readouterr().err
    assert f"port {port} is in use: name another one" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--viewer", "--robustness"], "--robustness"),
        (["--web", "--picture", "x.png"], "--picture"),
        (["--keyboard", "--out", "x.json"], "--out"),
        (["--web", "--episodes", "17"], "at most 16"),
        (["--web", "--command", "2", "0", "0"], "forward -0.2 to 0.6"),
        (["--web", "--command", "nan", "0", "0"], "finite"),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(flags: list[str], word: str, capsys) -> None:
    assert biped_eval.main([*WATCH, *flags]) == 2
    said = capsys.readouterr().err
    assert word in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x"])
def test_a_port_is_a_number(port: str, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        biped_eval.main([*WATCH, f"--web={port}"])
    assert "is not a port" in capsys.readouterr().err


def falling(env: BipedEnv) -> Callable[..., torch.Tensor]:
    """An agent that throws the robots over."""
    return lambda *_: torch.full((env.num_envs, len(env.cfg.robot.joint_names)), 4.0)


@pytest.fixture
def env() -> Iterator[BipedEnv]:
    built = make_env(live_config(cpu_preset().env, LiveRequest(episodes=3)), sim="mujoco")
    yield built
    built.close()


def test_after_a_fall_the_command_stays(env: BipedEnv) -> None:
    screen = StringIO()
    loop = LiveLoop(env, falling(env), Wish((0.3, 0.0, 0.0)), [], [], terminal=screen)
    while loop.status.falls < 3:
        assert loop.step()
        assert torch.allclose(env.command, torch.tensor((0.3, 0.0, 0.0)))
    assert loop.status.episode_s < 1.0


def test_a_push_moves_every_robot_at_once_and_only_once(env: BipedEnv) -> None:
    class Pusher:
        def __init__(self) -> None:
            self.left = 1

        def poll(self, wish: Wish) -> Wish:
            self.left, left = 0, self.left
            return press(wish, b"p", RANGES) if left else wish

    def stand(*_: torch.Tensor) -> torch.Tensor:
        return torch.zeros(env.num_envs, len(env.cfg.robot.joint_names))

    loop = LiveLoop(env, stand, Wish(STAND), [Pusher()], [], terminal=StringIO())
    loop.step()
    pushed = env.state.base_lin_vel_b[:, :2].norm(dim=1)
    assert torch.allclose(pushed, torch.full((3,), PUSH_M_S), atol=0.1)
    assert not loop.wish.push


def test_where_nothing_steers_the_environment_draws_the_commands(env: BipedEnv) -> None:
    loop = LiveLoop(env, falling(env), Wish(), [], [], seed=3, terminal=StringIO())
    loop.step()
    assert len(env.command.unique(dim=0)) == 3


class Time:
    """Time that passes only in sleep, and while the agent is thinking."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_the_loop_keeps_real_time_and_says_a_line_a_second(env: BipedEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    screen, time, fall = StringIO(), Time(), falling(env)
    monkeypatch.setattr("biped.view.live.time", time)
    thinking_s = 0.005

    def agent(*seen: torch.Tensor) -> torch.Tensor:
        time.now_s += thinking_s
        return fall(*seen)

    loop = LiveLoop(env, agent, Wish(STAND), [], [], terminal=screen)
    began_s = time.now_s
    for _ in range(150):
        assert loop.step()
    assert time.now_s - began_s == pytest.approx(3.0)
    lines = [match.groupdict() for match in LINE.finditer(screen.getvalue())]
    assert len(lines) == len(screen.getvalue().splitlines()) == 2
    assert all(float(line["pace"]) == pytest.approx(1.0, abs=0.02) for line in lines)
    thinking_s, began_s = 0.04, time.now_s
    for _ in range(50):
        assert loop.step()
    assert time.now_s - began_s == pytest.approx(2.0), "late as it is, it does not sleep"
    assert LINE.findall(screen.getvalue())[-1][-1] == "0.50"


def test_a_gamepad_steers_at_once_and_unplugged_it_stops(env: BipedEnv, tmp_path: Path) -> None:
    fifo = tmp_path / "js0"
    os.mkfifo(fifo)
    pad = Gamepad(fifo, RANGES)
    stick = struct.pack("<IhBB", 5, -32767, 2, 1)
    with fifo.open("wb", buffering=0) as device:
        loop = LiveLoop(env, falling(env), Wish(STAND), [pad], [], terminal=StringIO())
        loop.step()
        assert not env.command.any()
        device.write(stick[:3])
        loop.step()
        assert not env.command.any()
        device.write(stick[3:])
        loop.step()
        assert env.command[0].tolist() == pytest.approx([0.6, 0.0, 0.0])
        device.write(struct.pack("<IhBB", 6, 0, 2, 1))
        loop.step()
        assert not env.command.any()
    pad.close()
    assert pad.poll(Wish((0.1, 0.0, 0.0))) == Wish((0.1, 0.0, 0.0))


def test_a_gamepad_is_used_only_where_there_is_one(tmp_path: Path) -> None:
    assert Gamepad.find(RANGES, tmp_path / "js0") is None


def test_a_key_that_ends_ends_the_loop_before_the_next_step(env: BipedEnv) -> None:
    class Quitter:
        def poll(self, wish: Wish) -> Wish:
            return press(wish, b"x", RANGES)

    loop = LiveLoop(env, falling(env), Wish(STAND), [Quitter()], [], terminal=StringIO())
    assert not loop.step()


@pytest.fixture
def display() -> Iterator[str]:
    """A display's name, if there is one or Xvfb can make one."""
    if os.environ.get("DISPLAY"):
        yield os.environ["DISPLAY"]
        return
    if shutil.which("Xvfb") is None:
        pytest.skip("no display, and no Xvfb to make one")
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "320x240x24"]
    with processes.start(command, pass_fds=[write], stderr=subprocess.DEVNULL) as server:
        os.close(write)
        yield f":{os.read(read, 16).decode().strip()}"
        os.close(read)
        server.terminate()


WINDOW = """
import sys
from dataclasses import replace
import mujoco
from biped_config import cpu_preset
from biped.sim.mujoco_window import MujocoWindow

cfg = replace(cpu_preset().env, num_envs=2)
window = MujocoWindow(mujoco.MjSpec.from_file(cfg.robot.model_path), cfg)
print(window.is_open, flush=True)
if sys.argv[1:] == ["close"]:
    window.close()
    print(window.is_open, flush=True)
"""

SHOWN = """
from dataclasses import replace
from biped_config import cpu_preset
from biped_env import make_env

env = make_env(replace(cpu_preset().env, num_envs=2), sim="mujoco", viewer=True)
window = env.scene.window
window.show(env.state)
positions = window._data.qpos.reshape(2, -1)
print(bool(abs(positions[0, 2] - env.state.base_pos_w[0, 2].item()) < 1e-6))
print(bool(abs(positions[1, 1] - positions[0, 1] - 1.5) < 1e-6))
window.close()
"""


def in_a_process_of_its_own(words: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
    """Run Python: Xlib ends the process whose display goes away."""
    return processes.run([sys.executable, *words], env={**environment(), **environ})


@pytest.mark.parametrize(("last", "printed"), [("close", ["True", "False"]), ("leave it open", ["True"])])
def test_mujocos_window_is_gone_with_its_process_which_does_not_crash(
    display: str, last: str, printed: list[str]
) -> None:
    # Whether a picture is being drawn when Python ends is chance: six of ten crashed where nobody waited for it.
    for _ in range(3):
        ended = in_a_process_of_its_own(["-c", WINDOW, last], DISPLAY=display)
        assert (ended.returncode, ended.stdout.split()) == (0, printed), ended.stderr


def test_a_window_shows_the_robots_where_they_are(display: str) -> None:
    ended = in_a_process_of_its_own(["-c", SHOWN], DISPLAY=display)
    assert ended.stdout.split() == ["True", "True"], ended.stderr


def test_a_display_that_does_not_answer_is_one_line() -> None:
    ended = in_a_process_of_its_own(["biped_eval.py", *WATCH, "--viewer"], DISPLAY=":4711", WAYLAND_DISPLAY="")
    assert ended.returncode == 1
    assert re.fullmatch(r"biped_eval.py: MuJoCo's viewer does not open here \(.+\): use --web\n", ended.stderr)
