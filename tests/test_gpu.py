"""What only a CUDA device can show. Each runs in a process of its own: Genesis stays on the device it began with."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

NO_SYNC = """
import torch
from dataclasses import replace
from biped_config import cpu_preset
from biped_env import make_env

env = make_env(replace(cpu_preset().env, num_envs=64), "cuda")
env.reset(seed=0)
actions = torch.zeros(64, 9, device="cuda")
for _ in range(20):
    env.step(actions)
advance = env.scene.advance

def outside_of_our_code(targets):
    torch.cuda.set_sync_debug_mode("default")  # Genesis reads its error flags every few steps
    advance(targets)
    torch.cuda.set_sync_debug_mode("error")

env.scene.advance = outside_of_our_code
torch.cuda.set_sync_debug_mode("error")
for _ in range(50):
    observation, reward, *_ = env.step(actions)
torch.cuda.set_sync_debug_mode("default")
assert observation.is_cuda and reward.is_cuda and observation.isfinite().all()
"""


@pytest.mark.gpu
def test_a_step_never_waits_for_the_device() -> None:
    subprocess.run([sys.executable, "-c", NO_SYNC], cwd=ROOT, check=True, timeout=900)


@pytest.mark.gpu
def test_the_gpu_trains(tmp_path) -> None:
    command = [sys.executable, "biped_train.py", "--preset", "smoke", "--device", "cuda", "--log_dir", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=900)
