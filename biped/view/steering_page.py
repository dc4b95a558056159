"""A page in the browser with sliders, buttons and keys for the command of the robots that it shows."""

import math
import queue
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from biped.config.task import EnvConfig
from biped.robot.state import BipedState
from biped.sim.looks import Looks
from biped.view.steering import AXES, PAGE_KEYS, STAND, Ranges, Wish, press, with_part
from biped.view.web import PORT, Stage

UNITS = ("m/s", "m/s", "rad/s")
"""Units of a command's components."""
_TEXT_S = 0.2
_BUTTONS = MappingProxyType({"Stop": b" ", "Push": b"p", "Reset": b"r"})
"""Buttons, and the terminal's keys that do the same."""
_HINT = "Keys: I K walk, J L turn, U O sideways, space stop, P push, R reset."


@dataclass(frozen=True)
class Status:
    """The displayed status of the first robot."""

    command: tuple[float, float, float]
    """Current command: m/s, m/s, rad/s."""
    velocity: tuple[float, float, float]
    """Measured velocity, averaged over half a second: m/s, m/s, rad/s."""
    contacts: tuple[bool, bool]
    """Whether the left and the right foot are on the ground."""
    episode_s: float
    """Time since the last reset (s)."""
    falls: int
    """Number of falls of all robots since the start."""
    pace: float
    """Simulated time divided by real time; 1 if the simulator keeps up."""


class WebView:
    """A page that shows and steers the robots: both a view and a source."""

    def __init__(
        self,
        cfg: EnvConfig,
        ranges: Ranges,
        port: int = PORT,
        *,
        flag: str = "--web",
        robots: Sequence[str] = (),
        robot: str | None = None,
    ) -> None:
        """Start serving the page.

        Args:
            cfg: the environment's configuration; shapes come from the model file.
            ranges: ranges of the sliders.
            port: port to listen on.
            flag: the option that asked for the page, for errors.
            robots: names of robots to choose from; empty: there is no choice.
            robot: the name of the one that is shown.

        Raises:
            MachineError: viser or MuJoCo is missing, the model cannot be read, or the port is in use.
        """
        self._stage = Stage(port, flag=flag)
        self.address = self._stage.address
        """The address to open in a browser."""
        self._pressed, self._text_s = queue.SimpleQueue[bytes](), -math.inf
        self._chooser: Any = None
        self._steering: Any = None
        if robots:
            self._chooser = self._stage.gui.add_dropdown("Robot", tuple(robots), initial_value=robot, order=0.0)
        self.change_robot(cfg, ranges, robot)
        self._build_rest()

    @property
    def is_open(self) -> bool:
        """True: the server stays when pages are closed."""
        return True

    def change_robot(self, cfg: EnvConfig, ranges: Ranges, robot: str | None = None) -> None:
        """Show other robots, with sliders for their own ranges; for the arguments see the constructor.

        Raises:
            MachineError: MuJoCo is missing, or the model cannot be read.
        """
        self._looks: Looks = self._stage.put_robots(cfg, cfg.num_envs)
        self._ranges, self._robot = ranges, robot
        gui = self._stage.gui
        if self._steering is not None:
            self._steering.remove()
        self._steering = gui.add_folder("Command", order=1.0)
        self._sliders: dict[int, Any] = {}
        self._seen: dict[int, float] = {}
        with self._steering:
            for axis, (name, unit) in enumerate(zip(AXES, UNITS, strict=True)):
                low, high = ranges.low[axis], ranges.high[axis]
                if low < high:  # a component with a fixed value gets no slider
                    start = min(max(0.0, low), high)
                    self._sliders[axis] = gui.add_slider(
                        f"{name} ({unit})",
                        low,
                        high,
                        min(0.01, high - low),
                        start,
                        marks=((low, f"{low:g}"), (high, f"{high:g}")),
                    )
                    self._seen[axis] = start

    def _build_rest(self) -> None:
        gui = self._stage.gui
        buttons = gui.add_button_group("", tuple(_BUTTONS), order=2.0)
        buttons.on_click(lambda event: self._pressed.put(_BUTTONS[event.target.value]))
        self.follow: Any = gui.add_checkbox("Camera follows", True, order=3.0)
        """The checkbox that makes the camera follow the first robot."""
        self._text: Any = gui.add_markdown("", order=4.0)
        gui.add_markdown(_HINT, order=5.0)
        for hotkey, (label, key) in PAGE_KEYS.items():
            command = gui.add_command(label, hotkey=hotkey)
            command.on_trigger(lambda _, key=key: self._pressed.put(key))

    @property
    def sliders(self) -> dict[int, Any]:
        """The handles of the sliders, by the index of their command component."""
        return dict(self._sliders)

    def poll(self, wish: Wish) -> Wish:
        """Return the wish after all input since the last call, and update the sliders to the command."""
        for axis, slider in self._sliders.items():
            value = float(slider.value)
            if value != self._seen[axis]:
                wish = replace(wish, command=with_part(wish.command, axis, round(value, 6)))
                self._seen[axis] = value
        while not self._pressed.empty():
            wish = press(wish, self._pressed.get(), self._ranges)
        for axis, slider in self._sliders.items():
            wanted = (wish.command or STAND)[axis]
            shown = min(max(wanted, self._ranges.low[axis]), self._ranges.high[axis])
            if shown != self._seen[axis]:
                slider.value = self._seen[axis] = shown
        if self._chooser is not None and self._chooser.value != self._robot:
            wish = replace(wish, robot=self._chooser.value)
        return wish

    def show(self, state: BipedState, status: Status) -> None:
        """Send the robots' poses and the first robot's status to all open pages."""
        self._stage.show(*self._looks.poses(state), follow=self.follow.value)
        now_s = time.monotonic()
        if now_s - self._text_s >= _TEXT_S:
            self._text.content, self._text_s = as_markdown(status), now_s

    def close(self) -> None:
        """Stop serving."""
        self._stage.close()


def as_markdown(status: Status) -> str:
    """Return the panel's text."""
    rows = [
        f"| {name} | {wanted:+.2f} | {got:+.2f} | {unit} |"
        for name, wanted, got, unit in zip(AXES, status.command, status.velocity, UNITS, strict=True)
    ]
    left, right = ("●" if contact else "○" for contact in status.contacts)
    return "\n".join(
        [
            "| | command | measured | |",
            "|---|---|---|---|",
            *rows,
            "",
            f"Feet: left {left} right {right}",
            "",
            f"Episode: {status.episode_s:.1f} s · falls: {status.falls} · {status.pace:.2f} × real time",
        ]
    )
