"""Motion clips: recorded of a policy, and in the browser, played over and over, with the time on a slider."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from biped.base.command_line import ending_at_once
from biped.base.interrupts import Interrupts
from biped.config.randomization import RandomizationConfig
from biped.config.run import Config
from biped.config.task import EnvConfig
from biped.env.env import make_env
from biped.eval.agents import LoadAgent
from biped.eval.episodes import record_episodes
from biped.eval.figures import SETTLE_S
from biped.eval.motion import mean_stride, motion_of
from biped.eval.recording import Recording
from biped.robot.motion import Motion
from biped.runs.models import find_model
from biped.view.web import PORT, Stage

RATE_HZ = 50.0
"""Poses per second that the page gets."""
LONGER_S = 1.0
"""Time that the episode goes on after a clip (s), which the last stride of it may need."""


@dataclass(frozen=True)
class RecordRequest:
    """A request for a clip of a policy."""

    model: Path | str
    """A checkpoint, with its config.json in the same folder, or the address of a shared policy."""
    logs: Path
    """The folder of all runs, for what is fetched."""
    command: tuple[float, float, float]
    """What it is told: m/s, m/s, rad/s."""
    length_s: float
    """Length of the clip (s)."""
    stride: bool = False
    """Whether the clip is the mean of its strides in that time instead."""
    sim: str = "mujoco"
    """The simulator."""
    seed: int = 0
    """Seed of the start."""


def record_policy(request: RecordRequest, load: LoadAgent) -> Motion:
    """Record a policy on its robot as it is, from `SETTLE_S` on.

    Args:
        request: the request.
        load: reads a policy.

    Raises:
        UsageError: there is no such model, or the robot falls before the end.
        MachineError: the simulator is missing, or the policy cannot be fetched.
    """
    recording, config = record_episode(request, load)
    names = config.env.robot.joint_names
    if request.stride:
        return mean_stride(recording, names, 0, SETTLE_S, config.env.gait.frequency_hz)
    return motion_of(recording, names, 0, SETTLE_S, request.length_s)


def record_episode(request: RecordRequest, load: LoadAgent) -> tuple[Recording, Config]:
    """Record the episode of a clip, one robot from its start, and return it with its configuration.

    Raises:
        UsageError: there is no such model.
        MachineError: the simulator is missing, or the policy cannot be fetched.
    """
    model, run = find_model(request.model, request.logs, "")
    config = run.read_config()
    ends = replace(config.env.termination, episode_s=SETTLE_S + request.length_s + LONGER_S)
    cfg = replace(config.env, num_envs=1, termination=ends, randomization=RandomizationConfig())
    env = make_env(cfg, sim=request.sim)
    command = torch.tensor([request.command], dtype=torch.float32)
    recording = record_episodes(env, load(config, env, model), command, request.seed)
    env.close()
    return recording, replace(config, env=cfg)


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
