"""MuJoCo beside Genesis: one model, two engines; and what is MuJoCo's own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from biped.base.errors import MachineError
from biped.config.robot import RobotConfig
from biped.config.task import EnvConfig
from biped.env.env import BipedEnv
from biped.mdp.randomization import sample_dynamics
from biped.robot.rotations import quat_from_yaw
from biped.robot.state import BipedState
from biped.sim.scene import ResetPose, Scene, make_scene
from biped_config import cpu_preset, randomization_preset
from tests import processes
from tests.conftest import ROOT, side_by_side

CPU = torch.device("cpu")
COUNT = 8
ALL = torch.ones(COUNT, dtype=torch.bool)


@pytest.fixture(scope="module")
def cfg() -> EnvConfig:
    return replace(cpu_preset().env, num_envs=COUNT, randomization=randomization_preset("full"))


@pytest.fixture(scope="module")
def scenes(cfg: EnvConfig) -> Iterator[list[Scene]]:
    both = [make_scene(name, cfg, CPU) for name in ("genesis", "mujoco")]
    yield both
    for scene in both:
        scene.close()


def plain(cfg: EnvConfig, scenes: list[Scene]) -> None:
    """Give every robot the model's own dynamics."""
    for scene in scenes:
        scene.apply(sample_dynamics(randomization_preset("none"), cfg.robot, COUNT, torch.Generator()))


def start(cfg: EnvConfig, scenes: list[Scene], lift_m: float = 0.0, yaw_rad: float = 0.7) -> torch.Tensor:
    base = torch.zeros(COUNT, 3)
    base[:, 2] = cfg.robot.default_base_height_m + lift_m
    joints = torch.tensor(cfg.robot.default_joint_pos_rad).repeat(COUNT, 1)
    for scene in scenes:
        scene.reset(ALL, ResetPose(base, quat_from_yaw(torch.full((COUNT,), yaw_rad)), joints))
    return joints


def run(scenes: list[Scene], targets: list[torch.Tensor], force_w: torch.Tensor | None = None) -> list[BipedState]:
    states: list[BipedState] = []
    for scene in scenes:
        for target in targets:
            state = scene.step(target, force_w)
        states.append(state)
    return states


TIGHT = {
    "base_pos_w": 1e-4,
    "base_quat_w": 1e-3,
    "base_lin_vel_b": 2e-3,
    "base_ang_vel_b": 1e-2,
    "projected_gravity_b": 1e-3,
    "joint_pos_rad": 1e-3,
    "joint_vel_rad_s": 1e-2,
    "joint_torque_nm": 1e-2,
    "foot_pos_w": 2e-3,
    # MuJoCo senses the feet at the beginning of the last substep: g × 0.01 s in free fall.
    "foot_vel_w": 0.11,
    "foot_force_n": 0.05,
}


LOOSE = {name: 3.0 * atol for name, atol in TIGHT.items()}
"""On robots that differ: some stand on slopes, some slip a little."""


