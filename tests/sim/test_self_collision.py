"""Links collide with each other where the robot's file says so, in both simulators, and nowhere else."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from biped.base.errors import ConfigError, MachineError
from biped.config.randomization import BumpsConfig, RandomizationConfig
from biped.robot.rotations import quat_from_yaw
from biped.sim.mujoco_model import ModelBuilder
from biped.sim.mujoco_robot import read_robot
from biped.sim.scene import ResetPose, make_scene
from tests import mini_robot
from tests.mini_robot import mjcf, with_odd_contacts
from tests.sim.test_traits import env_of

SOLE_M = 0.08
"""Width of a sole."""
SHIN = '<body name="shin_r" pos="0 0 -0.15">'


def nearest_feet(sim: str, folder: Path, pairs: list[list[str]]) -> float:
    """Let a falling robot move its legs inward for 0.4 s; return the feet's least distance (m)."""
    cfg = env_of(mini_robot.write(folder, mjcf(), {"self_collisions": pairs}))
    scene = make_scene(sim, cfg, torch.device("cpu"))
    try:
        targets = torch.tensor([cfg.robot.default_joint_pos_rad])
        base = torch.tensor([[0.0, 0.0, 1.2]])
        scene.reset(torch.ones(1, dtype=torch.bool), ResetPose(base, quat_from_yaw(torch.zeros(1)), targets))
        inward = torch.zeros_like(targets)
        inward[0, cfg.robot.joint_names.index("roll_l")] = -0.02
        inward[0, cfg.robot.joint_names.index("roll_r")] = 0.02
        feet = [scene.step(targets + step * inward).foot_pos_w[0, :, 1] for step in range(20)]
        return min(float(left - right) for left, right in feet)
    finally:
        scene.close()


@pytest.mark.parametrize("sim", ["mujoco", "genesis"])
def test_feet_that_are_a_pair_do_not_pass_through_each_other(sim: str, tmp_path: Path) -> None:
    assert nearest_feet(sim, tmp_path, [["foot_l", "foot_r"]]) > 0.75 * SOLE_M
    assert nearest_feet(sim, tmp_path, []) < 0.5 * SOLE_M


def test_another_pair_leaves_them_alone(tmp_path: Path) -> None:
    model = mjcf(in_hips='<geom name="plate" type="box" size="0.05 0.05 0.01" contype="1" conaffinity="1"/>')
    cfg = env_of(mini_robot.write(tmp_path, model, {"self_collisions": [["foot_l", "hips"]]}))
    robot = read_robot(cfg)
    assert robot.changes[-1] == "let foot_l and hips collide"
    bits = {geom.name: (geom.contype, geom.conaffinity) for geom in robot.spec.geoms if geom.contype}
    assert bits == {"sole_l": (5, 0), "sole_r": (1, 0), "plate": (1, 4)}


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (["foot_l", "foot_x"], "has no link foot_x: did you mean foot_r?"),
        (["foot_l", "thigh_r"], "nothing of thigh_r collides: leave it out of env.robot.self_collisions"),
    ],
)
def test_pairs_that_cannot_be_are_one_line(pair: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=said.replace("?", r"\?")):
        read_robot(env_of(mini_robot.write(tmp_path, mjcf(), {"self_collisions": [pair]})))


def test_links_that_are_joined_are_refused(tmp_path: Path) -> None:
    model = mjcf().replace(SHIN, SHIN + '<geom type="sphere" size="0.01" mass="0" contype="1" conaffinity="1"/>')
    with pytest.raises(MachineError, match="shin_r and foot_r are joined"):
        read_robot(env_of(mini_robot.write(tmp_path, model, {"self_collisions": [["shin_r", "foot_r"]]})))


def test_a_link_is_not_paired_with_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="self_collisions"):
        env_of(mini_robot.write(tmp_path, mjcf(), {"self_collisions": [["foot_l", "foot_l"]]}))


def test_links_joined_through_a_fixed_one_are_refused(tmp_path: Path) -> None:
    ball = '<geom type="sphere" size="0.01" mass="0" contype="1" conaffinity="1"/>'
    pad = f'<body name="pad_r" pos="0 0 -0.01">{ball}</body>'
    model = mjcf().replace('<geom name="sole_r"', pad + '<geom name="sole_r"')
    with pytest.raises(MachineError, match="foot_r and pad_r are joined"):
        read_robot(env_of(mini_robot.write(tmp_path, model, {"self_collisions": [["foot_r", "pad_r"]]})))


def test_the_bits_of_pairs_and_of_the_ground_stay_apart_also_on_bumps(tmp_path: Path) -> None:
    cfg = env_of(mini_robot.write(tmp_path, mjcf(), {"self_collisions": [["foot_l", "foot_r"]]}))
    bumps = BumpsConfig(heights_m=(0.01,), field_m=2.0)
    cfg = replace(cfg, randomization=RandomizationConfig(bumps=bumps))
    model = ModelBuilder(cfg).build(read_robot(cfg).spec, keep_looks=False)
    bits = {
        model.geom(geom).name: (model.geom_contype[geom], model.geom_conaffinity[geom]) for geom in range(model.ngeom)
    }
    assert bits["sole_l"] == (5, 0)
    assert bits["sole_r"] == (1, 4)
    assert bits["ground"] == (0, 1)
    corners = [bit for name, bit in bits.items() if name not in ("sole_l", "sole_r", "ground")]
    assert set(corners) <= {(2, 0), (0, 2)}


def test_the_ground_has_contacts_of_its_own_whatever_the_defaults_of_the_file_are(tmp_path: Path) -> None:
    cfg = env_of(mini_robot.write(tmp_path, with_odd_contacts(mjcf())))
    model = ModelBuilder(cfg).build(read_robot(cfg).spec, keep_looks=False)
    ground = model.geom("ground").id
    assert (model.geom_condim[ground], model.geom_margin[ground], model.geom_friction[ground][0]) == (3, 0.0, 1.0)
