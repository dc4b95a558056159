"""A URDF is as good as an MJCF."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from biped.__main__ import main
from biped.base.errors import MachineError
from biped.config.task import EnvConfig
from biped.robot.rotations import quat_from_yaw
from biped.sim.scene import ResetPose, Scene, make_scene
from biped_config import cpu_preset
from tests.conftest import ROOT
from tests.urdf import write_urdf

CPU = torch.device("cpu")
COUNT = 4


@pytest.fixture
def mjcf() -> EnvConfig:
    return replace(cpu_preset().env, num_envs=COUNT)


@pytest.fixture
def urdf(mjcf: EnvConfig, tmp_path: Path) -> EnvConfig:
    file = write_urdf(ROOT / mjcf.robot.model_path, tmp_path / "biped.urdf")
    return replace(mjcf, robot=replace(mjcf.robot, model_path=str(file)))


def stand_and_swing(scene: Scene, cfg: EnvConfig) -> list[torch.Tensor]:
    joints = torch.tensor(cfg.robot.default_joint_pos_rad).repeat(COUNT, 1)
    found = []
    for lift_m, size_rad in ((0.0, 0.0), (1.0, 0.05)):
        base = torch.zeros(COUNT, 3)
        base[:, 2] = cfg.robot.default_base_height_m + lift_m
        scene.reset(torch.ones(COUNT, dtype=torch.bool), ResetPose(base, quat_from_yaw(torch.zeros(COUNT)), joints))
        for step in range(15):
            state = scene.step(joints + size_rad * torch.sin(0.5 * step + torch.arange(9.0)))
        found.append(torch.cat((state.base_pos_w, state.joint_pos_rad, state.foot_pos_w.flatten(1)), dim=1))
    scene.close()
    return found


@pytest.mark.parametrize("sim", ["genesis", "mujoco"])
def test_a_robot_moves_the_same_from_a_urdf(mjcf: EnvConfig, urdf: EnvConfig, sim: str) -> None:
    scenes = [make_scene(sim, cfg, CPU) for cfg in (mjcf, urdf)]
    assert scenes[0].mass_kg == pytest.approx(scenes[1].mass_kg, rel=1e-6)
    for one, two in zip(*(stand_and_swing(scene, mjcf) for scene in scenes), strict=True):
        torch.testing.assert_close(one, two, atol=5e-4, rtol=0.0)


def test_a_urdf_is_checked_like_any_model(urdf: EnvConfig, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-robot", urdf.robot.model_path]) == 0
    assert all(line.startswith("ok ") for line in capsys.readouterr().out.splitlines())


def test_a_urdf_without_the_base_is_named(urdf: EnvConfig) -> None:
    with pytest.raises(MachineError, match="has no link chassis"):
        make_scene("mujoco", replace(urdf, robot=replace(urdf.robot, base_link="chassis")), CPU)
