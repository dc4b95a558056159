"""Watch and steer a policy while it walks: in the simulator's window, in a browser, from the keyboard.

One loop runs in real time: poll the inputs, step, show. `Ctrl-C` ends it.
"""

import contextlib
import math
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TextIO

import torch
from torch import Tensor

from biped.base.errors import UsageError
from biped.base.interrupts import Interrupted, Interrupts
from biped.config.task import EnvConfig
from biped.env.env import BipedEnv
from biped.eval.agents import Agent
from biped.robot.rotations import quat_rotate
from biped.robot.state import BipedState
from biped.sim.window import Window, require_display
from biped.view.controls import Gamepad, Keyboard, Source
from biped.view.steering import AXES, STAND, Command, Ranges, Wish
from biped.view.steering_page import Status, WebView
from biped.view.web import require_port, require_viser

MOST_ROBOTS = 16
"""Largest number of robots to draw."""
EPISODE_S = 3600.0
"""Time limit of an episode (s), for robots that do not fall."""
FRAME_S, STATUS_S = 1 / 30, 1.0
"""Shortest time between two frames, and time between two lines on the terminal (s)."""
PUSH_M_S = 0.4
"""Change of the base's horizontal velocity when a person pushes (m/s); its direction is chance."""
LATE_S = 0.25
"""If the loop is later than this, it does not catch up with real time (s)."""
_AVERAGE_S = 0.5


class View(Protocol):
    """A display of the robots."""

    @property
    def is_open(self) -> bool:
        """Whether the user has not closed the view."""
        ...

    def show(self, state: BipedState, status: Status) -> None:
        """Show robots in a state."""
        ...


@dataclass(frozen=True)
class LiveRequest:
    """The options of the command line."""

    viewer: bool = False
    """Whether to open the simulator's window."""
    keyboard: bool = False
    """Whether to read keys from the terminal, and a gamepad if there is one."""
    web_port: int | None = None
    """Port of the page; None: no page."""
    command: Command | None = None
    """The first command; None: stand, or, without steering, the environment's own commands."""
    episodes: int = 1
    """Number of robots."""

    @property
    def is_steered(self) -> bool:
        """Whether the user can change the command."""
        return self.keyboard or self.web_port is not None


def live_config(cfg: EnvConfig, request: LiveRequest) -> EnvConfig:
    """Return the environment to watch, after checking that all requested displays and inputs are available.

    Raises:
        UsageError: too many robots, a command outside the trained ranges, or `--keyboard` without a terminal.
        MachineError: there is no display, viser is missing, or the port is in use.
    """
    ranges = Ranges.trained(cfg.command)
    if request.episodes > MOST_ROBOTS:
        raise UsageError(f"--episodes: {request.episodes} robots are too many to look at: at most {MOST_ROBOTS}")
    if request.command is not None and not ranges.holds(request.command):
        within = ", ".join(
            f"{name} {low:g} to {high:g}" for name, low, high in zip(AXES, ranges.low, ranges.high, strict=True)
        )
        raise UsageError(f"--command: {request.command} is beyond what was trained: {within}")
    if request.keyboard:
        Keyboard(ranges)
    if request.viewer:
        require_display()
    if request.web_port is not None:
        require_viser()
        require_port(request.web_port)
    return replace(cfg, num_envs=request.episodes, termination=replace(cfg.termination, episode_s=EPISODE_S))


