"""What public models have, one trait each: both simulators stand, or one line says what cannot be."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from biped.__main__ import main
from biped.base.errors import MachineError
from biped.config.actuators import ActuatorConfig
from biped.config.robot import RobotConfig
from biped.config.run import Config
from biped.config.settings import robot_settings, with_settings
from biped.config.task import EnvConfig
from biped.env.env import make_env
from biped.robot.rotations import quat_from_yaw
from biped.sim.mujoco_robot import read_robot
from biped.sim.scene import ResetPose, make_scene
from tests import mini_robot
from tests.mini_robot import mjcf, urdf

TOE = """
<link name="toe_l">
  <inertial><mass value="0.02"/><inertia ixx="2e-5" iyy="2e-5" izz="2e-5" ixy="0" ixz="0" iyz="0"/></inertial>
</link>
<joint name="toe_l" type="revolute">
  <parent link="foot_l"/><child link="toe_l"/><origin xyz="0.08 0 0"/><axis xyz="0 1 0"/>
  <limit lower="-2" upper="2" effort="3" velocity="8"/><mimic joint="ankle_l"/>
</joint>
"""


@dataclass(frozen=True)
class Trait:
    """A robot that has one thing that public models have."""

    model: Callable[[], str]
    """Its model."""
    robot: dict[str, Any] = field(default_factory=dict)
    """Changes of its file."""
    sections: dict[str, Any] = field(default_factory=dict)
    """More sections of its file."""
    height_m: float = mini_robot.LEGS_M
    """Height of the base in the default pose (m)."""
    weight_kg: float = 2.0
    """Mass (kg)."""
    in_genesis: bool = True
    """Whether Genesis's own reading of such models was different; else MuJoCo alone is tried."""


DUMMY_ROOT = (
    "<link name='base_link'/><joint name='fix' type='fixed'><parent link='base_link'/><child link='hips'/></joint>"
)

