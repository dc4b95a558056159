"""What is drawn is what is simulated."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from biped.config.settings import robot_settings, with_settings
from biped.config.task import EnvConfig
from biped.robot.rotations import quat_rotate
from biped.robot.state import BipedState
from biped.sim.looks import Looks
from biped.sim.mujoco_robot import LAST_SHOWN_GROUP, read_robot, robot_spec
from biped.sim.mujoco_window import show_model
from biped.sim.scene import make_scene
from biped.sim.window import places
from biped_config import cpu_preset
from tests import mini_robot
from tests.conftest import CPU, ROOT

ROBOTS = {"biped": None, "strider": ROOT / "assets" / "strider" / "robot.json"}


def config(robot: Path | None, num_envs: int = 3) -> EnvConfig:
    return replace(with_settings(cpu_preset(), robot_settings(robot)).env, num_envs=num_envs)


def moved(cfg: EnvConfig, sim: str) -> BipedState:
    """The state after half a second under targets that pull at every joint."""
    scene = make_scene(sim, cfg, CPU)
    pull = 0.3 * torch.sin(torch.arange(cfg.num_envs * len(cfg.robot.joint_names)).float())
    targets = torch.tensor(cfg.robot.default_joint_pos_rad) + pull.reshape(cfg.num_envs, -1)
    for _ in range(25):
        state = scene.step(targets)
    scene.close()
    return state


@pytest.mark.parametrize("robot", ROBOTS.values(), ids=ROBOTS)
def test_the_feet_are_drawn_where_the_simulator_has_them(robot: Path | None) -> None:
    cfg = config(robot)
    state = moved(cfg, "mujoco")
    looks = Looks(robot_spec(cfg), cfg.robot.joint_names)
    pos, quat = looks.poses(state)
    feet = [looks.bodies.index(name) for name in cfg.robot.foot_links]
    offset = torch.tensor(cfg.robot.foot_sole_offset_m, dtype=torch.float64).expand(cfg.num_envs, 2, 3)
    soles = pos[:, feet] + quat_rotate(torch.from_numpy(quat[:, feet]), offset).numpy()
    # The scene carries positions on from the last substep; see `MujocoScene`.
    np.testing.assert_allclose(soles, state.foot_pos_w.numpy(), atol=2e-3)


def test_every_visible_part_of_the_robot_is_there_with_its_colour() -> None:
    cfg = config(None)
    looks = Looks(robot_spec(cfg), cfg.robot.joint_names)
    assert set(looks.bodies) >= {"pelvis", "torso", *cfg.robot.foot_links}
    soles = [shape for shape in looks.shapes if shape.rgba[:3].tolist() == pytest.approx([0.20, 0.45, 0.75])]
    assert [looks.bodies[shape.body] for shape in soles] == ["left_foot", "right_foot"]
    assert soles[0].kind == "box"
    assert soles[0].size_m.tolist() == pytest.approx([0.070, 0.035, 0.010])
    assert soles[0].pos_b.tolist() == pytest.approx([0.015, 0.0, -0.025])


def test_meshes_bring_their_triangles_and_hidden_parts_stay_hidden() -> None:
    import mujoco

    spec = mujoco.MjSpec.from_string(
        """<mujoco><asset><mesh name="wedge" vertex="0 0 0  1 0 0  0 1 0  0 0 1"/></asset><worldbody>
        <body name="base"><freejoint/><geom type="mesh" mesh="wedge"/><geom type="sphere" size="1" group="3"/>
        <geom type="capsule" size="0.1 0.2" rgba="1 0 0 0"/><body><joint name="knee"/>
        <geom type="sphere" size="0.1" group="4" mass="1"/></body></body></worldbody></mujoco>"""
    )
    looks = Looks(spec, ("knee",))
    (shape,) = looks.shapes
    assert shape.kind == "mesh"
    assert shape.vertices is not None
    assert shape.faces is not None
    assert (len(shape.vertices), len(shape.faces)) == (4, 4)


def test_mujocos_window_holds_every_robot_at_its_place() -> None:
    cfg = config(None, num_envs=5)
    model = show_model(robot_spec(cfg), cfg)
    single = robot_spec(cfg).compile()
    assert model.nq == 5 * single.nq
    assert model.body("4 pelvis").id > model.body("0 pelvis").id
    assert len(set(places(5))) == 5
    assert places(5)[0] == (0.0, 0.0)


@pytest.mark.parametrize("sim", ["mujoco", "genesis"])
def test_a_robot_of_which_nothing_would_be_seen_is_given_looks_that_change_nothing_else(
    sim: str, tmp_path: Path
) -> None:
    (tmp_path / "unseen").mkdir()
    model = mini_robot.mjcf()
    hidden = model.replace('<geom contype="0"', '<geom group="3" contype="0"', 1)
    seen = config(mini_robot.write(tmp_path, model))
    unseen = config(mini_robot.write(tmp_path / "unseen", hidden))
    assert not any("looks" in change for change in read_robot(seen).changes)
    made = read_robot(unseen)
    assert made.changes[-1] == "gave it looks: nothing of it would be seen"
    assert all(geom.group <= LAST_SHOWN_GROUP for geom in made.spec.geoms)
    rods = [geom for geom in made.spec.geoms if not geom.contype]
    assert len(rods) >= 6, "hip to knee, knee to ankle, and into the hips, on both sides"
    one, other = (vars(moved(cfg, sim)) for cfg in (seen, unseen))
    assert all(torch.equal(one[name], other[name]) for name in one)
