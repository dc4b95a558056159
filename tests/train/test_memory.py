"""What a training takes, what there is, and the number of environments in between."""

import re
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

import biped_train
from biped.base.errors import MachineError, is_out_of_memory
from biped.base.machine import GIB, _container_bytes, free_bytes
from biped.config.run import Config
from biped.env.env import BipedVecEnv, make_env
from biped.train import memory
from biped.train.learner import make_model
from biped.train.memory import (
    MOST_USEFUL,
    choose_num_envs,
    estimate,
    largest_num_envs,
)
from biped_config import (
    cpu_preset,
    gpu_fast_preset,
    gpu_preset,
    smoke_preset,
)
from tests.processes import UNDRAWN

CONFIGS = {"cpu": cpu_preset(), "gpu": gpu_preset(), "gpu-fast": gpu_fast_preset(), "smoke": smoke_preset()}


@pytest.mark.parametrize("preset", ["cpu", "smoke"])
def test_the_network_is_counted_weight_by_weight(preset: str) -> None:
    config = CONFIGS[preset]
    config = replace(config, env=replace(config.env, num_envs=4))
    model = make_model(config, BipedVecEnv(make_env(config.env, "cpu", sim="mujoco")), seed=1)
    weights = sum(value.numel() for value in model.policy.parameters())
    assert estimate(config, "cpu").network == 4 * 10 * weights
    buffer = model.rollout_buffer.n_bytes
    assert buffer <= estimate(config, "cpu").rollout <= 10 * buffer


def test_the_documents_network_has_7_2_million_weights() -> None:
    assert estimate(gpu_preset(), "cuda").network / 40 == pytest.approx(7_241_495)


def test_a_gpu_needs_room_for_the_scratch_of_each_scene_that_is_not_in_performance_mode() -> None:
    def robots(config: Config, device: str, mode: bool | None) -> int:
        sim = replace(config.env.sim, performance_mode=mode)
        return estimate(replace(config, env=replace(config.env, sim=sim)), device).robots

    config = gpu_preset()
    assert robots(config, "cuda", False) - robots(config, "cuda", None) == 2 * 472_000_000
    assert robots(config, "cuda", True) == robots(config, "cuda", None) == robots(config, "cpu", False)
    alone = replace(config, train=replace(config.train, eval_every_steps=0))
    assert robots(alone, "cuda", False) - robots(alone, "cuda", None) == 472_000_000


@given(preset=st.sampled_from(sorted(CONFIGS)), gib=st.floats(0.0, 200.0), device=st.sampled_from(["cpu", "cuda"]))
@example(preset="gpu", gib=5.0, device="cuda")
def test_the_largest_number_fits_and_the_next_does_not(preset: str, gib: float, device: str) -> None:
    config, available = CONFIGS[preset], gib * GIB
    most = largest_num_envs(config, device, available)
    step = 64 if most >= 64 else config.ppo.n_minibatches

    def total(num_envs: int) -> int:
        return estimate(replace(config, env=replace(config.env, num_envs=num_envs)), device).total

    assert most % config.ppo.n_minibatches == 0
    assert not most or total(most) <= available + 4096
    assert total(most + step) > available - 4096


def test_no_more_robots_are_advised_than_a_configuration_may_have() -> None:
    assert 9_000_000 < largest_num_envs(CONFIGS["cpu"], "cpu", 4000 * GIB) <= 10_000_000