TRAITS: dict[str, Trait] = {
    "nothing is wrong with an MJCF": Trait(mjcf, in_genesis=False),
    "nothing is wrong with a URDF": Trait(urdf),
    "defaults of motors reach ours": Trait(
        lambda: mjcf(default='<motor gear="40" ctrllimited="true" ctrlrange="-0.1 0.1"/>'), in_genesis=False
    ),
    "a default of motors is limited without a range": Trait(
        lambda: mjcf(default='<motor ctrllimited="true"/>'), in_genesis=False
    ),
    "the model brings its own ground": Trait(
        lambda: mjcf(in_world='<geom name="ground" type="plane" size="1 1 1" contype="1" conaffinity="1"/>')
    ),
    "soles collide by contact pairs": Trait(
        lambda: mjcf(
            sole='contype="0" conaffinity="0"',
            in_world='<geom name="floor" type="plane" size="1 1 1"/>',
            after='<contact><pair geom1="floor" geom2="sole_l"/><pair geom1="sole_r" geom2="floor"/></contact>',
        )
    ),
    "soles collide with a ground in another file": Trait(
        lambda: mjcf(
            sole='contype="0" conaffinity="0"',
            after='<contact><pair geom1="floor" geom2="sole_l"/><pair geom1="sole_r" geom2="floor"/></contact>',
        ),
        in_genesis=False,
    ),
    "things beside the robot": Trait(
        lambda: mjcf(
            in_world='<body name="box" pos="1 0 0"><freejoint/><geom type="box" size="1 1 1" contype="1"/></body>'
        ),
        in_genesis=False,
    ),
    "friction, damping and inertia of the rotors": Trait(
        mjcf,
        {
            "actuators": [
                {"friction_nm": 0.05, "damping_nm_s_per_rad": 0.2, "armature_kg_m2": 0.02, "effort_limit_nm": 3.0}
            ]
        },
    ),
    "a joint that nothing drives": Trait(
        lambda: mjcf(
            in_hips='<body name="head" pos="0 0 0.2"><joint name="neck" axis="0 1 0"/>'
            '<geom type="box" size="0.03 0.03 0.03" mass="0.1"/></body>'
        ),
        weight_kg=2.1,
    ),
    "gains and limits per joint": Trait(
        mjcf,
        {
            "kp_nm_per_rad": [40.0, 40.0, 40.0, 15.0] * 2,
            "kd_nm_s_per_rad": [1.0, 1.0, 1.0, 0.3] * 2,
            "servo": {"stall_torque_nm": [6.0, 6.0, 6.0, 2.0] * 2, "no_load_speed_rad_s": 8.0},
        },
    ),
    "groups of actuators": Trait(
        mjcf,
        {
            "actuators": [
                {"joints": ["ankle_*"], "servo": "XM430-W350", "kp_nm_per_rad": 15.0, "kd_nm_s_per_rad": 0.3},
                {"joints": ["roll_*", "hip_*"], "effort_limit_nm": 6.0, "velocity_limit_rad_s": 20.0},
            ]
        },
    ),
    "substeps of its own": Trait(mjcf, sections={"sim": {"substeps": 10}}, in_genesis=False),
    "stiff joints and Euler's integrator": Trait(
        lambda: mjcf(option='integrator="Euler" timestep="0.002"'),
        {"kp_nm_per_rad": 200.0, "kd_nm_s_per_rad": 5.0},
        sections={"sim": {"substeps": 8}},
        in_genesis=False,
    ),
    "options of MuJoCo for another purpose": Trait(
        lambda: mjcf(option='iterations="1" ls_iterations="1" gravity="0 0 -1.62" density="100"'), in_genesis=False
    ),
    "contacts that MuJoCo alone knows": Trait(
        lambda: mjcf(sole='contype="1" conaffinity="1" condim="1" priority="2" margin="0.02" gap="0.02"'),
        in_genesis=False,
    ),
    "the base's frame is at the floor": Trait(
        lambda: mjcf(shift_m=0.32), {"default_base_height_m": mini_robot.LEGS_M, "base_point_m": [0.0, 0.0, 0.32]}
    ),
    "a base that floats by slides and a ball": Trait(
        lambda: mjcf(
            float_by='<joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 1 0"/>'
            '<joint type="slide" axis="0 0 1"/><joint type="ball"/>'
        )
    ),
    "force limits at the joints": Trait(lambda: mjcf(joint='actuatorfrcrange="-0.2 0.2"')),
    "feet whose frames differ": Trait(
        lambda: mjcf(right_foot=('euler="180 0 0"', 'type="box" size="0.07 0.04 0.01" pos="0.02 0 0.02"')).replace(
            'name="ankle_r" axis="0 1 0"', 'name="ankle_r" axis="0 -1 0"'
        ),
        {"foot_sole_offset_m": [[0.02, 0.0, -0.03], [0.02, 0.0, 0.03]]},
    ),
    "a massless root": Trait(lambda: urdf(extra=DUMMY_ROOT), {"base_link": "base_link"}),
    "a massless root above the base that is named": Trait(lambda: urdf(extra=DUMMY_ROOT)),
    "a massless root above the torso that is named": Trait(
        lambda: urdf(extra=DUMMY_ROOT), {"base_link": "base_link", "torso_link": "hips"}
    ),
    "continuous joints": Trait(lambda: urdf(knee="continuous")),
    "soles that are fixed links": Trait(
        lambda: urdf(pads=True),
        {"foot_links": ["pad_l", "pad_r"], "foot_sole_offset_m": [0.02, 0.0, -0.03]},
        {},
        weight_kg=2.02,
    ),
    "soles that are fixed links, of feet that are named": Trait(lambda: urdf(pads=True), weight_kg=2.02),
}


def env_of(file: Path) -> EnvConfig:
    return replace(with_settings(Config(), robot_settings(file)).env, num_envs=1)


