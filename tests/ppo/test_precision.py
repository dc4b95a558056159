"""bf16 where the machine has it, and fp32 with a line that says so where it has not."""

import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from biped.ppo.policy import MlpIntoLstmPolicy
from biped.ppo.precision import why_no_bf16
from tests.conftest import ROOT
from tests.ppo.tasks import learn, learner, pendulums

WITHOUT_AVX512 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
"""Makes torch see a CPU of before AVX-512, which has no bfloat16 LSTM."""
LEARN = """
from tests.ppo.tasks import learn, learner, pendulums
exact, asked = (learn(learner(pendulums(), precision=precision), 2) for precision in ("fp32", "bf16"))
same = all((a == b).all() for a, b in zip(exact.policy.parameters(), asked.policy.parameters()))
print(asked.precision, asked.runs_in, same)
"""


def test_a_cpu_without_it_says_so_once_and_trains_in_fp32() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LEARN],
        env={**os.environ, **WITHOUT_AVX512},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout.split() == ["bf16", "fp32", "True"], ended.stderr
    lines = [line for line in ended.stderr.splitlines() if "bf16" in line]
    assert len(lines) == 1
    assert lines[0].startswith("bf16 is unavailable (this machine has no bfloat16 LSTM: ")
    assert lines[0].endswith("): the networks run in fp32")


def test_what_the_machine_was_found_to_have_is_what_it_runs() -> None:
    model: Any = learner(pendulums(), precision="bf16")
    assert model.runs_in == ("bf16" if why_no_bf16(model.policy) is None else "fp32")
    assert learn(model).num_timesteps == 64


def test_looking_leaves_gradients_and_draws_as_they_are() -> None:
    model = learner(pendulums(), MlpIntoLstmPolicy)
    before = torch.get_rng_state()
    why_no_bf16(model.policy)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.policy.parameters())


def test_a_gpu_of_before_ampere_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """There torch would emulate it, more slowly than fp32."""
    model = learner(pendulums())
    asked: list[bool] = []

    def is_supported(*, including_emulation: bool) -> bool:
        asked.append(including_emulation)
        return False

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    monkeypatch.setattr(type(model.policy), "device", torch.device("cuda"))
    assert why_no_bf16(model.policy) == "this GPU has no bfloat16"
    assert asked == [False]
