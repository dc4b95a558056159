"""The scene against a real Genesis, and against MuJoCo's kinematics of the same model."""

import importlib
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import mujoco
import numpy as np
import pytest
import torch

from biped.base.errors import MachineError
from biped.config.robot import JOINT_NAMES, SimConfig
from biped.config.task import EnvConfig
from biped.robot.model import model_file
from biped.robot.rotations import quat_from_yaw, quat_rotate
from biped.sim.kernel_cache import is_specialised
from biped.sim.kernel_news import kernel_in
from biped.sim.scene import ResetPose, make_scene
from tests.conftest import ROOT

CPU = torch.device("cpu")
pytestmark = pytest.mark.genesis
ALL = torch.ones(8, dtype=torch.bool)


def pose(cfg: EnvConfig, yaw_rad: float = 0.0) -> ResetPose:
    base = torch.zeros(cfg.num_envs, 3)
    base[:, 2] = cfg.robot.default_base_height_m
    default = torch.tensor(cfg.robot.default_joint_pos_rad).repeat(cfg.num_envs, 1)
    return ResetPose(base, quat_from_yaw(torch.full((cfg.num_envs,), yaw_rad)), default)


@pytest.fixture
def standing(scene, env_config):
    """Robots that have stood for half a second, facing left."""
    start = pose(env_config, yaw_rad=np.pi / 2)
    scene.reset(ALL, start)
    for _ in range(25):
        state = scene.step(start.joint_pos_rad)
    return state


def test_standing_feet_are_on_the_ground_and_carry_the_weight(standing, env_config) -> None:
    mass_kg = mujoco.MjModel.from_xml_path(str(model_file(env_config))).body_mass.sum()
    assert standing.foot_pos_w[..., 2].abs().max() < 0.003
    assert standing.foot_force_n.sum(dim=1) == pytest.approx(mass_kg * 9.81, rel=0.03)
    assert not standing.error.any()


def test_left_is_left_and_forward_is_forward(standing) -> None:
    # Facing +y in the world, the left foot is at -x.
    left, right = standing.foot_pos_w[0]
    assert left[0] < -0.04 < 0.04 < right[0]
    np.testing.assert_allclose(standing.projected_gravity_b[0].numpy(), [0.0, 0.0, -1.0], atol=0.05)


def test_velocities_agree_with_the_change_of_position(scene, env_config) -> None:
    start = pose(env_config, yaw_rad=1.0)
    scene.reset(ALL, start)
    kick = start.joint_pos_rad.clone()
    kick[:, JOINT_NAMES.index("left_knee")] += 0.3
    kick[:, JOINT_NAMES.index("torso_yaw")] += 0.3
    after = scene.step(kick)
    for _ in range(8):
        before, after = after, scene.step(kick)
    dt_s = env_config.sim.control_dt_s
    moved_w = (after.base_pos_w - before.base_pos_w) / dt_s
    mean_vel_w = 0.5 * (
        quat_rotate(after.base_quat_w, after.base_lin_vel_b) + quat_rotate(before.base_quat_w, before.base_lin_vel_b)
    )
    torch.testing.assert_close(mean_vel_w, moved_w, atol=0.03, rtol=0.1)
    # For small turns the vector part of the quaternion between is half of the angle: ω = 2 (q' q*) / dt.
    w, xyz = before.base_quat_w[:, :1], before.base_quat_w[:, 1:]
    w_after, xyz_after = after.base_quat_w[:, :1], after.base_quat_w[:, 1:]
    between = w * xyz_after - w_after * xyz - torch.linalg.cross(xyz_after, xyz)
    mean_ang_vel_w = 0.5 * (
        quat_rotate(after.base_quat_w, after.base_ang_vel_b) + quat_rotate(before.base_quat_w, before.base_ang_vel_b)
    )
    torch.testing.assert_close(mean_ang_vel_w, 2.0 * between / dt_s, atol=0.05, rtol=0.1)
    assert mean_ang_vel_w.abs().max() > 0.1, "nothing turned: the comparison would be empty"
    turned = (after.joint_pos_rad - before.joint_pos_rad) / dt_s
    torch.testing.assert_close(0.5 * (after.joint_vel_rad_s + before.joint_vel_rad_s), turned, atol=0.2, rtol=0.1)
    assert turned.abs().max() > 0.2, "nothing moved: the comparison would be empty"
    feet = (after.foot_pos_w - before.foot_pos_w) / dt_s
    torch.testing.assert_close(0.5 * (after.foot_vel_w + before.foot_vel_w), feet, atol=0.06, rtol=0.2)


def test_soles_are_where_mujoco_has_them(scene, env_config) -> None:
    """Joints are found by name and soles by offset: two simulators agree on a crooked pose."""
    start = pose(env_config, yaw_rad=0.7)
    crooked = start.joint_pos_rad + torch.linspace(-0.2, 0.2, len(JOINT_NAMES))
    scene.reset(ALL, replace(start, joint_pos_rad=crooked))
    state = scene.step(crooked)
    model = mujoco.MjModel.from_xml_path(str(model_file(env_config)))
    data = mujoco.MjData(model)
    data.qpos[:3], data.qpos[3:7] = state.base_pos_w[0], state.base_quat_w[0]
    for name, angle in zip(JOINT_NAMES, state.joint_pos_rad[0].tolist(), strict=True):
        data.joint(name).qpos[0] = angle
    mujoco.mj_kinematics(model, data)
    for foot, site in enumerate(("left_foot", "right_foot")):
        np.testing.assert_allclose(state.foot_pos_w[0, foot].numpy(), data.site(site).xpos, atol=2e-3)


