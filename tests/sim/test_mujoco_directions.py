"""Which way joints go, in words."""

import numpy as np
import pytest

from biped.config.settings import robot_settings, with_settings
from biped.sim.mujoco_directions import in_words, joint_directions
from biped_config import cpu_preset
from tests.processes import ROOT

DOWN = np.array((0.0, 0.0, -0.2))


@pytest.mark.parametrize(
    ("axis", "carried", "words"),
    [
        # A leg that hangs down, turned by the right hand about an axis to the left, goes backward.
        ((0.0, 1.0, 0.0), DOWN, "what it carries moves backward"),
        ((0.0, -1.0, 0.0), DOWN, "what it carries moves forward"),
        ((1.0, 0.0, 0.0), DOWN, "what it carries moves to the left"),
        ((-1.0, 0.0, 0.0), DOWN, "what it carries moves to the right"),
        ((0.0, -1.0, 0.0), np.array((0.1, 0.0, 0.0)), "what it carries moves up"),
        ((0.0, 0.0, 1.0), DOWN, "what it carries turns counter-clockwise, seen from above"),
        ((0.0, 0.0, -1.0), DOWN, "what it carries turns clockwise, seen from above"),
        ((0.0, 0.0, 1.0), np.array((0.02, 0.0, -0.2)), "what it carries turns counter-clockwise, seen from above"),
    ],
)
def test_words_by_hand(axis: tuple[float, ...], carried: np.ndarray, words: str) -> None:
    assert in_words(np.array(axis), carried) == words


def test_the_biped_and_the_strider() -> None:
    biped = cpu_preset()
    said = dict(zip(biped.env.robot.joint_names, joint_directions(biped.env), strict=True))
    assert said["left_hip_roll"] == said["right_hip_roll"] == "what it carries moves to the left"
    assert said["left_hip_pitch"] == said["left_knee"] == "what it carries moves backward"
    assert said["torso_yaw"] == "what it carries turns counter-clockwise, seen from above"
    strider = with_settings(biped, robot_settings(ROOT / "assets" / "strider" / "robot.json"))
    said = dict(zip(strider.env.robot.joint_names, joint_directions(strider.env), strict=True))
    # Its pitch joints turn about -y: a positive hip swings the leg forward, as its page says.
    assert said["hip_pitch_l"] == said["hip_pitch_r"] == "what it carries moves forward"
    assert said["hip_yaw_l"] == "what it carries turns counter-clockwise, seen from above"
