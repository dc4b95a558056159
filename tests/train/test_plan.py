"""Which device a training runs on, and which preset goes with it."""

from pathlib import Path

import pytest
import torch

from biped.base.errors import MachineError
from biped.base.machine import choose_device
from biped.config.randomization import RandomizationConfig
from biped.train.plan import make_plan
from biped_config import PRESETS, randomization_preset
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


def test_what_a_randomisation_does_is_sized_to_the_robot_and_a_setting_still_wins(tmp_path: Path) -> None:
    def randomization_of(*flags: str) -> RandomizationConfig:
        command = ["--log_dir", str(tmp_path), "--preset", "smoke", *flags]
        return make_plan(as_request(make_parser().parse_args(command)), PRESETS).config.env.randomization

    full = ("--randomize", "full")
    large = ("--set", "env.robot.leg_length_m=1.456", "--set", f"env.robot.mass_kg={64 * 1.698}")
    assert randomization_of(*full) == randomization_preset("full")
    assert randomization_of(*full, *large).push.velocity_m_s == 1.6
    assert randomization_of(*full, *large).torso_mass_kg.range == (-21.8, 21.8)
    without_mass = ("--set", "env.robot.leg_length_m=1.456")
    assert randomization_of(*full, *without_mass).torso_mass_kg == randomization_preset("full").torso_mass_kg
    assert randomization_of(*full, *large, "--set", "env.randomization.push.velocity_m_s=1").push.velocity_m_s == 1.0
    pushed = PRESETS["robust"]().env.randomization.push.velocity_m_s
    assert randomization_of("--preset", "robust", *large).push.velocity_m_s == 2.0 * pushed, "also of a preset"
