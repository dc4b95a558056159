"""The robot model: believable, symmetric, and the same as the configuration and the README say."""

import re

import mujoco
import numpy as np
import pytest

from biped.config.robot import JOINT_NAMES, RobotConfig
from tests.conftest import ROOT

CFG = RobotConfig()
MODEL = mujoco.MjModel.from_xml_path(str(ROOT / CFG.model_path))
MIRROR = np.array([1.0, -1.0, 1.0])
NEGATED_BY_MIRROR = ("hip_roll", "torso_yaw")


def swap(name: str) -> str:
    return name.replace("left", "?").replace("right", "left").replace("?", "right")


def joint(name: str) -> int:
    return mujoco.mj_name2id(MODEL, mujoco.mjtObj.mjOBJ_JOINT, name)


def place(angles: dict[str, float]) -> mujoco.MjData:
    data = mujoco.MjData(MODEL)
    data.qpos[:7] = [0, 0, CFG.default_base_height_m, 1, 0, 0, 0]
    for name, angle in angles.items():
        data.joint(name).qpos[0] = angle
    mujoco.mj_forward(MODEL, data)
    return data


def default_pose() -> dict[str, float]:
    return dict(zip(JOINT_NAMES, CFG.default_joint_pos_rad, strict=True))


def test_nine_actuated_joints_in_the_configured_order() -> None:
    actuated = [MODEL.actuator(i).name for i in range(MODEL.nu)]
    assert actuated == list(JOINT_NAMES)
    assert MODEL.nv == 6 + len(JOINT_NAMES)


def test_size_and_weight_of_something_that_can_be_built() -> None:
    assert 1.5 <= MODEL.body_mass.sum() <= 3.0
    assert MODEL.body(CFG.base_link).pos[2] == pytest.approx(CFG.default_base_height_m)
    assert CFG.default_base_height_m == pytest.approx(0.40, abs=0.02)
    servos = [i for i in range(MODEL.ngeom) if MODEL.geom(i).name.endswith("_servo")]
    assert len(servos) == len(JOINT_NAMES), "one servo a joint"
    # XM430: 28.5 x 46.5 x 34 mm.
    for geom in servos:
        assert sorted(2000 * MODEL.geom_size[geom]) == pytest.approx([28.5, 34.0, 46.5])


def test_the_simulator_clamps_to_the_published_stall_torque() -> None:
    np.testing.assert_allclose(
        MODEL.actuator_forcerange, [[-CFG.servo.stall_torque_nm, CFG.servo.stall_torque_nm]] * MODEL.nu
    )
    np.testing.assert_allclose(MODEL.actuator_gainprm[:, 0], CFG.kp_nm_per_rad)
    np.testing.assert_allclose(-MODEL.actuator_biasprm[:, 2], CFG.kd_nm_s_per_rad)


def test_every_joint_has_rotor_inertia_and_a_range_around_its_default() -> None:
    for name, default in default_pose().items():
        index = joint(name)
        low, high = MODEL.jnt_range[index]
        assert low < default < high
        assert MODEL.dof_armature[MODEL.jnt_dofadr[index]] > 0, "Genesis would put 0.1 in its place"


@pytest.mark.parametrize("body", range(1, 11))
def test_inertias_are_those_of_bodies_that_exist(body: int) -> None:
    inertia, mass = MODEL.body_inertia[body], MODEL.body_mass[body]
    assert inertia.max() <= inertia.sum() - inertia.max() + 1e-9
    gyration_m = np.sqrt(inertia.max() / mass)
    assert 0.01 < gyration_m < 0.08


def test_only_the_soles_touch_anything() -> None:
    touching = {MODEL.geom(i).name for i in range(MODEL.ngeom) if MODEL.geom_contype[i] or MODEL.geom_conaffinity[i]}
    assert touching == {"left_sole", "right_sole"}
    assert MODEL.nmesh == 0


def test_left_and_right_are_exact_mirror_images() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        angles = {name: rng.uniform(*MODEL.jnt_range[joint(name)]) for name in JOINT_NAMES}
        mirrored = {swap(name): -angle if name.endswith(NEGATED_BY_MIRROR) else angle for name, angle in angles.items()}
        here, there = place(angles), place(mirrored)
        for body in range(1, MODEL.nbody):
            name = MODEL.body(body).name
            assert MODEL.body(name).mass == MODEL.body(swap(name)).mass
            np.testing.assert_allclose(here.body(name).xipos * MIRROR, there.body(swap(name)).xipos, atol=1e-12)
            flip = np.diag(MIRROR)
            ours, theirs = (_world_inertia(data, n) for data, n in ((here, name), (there, swap(name))))
            np.testing.assert_allclose(flip @ ours @ flip, theirs, atol=1e-12)


def _world_inertia(data: mujoco.MjData, name: str) -> np.ndarray:
    body = MODEL.body(name).id
    rotation = data.ximat[body].reshape(3, 3)
    return rotation @ np.diag(MODEL.body_inertia[body]) @ rotation.T


def test_joint_ranges_mirror() -> None:
    for name in JOINT_NAMES:
        low, high = MODEL.jnt_range[joint(name)]
        other = MODEL.jnt_range[joint(swap(name))]
        expected = (-high, -low) if name.endswith(NEGATED_BY_MIRROR) else (low, high)
        np.testing.assert_allclose(other, expected)


def test_the_default_pose_stands_flat_with_its_weight_over_its_feet() -> None:
    data = place(default_pose())
    for index, foot in enumerate(CFG.foot_links):
        site = data.site(foot)
        assert site.xpos[2] == pytest.approx(0.0, abs=0.002)
        np.testing.assert_allclose(site.xmat.reshape(3, 3), np.eye(3), atol=1e-6)
        np.testing.assert_allclose(MODEL.site(foot).pos, CFG.foot_sole_offset_m)
        assert site.xpos[1] * (1, -1)[index] > 0
    centre = data.subtree_com[MODEL.body(CFG.base_link).id]
    sole_x, half_length = data.geom("left_sole").xpos[0], MODEL.geom("left_sole").size[0]
    assert abs(centre[0] - sole_x) < 0.5 * half_length
    assert centre[1] == pytest.approx(0.0, abs=1e-9)


def test_the_readme_tables_are_the_model() -> None:
    text = (ROOT / "assets/biped/README.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")
    ]
    table = {row[0].strip("`"): row for row in rows}
    for body in range(1, MODEL.nbody):
        name = MODEL.body(body).name
        assert float(table[name][2]) == pytest.approx(MODEL.body_mass[body], abs=5e-4), name
    for name in JOINT_NAMES:
        low, high = MODEL.jnt_range[joint(name)]
        stated = [float(number) for number in re.findall(r"-?\d+\.\d+", table[name][2])]
        assert stated == pytest.approx([low, high]), name
        assert float(table[name][3]) == pytest.approx(default_pose()[name]), name
    assert f"{MODEL.body_mass.sum():.2f} kg" in text
