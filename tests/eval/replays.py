"""Logs of simulated robots, for tests of replays."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from biped.config.run import Config
from biped.config.task import EnvConfig
from biped.deploy.contract import Provenance, build_contract
from biped.deploy.contract_file import PolicyContract
from biped.deploy.run_log import PHASES, LogWriter, RunLog
from biped.eval.replay import Measured
from biped.sim.scene import ResetPose, make_scene
from biped_config import smoke_preset

CONTRACT = PolicyContract.of(build_contract(smoke_preset(), Provenance("model.zip", "0" * 64, 1)))
"""A policy of the biped."""


def swaying_rad(step: int) -> np.ndarray:
    """Return targets that bend the knees and turn the torso, (num_joints,), rad: it keeps its feet on the ground."""
    bend, turn = 0.12 * np.sin(2.0 * np.pi * 1.1 * 0.02 * step), 0.3 * np.sin(2.0 * np.pi * 0.8 * 0.02 * step)
    return CONTRACT.default_pose_rad + np.array([0.0, -bend, 2.0 * bend, -bend, 0.0, -bend, 2.0 * bend, -bend, turn])


def simulated_log(steps: int = 120, strength: float = 1.0, late_steps: int = 0) -> RunLog:
    """Let a biped sway in MuJoCo and keep what a robot's log would have.

    Args:
        steps: number of rows.
        strength: factor on its motors' gains.
        late_steps: by how many control steps its targets take effect late.
    """
    robot = replace(Config().env.robot, kp_nm_per_rad=20.0 * strength, kd_nm_s_per_rad=0.5 * strength)
    scene = make_scene("mujoco", replace(Config().env, num_envs=1, robot=robot), torch.device("cpu"))
    pose = torch.from_numpy(CONTRACT.default_pose_rad[None]).float()
    base, upright = torch.tensor([[0.0, 0.0, robot.default_base_height_m]]), torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    scene.reset(torch.ones(1, dtype=torch.bool), ResetPose(base, upright, pose))
    state, log = scene.step(pose), LogWriter(CONTRACT)
    for step in range(steps):
        log.add(
            time_s=step * CONTRACT.dt_s,
            phase=PHASES.index("walking"),
            gravity_b=state.projected_gravity_b[0],
            ang_vel_b=state.base_ang_vel_b[0],
            pos_rad=state.joint_pos_rad[0],
            vel_rad_s=state.joint_vel_rad_s[0],
            target_rad=swaying_rad(step),
            estimate=torch.cat((state.base_lin_vel_b[0], state.base_pos_w[0, 2:])),
        )
        state = scene.step(torch.from_numpy(swaying_rad(max(0, step - late_steps))[None]).float())
    scene.close()
    return log.finish({"ended": "asked to", "date": "2026-01-01"})


def measured(log: RunLog) -> Measured:
    """Return a log as a replay takes it."""
    return Measured.of(log.columns, CONTRACT.dt_s, log.during("walking"))


def saved(folder: Path, steps: int = 60) -> Path:
    """Write a log into a folder and return its path."""
    path = folder / "run.npz"
    simulated_log(steps).save(path)
    return path


def biped() -> EnvConfig:
    """Return the robot of the logs."""
    return Config().env
