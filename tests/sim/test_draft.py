"""The file of a robot, drafted from its model: the small robot's is what a person would write, and it trains."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from biped.__main__ import main
from biped.base.errors import UsageError
from biped.config.robot import LEG_LENGTH_M
from biped.config.run import Config
from biped.config.scale import MASS_KG
from biped.config.settings import robot_settings, with_settings
from biped.config.task import EnvConfig
from biped.env.env import make_env
from biped.sim.mujoco_draft import draft
from biped.sim.mujoco_file import compiled
from biped.sim.mujoco_geometry import posed, sole_of, sole_pitch
from biped.sim.mujoco_robot import read_robot
from tests import mini_robot
from tests.conftest import ROOT
from tests.mini_robot import mjcf, urdf

TILTED = 'type="box" size="0.07 0.04 0.01" pos="0.02 0 -0.02" euler="0 -10 0"'
"""Soles whose toes are up while all joints are at 0."""


def model_in(folder: Path, text: str) -> Path:
    file = folder / ("model.urdf" if text.startswith("<robot") else "model.xml")
    file.write_text(text)
    return file


def test_a_draft_is_what_a_person_would_write(tmp_path: Path) -> None:
    made = draft(model_in(tmp_path, urdf()))
    robot = made.content["robot"]
    for name in (
        "base_link",
        "torso_link",
        "foot_links",
        "joint_names",
        "swing_joints",
        "mirror_joints",
        "mirror_signs",
    ):
        assert robot[name] == mini_robot.ROBOT[name], name
    assert robot["swing_signs"] == mini_robot.ROBOT["swing_signs"] * 2
    assert robot["foot_sole_offset_m"] == [mini_robot.ROBOT["foot_sole_offset_m"]] * 2
    assert robot["actuators"] == [
        {
            "joints": robot["joint_names"],
            "kp_nm_per_rad": 20.0,
            "kd_nm_s_per_rad": 0.5,
            "effort_limit_nm": 3.0,
            "velocity_limit_rad_s": 8.0,
        }
    ]
    assert [guess.partition(":")[0] for guess in made.guesses] == ["gains"]


def test_the_drafted_pose_stands_on_flat_feet_with_its_mass_over_them(tmp_path: Path) -> None:
    robot = draft(model_in(tmp_path, urdf())).content["robot"]
    _, hip, knee, ankle = robot["default_joint_pos_rad"][:4]
    assert knee > 0.3
    assert hip + knee + ankle == pytest.approx(0.0, abs=1e-3)
    # Thigh and shin of 15 cm, and 3 cm from the ankle to the ground.
    bent = 0.15 * (torch.cos(torch.tensor(hip)) + torch.cos(torch.tensor(hip + knee)))
    assert robot["default_base_height_m"] == pytest.approx(float(bent) + 0.03, abs=1e-3)
    assert float(bent) == pytest.approx(0.94 * 0.3, abs=1e-3)


@pytest.mark.parametrize(
    "model",
    [
        urdf,
        lambda: mjcf(foot_shape=TILTED),
        lambda: urdf(pads=True),
        lambda: mjcf(shift_m=0.32),
        lambda: mjcf(right_axes={"hip": -1.0}),
        lambda: mjcf(right_axes={"roll": -1.0, "hip": -1.0, "knee": -1.0, "ankle": -1.0}),
        lambda: mjcf(in_world='<geom name="ground" type="plane" size="1 1 1" contype="1" conaffinity="1"/>'),
        lambda: mjcf(right_foot=('euler="180 0 0"', 'type="box" size="0.07 0.04 0.01" pos="0.02 0 0.02"')).replace(
            'name="ankle_r" axis="0 1 0"', 'name="ankle_r" axis="0 -1 0"'
        ),
        lambda: mjcf(
            in_hips='<body name="head" pos="0 0 0.2"><joint name="neck" axis="0 1 0"/>'
            '<geom type="box" size="0.03 0.03 0.03" mass="0.1"/></body>'
        ),
        lambda: (ROOT / "assets" / "strider" / "strider.xml").read_text(),
        lambda: (ROOT / "assets" / "biped" / "biped.xml").read_text(),
    ],
    ids=[
        "urdf",
        "tilted soles",
        "pads",
        "base at the floor",
        "one hip",
        "one leg",
        "ground",
        "foot frame",
        "head",
        "strider",
        "biped",
    ],
)
def test_a_draft_passes_every_check_and_steps(
    model: Callable[[], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "robot.json"
    assert main(["robot", str(model_in(tmp_path, model())), "--draft", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out == f"{out}: correct what is guessed, then run: python -m biped check-robot {out}\n"
    assert "GUESSED  gains: " in said.err
    assert main(["check-robot", str(out)]) == 0, capsys.readouterr().out
    cfg = with_settings(Config(), [*robot_settings(out), ("env.num_envs", 2)]).env
    env = make_env(cfg, "cpu", sim="mujoco")
    env.reset()
    for _ in range(10):
        rewards = env.step(torch.zeros(2, len(cfg.robot.joint_names)))[1]
    assert torch.isfinite(rewards).all()
    env.close()


def test_soles_that_lean_in_the_default_pose_are_named_with_the_angle_that_lays_them_flat(
    tmp_path: Path, capsys
) -> None:
    # The ankles are at -0.35 rad with a foot as flat as the ground; here they have to lower the toes by 10 degrees.
    file = mini_robot.write(tmp_path, mjcf(foot_shape=TILTED), {"foot_sole_offset_m": [0.02, 0.0, -0.042]})
    assert main(["check-robot", str(file)]) == 1
    said = "foot_l leans back by 0.17 rad in the default pose: -0.175 in default_joint_pos_rad for ankle_l lays it flat"
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("geoms", "pitch_rad"),
    [
        (TILTED, -math.radians(10.0)),
        ('type="sphere" size="0.03"', 0.0),
        ('type="box" size="0.07 0.04 0.01"', 0.0),
        (
            'type="sphere" size="0.01" pos="-0.05 0 0"/><geom type="sphere" size="0.01" pos="0.05 0 0.02"',
            -math.atan2(2, 10),
        ),
    ],
    ids=["box", "one sphere", "flat box", "two spheres"],
)
def test_a_sole_leans_as_the_surface_does_that_it_stands_on(geoms: str, pitch_rad: float) -> None:
    mujoco = pytest.importorskip("mujoco")
    model = mujoco.MjModel.from_xml_string(
        f'<mujoco><worldbody><body name="foot"><freejoint/><geom {geoms}/></body></worldbody></mujoco>'
    )
    assert sole_pitch(model, posed(model, {}), model.body("foot").id) == pytest.approx(pitch_rad, abs=1e-6)


def test_the_size_that_others_are_compared_with_is_the_bipeds() -> None:
    cfg = EnvConfig()
    model = compiled(read_robot(cfg).spec, ROOT / cfg.robot.model_path)
    pose = dict(zip(cfg.robot.joint_names, cfg.robot.default_joint_pos_rad, strict=True))
    data = posed(model, pose, cfg.robot.default_base_height_m)
    for foot, hip in zip(cfg.robot.foot_links, ("left_hip_pitch", "right_hip_pitch"), strict=True):
        sole = sole_of(model, data, model.body(foot).id)
        assert sole is not None
        assert data.joint(hip).xanchor[2] - sole.low_w[2] == pytest.approx(LEG_LENGTH_M, abs=1e-3)
    assert float(model.body_mass.sum()) == pytest.approx(MASS_KG, abs=1e-3)


def test_a_knee_that_bends_like_a_birds_is_found_by_its_limits(tmp_path: Path) -> None:
    text = urdf()
    for side in "lr":
        knee = text.index(f'<joint name="knee_{side}"')
        text = text[:knee] + text[knee:].replace('lower="-2" upper="2"', 'lower="-2" upper="0.1"', 1)
    made = draft(model_in(tmp_path, text))
    assert made.content["robot"]["swing_signs"] == [-1.0, -1.0, -1.0] * 2
    assert any("knee_l bends forward by its limits" in guess for guess in made.guesses)


def test_limits_of_torque_are_the_models(tmp_path: Path) -> None:
    others = "".join(f'<motor joint="{name}"/>' for name in mini_robot.ROBOT["joint_names"] if name != "knee_l")
    motors = f'<actuator><motor joint="knee_l" gear="20" ctrlrange="-0.1 0.1"/>{others}</actuator>'
    robot = draft(model_in(tmp_path, mjcf(joint='actuatorfrcrange="-5 5"', after=motors))).content["robot"]
    limits = {name: group["effort_limit_nm"] for group in robot["actuators"] for name in group["joints"]}
    assert limits["knee_l"] == 2.0
    assert limits["knee_r"] == 5.0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (mjcf(sole=""), "has no two feet"),
        ("<mujoco><worldbody><geom type='box' size='1 1 1'/></worldbody></mujoco>", "has no link"),
        ("<mujoco><worldbody><body name='a'><geom size='1'/></body></worldbody></mujoco>", "has no joint"),
    ],
)
def test_what_is_no_biped_is_said_in_one_line(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=says) as error:
        draft(model_in(tmp_path, text))
    assert "\n" not in str(error.value)


def test_a_file_that_is_there_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "robot.json"
    out.write_text("mine")
    assert main(["robot", str(model_in(tmp_path, urdf())), "--draft", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert out.read_text() == "mine"


def test_without_a_place_the_draft_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["robot", str(model_in(tmp_path, urdf()))]) == 0
    assert json.loads(capsys.readouterr().out)["robot"]["base_link"] == "hips"


def test_looks_whose_meshes_are_missing_are_left_out(tmp_path: Path) -> None:
    look = '<visual><geometry><mesh filename="package://mini/meshes/cover.stl"/></geometry></visual></link>'
    text = urdf().replace("</link>", look, 1)
    assert draft(model_in(tmp_path, text)).content == draft(model_in(tmp_path, urdf())).content


def test_joints_that_the_models_own_motors_leave_passive_are_held(tmp_path: Path) -> None:
    loose = '<joint name="knee_r_play" axis="0 1 0" range="-0.01 0.01"/><joint name="knee_r"'
    motors = "".join(f'<position joint="{name}"/>' for name in mini_robot.ROBOT["joint_names"])
    text = mjcf(after=f"<actuator>{motors}</actuator>").replace('<joint name="knee_r"', loose)
    robot = draft(model_in(tmp_path, text)).content["robot"]
    assert robot["joint_names"] == mini_robot.ROBOT["joint_names"]
    assert robot["held_joints"] == {"knee_r_play": 0.0}