def stands(sim: str, cfg: EnvConfig) -> tuple[float, float, float, float]:
    """Let a robot stand for a second; return height of the base, its lean's cosine, weight on the feet, mass."""
    scene = make_scene(sim, cfg, torch.device("cpu"))
    try:
        targets = torch.tensor([cfg.robot.default_joint_pos_rad])
        base = torch.tensor([[0.0, 0.0, cfg.robot.default_base_height_m + 0.002]])
        scene.reset(torch.ones(1, dtype=torch.bool), ResetPose(base, quat_from_yaw(torch.zeros(1)), targets))
        for _ in range(50):
            state = scene.step(targets)
        level, weight = -float(state.projected_gravity_b[0, 2]), float(state.foot_force_n.sum())
        return float(state.base_pos_w[0, 2]), level, weight, scene.mass_kg
    finally:
        scene.close()


CASES = [(name, "mujoco") for name in TRAITS]
CASES += [(name, "genesis") for name, trait in TRAITS.items() if trait.in_genesis]


@pytest.mark.parametrize(("name", "sim"), CASES)
def test_a_robot_with_this_trait_stands_in_both_simulators(name: str, sim: str, tmp_path: Path) -> None:
    trait = TRAITS[name]
    cfg = env_of(mini_robot.write(tmp_path, trait.model(), trait.robot, **trait.sections))
    height_m, level, weight_n, mass_kg = stands(sim, cfg)
    assert height_m == pytest.approx(trait.height_m, abs=0.004)
    assert level > 0.999
    assert mass_kg == pytest.approx(trait.weight_kg, abs=1e-4)
    assert weight_n == pytest.approx(trait.weight_kg * 9.81, rel=0.02)


def refusal(folder: Path, model: str, robot: dict[str, Any] | None = None) -> str:
    with pytest.raises(MachineError) as error:
        read_robot(env_of(mini_robot.write(folder, model, robot)))
    return str(error.value)


def test_options_and_contacts_of_mujoco_alone_are_left_out_and_said(tmp_path: Path) -> None:
    model = mjcf(option='iterations="1" gravity="0 0 -1.62"', sole='contype="1" conaffinity="1" condim="1"')
    assert read_robot(env_of(mini_robot.write(tmp_path, model))).changes == (
        "left out condim of its contacts",
        "left out its own options of MuJoCo (gravity, iterations)",
    )


LOOK = '<geom type="mesh" mesh="cover" contype="0" conaffinity="0"/>'
COVER = '<asset><mesh name="cover" file="meshes/cover.stl"/></asset>'


@pytest.mark.parametrize("sim", ["mujoco", "genesis"])
def test_looks_whose_meshes_are_nowhere_are_left_out(tmp_path: Path, sim: str) -> None:
    weighed = LOOK + '<inertial pos="0 0 0" mass="1.1" diaginertia="0.003 0.003 0.003"/>'
    cfg = env_of(mini_robot.write(tmp_path, mjcf(in_hips=weighed, after=COVER)))
    assert read_robot(cfg).changes == ("left out the looks of cover, whose meshes are nowhere",)
    assert stands(sim, cfg)[0] == pytest.approx(mini_robot.LEGS_M, abs=0.004)


def test_a_missing_mesh_that_collides_or_weighs_is_named(tmp_path: Path) -> None:
    wanted = f"needs the mesh {tmp_path / 'meshes' / 'cover.stl'}: put it there"
    assert wanted in refusal(tmp_path, mjcf(in_hips=LOOK, after=COVER))
    colliding = LOOK.replace('contype="0"', 'contype="1"')
    assert wanted in refusal(tmp_path, mjcf(in_hips=colliding, after=COVER))


def test_a_loop_is_named_as_not_supported(tmp_path: Path) -> None:
    tied = '<equality><connect body1="shin_l" body2="shin_r" anchor="0 0 0"/></equality>'
    assert "closes a loop (shin_l and shin_r are tied together), which is not supported" in refusal(
        tmp_path, mjcf(after=tied)
    )


