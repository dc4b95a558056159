"""A motion clip in the browser: played over and over, with its time on a slider."""

import time
from pathlib import Path

from biped.base.command_line import ending_at_once
from biped.base.interrupts import Interrupts
from biped.config.task import EnvConfig
from biped.robot.motion import Motion
from biped.view.web import PORT, Stage

RATE_HZ = 50.0
"""Poses per second that the page gets."""


def show_motion(cfg: EnvConfig, motion: Motion, name: str, port: int = PORT, *, limit_s: float | None = None) -> None:
    """Serve the page until a signal ends it.

    Args:
        cfg: the robot.
        motion: the clip, with the robot's joints in their order.
        name: title of the page.
        port: port of the page.
        limit_s: how long to serve it (s); None: until a signal.

    Raises:
        MachineError: viser or MuJoCo is missing, the model cannot be read, or the port is in use.
    """
    frames = motion.resampled(min(1.0 / RATE_HZ, motion.length_s / 2))
    with ending_at_once():
        stage = Stage(port, flag="--port", label=Path(name).stem)
        looks = stage.put_robots(cfg, 1)
    plays = stage.gui.add_checkbox("play", initial_value=True)
    speed = stage.gui.add_slider("speed", min=0.1, max=2.0, step=0.1, initial_value=1.0)
    at_s = stage.gui.add_slider("time (s)", min=0.0, max=motion.length_s, step=1.0 / RATE_HZ, initial_value=0.0)
    print(f"{name}, {motion.length_s:.2f} s, at {stage.address}; Ctrl-C ends", flush=True)
    began_s = time.monotonic()
    with Interrupts() as interrupts:
        while not interrupts.received and (limit_s is None or time.monotonic() < began_s + limit_s):
            frame = min(len(frames) - 1, round(at_s.value / frames.time_s[1]))
            pose = slice(frame, frame + 1)
            stage.show(*looks.poses_at(frames.base_pos_w[pose], frames.base_quat_w[pose], frames.joint_pos_rad[pose]))
            time.sleep(1.0 / RATE_HZ)
            if plays.value:
                at_s.value = (at_s.value + speed.value / RATE_HZ) % motion.length_s
    stage.close()
