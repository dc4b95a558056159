"""What only a CUDA device can show. Each runs in a process of its own: Genesis stays on the device it began with."""

import sys

import pytest
import torch

from biped.runs.checkpoint import read_checkpoint
from tests.processes import run

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
assert reward.is_cuda
assert all(group.is_cuda and group.isfinite().all() for group in observation.values())
"""


@pytest.mark.gpu
def test_a_step_never_waits_for_the_device() -> None:
    run([sys.executable, "-c", NO_SYNC], check=True)


LEARNER_NO_SYNC = """
import torch
from dataclasses import replace
from stable_baselines3.common.logger import Logger
from biped.train.learner import make_model
from biped_config import smoke_preset
from biped_env import BipedVecEnv, make_env

config = smoke_preset()
ppo = replace(config.ppo, precision="{precision}", adaptive_lr={adaptive_lr})
config = replace(config, train=replace(config.train, device="cuda"), ppo=ppo)
env = BipedVecEnv(make_env(config.env, "cuda"))
model = make_model(config, env, seed=0)
model.target_kl = 0.5 if {adaptive_lr} else None
model.set_logger(Logger(folder=None, output_formats=[]))
step_tensor = env.step_tensor

def outside_of_our_code(actions):  # the environment's own test is the one above
    torch.cuda.set_sync_debug_mode("default")
    result = step_tensor(actions)
    torch.cuda.set_sync_debug_mode("error")
    return result

env.step_tensor = outside_of_our_code
_, callback = model._setup_learn(1, None)

def silently(function):  # what drains statistics once a rollout or an update may wait, and is all that may
    def drained(*args):
        torch.cuda.set_sync_debug_mode("default")
        result = function(*args)
        torch.cuda.set_sync_debug_mode("error")
        return result
    return drained

model._drain = silently(model._drain)
model._goes_on = silently(model._goes_on)
model._finish_update = silently(model._finish_update)
for _ in range(3):
    model._last_obs = torch.as_tensor(model._last_obs, device="cuda")
    model._last_episode_starts = torch.as_tensor(model._last_episode_starts, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    model.collect_rollouts(env, callback, model.rollout_buffer, model.n_steps)
    torch.cuda.set_sync_debug_mode("default")
    model.rollout_buffer._starts_on_host = model.rollout_buffer.episode_starts.cpu().numpy()
    torch.cuda.set_sync_debug_mode("error")
    model.train()
    torch.cuda.set_sync_debug_mode("default")
assert model.logger.name_to_value["train/skipped_steps"] == 0
assert all(parameter.isfinite().all() for parameter in model.policy.parameters())
"""


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "adaptive_lr"), [("fp32", "False"), ("fp32", "True"), ("bf16", "False")])
def test_a_rollout_and_an_update_never_wait_for_the_device(precision: str, adaptive_lr: str) -> None:
    program = LEARNER_NO_SYNC.replace("{precision}", precision).replace("{adaptive_lr}", adaptive_lr)
    ended = run([sys.executable, "-c", program], check=True)
    assert "not part of single contiguous chunk" not in ended.stderr, "cuDNN would copy all weights in each call"


@pytest.mark.gpu
def test_the_gpu_trains(tmp_path) -> None:
    command = [sys.executable, "biped_train.py", "--preset", "smoke", "--device", "cuda", "--log_dir", str(tmp_path)]
    run(command, check=True)


@pytest.mark.gpu
def test_a_deterministic_training_gives_the_same_bits_each_time(tmp_path) -> None:
    for name in ("one", "other"):
        command = [sys.executable, "biped_train.py", "--preset", "smoke", "--device", "cuda", "--deterministic"]
        run([*command, "-e", name, "--log_dir", str(tmp_path)], afresh=True, check=True)
    one, other = (read_checkpoint(tmp_path / name / "model_final.zip").policy for name in ("one", "other"))
    assert all(torch.equal(one[name], other[name]) for name in one)


GRAPHS = """
from dataclasses import replace

import torch
from biped.base.cuda_graph import CudaGraph
from biped.env.env import BipedEnv
from biped_config import randomization_preset, smoke_preset
from tests.stub_scene import StubScene

device = torch.device("cuda")
cfg = replace(smoke_preset().env, randomization=randomization_preset("full"))
plain, quick = (BipedEnv(cfg, StubScene(cfg, device), seed=3) for _ in range(2))
quick.use_graphs(CudaGraph)
for step in range(60):
    if step == 30:
        plain.command_share = quick.command_share = 0.6
    actions = torch.randn(cfg.num_envs, 9, generator=torch.Generator(device).manual_seed(step), device=device)
    wanted, found = plain.step(actions), quick.step(actions)
    for one, other in zip((*wanted[0].values(), *wanted[1:4]), (*found[0].values(), *found[1:4]), strict=True):
        assert torch.equal(one, other), step
"""


@pytest.mark.gpu
def test_a_step_as_cuda_graphs_gives_the_bits_of_one_without(tmp_path) -> None:
    ended = run([sys.executable, "-c", GRAPHS], check=True)
    assert "cannot be a CUDA graph" not in ended.stderr
    command = [sys.executable, "biped_train.py", "--preset", "smoke", "--device", "cuda", "--log_dir", str(tmp_path)]
    assert "cannot be a CUDA graph" not in run([*command, "--set", "train.cuda_graphs=true"], check=True).stderr


RESUME = """
from dataclasses import replace

import torch
from biped_config import smoke_preset
from biped_env import make_env

cfg = smoke_preset().env
cfg = replace(cfg, sim=replace(cfg.sim, performance_mode=False))  # in it Genesis chooses a solver by its speed
first, second = make_env(cfg, "cuda", seed=1), make_env(cfg, "cuda", seed=2)
actions = torch.randn(61, cfg.num_envs, 9, generator=torch.Generator().manual_seed(7)).cuda()
for action in actions[:60]:
    first.step(action)
second.set_state(first.get_state())
wanted, found = first.step(actions[60]), second.step(actions[60])
torch.testing.assert_close(found[0], wanted[0], rtol=0.0, atol=1e-3)
torch.testing.assert_close(found[1], wanted[1], rtol=0.0, atol=1e-3)
"""


@pytest.mark.gpu
def test_a_step_after_resuming_is_the_step_that_would_have_come() -> None:
    """Within 0.001 in every observation and reward: sums on a GPU are not always added in the same order."""
    run([sys.executable, "-c", RESUME], check=True)
