"""A style in a training: what the environment hands over, what it costs when off, and how it is said what is wrong."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import biped_train
from biped.config.settings import with_settings
from biped.env.env import BipedVecEnv, make_env
from biped.mdp.imitation import Features
from biped.ppo.style import METRICS
from biped.runs.checkpoint import copy_with_policy, read_checkpoint
from biped.train.learner import make_model
from biped.train.plan import idle_settings
from biped.train.style import add_style, demonstrations
from biped_config import smoke_preset
from tests.processes import ROOT, UNDRAWN

WALK = "assets/motions/walk.csv"
OURS = (
    "biped/mdp/imitation.py",
    "biped/ppo/style.py",
    "biped/robot/motion.py",
    "biped/robot/motion_files.py",
    "biped/train/style.py",
)


def config(*settings: tuple[str, Any]) -> Any:
    return with_settings(smoke_preset(), [("train.device", "cpu"), ("train.sim", "mujoco"), *settings])


def built(styled: bool) -> Any:
    cfg = config(*([("style.motions", [WALK])] if styled else []))
    env = BipedVecEnv(make_env(cfg.env, sim="mujoco"))
    model = make_model(cfg, env, seed=1)
    demos = demonstrations(cfg)
    if demos is not None:
        add_style(cfg, model, env.env, demos, seed=1)
    return model


def calls_of(model: Any) -> set[str]:
    """Train for two updates; return the functions of the style's modules that were called."""
    found: set[str] = set()

    def note(frame: Any, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.endswith(OURS):
            found.add(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        model.learn(2 * model.n_steps * model.n_envs)
    finally:
        sys.setprofile(None)
    return found


def test_off_it_adds_no_operation() -> None:
    assert calls_of(built(styled=False)) == set()
    assert {"note", "pay", "learn", "step"} <= calls_of(built(styled=True))


def test_what_is_handed_over_is_never_of_two_episodes() -> None:
    """At a fall, what comes after is where it fell, not where the next episode starts."""
    cfg = config(("env.termination.episode_s", 0.2))
    env = make_env(cfg.env, sim="mujoco")
    env.features = Features(("base_height", "joint_pos"), cfg.env.robot)
    env.reset(seed=0)
    generator, before, ended = torch.Generator().manual_seed(0), env.features.of(env.state), 0
    for _ in range(25):
        actions = 3.0 * torch.randn(env.num_envs, len(cfg.env.robot.joint_names), generator=generator)
        *_, terminated, truncated, infos = env.step(actions)
        first, then = infos["features"].chunk(2, dim=1)
        assert torch.equal(first, before)
        before, done = env.features.of(env.state), terminated | truncated
        assert torch.equal(then[~done], before[~done])
        assert not (then[done] == before[done]).all(dim=1).any()
        ended += int(done.sum())
    env.close()
    assert ended > 0


def test_a_training_pays_for_the_style_and_logs_it(tmp_path: Path) -> None:
    flags = ["--preset", "smoke", "--sim", "mujoco", "--total_timesteps", "1024", *UNDRAWN]
    run = ["-e", "styled", "--log_dir", str(tmp_path), "--style", WALK, "assets/motions/stand.csv"]
    assert biped_train.main([*flags, *run]) == 0
    rows = [json.loads(line) for line in (tmp_path / "styled" / "metrics.jsonl").read_text().splitlines()]
    styled = [row for row in rows if METRICS[0] in row]
    assert len(styled) == 4
    assert all(set(METRICS) <= set(row) for row in styled)
    assert 0.0 < styled[0]["info/disc_reward_mean"] < 1.0
    stored = json.loads((tmp_path / "styled" / "config.json").read_text())
    assert stored["style"]["motions"] == [WALK, "assets/motions/stand.csv"]


def wrong(folder: Path) -> dict[str, tuple[list[str], str]]:
    (folder / "picture.csv").write_bytes(b"\x89PNG")
    other = (ROOT / WALK).read_text().replace("left_knee", "left_gear")
    (folder / "other.csv").write_text(other)
    return {
        "missing": (["--style", str(folder / "none.csv")], "there is no motion"),
        "no motion": (["--style", WALK, str(folder / "picture.csv")], "is no motion"),
        "another robot": (["--style", str(folder / "other.csv")], "has no joint left_knee"),
        "feature": (["--style", WALK, "--set", "style.features=[smell]"], "style.features"),
        "batch": (["--style", WALK, "--set", "style.batch_size=7"], "style.batch_size"),
        "no stride": (["--set", "env.reward.weights.imitation=1"], "names no clip to follow"),
        "a long stride": (
            ["--set", "env.reward.weights.imitation=1", "--set", f"env.imitation.motion={WALK}"],
            "lasts 4.000 s, and a stride of the gait clock",
        ),
    }


def test_what_cannot_be_used_is_one_line_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, (flags, said) in wrong(tmp_path).items():
        base = ["--preset", "smoke", "--sim", "mujoco", "-e", "wrong", "--log_dir", str(tmp_path / "logs")]
        assert biped_train.main([*base, *flags]) == 2, name
        printed = capsys.readouterr().err.strip()
        assert said in printed, name
        assert len(printed.splitlines()) == 1, printed
    assert not (tmp_path / "logs" / "wrong").exists()


def test_a_continued_run_keeps_its_style(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["-e", "kept", "--log_dir", str(tmp_path)]
    first = ["--preset", "smoke", "--sim", "mujoco", "--total_timesteps", "512", "--style", WALK, *UNDRAWN]
    assert biped_train.main([*base, *first]) == 0
    assert biped_train.main([*base, "--continue_training", "--set", "style.weight=9"]) == 2
    assert "style.weight was 4.0 and is now 9" in capsys.readouterr().err


def test_a_clip_that_is_another_one_after_a_stop_is_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = tmp_path / "mine.csv"
    clip.write_text((ROOT / WALK).read_text())
    base = ["-e", "edited", "--log_dir", str(tmp_path)]
    first = ["--preset", "smoke", "--sim", "mujoco", "--total_timesteps", "512", "--style", str(clip), *UNDRAWN]
    assert biped_train.main([*base, *first]) == 0

    def said_after(steps: int) -> list[str]:
        capsys.readouterr()
        assert biped_train.main([*base, "--continue_training", "--total_timesteps", str(steps)]) == 0
        return [line for line in capsys.readouterr().err.splitlines() if "is not what it was" in line]

    assert said_after(1024) == []
    clip.write_text("\n".join(clip.read_text().splitlines()[:-20]) + "\n")
    (line,) = said_after(1536)
    assert line.startswith(f"{clip} is not what it was when this run was last started")
    assert said_after(2048) == []
    clip.unlink()
    assert biped_train.main([*base, "--continue_training", "--total_timesteps", "2560"]) == 2
    assert f"{clip} is gone, which this run moves like: put it back" in capsys.readouterr().err


def test_what_is_set_up_and_not_used_is_said() -> None:
    stride = ("env.imitation.motion", "assets/motions/stride.csv")
    assert idle_settings(config()) == idle_settings(config(("style.motions", [WALK]), ("style.weight", 9.0))) == []
    assert idle_settings(config(stride, ("env.reward.weights.imitation", 1.0))) == []
    assert idle_settings(config(stride)) == ["env.imitation.motion is not followed: env.reward.weights.imitation is 0"]
    assert idle_settings(config(("style.weight", 9.0))) == [
        "settings of style do nothing: there are no motions, add --style FILE"
    ]


def test_without_a_stored_discriminator_a_new_one_begins_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["-e", "bare", "--log_dir", str(tmp_path)]
    first = ["--preset", "smoke", "--sim", "mujoco", "--total_timesteps", "512", "--style", WALK, *UNDRAWN]
    assert biped_train.main([*base, *first]) == 0
    for file in (tmp_path / "bare").glob("*.zip"):
        weights = read_checkpoint(file)
        copy_with_policy(file, file, weights.policy)
    capsys.readouterr()
    assert biped_train.main([*base, "--continue_training", "--total_timesteps", "1024"]) == 0
    assert "the style's discriminator begins anew (the checkpoint holds none)" in capsys.readouterr().err