def assert_agree(states: list[BipedState], tolerance: dict[str, float] = TIGHT) -> None:
    genesis, mujoco = states
    for name, atol in tolerance.items():
        torch.testing.assert_close(
            getattr(mujoco, name),
            getattr(genesis, name),
            atol=atol,
            rtol=0.0,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def test_mass_is_the_same(scenes: list[Scene]) -> None:
    assert scenes[0].mass_kg == pytest.approx(scenes[1].mass_kg, rel=1e-6) == pytest.approx(1.698, abs=1e-3)


def test_they_agree_in_free_fall(cfg: EnvConfig, scenes: list[Scene]) -> None:
    plain(cfg, scenes)
    joints = start(cfg, scenes, lift_m=1.0)
    states = run(scenes, [joints] * 15)
    assert_agree(states)
    # After 0.3 s: g t and half of g t², and no contact.
    assert states[1].base_lin_vel_b[:, 2].tolist() == pytest.approx([-9.81 * 0.3] * COUNT, abs=0.01)
    assert (states[1].foot_force_n == 0).all()


def test_they_agree_on_a_standing_pose_and_on_what_the_feet_carry(cfg: EnvConfig, scenes: list[Scene]) -> None:
    plain(cfg, scenes)
    joints = start(cfg, scenes)
    states = run(scenes, [joints] * 100)
    assert_agree(states)
    assert states[1].foot_force_n.sum(dim=1).tolist() == pytest.approx([1.698 * 9.81] * COUNT, rel=0.01)
    # Facing 0.7 rad to the left of x, the left foot is behind and to the left.
    left, right = states[1].foot_pos_w[0]
    assert left[0] < right[0]
    assert left[1] > right[1]


def test_they_agree_on_robots_that_differ(cfg: EnvConfig, scenes: list[Scene]) -> None:
    """Masses, centres of mass, strength, damping, slopes: all of the sample reaches both."""
    sample = sample_dynamics(cfg.randomization, cfg.robot, COUNT, torch.Generator().manual_seed(3))
    for scene in scenes:
        scene.apply(sample)
    joints = start(cfg, scenes)
    states = run(scenes, [joints] * 50)
    assert_agree(states, {**LOOSE, "base_pos_w": 2e-3, "foot_pos_w": 4e-3})
    weights = (1.698 + sample.torso_mass_kg) * 9.81 * -sample.gravity_direction[:, 2]
    torch.testing.assert_close(states[1].foot_force_n.sum(dim=1), weights, rtol=0.01, atol=0.0)
    # So small that no motor saturates: Genesis integrates a clamped force with its damping, MuJoCo without. Where dry
    # friction turns a joint around, the two give way a little differently.
    swing = [joints + 0.05 * torch.sin(0.5 * step + torch.arange(9.0)) for step in range(10)]
    start(cfg, scenes, lift_m=1.0)
    assert_agree(
        run(scenes, swing),
        {**LOOSE, "base_ang_vel_b": 0.03, "joint_vel_rad_s": 0.06, "joint_torque_nm": 0.03, "foot_vel_w": 0.2},
    )


def test_each_part_of_a_sample_changes_what_happens_in_both(cfg: EnvConfig, scenes: list[Scene]) -> None:
    nominal = sample_dynamics(randomization_preset("none"), cfg.robot, COUNT, torch.Generator())
    full = sample_dynamics(cfg.randomization, cfg.robot, COUNT, torch.Generator().manual_seed(5))
    moves = [
        torch.tensor(cfg.robot.default_joint_pos_rad)
        + 0.3 * torch.sin(0.6 * step + torch.arange(9.0)).expand(COUNT, -1)
        for step in range(12)
    ]
    for scene in scenes:

        def moved(sample, scene=scene) -> torch.Tensor:
            scene.apply(sample)
            start(cfg, [scene])
            return torch.cat([run([scene], moves)[0].joint_pos_rad, run([scene], moves)[0].base_pos_w], dim=1)

        reference = moved(nominal)
        for name in (
            "friction",
            "torso_mass_kg",
            "torso_com_m",
            "strength",
            "damping",
            "joint_friction_nm",
            "armature",
            "gravity_direction",
        ):
            value = torch.full_like(full.friction, 0.3) if name == "friction" else getattr(full, name)
            other = moved(replace(nominal, **{name: value}))
            assert (other - reference).abs().max() > 1e-4, (type(scene).__name__, name)
        torch.testing.assert_close(moved(nominal), reference)


def test_they_agree_on_a_base_that_is_given_a_velocity(cfg: EnvConfig, scenes: list[Scene]) -> None:
    plain(cfg, scenes)
    joints = start(cfg, scenes, lift_m=1.0)
    lin, ang = torch.tensor([0.3, -0.2, 0.5]).repeat(COUNT, 1), torch.tensor([1.0, 2.0, -1.5]).repeat(COUNT, 1)
    some = torch.arange(COUNT) % 2 == 0
    for scene in scenes:
        scene.set_base_velocity(some, lin, ang)
    states = run(scenes, [joints])
    assert_agree(states)
    torch.testing.assert_close(states[1].base_ang_vel_b[some], ang[some], atol=0.1, rtol=0.0)
    assert (states[1].base_ang_vel_b[~some].abs() < 0.01).all()


def test_they_agree_on_a_force(cfg: EnvConfig, scenes: list[Scene]) -> None:
    plain(cfg, scenes)
    joints = start(cfg, scenes, lift_m=1.0, yaw_rad=0.0)
    run(scenes, [joints])
    states = run(scenes, [joints] * 10, torch.tensor([2.0, 1.0, 0.0]).repeat(COUNT, 1))
    assert_agree(states)
    # F t / m for the whole robot; its base, above the middle, is ahead of that.
    assert 2.0 * 0.2 / 1.698 < states[1].base_lin_vel_b[0, 0].item() < 2.0 * 2.0 * 0.2 / 1.698


def test_half_a_second_of_swaying_stays_close(cfg: EnvConfig, scenes: list[Scene]) -> None:
    """Contacts are solved otherwise in the two: they differ by millimetres."""
    plain(cfg, scenes)
    joints = start(cfg, scenes)
    moves = [joints + 0.1 * torch.sin(0.2 * step + torch.arange(9.0)) for step in range(25)]
    assert_agree(run(scenes, moves), {"base_pos_w": 0.006, "joint_pos_rad": 0.06, "projected_gravity_b": 0.04})


def test_a_robot_that_comes_apart_is_an_error_and_is_reset_alone(cfg: EnvConfig, scenes: list[Scene]) -> None:
    plain(cfg, scenes)
    scene = scenes[1]
    joints = start(cfg, [scene])
    scene._state[2, 3] = float("nan")
    state = scene.step(joints)
    assert state.error.tolist() == [index == 2 for index in range(COUNT)]
    base = torch.zeros(COUNT, 3)
    base[:, 2] = cfg.robot.default_base_height_m
    scene.reset(state.error, ResetPose(base, quat_from_yaw(torch.zeros(COUNT)), joints))
    assert not scene.step(joints).error.any()


def test_it_goes_on_from_a_state_bit_by_bit(cfg: EnvConfig) -> None:
    first, second = (BipedEnv(cfg, make_scene("mujoco", cfg, CPU), seed=seed) for seed in (1, 2))
    actions = torch.randn(60, COUNT, 9, generator=torch.Generator().manual_seed(7))
    for action in actions[:30]:
        first.step(action)
    second.set_state(first.get_state())
    for action in actions[30:]:
        one, two = first.step(action), second.step(action)
        assert torch.equal(side_by_side(one[0]), side_by_side(two[0]))
        assert torch.equal(one[1], two[1])
    with pytest.raises(RuntimeError):
        first.scene.set_state({"physics": torch.zeros(2, 2)})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"joint_names": ("no_such_joint", *RobotConfig().joint_names[1:])}, "no joint no_such_joint"),
        ({"model_path": "assets/none.xml"}, "is missing"),
        ({"base_link": "torso"}, "torso hangs on pelvis: set env.robot.base_link to pelvis"),
    ],
)
def test_models_that_cannot_be_used_are_named(cfg: EnvConfig, change: dict, says: str) -> None:
    with pytest.raises(MachineError, match=says) as caught:
        make_scene("mujoco", replace(cfg, robot=replace(cfg.robot, **change)), CPU)
    assert "\n" not in str(caught.value)