def test_a_joint_that_follows_another_one_is_named_and_can_be_fixed(tmp_path: Path) -> None:
    assert "the joint toe_l follows ankle_l, which is not supported" in refusal(tmp_path, urdf(extra=TOE))
    held = read_robot(env_of(mini_robot.write(tmp_path, urdf(extra=TOE), {"held_joints": {"toe_l": 0.1}})))
    assert "held toe_l at 0.1 rad" in held.changes


def test_a_base_that_is_not_there_is_named_with_what_is(tmp_path: Path) -> None:
    said = refusal(tmp_path, urdf(), {"base_link": "hip"})
    assert "has no link hip: did you mean hips?; its root is hips" in said


def test_a_root_above_the_base_stays_where_it_is(tmp_path: Path) -> None:
    mujoco = pytest.importorskip("mujoco")
    pack = (
        '<link name="pack"><inertial><origin xyz="0.1 0 0"/><mass value="0.5"/>'
        '<inertia ixx="1e-3" iyy="2e-3" izz="3e-3" ixy="0" ixz="0" iyz="0"/></inertial></link>'
        '<joint name="fix" type="fixed"><parent link="pack"/><child link="hips"/>'
        '<origin xyz="0.03 -0.02 0.1" rpy="0.3 -0.5 1.1"/></joint>'
    )
    places = []
    for base in ("pack", "hips"):
        file = mini_robot.write(tmp_path, urdf(extra=pack), {"base_link": base, "torso_link": "hips"})
        compiled = read_robot(env_of(file)).spec.compile()
        data = mujoco.MjData(compiled)
        mujoco.mj_forward(compiled, data)
        hips = data.body("hips")
        places.append(hips.xmat.reshape(3, 3).T @ (data.subtree_com[0] - hips.xpos))
    assert places[1] == pytest.approx(places[0], abs=1e-9)


def test_a_mesh_of_a_package_is_found_above_the_file_or_named(tmp_path: Path) -> None:
    mesh = '<mesh filename="package://mini_description/meshes/sole.stl"/>'
    (tmp_path / "urdf").mkdir()
    assert "needs the mesh package://mini_description/meshes/sole.stl" in refusal(tmp_path / "urdf", urdf(sole=mesh))
    trimesh = pytest.importorskip("trimesh")
    (tmp_path / "meshes").mkdir()
    trimesh.creation.box(extents=(0.14, 0.08, 0.02)).export(tmp_path / "meshes" / "sole.stl")
    cfg = env_of(mini_robot.write(tmp_path / "urdf", urdf(sole=mesh)))
    for sim in ("mujoco", "genesis"):
        assert stands(sim, cfg)[0] == pytest.approx(mini_robot.LEGS_M, abs=0.004)


@pytest.mark.parametrize("turned", ["", 'quat="0.8 0 0.6 0"', 'euler="20 -30 40"', 'axisangle="1 2 2 50"'])
@pytest.mark.parametrize("held", [{"lift": 0.7}, {"swing": -0.4}, {"swing": -0.4, "lift": 0.7}])
def test_a_held_joint_stands_where_its_file_says(tmp_path: Path, turned: str, held: dict[str, float]) -> None:
    arm = (
        f'<body name="arm" pos="0 0.1 0.1" {turned}><joint name="swing" axis="0 1 0" pos="0 0 0.02"/>'
        '<joint name="lift" axis="1 0 0.5" pos="0.01 0 0.02"/>'
        '<geom type="box" size="0.02 0.02 0.1" pos="0 0 -0.1" mass="0.2"/></body>'
    )
    driven = {"swing": 0.3, "lift": -0.2}
    model = mjcf(in_hips=arm)
    mujoco = pytest.importorskip("mujoco")

    def arm_at(model: Any, angles: dict[str, float]) -> list[float]:
        data = mujoco.MjData(model)
        for name, angle in angles.items():
            data.joint(name).qpos[0] = angle
        mujoco.mj_forward(model, data)
        return [*(data.body("arm").xpos - data.body("hips").xpos), *data.body("arm").xmat]

    robot = {"held_joints": held}
    driven = {name: angle for name, angle in driven.items() if name not in held}
    if driven:
        robot |= {
            "joint_names": [*mini_robot.ROBOT["joint_names"], *driven],
            "default_joint_pos_rad": [*mini_robot.ROBOT["default_joint_pos_rad"], *[0.0] * len(driven)],
            "mirror_joints": [*mini_robot.ROBOT["mirror_joints"], *driven],
            "mirror_signs": [*mini_robot.ROBOT["mirror_signs"], *[1.0] * len(driven)],
        }
    read = read_robot(env_of(mini_robot.write(tmp_path, model, robot))).spec.compile()
    assert not {read.joint(index).name for index in range(read.njnt)} & held.keys()
    wanted = arm_at(mujoco.MjModel.from_xml_string(model), held | driven)
    assert arm_at(read, driven) == pytest.approx(wanted, abs=1e-9)


