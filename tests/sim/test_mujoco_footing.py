"""Where the ground is under a robot."""

import math

import numpy as np
import pytest

from biped.config.run import Config
from biped.sim.mujoco_footing import height_on_soles

LEG_M = 0.02 + 0.02 + 0.18 + 0.17 + 0.035
"""From the base down to the sole of a straight leg of the biped."""
STRAIGHT = (0.0,) * 9


def about(axis: int, angle_rad: float) -> np.ndarray:
    quat = np.zeros(4)
    quat[0], quat[1 + axis] = math.cos(0.5 * angle_rad), math.sin(0.5 * angle_rad)
    return quat


@pytest.mark.parametrize(
    ("axis", "angle_rad", "joints", "expected_m"),
    [
        (2, 0.0, Config().env.robot.default_joint_pos_rad, 0.04 + 0.35 * math.cos(0.35) + 0.035),
        (2, 1.0, STRAIGHT, LEG_M),
        # Rolled to the right: the outer edge of the right sole, 55 mm and half of 70 mm from the middle.
        (0, 0.1, STRAIGHT, LEG_M * math.cos(0.1) + 0.090 * math.sin(0.1)),
        (0, -0.1, STRAIGHT, LEG_M * math.cos(0.1) + 0.090 * math.sin(0.1)),
        # Pitched forward: the toes, 15 mm and half of 140 mm in front of the ankle; backward: the heel.
        (1, 0.2, STRAIGHT, LEG_M * math.cos(0.2) + 0.085 * math.sin(0.2)),
        (1, -0.2, STRAIGHT, LEG_M * math.cos(0.2) + 0.055 * math.sin(0.2)),
    ],
    ids=["default pose", "straight legs", "to the right", "to the left", "forward", "backward"],
)
def test_the_lowest_point_of_the_soles_is_on_the_ground(
    axis: int, angle_rad: float, joints: tuple[float, ...], expected_m: float
) -> None:
    found = height_on_soles(Config().env, about(axis, angle_rad)[None], np.array(joints)[None])
    assert found == pytest.approx([expected_m], abs=1e-6)


def test_the_lower_of_two_feet_counts_and_rows_do_not_mix() -> None:
    bent = np.zeros(9)
    bent[1:4] = -0.5, 1.0, -0.5
    upright = np.tile((1.0, 0.0, 0.0, 0.0), (3, 1))
    found = height_on_soles(Config().env, upright, np.stack((np.zeros(9), bent, np.tile(bent[:4], 3)[:9])))
    assert found[:2] == pytest.approx([LEG_M, LEG_M], abs=1e-6)
    assert found[2] == pytest.approx(0.04 + 0.35 * math.cos(0.5) + 0.035, abs=1e-6)
