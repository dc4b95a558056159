"""Survival over what may differ, by hand, and one small real report."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import biped_eval
from biped.base.errors import ConfigError
from biped.config.task import EnvConfig
from biped.env.env import make_env
from biped.env.groups import Observations, sensed
from biped.eval.robustness import (
    AXES,
    Axis,
    Sweep,
    as_json,
    as_table,
    level_survived_by_half,
    robustness_config,
    run_robustness,
    survived_each,
    sweeps,
)
from biped.view.plots import draw_robustness
from biped_config import cpu_preset, randomization_preset
from tests.conftest import ROOT

PUSH = Axis("push", "m/s", 0.0, (0.0, 0.5, 1.0))
MASS = Axis("added_mass", "share of the robot", 0.0, (0.0, 0.5))


def short_episodes() -> EnvConfig:
    cfg = cpu_preset().env
    return replace(cfg, termination=replace(cfg.termination, episode_s=6.0))


def test_falls_are_counted_axis_by_axis_and_level_by_level() -> None:
    fell = np.array([0, 0, 0, 1, 1, 1, 0, 0, 1, 0], dtype=bool)  # two episodes a level
    push, mass = sweeps(fell, 2, (PUSH, MASS))
    assert push.survival == (1.0, 0.5, 0.0)
    assert mass.survival == (1.0, 0.5)


@pytest.mark.parametrize(
    ("survival", "half"),
    [
        ((1.0, 0.5, 0.0), 0.5),
        ((1.0, 0.75, 0.25), 0.75),
        ((1.0, 1.0, 0.9), None),
        ((1.0, 0.0, 0.0), 0.25),
        ((0.4, 0.3, 0.2), None),
    ],
)
def test_the_push_that_half_survive_lies_between_two_levels(survival: tuple[float, ...], half: float | None) -> None:
    found = Sweep(PUSH, survival)
    assert level_survived_by_half(found) == (None if half is None else pytest.approx(half))
    assert as_json([found])["half_survive_push_m_s"] == level_survived_by_half(found)


def test_of_each_push_as_many_are_survived_as_did_not_end_in_a_fall() -> None:
    fell = np.array([0, 0, 1, 1, 1, 0], dtype=bool)  # two episodes a level
    pushes = np.array([0, 0, 3, 1, 1, 4])
    assert survived_each(fell, pushes, 2) == (1.0, 0.5, 0.8)
    found = [replace(Sweep(PUSH, (1.0, 0.0, 0.5)), survival_each=(1.0, 0.5, 0.8))]
    assert "100%     50%     80%  of each one" in as_table(found)
    assert as_json(found)["axes"]["push"]["survival_each"] == (1.0, 0.5, 0.8)


def test_table_and_plot_show_every_level(tmp_path: Path) -> None:
    found = [Sweep(PUSH, (1.0, 0.5, 0.0)), Sweep(MASS, (1.0, 0.97))]
    table = as_table(found)
    assert "push (m/s)" in table
    assert "    100%     50%      0%" in table
    assert "half of the episodes survive pushes of 0.50 m/s" in table
    draw_robustness(found, "title", tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_each_axis_reaches_the_robots_that_it_is_meant_for() -> None:
    """An agent that stands: nothing but a hard push, or hardly any strength, fells it."""
    axes = (
        Axis("push", "m/s", 0.0, (0.0, 3.0)),
        Axis("strength", "", 1.0, (0.05, 1.0)),
        Axis("slope", "degrees", 0.0, (0.0, 20.0)),
        Axis("added_mass", "", 0.0, (0.0, 0.1)),
        Axis("latency", "", 0.0, (0.0, 4.0)),
        Axis("noise", "", 0.0, (0.0, 4.0)),
        Axis("bumps", "cm", 0.0, (0.0, 2.0, 4.0)),
    )
    cfg = short_episodes()
    env = make_env(robustness_config(cfg, 8, axes), "cpu", sim="mujoco")
    seen = []

    def still(observations: Observations, _: torch.Tensor) -> torch.Tensor:
        seen.append(sensed(observations))
        return torch.zeros(env.num_envs, 9)

    swept = run_robustness(env, still, 8, 0, randomization_preset("full").noise, axes)
    found = {sweep.axis.name: sweep.survival for sweep in swept}
    assert swept[0].survival_each == (1.0, 0.0), "one push in six seconds"
    assert found["push"] == (1.0, 0.0)
    assert found["strength"] == (0.0, 1.0)
    assert found["slope"][0] == 1.0 > found["slope"][1]
    for name in ("added_mass", "latency", "noise"):
        assert found[name] == (1.0, 1.0), "it stands whatever it sees and whenever it acts"
    calm, noisy = seen[0][80:88], seen[0][88:96]
    assert (calm[:, :3] - calm[0, :3]).abs().max() < 0.01 < noisy[:, 3].std()
    assert env.randomizer.dynamics.latency_steps[64:80].tolist() == [0] * 8 + [4] * 8
    assert env.randomizer.dynamics.bump_field[96:].tolist() == [-1] * 8 + [0] * 8 + [1] * 8
    env.close()


def test_pushes_head_where_they_should_and_each_is_counted() -> None:
    axes = (Axis("push_heading", "", None, (-90.0, 0.0, 180.0)), Axis("push", "m/s", 0.0, (0.0, 0.5)))
    env = make_env(robustness_config(short_episodes(), 4, axes), "cpu", sim="mujoco")
    velocities = []

    def still(*_: torch.Tensor) -> torch.Tensor:
        velocities.append(env.state.base_lin_vel_b)
        return torch.zeros(env.num_envs, 9)

    headed, anywhere = run_robustness(env, still, 4, 0, randomization_preset("full").noise, axes)
    env.close()
    x, y, _ = velocities[250].reshape(5, 4, 3).unbind(-1)  # 20 ms after the push at 5 s; the feet brake
    assert ((y[0] < -0.3) & (x[0].abs() < 0.1)).all()
    assert ((x[1] > 0.3) & (y[1].abs() < 0.1)).all()
    assert ((x[2] < -0.3) & (y[2].abs() < 0.1)).all()
    assert torch.hypot(x, y)[3].max() < 0.05
    assert torch.hypot(x, y)[4].min() > 0.3
    assert headed.survival_each is not None
    assert anywhere.survival_each is not None
    assert headed.survival_each == headed.survival, "one push in six seconds"


def test_the_command_line_writes_table_json_and_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "robustness.json"
    command = ["--agent", "zero", "--robustness", "--episodes", "1", "--sim", "mujoco", "--out", str(out)]
    assert biped_eval.main([*command, "--set", "env.termination.episode_s=1.0"]) == 0
    result = json.loads(out.read_text())
    assert set(result["axes"]) == {axis.name for axis in AXES} >= {"friction", "push", "push_heading", "bumps"}
    assert all(len(axis["levels"]) == len(axis["survival"]) for axis in result["axes"].values())
    assert out.with_suffix(".png").exists()
    said = capsys.readouterr()
    assert "half of the episodes survive" in said.out
    assert "robot.mass_kg" not in said.err
    assert biped_eval.main([*command, "--randomize", "full"]) == 2
    assert biped_eval.main([*command, "--set", "env.randomization.noise.gravity=0.1"]) == 2
    assert "leave out env.randomization.noise.gravity" in capsys.readouterr().err
    heavier = ["--set", "env.termination.episode_s=0.2", "--set", "env.robot.mass_kg=3.0"]
    assert biped_eval.main([*command, *heavier]) == 0
    assert capsys.readouterr().err.count("set robot.mass_kg") == 1


@pytest.mark.slow
def test_the_shipped_policy_walks_in_the_other_engine_too() -> None:
    model = ROOT / "assets" / "policies" / "biped_walk.zip"
    assert biped_eval.main(["--model", str(model), "--sim", "mujoco", "--out", "/dev/null"]) == 0


def test_a_larger_robot_is_tried_on_larger_fields_and_may_walk_as_far_in_proportion() -> None:
    cfg = cpu_preset().env
    large = replace(cfg.robot, leg_length_m=4.0 * cfg.robot.leg_length_m)
    twice = replace(cfg.command, lin_vel_x_m_s=(-0.4, 1.2), lin_vel_y_m_s=(-0.3, 0.3))
    bumps = robustness_config(replace(cfg, robot=large, command=twice), 2).randomization.bumps
    usual = robustness_config(cfg, 2).randomization.bumps
    assert (bumps.field_m, bumps.cell_m) == (2.0 * usual.field_m, 4.0 * usual.cell_m)
    with pytest.raises(ConfigError, match="leave their field"):
        robustness_config(replace(cfg, command=twice), 2)
