"""The promise of the CPU preset, kept in full (minutes), and of the policy that is shipped."""

import json
from pathlib import Path

import pytest

import biped_eval
import biped_train
from tests.conftest import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["1", "2"])
def test_the_cpu_preset_passes_the_walking_gate(seed: str, tmp_path: Path) -> None:
    assert biped_train.main(["--preset", "cpu", "-e", "walk", "--seed", seed, "--log_dir", str(tmp_path)]) == 0
    assert biped_eval.main(["-e", "walk", "--device", "cpu", "--log_dir", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "walk" / "eval.json").read_text())
    assert record["passed"] is True
    assert record["trials"]["num_trials"] == 256


@pytest.mark.genesis
def test_the_shipped_policy_passes_the_walking_gate(tmp_path: Path) -> None:
    policy, out = ROOT / "assets" / "policies" / "biped_walk.zip", tmp_path / "eval.json"
    assert biped_eval.main(["--model", str(policy), "--out", str(out), "--episodes", "64", "--device", "cpu"]) == 0
    assert json.loads(out.read_text())["trials"]["num_trials"] == 64
