"""A page in the browser that shows a training: one of its robots, its reward terms, and the newest gate.

The training hands in a clip of each rollout. A thread plays it slowly enough to last until the next one comes, so that
the robot moves without pauses; nothing here makes the training wait.
"""

import math
import queue
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biped.base.errors import first_line, say, warn
from biped.config.robot import RobotConfig
from biped.config.run import Config
from biped.config.scale import Scale
from biped.eval.clip import Clip
from biped.eval.gate import gate_of
from biped.view import training_numbers
from biped.view.web import PORT, Stage

Pose = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
"""Position of the base (1, 3), m, its orientation (1, 4), wxyz, and the joint positions (1, num_joints), rad."""
FRAME_S = 1 / 30
"""Shortest time between two frames (s)."""
SLOWEST_S = 30.0
"""Longest time over which a clip is played (s)."""
_JUMP_M = 0.2
"""A base that moves so far in one control step (m) is that of a new episode: nothing is between the two."""
_END_S = 2.0


class TrainingPage:
    """Shows a training to those who open the page; no method waits for them, or raises because of them."""

    def __init__(self, name: str, config: Config, goal: int, port: int = PORT) -> None:
        """Start serving the page.

        Args:
            name: the run's name.
            config: configuration of the training.
            goal: environment steps at its end.
            port: port to listen on.

        Raises:
            MachineError: viser or MuJoCo is missing, the model cannot be read, or the port is in use.
        """
        self._stage = Stage(port, label=f"Training {name}")
        self.address = self._stage.address
        """The address to open in a browser."""
        self._looks = self._stage.put_robots(config.env, 1)
        self._stage.show(*self._looks.poses_at(*standing(config.env.robot)))
        self._lines, self._goal = gate_of(Scale.of(config.env.robot.leg_length_m)), goal
        self._row: Mapping[str, float] = {}
        self._gate: tuple[Mapping[str, float], int] | None = None
        self._steps, self._per_s, self._updated_s, self._came_s = 0, math.nan, math.nan, math.nan
        self._robots = config.env.num_envs
        self._build_panel()
        self._clips: queue.SimpleQueue[Clip | None] = queue.SimpleQueue()
        self._player = threading.Thread(target=self._run, name="training page", daemon=True)
        self._player.start()

    def _build_panel(self) -> None:
        gui, robots = self._stage.gui, self._robots
        self._chooser: Any = gui.add_number("Robot", 1, min=1, max=robots, step=1, hint=f"1 to {robots}")
        self._follow: Any = gui.add_checkbox("Camera follows", True)
        self._htmls: dict[str, Any] = {"progress": gui.add_html(training_numbers.note("waiting for the next rollout"))}
        for name, title in (("command", "Command"), ("gate", "Walking gate"), ("rewards", "Rewards of this robot")):
            with gui.add_folder(title):
                self._htmls[name] = gui.add_html("")
        self._tell_gate()

    @property
    def is_watched(self) -> bool:
        """Whether a browser shows the page."""
        return self._stage.is_watched

    @property
    def robot(self) -> int:
        """Index of the robot that the person wants to see."""
        # viser makes an integer of what browsers send, but does not hold it to the ends.
        return min(max(self._chooser.value, 1), self._robots) - 1

    def update(self, steps: int, row: Mapping[str, float], clip: Clip | None) -> None:
        """Take the metrics after an update, at this number of environment steps, and what the robot did before it."""
        now_s = time.monotonic()
        self._per_s = (steps - self._steps) / (now_s - self._updated_s)  # NaN at first
        self._steps, self._updated_s, self._row = steps, now_s, dict(row)
        if "gate/score" in row:
            self._gate = self._row, steps
            self._tell_gate()
        if clip is not None:
            self._clips.put(clip)

    def judge(self, share: float) -> None:
        """Take notice that the policy is being evaluated, and which share of that is done, 0 to 1."""
        said = training_numbers.note(f"evaluating the policy: {share:.0%}")
        if self.is_watched and self._htmls["gate"].content != said:
            self._htmls["gate"].content = said

    def close(self) -> None:
        """Stop serving."""
        self._clips.put(None)
        self._player.join(_END_S)
        self._stage.close()

    def _run(self) -> None:
        """Play each clip until the next one comes."""
        while (clip := self._clips.get()) is not None:
            now_s = time.monotonic()
            passed_s, self._came_s = now_s - self._came_s, now_s
            try:
                self._tell(clip)
                # A clip is as long as the rollout was; it lasts as long as a rollout and an update do.
                self._play(clip, min(SLOWEST_S, max(clip.length_s, passed_s if passed_s > 0 else 0.0)))
            except Exception as error:  # of the page only: the training goes on
                warn(f"the page shows no more ({first_line(error)}); training goes on")
                return

    def _tell(self, clip: Clip) -> None:
        htmls = self._htmls
        htmls["progress"].content = training_numbers.progress(self._steps, self._goal, self._per_s, self._row)
        htmls["command"].content = training_numbers.command(clip)
        of_all = {name: self._row.get(f"rewards/{name}", math.nan) for name in clip.reward_names}
        htmls["rewards"].content = training_numbers.rewards(clip.reward_rates, of_all)
        self._tell_gate()

    def _tell_gate(self) -> None:
        known = None if self._gate is None else training_numbers.gate(self._lines, *self._gate)
        self._htmls["gate"].content = known or training_numbers.note("no evaluation yet")

    def _play(self, clip: Clip, lasts_s: float) -> None:
        began_s = time.monotonic()
        share = 0.0
        while share < 1.0 and self._clips.empty() and self.is_watched:
            share = min(1.0, (time.monotonic() - began_s) / lasts_s)
            pose = pose_at(clip, share)
            self._stage.show(*self._looks.poses_at(*pose), follow=self._follow.value)
            time.sleep(FRAME_S)


def open_page(name: str, config: Config, goal: int, port: int = PORT) -> TrainingPage:
    """Return a page, and say where it is; see `TrainingPage`."""
    page = TrainingPage(name, config, goal, port)
    say(f"open {page.address} in a browser to watch")
    return page


def standing(robot: RobotConfig) -> Pose:
    """Return the pose in which a robot starts; see `pose_at`."""
    return (
        np.array([(0.0, 0.0, robot.default_base_height_m)]),
        np.array([(1.0, 0.0, 0.0, 0.0)]),
        np.array([robot.default_joint_pos_rad]),
    )


def pose_at(clip: Clip, share: float) -> Pose:
    """Return the pose of the robot at a moment of a clip, between two control steps by interpolation.

    Args:
        clip: the clip.
        share: the moment, from 0 for the first control step to 1 for the last.
    """
    place = share * (len(clip) - 1)
    before = min(int(place), max(0, len(clip) - 2))
    after, weight = min(before + 1, len(clip) - 1), place - before
    if np.linalg.norm(clip.base_pos_w[after] - clip.base_pos_w[before]) > _JUMP_M:
        before = after = before if weight < 0.5 else after
    quats = clip.base_quat_w[[before, after]].astype(np.float64)
    if quats[0] @ quats[1] < 0.0:  # the same orientation has two signs
        quats[1] *= -1.0
    quat = (1.0 - weight) * quats[0] + weight * quats[1]
    with np.errstate(invalid="ignore", divide="ignore"):  # a robot on which the physics failed is not shown
        quat /= np.linalg.norm(quat)
    pos, joints = (
        (1.0 - weight) * part[before] + weight * part[after] for part in (clip.base_pos_w, clip.joint_pos_rad)
    )
    return pos[None], quat[None], joints[None]
