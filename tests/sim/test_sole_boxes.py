"""One box under each foot collides in place of what the model brings, if the robot's file says so."""

from pathlib import Path

import numpy as np
import pytest

from biped.base.errors import MachineError
from biped.sim.mujoco_file import compiled
from biped.sim.mujoco_geometry import posed
from biped.sim.mujoco_robot import read_robot
from tests import mini_robot
from tests.mini_robot import LEGS_M, mjcf, with_odd_contacts
from tests.sim.test_traits import env_of, stands

TURNED = ('quat="0 1 0 0"', 'type="box" size="0.07 0.04 0.01" pos="0.02 0 0.02"')
"""A right foot whose frame is upside down."""
BOXES = {"sole_boxes": True}
BOTH = {"foot_sole_offset_m": [[0.02, 0.0, -0.03], [0.02, 0.0, 0.03]]}


def test_the_box_is_the_lowest_quarter_of_the_foot_whatever_its_frame(tmp_path: Path) -> None:
    cfg = env_of(mini_robot.write(tmp_path, mjcf(right_foot=TURNED, right_axes={"ankle": -1.0}), {**BOXES, **BOTH}))
    robot = read_robot(cfg)
    assert robot.changes == ("drew a box around the sole of foot_l", "drew a box around the sole of foot_r")
    model = compiled(robot.spec, tmp_path)
    data = posed(model, dict(zip(cfg.robot.joint_names, cfg.robot.default_joint_pos_rad, strict=True)), LEGS_M)
    touching = [index for index in range(model.ngeom) if model.geom_contype[index]]
    assert len(touching) == 2
    ankles_x_m = data.body("foot_l").xpos[0]
    for index, y in zip(touching, (0.06, -0.06), strict=True):
        assert model.geom_size[index] == pytest.approx([0.07, 0.04, 0.0025], abs=1e-4)
        assert np.abs(data.geom_xmat[index].reshape(3, 3)) == pytest.approx(np.eye(3), abs=1e-6)
        assert data.geom_xpos[index] == pytest.approx([ankles_x_m + 0.02, y, 0.0025], abs=1e-3)


@pytest.mark.parametrize("sim", ["mujoco", "genesis"])
def test_a_robot_stands_on_its_boxes(sim: str, tmp_path: Path) -> None:
    capsules = 'type="capsule" size="0.01" fromto="-0.04 0.03 -0.02 0.08 0.03 -0.02"'
    cfg = env_of(mini_robot.write(tmp_path, mjcf(foot_shape=capsules), BOXES))
    height_m, level, weight_n, _ = stands(sim, cfg)
    assert height_m == pytest.approx(LEGS_M, abs=0.004)
    assert level > 0.999
    assert weight_n == pytest.approx(2.0 * 9.81, rel=0.02)


def test_the_masses_stay(tmp_path: Path) -> None:
    before, after = (
        compiled(read_robot(env_of(mini_robot.write(tmp_path, mjcf(), robot))).spec, tmp_path) for robot in ({}, BOXES)
    )
    for name in ("body_mass", "body_inertia", "body_ipos"):
        assert np.array_equal(getattr(before, name), getattr(after, name)), name


def test_a_box_takes_nothing_from_the_defaults_of_the_file_but_the_friction_of_what_it_replaces(tmp_path: Path) -> None:
    model = with_odd_contacts(mjcf(sole='contype="1" conaffinity="1" friction="0.7 0.005 0.0001"'))
    spec = read_robot(env_of(mini_robot.write(tmp_path, model, BOXES))).spec
    box = spec.geom("foot_l sole")
    assert (box.condim, box.margin, box.friction[0]) == (3, 0.0, 0.7)


def test_a_foot_that_is_a_point_has_no_box(tmp_path: Path) -> None:
    ball = 'type="sphere" size="0.01" pos="0.02 0 -0.02"'
    with pytest.raises(
        MachineError, match=r"foot_l touches the ground at a point or a line: leave out robot\.sole_boxes"
    ):
        read_robot(env_of(mini_robot.write(tmp_path, mjcf(foot_shape=ball), BOXES)))
