"""A run that was stopped and gone on with is the run that was never stopped, to the last bit."""

import json
import zipfile
from pathlib import Path

import pytest
import torch

import biped_train
from biped.env.env import BipedEnv, make_env
from biped.runs.checkpoint import Checkpoint, read_checkpoint
from biped_config import smoke_preset
from tests.conftest import side_by_side
from tests.processes import UNDRAWN

FRESH = ["--preset", "smoke", "--set", "train.checkpoint_every_steps=512", "--eval_freq", "768", *UNDRAWN]
BEST = ("gate/best_score", "eval/best_success_rate")


def train(logs: Path, name: str, *flags: str) -> Path:
    command = ["-e", name, "--log_dir", str(logs), "--set", "env.termination.episode_s=0.4", *flags]
    assert biped_train.main(command) == 0
    return logs / name


def go_on(run: Path, steps: int) -> None:
    command = ["-e", run.name, "--log_dir", str(run.parent), "--continue_training", "--total_timesteps", str(steps)]
    assert biped_train.main(command) == 0


def rows(run: Path) -> dict[int, dict[str, float]]:
    """Return the last row of each step, without what a clock measures."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    measured = ("time/fps", "time/time_elapsed", "time/collection_time", "time/learning_time")
    return {
        line["step"]: {name: value for name, value in line.items() if name not in ("time", *measured)}
        for line in lines
        if "step" in line
    }


def same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def checkpoint(run: Path, steps: int) -> Checkpoint:
    return read_checkpoint(run / f"biped_model_{steps}_steps.zip")


@pytest.mark.parametrize(
    ("sim", "adaptive", "style"),
    [("genesis", "true", []), ("mujoco", "false", []), ("mujoco", "true", ["--style", "assets/motions/walk.csv"])],
    ids=["genesis", "mujoco", "style"],
)
def test_two_halves_are_one_run(tmp_path: Path, sim: str, adaptive: str, style: list[str]) -> None:
    flags = [*FRESH, "--sim", sim, "--set", f"ppo.adaptive_lr={adaptive}", "--set", "ppo.learning_rate=0.001", *style]
    whole = train(tmp_path, "whole", *flags, "--total_timesteps", "2048")
    halves = train(tmp_path, "halves", *flags, "--total_timesteps", "1024")
    # In between something else is done with every generator and with the simulator.
    train(tmp_path, "other", "--preset", "smoke", "--sim", sim, "--total_timesteps", "256", "--seed", "5")
    go_on(halves, 2048)
    one, two = checkpoint(whole, 2048), checkpoint(halves, 2048)
    assert same(one.policy, two.policy)
    assert same(one.optimizer, two.optimizer)
    assert one.counters == two.counters
    assert one.notes == two.notes
    assert same(one.live, two.live)
    found = rows(halves)
    assert list(found) == list(rows(whole)) == list(range(256, 2049, 256))
    for step, row in rows(whole).items():
        # The first half evaluated once more, at its end: its best may be better.
        assert {name: found[step][name] for name in row if name not in BEST} == {
            name: value for name, value in row.items() if name not in BEST
        }, step


def test_without_the_live_state_it_would_be_another_run(tmp_path: Path) -> None:
    """So the test above can fail."""
    flags = [*FRESH, "--sim", "mujoco"]
    whole = train(tmp_path, "whole", *flags, "--total_timesteps", "1024")
    halves = train(tmp_path, "halves", *flags, "--total_timesteps", "512")
    file = halves / "biped_model_512_steps.zip"
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name in members.keys() - {"live.pt", "manifest.json"}:
            archive.writestr(name, members[name])
    go_on(halves, 1024)
    assert not same(checkpoint(whole, 1024).policy, checkpoint(halves, 1024).policy)


def move(env: BipedEnv, actions: torch.Tensor) -> torch.Tensor:
    """Return observations and rewards of each step, (steps, num_envs, width + 1)."""
    results = [env.step(action)[:2] for action in actions]
    return torch.stack([torch.cat((side_by_side(seen), reward[:, None]), dim=1) for seen, reward in results])


def test_another_environment_goes_on_from_any_state_bit_by_bit() -> None:
    """Also from one in which robots have just been put on their feet: Genesis then begins the next step otherwise."""
    cfg = smoke_preset().env
    first, second = make_env(cfg, "cpu", seed=1), make_env(cfg, "cpu", seed=2)
    actions = 1.5 * torch.randn(60, 3, cfg.num_envs, 9, generator=torch.Generator().manual_seed(7))
    fresh = 0
    for few in actions:
        kept = first.get_state()
        fresh += int((kept["_episode_steps"] == 0).any())
        wanted = move(first, few)
        second.set_state(kept)
        assert torch.equal(move(second, few), wanted)
    assert 5 < fresh < 55
    with pytest.raises(KeyError):
        second.set_state({name: value for name, value in kept.items() if name != "scene.qpos"})
    first.close()
    second.close()
