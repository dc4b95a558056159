"""`--deterministic`: what it switches on, and that it changes nothing on a CPU."""

import os
from pathlib import Path
from typing import Any, cast

import pytest
import torch

import biped_train
from biped.ppo.recurrent_ppo import DeviceRecurrentPPO
from biped.runs.checkpoint import read_checkpoint
from biped.train.determinism import WORKSPACE, determinism
from tests.conftest import SMALL


def test_a_training_on_the_cpu_is_the_same_with_it_and_all_is_as_before_afterwards(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(WORKSPACE, raising=False)
    seen, train = [], DeviceRecurrentPPO.train

    def noted(model: DeviceRecurrentPPO) -> None:
        seen.append((torch.are_deterministic_algorithms_enabled(), os.environ.get(WORKSPACE)))
        train(model)

    monkeypatch.setattr(DeviceRecurrentPPO, "train", noted)
    assert biped_train.main(["-e", "demo", "--log_dir", str(tmp_path), *SMALL, "--deterministic"]) == 0
    assert set(seen) == {(True, ":4096:8")}
    assert not torch.are_deterministic_algorithms_enabled()
    assert cast("Any", torch.utils.deterministic).fill_uninitialized_memory
    one, other = (read_checkpoint(run / "demo" / "model_final.zip").policy for run in (logs, tmp_path))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_it_is_off_again_after_an_error_and_without_it_nothing_is_touched() -> None:
    with pytest.raises(KeyError), determinism(True):
        assert torch.are_deterministic_algorithms_enabled()
        raise KeyError
    assert not torch.are_deterministic_algorithms_enabled()
    with determinism(False):
        assert not torch.are_deterministic_algorithms_enabled()


def test_genesis_in_performance_mode_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--log_dir", str(tmp_path), "--deterministic", "--set", "env.sim.performance_mode=true"]
    assert biped_train.main([*SMALL, *flags]) == 2
    assert "env.sim.performance_mode=false" in capsys.readouterr().err


def test_what_judges_a_deterministic_run_has_genesis_out_of_performance_mode_too() -> None:
    request = biped_train.as_request(biped_train.make_parser().parse_args(["--deterministic"]))
    assert dict(request.settings)["env.sim.performance_mode"] is False