def test_motors_follow_the_first_group_that_fits() -> None:
    robot = RobotConfig(
        joint_names=("hip", "knee", "ankle"),
        swing_joints=("hip", "knee", "ankle") * 2,
        default_joint_pos_rad=(0.0, 0.0, 0.0),
        actuators=(
            ActuatorConfig(joints=("knee",), effort_limit_nm=2.0, stall_torque_nm=5.0),
            ActuatorConfig(joints=("hip",), servo="XM430-W350", kp_nm_per_rad=30.0),
            ActuatorConfig(kd_nm_s_per_rad=0.1),
        ),
    )
    hip, knee, ankle = robot.motors
    assert (hip.servo, hip.kp_nm_per_rad, hip.effort_limit_nm, hip.armature_kg_m2) == ("XM430-W350", 30.0, 4.1, 0.0025)
    assert (knee.servo, knee.kp_nm_per_rad, knee.effort_limit_nm, knee.stall_torque_nm) == ("", 20.0, 2.0, 5.0)
    assert (ankle.kp_nm_per_rad, ankle.kd_nm_s_per_rad, ankle.effort_limit_nm) == (20.0, 0.1, 3.0)


def test_legs_without_ankles_swing_two_joints_each(tmp_path: Path) -> None:
    names = [f"{name}_{side}" for side in "lr" for name in ("hip", "knee")]
    file = mini_robot.write(
        tmp_path,
        mjcf(),
        {"swing_joints": names, "swing_signs": [-1.0, 1.0], "foot_links": ["foot_l", "foot_r"]},
    )
    env = make_env(replace(env_of(file), num_envs=2), "cpu", sim="mujoco")
    env.reset()
    env.step(torch.zeros(2, 8))
    env.close()