def run_live(env: BipedEnv, agent: Agent, request: LiveRequest, seed: int = 0) -> None:
    """Show and steer the robots until the user ends it: Ctrl-C, X, Esc, or closing the window.

    Args:
        env: an environment with `live_config`'s configuration, with a window if one was requested.
        agent: the policy.
        request: the displays and inputs.
        seed: seed of starts, and of commands without steering.

    Raises:
        Interrupted: a signal other than Ctrl-C's asked to end.
        MachineError: the page cannot be served.
    """
    ranges = Ranges.trained(env.cfg.command)
    if env.device.type == "cpu":
        torch.set_num_threads(1)  # for tensors of a few robots, more threads only add waiting
    keyboard = Keyboard(ranges) if request.keyboard else None
    command = request.command or (STAND if request.is_steered else None)
    with contextlib.ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts(last_act=keyboard and keyboard.restore))
        views: list[View] = []
        sources: list[Source] = []
        if env.scene.window is not None:
            views.append(_WindowView(env.scene.window))
            stack.callback(env.scene.window.close)
        if request.web_port is not None:
            page = WebView(env.cfg, ranges, request.web_port)
            stack.callback(page.close)
            views.append(page)
            sources.append(page)
            print(f"open {page.address} in a browser; Ctrl-C ends", flush=True)
        if keyboard is not None:
            sources += listen(keyboard, stack)  # entered last: the terminal is restored first, before anything slow
        loop = LiveLoop(env, agent, Wish(command), sources, views, seed=seed)
        while interrupts.received is None and loop.step():
            pass
        loop.finish()
    if interrupts.received is not None and interrupts.received.name != "SIGINT":
        raise Interrupted(interrupts.received)


def listen(keyboard: Keyboard, ending: contextlib.ExitStack) -> list[Gamepad | Keyboard]:
    """Return the keyboard and the gamepad, if there is one, listening until `ending` ends; say what the keys do."""
    pad = Gamepad.find(keyboard.ranges)
    if pad is not None:
        ending.callback(pad.close)
    ending.enter_context(keyboard)
    print("arrows or WASD: walk, turn; Q E: sideways; space: stop; P: push; R: reset; X: end", flush=True)
    return [keyboard] if pad is None else [pad, keyboard]


@dataclass(frozen=True)
class _WindowView:
    """A simulator's window as a view."""

    window: Window

    @property
    def is_open(self) -> bool:
        return self.window.is_open

    def show(self, state: BipedState, status: Status) -> None:
        del status
        self.window.show(state)


