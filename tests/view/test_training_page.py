"""The page of a training, in a real server with a real client, and what is between two control steps."""

import math
from collections.abc import Iterator

import numpy as np
import pytest

from biped.eval.clip import Clip
from biped.view import training_numbers
from biped.view.training_page import TrainingPage, pose_at
from biped_config import smoke_preset
from tests.browser import Browser
from tests.loopback import free_port
from tests.processes import until

CONFIG = smoke_preset()
TERMS = ("alive_bonus", "foot_slip")


def clip(steps: int = 4, robot: int = 0) -> Clip:
    """Return a robot that stands up straight and moves forward by 1 cm per step."""
    pos = np.zeros((steps, 3), dtype=np.float32)
    pos[:, 0], pos[:, 2] = 0.01 * np.arange(steps), 0.4
    quat, still = np.tile(np.float32((1, 0, 0, 0)), (steps, 1)), np.zeros((steps, 3), dtype=np.float32)
    command = np.tile(np.float32((0.3, 0.0, -0.1)), (steps, 1))
    rewards = np.tile(np.float32((0.01, -0.002)), (steps, 1))
    joints, contacts = np.zeros((steps, 9), dtype=np.float32), np.ones((steps, 2), dtype=np.float32)
    return Clip(robot, 0.02, pos, quat, joints, command, still, still, contacts, rewards, TERMS)


def test_between_two_steps_a_robot_is_between_their_poses() -> None:
    pos, quat, joints = pose_at(clip(3), 0.25)
    assert pos[0] == pytest.approx((0.005, 0.0, 0.4))
    assert quat[0] == pytest.approx((1.0, 0.0, 0.0, 0.0))
    assert joints.shape == (1, 9)
    assert pose_at(clip(3), 1.0)[0][0, 0] == pytest.approx(0.02)
    assert pose_at(clip(1), 0.7)[0][0, 0] == 0.0


def test_the_other_sign_of_an_orientation_is_no_turn_and_a_new_episode_no_flight() -> None:
    turned = clip(2)
    turned.base_quat_w[1] *= -1.0
    assert abs(pose_at(turned, 0.5)[1][0]) == pytest.approx((1.0, 0.0, 0.0, 0.0))
    turned.base_pos_w[1] = (3.0, 0.0, 0.4)
    assert [pose_at(turned, share)[0][0, 0] for share in (0.4, 0.6)] == pytest.approx([0.0, 3.0])


@pytest.fixture
def page() -> Iterator[TrainingPage]:
    pytest.importorskip("viser", reason="the package viser is not installed")
    opened = TrainingPage("walk", CONFIG, 1000, free_port())
    yield opened
    opened.close()


def test_a_page_shows_a_clip_its_rewards_and_the_newest_gate(page: TrainingPage) -> None:
    assert not page.is_watched
    row = {"rewards/alive_bonus": 0.25, "gate/score": 0.9, "gate/survival": 0.5, "gate/flight": 0.0}
    row["gate/alternation"] = math.nan
    page.update(250, row, None)
    browser = Browser(int(page.address.rsplit(":")[-1]))
    until(lambda: page.is_watched)
    browser.until(lambda: "waiting for the next rollout" in browser.text)
    page.update(500, {"rewards/alive_bonus": 0.25}, clip(400))
    browser.until(lambda: "foot_slip" in browser.text and "<b>500</b> of 1,000 steps" in browser.text)
    assert "2 of 3 lines fail" in browser.text
    assert ">none<" in browser.text
    assert "nan" not in browser.text
    assert "after 250 steps" in browser.text
    browser.until(lambda: "+0.30" in browser.text and "-0.10" in browser.text)
    before = browser.positions("pelvis")
    browser.until(lambda: (browser.positions("pelvis") != before).any())
    browser.close()
    until(lambda: not page.is_watched)


def test_a_person_chooses_the_robot(page: TrainingPage) -> None:
    browser = Browser(int(page.address.rsplit(":")[-1]))
    assert page.robot == 0
    browser.set("Robot", 3)
    until(lambda: page.robot == 2)
    browser.close()


def test_a_number_that_no_robot_has_shows_the_nearest(page: TrainingPage) -> None:
    browser = Browser(int(page.address.rsplit(":")[-1]))
    last = CONFIG.env.num_envs - 1
    for number, shown in ((2, 1), (10**6, last), (-3, 0)):
        browser.set("Robot", number)
        until(lambda shown=shown: page.robot == shown)
    browser.close()


def test_an_evaluation_is_announced_and_then_shown(page: TrainingPage) -> None:
    browser = Browser(int(page.address.rsplit(":")[-1]))
    until(lambda: page.is_watched)
    browser.until(lambda: "no evaluation yet" in browser.text)
    page.judge(0.25)
    browser.until(lambda: "evaluating the policy: 25%" in browser.text)
    page.update(500, {"gate/score": 0.9, "gate/survival": 0.5}, None)
    browser.until(lambda: "after 500 steps" in browser.text and "evaluating" not in browser.text)
    browser.close()


def test_a_bar_begins_at_zero_and_ends_at_what_the_term_pays() -> None:
    text = training_numbers.rewards({"up": 3.0, "down": -1.0}, {"up": 1.0})
    up, down = text.split("up</span>")[1].split("down</span>")
    assert "left:25.0%;width:75.0%" in up
    assert "left:49.4%;width:1.2%" in up, "the tick of the mean"
    assert "left:0.0%;width:25.0%" in down
    assert "<b>+2.00</b> per second" in text
    assert "nan" not in training_numbers.progress(10, 20, float("nan"), {"episode/mean_return": float("nan")})
