"""Robots that are brought along: what is wrong with them is named, and one more than ours works throughout."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import biped_eval
import biped_train
from biped.__main__ import main
from biped.base.errors import ConfigError
from biped.config.settings import robot_settings, with_settings
from biped.config.task import EnvConfig
from biped.env.env import make_env
from biped.sim import check_robot
from biped.sim.swing_pose import swing_legs
from biped_config import cpu_preset
from tests.conftest import ROOT

STRIDER = ROOT / "assets" / "strider" / "robot.json"


@pytest.fixture
def strider(tmp_path: Path) -> Callable[..., Path]:
    """Return a copy of the second robot with fields of its file, or words of its model, changed."""

    def make(model: tuple[str, str] = ("", ""), **robot: Any) -> Path:
        text = (STRIDER.parent / "strider.xml").read_text()
        assert model[0] in text
        (tmp_path / "strider.xml").write_text(text.replace(*model) if model[0] else text)
        content = json.loads(STRIDER.read_text())
        content["robot"] |= robot
        (tmp_path / "robot.json").write_text(json.dumps(content))
        return tmp_path / "robot.json"

    return make


def wrong(file: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(["check-robot", str(file)]) == 1
    return [line.removeprefix("WRONG  ") for line in capsys.readouterr().out.splitlines() if line.startswith("WRONG")]


@pytest.mark.parametrize("file", [STRIDER, ROOT / "assets" / "biped" / "biped.xml"], ids=lambda file: file.name)
def test_both_robots_of_the_repository_are_fine(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-robot", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 16
    assert all(line.startswith("ok ") for line in lines)
    (speed,) = [line for line in lines if line.startswith("ok     speed: ")]
    found = re.match(r"ok     speed: ([\d,]+) at 2, ([\d,]+) at 4, ([\d,]+) at 8 substeps, in steps per second", speed)
    assert found is not None, speed
    assert all(int(rate.replace(",", "")) > 0 for rate in found.groups())


@pytest.mark.genesis
def test_in_both_simulators_it_stands_in_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-robot", str(STRIDER), "--sim", "both"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 19
    (mujoco,) = [line for line in lines if line.startswith("ok     standing: ")]
    (genesis,) = [line for line in lines if line.startswith("ok     standing in Genesis: ")]
    assert genesis.partition(", with")[0].partition(": ")[2] == mujoco.partition(", with")[0].partition(": ")[2]


def test_a_joint_that_is_missing_and_one_that_nobody_drives_are_named(strider, capsys) -> None:
    found = wrong(strider(model=('"knee_l"', '"knee_x"')), capsys)
    assert len(found) == 1
    assert found[0] == "joints: the model has no joint knee_l: did you mean knee_x?"


def test_a_foot_that_is_not_there_is_named(strider, capsys) -> None:
    assert wrong(strider(foot_links=["sole_l", "sole_x"]), capsys) == [
        "feet: the model has no link sole_x: did you mean sole_r?"
    ]


def test_feet_that_change_sides_are_named(strider, capsys) -> None:
    assert (
        wrong(strider(foot_links=["sole_r", "sole_l"]), capsys)[0] == "sides: foot_links must name the left foot first"
    )


def test_a_size_that_is_another_robots_is_said(strider, capsys) -> None:
    assert main(["check-robot", str(strider(leg_length_m=0.5, mass_kg=1.8))]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "size:" in line]
    assert line.startswith("ok     size: legs of 0.331 m, 1.83 kg, but robot.leg_length_m is 0.5: the gate's bars")


def test_unsymmetric_masses_are_named(strider, capsys) -> None:
    heavy = (
        'name="shank_plate_l" size="0.012 0.018 0.062" pos="0 0 -0.068" mass="0.035"',
        'name="shank_plate_l" size="0.012 0.018 0.062" pos="0 0 -0.068" mass="0.055"',
    )
    found = wrong(strider(model=heavy), capsys)
    assert found[0].startswith("symmetry: shank_l is no mirror image of shank_r (20.0 g")


def test_feet_under_the_floor_are_named_with_the_height_that_is_right(strider, capsys) -> None:
    found = wrong(strider(default_base_height_m=0.36), capsys)
    assert found[0] == "soles: 41 mm under the ground: default_base_height_m 0.401 puts them on it"


def test_gains_that_cannot_hold_the_pose_are_named(strider, capsys) -> None:
    found = wrong(strider(kp_nm_per_rad=1.0), capsys)
    assert len(found) == 1
    assert found[0].startswith("standing: after 3 s the base is ")
    assert "raise kp_nm_per_rad" in found[0]


def test_legs_that_swing_the_wrong_way_are_named(strider, capsys) -> None:
    found = wrong(strider(swing_signs=[-1.0, 1.0, -1.0]), capsys)
    assert found[0].startswith(
        "gait: hip_pitch_l, knee_l, ankle_pitch_l, hip_pitch_r, knee_r, ankle_pitch_r would swing"
    )
    assert found[0].endswith("set robot.swing_signs to [1, -1, 1, 1, -1, 1]")


def test_files_that_are_no_robots_end_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "robot.json"
    for text in (
        "",
        "[]",
        "{}",
        '{"robot": 1}',
        '{"robot": {}, "ppo": {"gamma": 0.9}}',
        '{"robot": {"no": 1}}',
        '{"robot": {"model_path": "x.xml"}}',
    ):
        file.write_text(text)
        assert main(["check-robot", str(file)]) in (1, 2)
        said = capsys.readouterr()
        assert len(said.err.strip().splitlines()) == 1, (text, said.err)
    (tmp_path / "x.xml").write_text("<mujoco><worldbody></worldb")
    assert main(["check-robot", str(file)]) == 1
    assert "MuJoCo cannot read" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="cannot be read"):
        robot_settings(tmp_path / "none.json")


def env_of(file: Path, count: int) -> EnvConfig:
    env = with_settings(cpu_preset(), robot_settings(file)).env
    return replace(env, num_envs=count)


@pytest.mark.parametrize("sim", ["genesis", "mujoco"])
def test_the_second_robot_stands_in_both_engines(sim: str) -> None:
    env = make_env(env_of(STRIDER, 4), "cpu", sim=sim)
    env.reset(seed=0)
    env.hold_commands(torch.zeros(4, 3))
    assert env.single_action_space.shape == (12,)
    for _ in range(150):
        _, _, terminated, _, _ = env.step(torch.zeros(4, 12))
        assert not terminated.any()
    assert env.state.base_height_m.tolist() == pytest.approx([0.40] * 4, abs=0.01)
    assert env.contacts.all()
    env.close()


def test_the_second_robot_trains_goes_on_and_is_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--preset", "smoke", "--eval_freq", "0", "--total_timesteps", "512", "--sim", "mujoco"]
    where = ["--log_dir", str(tmp_path), "-e", "strider"]
    assert biped_train.main([*flags, *where, "--robot", str(STRIDER)]) == 0
    assert (
        json.loads((tmp_path / "strider" / "config.json").read_text())["env"]["robot"]["model_path"]
        == "assets/strider/strider.xml"
    )
    assert biped_train.main([*where, "--continue_training", "--total_timesteps", "1024"]) == 0
    command = [*where, "--episodes", "8", "--sim", "mujoco", "--set", "env.termination.episode_s=2.0"]
    assert biped_eval.main(command) == biped_eval.GATE_FAILED, "it has learned nothing, but the gate runs"
    assert "alternation" in capsys.readouterr().out


def test_a_robot_outside_of_the_repository_keeps_its_whole_path(tmp_path: Path) -> None:
    shutil.copytree(STRIDER.parent, tmp_path / "mine")
    settings = dict(robot_settings(tmp_path / "mine" / "robot.json"))
    assert settings["env.robot.model_path"] == str((tmp_path / "mine" / "strider.xml").resolve())


@pytest.mark.parametrize("signs", [[1.0, -1.0, 1.0], [-1.0, 1.0, -1.0]], ids=["right", "wrong"])
def test_the_picture_shows_where_the_legs_go(signs: list[float], strider, capsys, tmp_path: Path) -> None:
    file = strider(swing_signs=signs)
    legs = swing_legs(check_robot.env_of(file))
    assert [leg.foot for leg in legs] == ["sole_l", "sole_r"]
    for leg in legs:
        assert leg.standing_m[:, 1] == pytest.approx([0.331, leg.standing_m[1, 1], leg.standing_m[2, 1], 0.0], abs=2e-3)
        assert leg.swinging_m[0] == pytest.approx(leg.standing_m[0]), "the hip stays"
        assert (leg.swinging_m[1, 0] > leg.standing_m[1, 0]) == (signs[0] > 0), "the knee goes forward, or back"
    out = tmp_path / "swing.png"
    main(["check-robot", str(file), "--picture", str(out)])
    assert f"picture: {out}" in capsys.readouterr().out
    assert Image.open(out).size[0] > 500


def test_no_picture_is_drawn_of_a_robot_that_lacks_a_joint(strider, tmp_path: Path) -> None:
    out = tmp_path / "swing.png"
    assert main(["check-robot", str(strider(model=('"knee_l"', '"knee_x"'))), "--picture", str(out)]) == 1
    assert not out.exists()