def test_what_does_not_fit_is_refused_before_it_is_built(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    free = free_bytes("cpu")
    monkeypatch.setattr(memory, "free_bytes", lambda _: free)  # whatever else is running takes or frees meanwhile
    command = ["--preset", "gpu", "--device", "cpu", "-B", "10000000", "--log_dir", str(tmp_path)]
    assert biped_train.main(command) == 1
    said = capsys.readouterr()
    assert "building" not in said.out
    found = re.fullmatch(r"biped_train.py: 10000000 environments .* at most --num_envs (\d+) fits\n", said.err)
    assert found, said.err
    config = replace(gpu_preset(), env=replace(gpu_preset().env, num_envs=int(found[1])))
    assert estimate(config, "cpu").total < 1.1 * free
    assert list(tmp_path.iterdir()) == []


def test_auto_takes_what_fits_but_no_more_than_is_of_use(monkeypatch: pytest.MonkeyPatch) -> None:
    config = gpu_preset()
    for free in (2 * GIB, 4 * GIB, 400 * GIB):
        monkeypatch.setattr(memory, "free_bytes", lambda _, free=free: free)
        chosen = choose_num_envs(config, "cuda")
        assert chosen == min(MOST_USEFUL["cuda"], largest_num_envs(config, "cuda", 0.8 * free))
    assert chosen == MOST_USEFUL["cuda"]
    monkeypatch.setattr(memory, "free_bytes", lambda _: 2**20)
    with pytest.raises(MachineError, match="too little for any"):
        choose_num_envs(config, "cuda")


def test_auto_is_a_flag_and_a_continued_run_keeps_its_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--log_dir", str(tmp_path), "--num_envs", "auto"]
    small = ["--preset", "smoke", "--sim", "mujoco", "--eval_freq", "0", "--set", "ppo.n_steps=4", *UNDRAWN]
    assert biped_train.main([*small, "--total_timesteps", str(4 * MOST_USEFUL["cpu"]), *flags]) == 0
    assert "--num_envs auto: 256 environments, about 0." in capsys.readouterr().out
    assert biped_train.main(["--continue_training", "--total_timesteps", "1024", *flags]) == 0
    assert "building 256 robots" in capsys.readouterr().out


def test_a_container_counts(tmp_path: Path) -> None:
    assert list(_container_bytes(tmp_path, [])) == []
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 1000\ninactive_file 500\n")
    assert list(_container_bytes(tmp_path, [])) == []
    (tmp_path / "memory.max").write_text("10000\n")
    assert list(_container_bytes(tmp_path, [])) == [7500]
    job = tmp_path / "slurm" / "job_1"
    job.mkdir(parents=True)
    (job / "memory.max").write_text("900\n")
    (job / "memory.current").write_text("400\n")
    (job / "memory.stat").write_text("anon 400\n")
    assert sorted(_container_bytes(tmp_path, ["slurm/job_1/step_0"])) == [500, 7500]


def test_free_memory_is_what_the_system_says_or_less() -> None:
    before = psutil.virtual_memory().available
    assert 0 < free_bytes("cpu") <= 1.1 * max(before, psutil.virtual_memory().available)


def failing_build(config: Config, text: str) -> str:
    with pytest.raises(MachineError) as caught, memory.naming_what_fits(config, "cpu", may_change=True):
        try:
            raise RuntimeError(text)
        except RuntimeError as error:
            raise MachineError("Genesis cannot build") from error
    return str(caught.value)


def test_memory_that_runs_out_while_building_names_a_smaller_number() -> None:
    """The number is below the one that failed, even where the estimate thought that there was room."""
    said = failing_build(cpu_preset(), "CUDA out of memory. Tried to allocate 2.00 GiB")
    assert re.search(r"out of memory on cpu with 256 environments .* at most --num_envs 192 fits$", said)
    assert failing_build(cpu_preset(), "bad luck") == "Genesis cannot build"


def test_real_errors_of_memory_are_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)
    with pytest.raises(MemoryError) as caught_too:
        bytearray(2**62)
    assert is_out_of_memory(caught_too.value)
    assert not is_out_of_memory(RuntimeError("the sizes do not match"))


def test_processes_of_one_training_share_the_memory_of_their_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = memory.available_bytes("cpu")
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    assert memory.available_bytes("cpu") == pytest.approx(alone / 4, rel=0.05)
    config = cpu_preset()
    huge = replace(config, env=replace(config.env, num_envs=10**7))
    with pytest.raises(MachineError, match="are free for each process: at most --num_envs"):
        memory.require_memory(huge, "cpu", may_change=True)