def test_it_says_that_it_needs_a_cpu(cfg: EnvConfig) -> None:
    with pytest.raises(MachineError, match="runs on the CPU"):
        make_scene("mujoco", cfg, SimpleNamespace(type="cuda"))  # pyright: ignore[reportArgumentType]


@pytest.mark.genesis
def test_a_scene_of_equal_robots_says_that_it_is_one() -> None:
    cfg = replace(cpu_preset().env, num_envs=COUNT)
    sample = sample_dynamics(randomization_preset("full"), cfg.robot, COUNT, torch.Generator())
    with pytest.raises(MachineError, match="without per-robot dynamics"):
        make_scene("genesis", cfg, CPU).apply(sample)


BREAK = """
import torch
from dataclasses import replace
from biped.sim.scene import make_scene
from biped_config import cpu_preset

cfg = replace(cpu_preset().env, num_envs=4)
scene = make_scene("mujoco", cfg, torch.device("cpu"))
targets = torch.tensor(cfg.robot.default_joint_pos_rad).repeat(4, 1)
scene.step(targets)
targets[1] = torch.nan
assert scene.step(targets).error.tolist() == [False, True, False, False]
targets[1] = targets[0]
assert not scene.step(targets).error.any()
scene._state[2, -3] = 1e200
for _ in range(5):
    assert scene.step(targets).error.tolist() == [False, False, True, False]
"""


def test_what_breaks_a_robot_is_said_once_and_leaves_no_file(tmp_path: Path) -> None:
    """MuJoCo's own way is a line per step and robot, and MUJOCO_LOG.TXT in the folder that one is in."""
    ended = subprocess.run(
        [sys.executable, "-c", BREAK],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    lines = (ended.stdout + ended.stderr).splitlines()
    assert [line.split(" in ")[-1] for line in lines] == [
        f"{kind} (further ones are not shown)" for kind in ("CTRL", "QVEL", "QACC", "QPOS")[: len(lines)]
    ]
    assert all(line.startswith("MuJoCo: Nan, Inf or huge value in ") for line in lines)
    assert len(lines) >= 2
    assert list(tmp_path.iterdir()) == []


CAMERA = """
import sys, torch
from biped.base.errors import MachineError
from biped.sim.scene import make_scene
from biped_config import smoke_preset

try:
    make_scene("mujoco", smoke_preset().env, torch.device("cpu"), camera=True)
except MachineError as error:
    sys.exit(f"one line: {error}")
"""


def test_a_camera_that_nothing_can_draw_for_is_one_line() -> None:
    """OSMesa is not installed by our installer, and GLFW would need a display."""
    for way in ("osmesa", "glfw"):
        env = {name: value for name, value in processes.environment().items() if name != "DISPLAY"}
        ended = processes.run([sys.executable, "-c", CAMERA], env={**env, "MUJOCO_GL": way})
        assert ended.returncode in (0, 1)
        assert ended.returncode == 0 or "one line: MuJoCo cannot " in ended.stderr, ended.stderr
        assert "Traceback" not in ended.stderr
