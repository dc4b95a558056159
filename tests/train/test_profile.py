"""A profile of a training: it measures all of it, changes nothing, and leaves nothing behind."""

import gzip
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import biped_train
from biped.env import env as environment
from biped.env.env import BipedEnv
from biped.ppo.recurrent_ppo import DeviceRecurrentPPO
from biped.runs.checkpoint import read_checkpoint
from biped.sim.genesis_scene import GenesisScene
from biped.sim.mujoco_scene import MujocoScene
from biped.train import profile
from biped.train.profile import Table
from biped_config import smoke_preset
from tests.conftest import SMALL

STEPS = smoke_preset().ppo.n_steps


def test_a_profile_measures_every_part_and_changes_nothing(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert biped_train.main(["-e", "demo", "--log_dir", str(tmp_path), *SMALL, "--profile", "1"]) == 0
    folder = tmp_path / "demo" / "profile"
    table = json.loads((folder / "table.json").read_text())
    assert table["rollouts"] == 1
    parts = {part["name"]: part for part in table["parts"]}
    assert list(parts) == list(profile.MEANING)
    in_whole = [part["seconds"] for name, part in parts.items() if name != profile.WAITS]
    assert min(in_whole) > 0.0
    assert sum(in_whole) == pytest.approx(table["total_s"])
    calls = {name: part["calls"] for name, part in parts.items() if name != profile.WAITS}
    # Where episodes ended, there are robots to place, and last observations beside the first of the next episodes.
    anew = calls["simulation"] - STEPS
    assert 0 < anew <= STEPS
    assert calls == {
        "simulation": STEPS + anew,
        "reading": STEPS,
        "rewards": STEPS,
        "observations": STEPS + anew,
        "rest of a step": STEPS,
        "inference": STEPS + 1,  # and the values after the last step
        "update": 1,
        "other": 1,
    }
    text = (folder / "table.txt").read_text()
    assert text in capsys.readouterr().out
    assert "aten::mkldnn_rnn_layer_backward" in text, "the update runs in threads of its own"
    with gzip.open(folder / "trace.json.gz") as trace:
        assert {"simulation", "update"} <= {event.get("name") for event in json.load(trace)["traceEvents"]}
    one, other = (read_checkpoint(run / "demo" / "model_final.zip").policy for run in (logs, tmp_path))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_training_that_ends_before_says_so_and_leaves_nothing_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [BipedEnv.step, environment.compute_rewards, DeviceRecurrentPPO.train, DeviceRecurrentPPO._act]
    command = ["-e", "demo", "--log_dir", str(tmp_path), *SMALL, "--eval_freq", "0", "--profile", "3"]
    assert biped_train.main([*command, "--total_timesteps", "512"]) == 0
    assert "1 of 3 rollouts" in capsys.readouterr().err
    assert json.loads((tmp_path / "demo" / "profile" / "table.json").read_text())["rollouts"] == 1
    assert before == [BipedEnv.step, environment.compute_rewards, DeviceRecurrentPPO.train, DeviceRecurrentPPO._act]


def test_a_gate_that_ends_the_training_ends_the_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from biped.eval import gate

    monkeypatch.setattr(gate, "GATE", ())
    command = ["-e", "demo", "--log_dir", str(tmp_path), *SMALL, "--eval_freq", "256", "--profile", "2"]
    assert biped_train.main([*command, "--stop_when_walking", "1"]) == 0
    assert not hasattr(DeviceRecurrentPPO.train, "__wrapped__")
    assert not (tmp_path / "demo" / "profile").exists()


@pytest.mark.parametrize("scene", [GenesisScene, MujocoScene])
def test_every_place_is_there(scene: type) -> None:
    env = SimpleNamespace(scene=scene, step=BipedEnv.step, _observe=BipedEnv._observe)
    found = profile.places(env, DeviceRecurrentPPO)  # pyright: ignore[reportArgumentType]
    assert all(callable(getattr(place.owner, place.name)) for place in found)
    assert {place.part for place in found} - {profile.STEP} < set(profile.MEANING)


def test_the_table_by_hand() -> None:
    def event(key: str, calls: int, total: float, own: float = 0.0, device: float = 0.0) -> SimpleNamespace:
        return SimpleNamespace(
            key=key, count=calls, cpu_time_total=total, self_cpu_time_total=own, device_time_total=device
        )

    events = [
        event("step", 10, 5e6, device=4e6),
        event("simulation", 20, 2e6, device=3e6),
        event("reading", 10, 5e5, device=2.5e5),
        event("rewards", 10, 2.5e5),
        event("observations", 20, 2.5e5),
        event("inference", 11, 1e6),
        event("update", 1, 3e6),
        event("aten::_local_scalar_dense", 7, 5e5, own=4e5),
        event("aten::mm", 100, 9e5, own=8e5, device=2e6),
    ]
    table = Table.of(events, "a card", 8, 1, 10.0)
    seconds = {part.name: (part.calls, part.seconds, part.device_s) for part in table.parts}
    assert seconds == {
        "simulation": (20, 2.0, 3.0),
        "reading": (10, 0.5, 0.25),
        "rewards": (10, 0.25, 0.0),
        "observations": (20, 0.25, 0.0),
        "rest of a step": (10, 2.0, 0.75),
        "inference": (11, 1.0, 0.0),
        "update": (1, 3.0, 0.0),
        "other": (1, 1.0, 0.0),
        "waits": (7, pytest.approx(0.4), 0.0),
    }
    assert [(row.name, row.seconds) for row in table.operations] == [
        ("aten::mm", pytest.approx(0.8)),
        ("aten::_local_scalar_dense", pytest.approx(0.4)),
    ]
