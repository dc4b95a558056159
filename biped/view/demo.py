"""A policy that ships, walking in the browser: steered by sliders, buttons and keys, with a choice of robots.

In MuJoCo, which compiles nothing. What is imported and built here is what has to be there before the first step.
"""

import contextlib
import os
import sys
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from biped.base.command_line import ending_at_once
from biped.base.errors import UsageError
from biped.base.interrupts import Interrupted, Interrupts
from biped.base.shipped import ASSETS
from biped.config.randomization import RandomizationConfig
from biped.config.run import Config
from biped.config.task import EnvConfig
from biped.env.env import BipedEnv, make_env
from biped.eval.agents import Agent, LoadAgent
from biped.runs.directory import RunDirectory
from biped.view.controls import Keyboard, Source
from biped.view.live import LiveLoop, LiveRequest, listen, live_config
from biped.view.steering import Command, Ranges, Wish
from biped.view.steering_page import WebView
from biped.view.web import PORT, require_port, require_viser

BRISK = 0.5
"""The first command, as a share of the fastest walk forward."""


@dataclass(frozen=True)
class Shipped:
    """A policy that ships."""

    name: str
    """Name of its file."""
    robot: str
    """Name of its robot's model."""
    model: Path
    """The checkpoint; its configuration is beside it."""
    config: Config
    """The configuration that it was trained with."""
    is_tried: bool
    """Whether it was measured how much it survives."""


@dataclass(frozen=True)
class DemoRequest:
    """The options of the command line."""

    robot: str | None = None
    """Name of a robot, or of one of its policies; None: the first robot."""
    port: int = PORT
    """Port of the page."""
    assets: Path = ASSETS
    """Where to look for policies."""
    opens_browser: bool = True
    """Whether to open the page in a browser, if this machine has a screen."""


def shipped(assets: Path = ASSETS) -> list[Shipped]:
    """Return the policies that ship: by robot, and of a robot first those of which is known what they survive.

    Raises:
        UsageError: there are none.
        ConfigError: the configuration of one cannot be read.
    """
    found = []
    for file in sorted(assets.rglob("config.json")):
        config = RunDirectory(file.parent).read_config()
        robot, is_tried = Path(config.env.robot.model_path).stem, (file.parent / "robustness.json").is_file()
        found += [Shipped(model.stem, robot, model, config, is_tried) for model in sorted(file.parent.glob("*.zip"))]
    if not found:
        raise UsageError(f"there is no policy in {assets}: start the demo in the project's own folder")
    return sorted(found, key=lambda policy: (policy.robot, not policy.is_tried, policy.name))


def chosen(policies: list[Shipped], name: str | None) -> Shipped:
    """Return the policy of that name, or the first one of the robot of that name; without a name the first.

    Raises:
        UsageError: there is none.
    """
    fitting = [policy for policy in policies if name in (None, policy.name, policy.robot)]
    if not fitting:
        names = ", ".join(dict.fromkeys([*(policy.robot for policy in policies), *(one.name for one in policies)]))
        raise UsageError(f"--robot: no policy of {name} ships, only of {names}")
    return fitting[0]


def run_demo(request: DemoRequest, load: LoadAgent) -> None:
    """Serve the page and walk until the person at it ends it: Ctrl-C, or X in the terminal.

    Args:
        request: the options.
        load: reads a policy.

    Raises:
        UsageError: no such policy ships.
        MachineError: viser or MuJoCo is missing, or the port is in use.
        Interrupted: a signal other than Ctrl-C's asked to end.
    """
    require_viser("demo")
    require_port(request.port, "--port")
    policies = shipped(request.assets)
    policy = chosen(policies, request.robot)
    torch.set_num_threads(1)  # for tensors of one robot, more threads only add waiting
    keyboard = Keyboard(_ranges(policy.config.env)) if _has_keys() else None
    with contextlib.ExitStack() as ending:
        with ending_at_once():
            env, agent = _built(policy, load)
            names = [one.name for one in policies]
            page = WebView(env.cfg, _ranges(env.cfg), request.port, flag="--port", robots=names, robot=policy.name)
        interrupts = ending.enter_context(Interrupts(last_act=keyboard and keyboard.restore))
        ending.callback(page.close)
        print(f"open {page.address} in a browser; Ctrl-C ends", flush=True)
        if request.opens_browser and _has_screen():
            webbrowser.open(page.address)
        hands = [] if keyboard is None else listen(keyboard, ending)
        while (name := _walk(env, agent, page, hands, interrupts)) is not None:
            env.close()
            env, agent = _built(chosen(policies, name), load)
            page.change_robot(env.cfg, _ranges(env.cfg), name)
            for hand in hands:
                hand.ranges = _ranges(env.cfg)
        env.close()
    if interrupts.received is not None and interrupts.received.name != "SIGINT":
        raise Interrupted(interrupts.received)


def _walk(env: BipedEnv, agent: Agent, page: WebView, hands: Sequence[Source], interrupts: Interrupts) -> str | None:
    """Walk until the end, which is None, or until another robot is chosen; return its name."""
    loop = LiveLoop(env, agent, Wish(friendly(_ranges(env.cfg))), [page, *hands], [page])
    while interrupts.received is None and loop.step():
        pass
    loop.finish()
    return None if interrupts.received else loop.wish.robot


def friendly(ranges: Ranges) -> Command:
    """Return the first command: a brisk walk forward."""
    return ranges.clamp((BRISK * ranges.high[0], 0.0, 0.0))


def _built(policy: Shipped, load: LoadAgent) -> tuple[BipedEnv, Agent]:
    nominal = replace(policy.config.env, randomization=RandomizationConfig())
    env = make_env(live_config(nominal, LiveRequest()), sim="mujoco")
    return env, load(policy.config, env, policy.model)


def _ranges(cfg: EnvConfig) -> Ranges:
    return Ranges.trained(cfg.command)


def _has_keys() -> bool:
    """Return whether this process may read a terminal's keys: a background job that tries is stopped."""
    posix: Any = os  # Windows has neither of the two
    try:
        return sys.stdin.isatty() and posix.tcgetpgrp(sys.stdin.fileno()) == posix.getpgrp()
    except (AttributeError, OSError, ValueError):
        return False


def _has_screen(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> bool:
    """Return whether a browser can open here, where a person sees it: not from a script, nor over ssh."""
    is_elsewhere = "SSH_CONNECTION" in environ or not (sys.stdout is not None and sys.stdout.isatty())
    has_display = not platform.startswith("linux") or environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")
    return bool(has_display) and not is_elsewhere