class LiveLoop:
    """Steps the robots in real time, with inputs and displays."""

    def __init__(
        self,
        env: BipedEnv,
        agent: Agent,
        wish: Wish,
        sources: Sequence[Source],
        views: Sequence[View],
        *,
        seed: int = 0,
        terminal: TextIO | None = None,
    ) -> None:
        """Reset the robots.

        Args:
            env: the robots.
            agent: the policy.
            wish: the initial wish.
            sources: the inputs, polled in this order.
            views: the displays.
            seed: seed of the starts, and of the pushes' directions.
            terminal: output for one line per second; None: standard output.
        """
        self._env, self._agent, self._wish, self._chance = env, agent, wish, random.Random(seed)
        self._sources, self._views = sources, views
        self._terminal = sys.stdout if terminal is None else terminal
        self._dt_s = env.cfg.sim.control_dt_s
        self._smoothing = 1.0 - math.exp(-self._dt_s / _AVERAGE_S)
        self._held: Command | None = None
        self._falls, self._steps, self._pace = 0, 0, 1.0
        self._observations, _ = env.reset(seed=seed)
        self._begin()
        self._due_s = self._said_s = time.monotonic()
        self._shown_s = -math.inf

    def _begin(self) -> None:
        env = self._env
        self._starts = torch.ones(env.num_envs, dtype=torch.bool, device=env.device)
        self._age_s = torch.zeros(env.num_envs, device=env.device, dtype=torch.float32)
        self._velocity = torch.zeros(3, device=env.device, dtype=torch.float32)
        self._held = None

    @property
    def wish(self) -> Wish:
        """What was wished for last."""
        return self._wish

    @torch.inference_mode()
    def step(self) -> bool:
        """Run one control step and wait until it is due; return False if it was the last, or for other robots."""
        for source in self._sources:
            self._wish = source.poll(self._wish)
        is_over = self._wish.end or self._wish.robot is not None
        if is_over or not all(view.is_open for view in self._views):
            return False
        if self._wish.reset:
            self._observations, _ = self._env.reset()
            self._wish = replace(self._wish, reset=False)
            self._begin()
        if self._wish.command is not None and self._wish.command != self._held:
            self._hold(self._wish.command)
        if self._wish.push:
            self._push()
            self._wish = replace(self._wish, push=False)
        try:
            self._observations, _, terminated, truncated, _ = self._env.step(
                self._agent(self._observations, self._starts)
            )
        except Exception:
            # Genesis draws while it steps, and raises an exception if its window was closed meanwhile.
            if all(view.is_open for view in self._views):
                raise
            return False
        self._look_at(terminated, terminated | truncated)
        self._show()
        self._keep_time()
        return True

    def _hold(self, command: Command) -> None:
        self._observations = self._env.hold_commands(
            torch.tensor(command, dtype=torch.float32).expand(self._env.num_envs, 3)
        )
        self._held = command

    def _push(self) -> None:
        env, heading = self._env, self._chance.uniform(0.0, 2.0 * math.pi)
        change = torch.tensor((math.cos(heading), math.sin(heading), 0.0), device=env.device, dtype=torch.float32)
        velocity_w = quat_rotate(env.state.base_quat_w, env.state.base_lin_vel_b) + PUSH_M_S * change
        everywhere = torch.ones(env.num_envs, dtype=torch.bool, device=env.device)
        env.scene.set_base_velocity(everywhere, velocity_w, env.state.base_ang_vel_b)

    def _look_at(self, terminated: Tensor, done: Tensor) -> None:
        state = self._env.state
        velocity = torch.cat((state.base_lin_vel_b[0, :2], state.base_ang_vel_b[0, 2:]))
        self._velocity = self._velocity + self._smoothing * (velocity - self._velocity)
        self._age_s = torch.where(done, 0.0, self._age_s + self._dt_s)
        self._falls += int(terminated.sum())
        self._starts = done
        if done[0]:
            self._velocity = torch.zeros_like(self._velocity)
        if self._held is not None and done.any():
            self._hold(self._held)  # the new episode has drawn another command

    @property
    def status(self) -> Status:
        """The current status of the first robot."""
        env = self._env
        x, y, yaw = env.command[0].tolist()
        left, right = env.contacts[0].tolist()
        forward, sideways, turn = self._velocity.tolist()
        return Status(
            (x, y, yaw), (forward, sideways, turn), (left, right), float(self._age_s[0]), self._falls, self._pace
        )

    def _show(self) -> None:
        now_s = time.monotonic()
        if now_s - self._shown_s >= FRAME_S:
            self._shown_s = now_s
            status = self.status
            for view in self._views:
                view.show(self._env.state, status)
        self._steps += 1
        if now_s - self._said_s >= STATUS_S:
            self._pace = self._steps * self._dt_s / (now_s - self._said_s)
            self._steps, self._said_s = 0, now_s
            self._say(as_line(self.status))

    def _say(self, line: str) -> None:
        # A terminal's line is overwritten; a file keeps every line.
        self._terminal.write(f"\r\x1b[K{line}" if self._terminal.isatty() else f"{line}\n")
        self._terminal.flush()

    def _keep_time(self) -> None:
        self._due_s += self._dt_s
        ahead_s = self._due_s - time.monotonic()
        if ahead_s > 0:
            time.sleep(ahead_s)
        elif ahead_s < -LATE_S:
            self._due_s -= ahead_s

    def finish(self) -> None:
        """End the line on the terminal."""
        if self._terminal.isatty():
            self._terminal.write("\n")
            self._terminal.flush()


def as_line(status: Status) -> str:
    """Return the terminal's line about the first robot."""
    command, velocity = (" ".join(f"{value:+.2f}" for value in values) for values in (status.command, status.velocity))
    feet = "".join(name if contact else "-" for name, contact in zip("LR", status.contacts, strict=True))
    return (
        f"{status.episode_s:6.1f} s  command {command}  measured {velocity}  feet {feet}  "
        f"falls {status.falls}  pace {status.pace:.2f}"
    )