def test_a_robot_all_of_whose_joints_swing_steps(tmp_path: Path) -> None:
    planar = mjcf()
    for side in "lr":
        planar = planar.replace(f'<joint name="roll_{side}" axis="1 0 0" />', "")
    names = [f"{name}_{side}" for side in "lr" for name in ("hip", "knee", "ankle")]
    mirrored = [f"{name}_{side}" for side in "rl" for name in ("hip", "knee", "ankle")]
    changes = {
        "joint_names": names,
        "mirror_joints": mirrored,
        "mirror_signs": [1.0] * 6,
        "default_joint_pos_rad": [-0.35, 0.7, -0.35] * 2,
    }
    env = make_env(replace(env_of(mini_robot.write(tmp_path, planar, changes)), num_envs=2), "cpu", sim="mujoco")
    env.reset()
    assert torch.isfinite(env.step(torch.zeros(2, 6))[1]).all()
    env.close()


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "legs that turn oppositely": (
        mjcf(right_axes={"roll": -1.0, "hip": -1.0, "knee": -1.0, "ankle": -1.0}),
        {
            "mirror_signs": [1.0, -1.0, -1.0, -1.0] * 2,
            "default_joint_pos_rad": [0.0, -0.35, 0.7, -0.35, 0.0, 0.35, -0.7, 0.35],
        },
        "gait: hip_r, knee_r, ankle_r would swing the wrong way: set robot.swing_signs to [-1, 1, -1, 1, -1, 1]",
    ),
    "one hip that turns oppositely": (
        mjcf(right_axes={"hip": -1.0}),
        {
            "mirror_signs": [-1.0, -1.0, 1.0, 1.0] * 2,
            "default_joint_pos_rad": [0.0, -0.35, 0.7, -0.35, 0.0, 0.35, 0.7, -0.35],
        },
        "gait: hip_r would swing the wrong way: set robot.swing_signs to [-1, 1, -1, 1, 1, -1]",
    ),
    "nothing of the feet collides": (
        mjcf(sole=""),
        {},
        "contacts: nothing of foot_l collides, it falls through the ground",
    ),
    "signs that do not fit the axes": (
        mjcf(),
        {"mirror_signs": [1.0] * 8},
        "mirror: the axes of roll_l, roll_r say otherwise: set robot.mirror_signs to [-1, 1, 1, 1, -1, 1, 1, 1]",
    ),
    "a sole that is elsewhere": (
        mjcf(right_foot=('euler="180 0 0"', 'type="box" size="0.07 0.04 0.01" pos="0.02 0 0.02"')).replace(
            'name="ankle_r" axis="0 1 0"', 'name="ankle_r" axis="0 -1 0"'
        ),
        {},
        "soles: robot.foot_sole_offset_m is not where foot_r touches the ground: set it to "
        "[[0.020, 0.000, -0.030], [0.020, 0.000, 0.030]], one for each foot",
    ),
    "a frame at the floor": (
        mjcf(shift_m=0.32),
        {"default_base_height_m": -0.008},
        "heights: fallen below 0.2 m, target 0.305 m, standing at -0.008 m: the base's frame is near the ground: set "
        "robot.base_point_m to [0.0, 0.0, 0.32], and the heights",
    ),
    "wheels": (
        mjcf(foot_shape='type="cylinder" size="0.03 0.01" euler="90 0 0" pos="0 0 0"'),
        {"foot_sole_offset_m": [0.0, 0.0, -0.03]},
        "contacts: foot_l is round and turns about ankle_l like a wheel, which is not supported",
    ),
    "one leg that is heavier": (
        mjcf(right_shin_kg=0.16),
        {},
        "symmetry: shin_l is no mirror image of shin_r (10.0 g",
    ),
    "joints that are too stiff for their steps": (
        mjcf(joint="").replace('armature="0.01" damping="0.1"', 'armature="0.0005" damping="0"'),
        {"kp_nm_per_rad": 120.0, "kd_nm_s_per_rad": 0.05},
        "substeps: unstable at 2 (",
    ),
    "motors that are too weak": (
        mjcf(),
        {"servo": {"stall_torque_nm": 0.15, "no_load_speed_rad_s": 8.0}},
        "torque limits: knee_l has 0.15 N·m and needs about",
    ),
    "a pose whose centre of mass is not over the soles": (
        mjcf(in_hips='<geom type="box" size="0.03 0.03 0.03" pos="0.3 0 0.1" mass="1.5"/>'),
        {},
        "forward of the middle of the soles: choose a default_joint_pos_rad that puts it over them",
    ),
    "gains that are too low": (
        mjcf(),
        {"kp_nm_per_rad": 2.0},
        "raise kp_nm_per_rad",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_cause_is_named_with_its_remedy(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, changes, wanted = WRONG[name]
    assert main(["check-robot", str(mini_robot.write(tmp_path, model, changes))]) == 1
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("WRONG")]
    assert wanted in said[0], said


def test_nothing_is_said_of_a_robot_that_is_fine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-robot", str(mini_robot.write(tmp_path, mjcf()))]) == 0
    assert "WRONG" not in capsys.readouterr().out
