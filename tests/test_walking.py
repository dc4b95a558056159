"""The promise of the CPU preset, kept in full; minutes."""

import json
from pathlib import Path

import pytest

import biped_eval
import biped_train


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["1", "2"])
def test_the_cpu_preset_learns_to_walk_forward(seed: str, tmp_path: Path) -> None:
    assert biped_train.main(["--preset", "cpu", "-e", "walk", "--seed", seed, "--log_dir", str(tmp_path)]) == 0
    assert biped_eval.main(["-e", "walk", "--device", "cpu", "--log_dir", str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "walk" / "eval.json").read_text())
    assert figures["without_fall"] >= 0.97
    assert figures["error_lin_vel_x_m_s"] <= 0.10
    assert figures["alternating_steps"] >= 0.90
    assert 1.0 <= figures["step_frequency_hz"] <= 2.5
