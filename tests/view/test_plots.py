"""Pictures of walks whose figures are known."""

from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle

from biped.eval.figures import envelope_exceeded, measured
from biped.mdp.gait import GaitReference
from biped.view import plots
from biped_config import cpu_preset
from tests.eval.walks import DT_S, STRIDE_STEPS, walk

CFG = cpu_preset().env


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_a_stance_begins_and_ends_with_its_contacts() -> None:
    contacts = np.array([True, True, False, True, False, False, True])
    found = plots.stances(contacts, 0.02)
    assert found == [pytest.approx(pair) for pair in ((0.0, 0.04), (0.06, 0.02), (0.12, 0.02))]
    assert plots.stances(np.zeros(5, dtype=bool), 0.02) == []


def test_the_gait_diagram_has_a_bar_a_stance_and_says_how_long_feet_are_down() -> None:
    axis = plots.gait_diagram(walk(seconds=4.0), 0, CFG).axes[0]
    thick = [bar for bar in axis.patches if isinstance(bar, Rectangle) and bar.get_height() == pytest.approx(0.45)]
    # Five strides of 0.8 s of both feet; the right foot's first stance is cut in two by the beginning.
    assert len(thick) == 5 + 6
    whole = [bar.get_width() for bar in thick if 0.3 < bar.get_width() < 0.6]
    assert np.median(whole) == pytest.approx(0.6 * STRIDE_STEPS * DT_S, abs=0.001)
    assert [text.get_text().strip() for text in axis.texts] == ["left: 60% on the ground", "right: 60% on the ground"]
    assert axis.get_title() == "gait: both feet on the ground 20%, neither 0%"


def test_the_reference_is_the_one_that_is_paid_for() -> None:
    record = walk(seconds=1.0)
    reference = GaitReference.build(CFG.gait, CFG.robot, torch.device("cpu"))
    wanted = reference.at(torch.from_numpy(record.phase[:, 1])).numpy()
    np.testing.assert_allclose(plots.reference_rad(record, 1, CFG), wanted)
    figure = plots.joint_angles(record, 1, CFG)
    assert [axis.get_title() for axis in figure.axes] == list(CFG.robot.swing_joints)
    drawn = figure.axes[1].lines[0].get_ydata()  # the left knee's reference
    np.testing.assert_allclose(drawn, wanted[:, 1])


def test_a_guess_is_drawn_over_what_was_when_the_policy_looked(tmp_path: Path) -> None:
    count = round(20.0 / DT_S)
    guess = np.tile(np.array((0.25, 0.0, 0.0, 0.41), dtype=np.float32), (count, 3, 1))
    record = walk(command=(0.3, 0.0, 0.0), estimate=guess)
    axes = plots.velocity_estimate(record, 0).axes
    for axis, truth, said in zip(axes, (0.3, 0.0, 0.0, 0.4), (0.25, 0.0, 0.0, 0.41), strict=True):
        lines = [np.mean(np.asarray(line.get_ydata(), dtype=float)) for line in axis.lines]
        assert lines == pytest.approx([truth, said])
    titles = [axis.get_title(loc="right") for axis in axes]
    assert titles == [f"off by {error} (root mean square)" for error in ("0.050", "0.000", "0.000", "0.010")]
    assert (tmp_path / "estimate.png") in plots.draw_all(record, CFG, tmp_path).values()
    assert "estimate.png" not in {file.name for file in plots.draw_all(walk(), CFG, tmp_path).values()}


def test_velocities_are_those_of_the_base_and_of_the_command() -> None:
    record = walk(command=(0.3, 0.1, 0.2), velocity=(0.25, 0.0, 0.3))
    for axis, actual, wanted in zip(plots.velocities(record, 0).axes, (0.25, 0.0, 0.3), (0.3, 0.1, 0.2), strict=True):
        lines = [np.mean(np.asarray(line.get_ydata(), dtype=float)) for line in axis.lines]
        assert lines == pytest.approx([actual, wanted])


def test_what_is_beyond_the_motors_is_counted_in_the_title() -> None:
    record, motor = walk(seconds=10.0), CFG.robot.motors[0]  # torque 1 N·m at rest
    speed = np.zeros_like(record.joint_vel_rad_s)
    speed[-len(speed) // 4 :] = 0.9 * motor.velocity_limit_rad_s  # where the servo has 0.3 N·m left to drive with
    driving, braking = replace(record, joint_vel_rad_s=speed), replace(record, joint_vel_rad_s=-speed)
    share = envelope_exceeded(driving, CFG.robot)
    assert share == pytest.approx(0.25 * len(speed) / measured(record)[:, 0].sum())
    assert plots.torque_speed(driving, CFG).get_suptitle() == f"{share:.2%} beyond the motors"
    assert plots.torque_speed(braking, CFG).get_suptitle() == "0.00% beyond the motors", "braking it has 3 N·m"


def test_rewards_are_per_second_the_largest_first() -> None:
    axis = plots.reward_breakdown(walk(), 0).axes[0]
    assert [line.get_label() for line in axis.lines] == ["alive_bonus +1.00", "action_rate -0.50"]
    assert np.asarray(axis.lines[0].get_ydata()) == pytest.approx(np.ones(1000))


def test_the_picture_is_of_an_episode_that_walks_and_lasts() -> None:
    record = walk(num_envs=4)
    command = np.array([[0.0, 0, 0], [0.6, 0, 0], [0.3, 0, 0], [0.3, 0.1, 0.5]], dtype=np.float32)
    assert plots.most_typical(replace(record, command=command)) == 2
    fallen = np.array([False, False, True, False])
    assert plots.most_typical(replace(record, command=command, fell=fallen)) == 1
    running = record.running.copy()
    running[5:, [0, 1, 3]] = False
    assert plots.most_typical(replace(record, command=0 * command, running=running)) == 2, "the longest"


def test_an_episode_of_one_step_is_drawn_too(tmp_path: Path) -> None:
    short = walk(num_envs=1, seconds=DT_S)
    files = plots.draw_all(short, CFG, tmp_path)
    assert len(files) == 5
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files.values())


def test_episodes_that_end_with_their_first_step_leave_nothing_to_draw(tmp_path: Path) -> None:
    record = walk(seconds=0.4)
    assert plots.draw_all(replace(record, running=np.zeros_like(record.running)), CFG, tmp_path) == {}
    assert not list(tmp_path.iterdir())
