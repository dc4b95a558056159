"""Which device a training runs on, and which preset goes with it."""

from pathlib import Path

import pytest
import torch

from biped.base.errors import MachineError
from biped.base.machine import choose_device
from biped.train.plan import make_plan
from biped_config import PRESETS
from biped_train import as_request, make_parser


@pytest.fixture(params=[True, False], ids=["gpu", "no_gpu"])
def has_gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether torch finds CUDA."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param)
    return request.param


def test_auto_is_cuda_where_it_is_found_and_the_simulator_runs_on_it(has_gpu: bool) -> None:
    assert choose_device("auto", "genesis") == ("cuda" if has_gpu else "cpu")
    assert choose_device("auto", "mujoco") == "cpu"
    assert choose_device("cpu", "genesis") == choose_device("cpu", "mujoco") == "cpu"


def test_cuda_is_never_replaced_without_a_word(has_gpu: bool) -> None:
    with pytest.raises(MachineError, match="--sim mujoco runs on the CPU: use it with --device cpu"):
        choose_device("cuda", "mujoco")
    if has_gpu:
        assert choose_device("cuda", "genesis") == "cuda"
    else:
        with pytest.raises(MachineError, match="torch finds no CUDA device"):
            choose_device("cuda", "genesis")


@pytest.mark.parametrize(
    "flags",
    [["--sim", "mujoco"], ["--device", "cpu"], ["--set", "train.sim=mujoco"], ["--set", "train.device=cpu"]],
    ids=" ".join,
)
def test_the_preset_is_that_of_the_device_that_will_be_used(
    has_gpu: bool, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(as_request(make_parser().parse_args(["--log_dir", str(tmp_path), *flags])), PRESETS)
    assert plan.config.preset == "cpu"
    assert capsys.readouterr().out.startswith("on the CPU: " if has_gpu else "no CUDA found: ")


def test_with_a_gpu_and_genesis_it_is_the_documents(
    has_gpu: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(as_request(make_parser().parse_args(["--log_dir", str(tmp_path)])), PRESETS)
    assert plan.config.preset == ("gpu" if has_gpu else "cpu")
    assert capsys.readouterr().out.startswith("CUDA found: " if has_gpu else "no CUDA found: ")