def test_torques_are_what_genesis_applies_and_never_more_than_stall(scene, env_config) -> None:
    start = pose(env_config)
    scene.reset(ALL, start)
    far = start.joint_pos_rad + torch.tensor([1.0, -1.0] * 4 + [1.0])
    for _ in range(3):
        state = scene.step(far)
    genesis_says = scene._robot.get_dofs_control_force(scene._dofs)
    torch.testing.assert_close(state.joint_torque_nm, genesis_says, atol=1e-4, rtol=1e-4)
    assert state.joint_torque_nm.abs().max() == pytest.approx(env_config.robot.servo.stall_torque_nm)


def test_reset_touches_the_masked_robots_alone(scene, env_config) -> None:
    start = pose(env_config)
    scene.reset(ALL, start)
    for _ in range(5):
        before = scene.step(start.joint_pos_rad + 0.2)
    mask = torch.tensor([True] + [False] * 7)
    scene.reset(mask, start)
    after = scene.step(start.joint_pos_rad)
    torch.testing.assert_close(after.joint_pos_rad[0], start.joint_pos_rad[0], atol=0.03, rtol=0)
    assert (after.joint_pos_rad[0] - before.joint_pos_rad[0]).abs().min() > 0.1
    # Nobody else jumped: they are where their velocity took them.
    drift = after.joint_pos_rad[1:] - before.joint_pos_rad[1:]
    mean_vel = 0.5 * (after.joint_vel_rad_s[1:] + before.joint_vel_rad_s[1:])
    torch.testing.assert_close(drift, mean_vel * env_config.sim.control_dt_s, atol=0.03, rtol=0)


def test_a_broken_robot_is_an_error_of_its_own_and_a_reset_heals_it(scene, env_config) -> None:
    start = pose(env_config)
    scene.reset(ALL, start)
    broken = torch.tensor([False, False, True] + [False] * 5)
    scene.reset(broken, replace(start, joint_pos_rad=torch.full_like(start.joint_pos_rad, torch.nan)))
    assert scene.step(start.joint_pos_rad).error.tolist() == broken.tolist()
    scene.reset(broken, start)
    for _ in range(5):
        state = scene.step(start.joint_pos_rad)
    assert not state.error.any()
    assert state.base_height_m.min() > 0.39


def test_the_same_targets_move_every_robot_the_same_way(scene, env_config) -> None:
    start = pose(env_config)
    scene.reset(ALL, start)
    for _ in range(20):
        state = scene.step(start.joint_pos_rad + 0.1)
    torch.testing.assert_close(state.base_pos_w, state.base_pos_w[:1].expand(8, 3), atol=1e-4, rtol=0)


def test_a_missing_model_is_named(env_config) -> None:
    cfg = replace(env_config, robot=replace(env_config.robot, model_path="assets/nothing.xml"))
    with pytest.raises(MachineError, match=r"nothing\.xml is missing"):
        make_scene("genesis", cfg, CPU)


def test_rendering_needs_a_camera(scene) -> None:
    with pytest.raises(MachineError, match="without a camera"):
        scene.render()


def test_the_kernel_that_is_compiled_is_read_off_the_compilers_own_frame() -> None:
    kernel = importlib.import_module("quadrants.lang.kernel").Kernel
    names: dict = {}
    for function in ("materialize", "launch_kernel", "reset"):
        source = f"def {function}(self, look):\n    return look()\n"
        exec(compile(source, getattr(kernel, function).__code__.co_filename, "exec"), names)
    compiler = SimpleNamespace(func=test_the_kernel_that_is_compiled_is_read_off_the_compilers_own_frame)
    seen = {name: names[name](compiler, lambda: kernel_in(sys._getframe())) for name in names if name[0] != "_"}
    mine = "test_the_kernel_that_is_compiled_is_read_off_the_compilers_own_frame"
    assert seen == {"materialize": mine, "launch_kernel": mine, "reset": None}
    assert kernel_in(sys._getframe()) is None


COLD = """
import torch
from dataclasses import replace
from biped_config import cpu_preset
from biped.sim.scene import make_scene

cfg = replace(cpu_preset().env, num_envs=2)
scene = make_scene("genesis", cfg, torch.device("cpu"))
print("built", flush=True)
scene.step(torch.tensor(cfg.robot.default_joint_pos_rad).repeat(2, 1))
"""


@pytest.mark.slow
def test_the_first_build_on_a_machine_says_what_is_compiled_and_for_how_long(tmp_path: Path) -> None:
    """Minutes, most of them in a kernel whose compilation holds Python's lock."""
    # Genesis leaves variables of its own in this process, where it keeps its kernels among them.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("QD_", "GS_"))}
    ended = subprocess.run(
        [sys.executable, "-c", COLD],
        cwd=ROOT,
        env={**inherited, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = re.findall(r"^Genesis compiles for this machine: (\w+), (\d+) s so far$", ended.stderr, re.MULTILINE)
    seconds = [int(second) for _, second in lines]
    assert len(lines) >= 2
    assert seconds == sorted(seconds)
    assert "kernel_detection" in {name for name, _ in lines}


def test_kernels_are_specialised_on_a_gpu_unless_it_is_said_otherwise() -> None:
    assert is_specialised(SimConfig(), "cuda")
    assert not is_specialised(SimConfig(), "cpu")
    assert is_specialised(SimConfig(performance_mode=True), "cpu")
    assert not is_specialised(SimConfig(performance_mode=False), "cuda")
