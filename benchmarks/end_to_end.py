"""Train on the Genesis biped with `DeviceRecurrentPPO` and with stock `RecurrentPPO`, in one run."""

import statistics
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from benchmarks.learners import StockPassPolicy
from biped.config.run import Config
from biped.env.env import BipedVecEnv, make_env
from biped.train.learner import make_model
from biped_config import PRESETS

WARM_UP, TURNS = 30, 8
"""Iterations before the first turn (robots learn to stand, so that episodes outlast a rollout), and number of turns."""


class SharesOfTime(BaseCallback):
    """Measures the duration of rollouts; the rest of an iteration is the update."""

    def __init__(self) -> None:
        """Start without measurements."""
        super().__init__()
        self.rollout_s = 0.0
        self._began_s = 0.0

    def _on_rollout_start(self) -> None:
        self._began_s = _now_s()

    def _on_rollout_end(self) -> None:
        self.rollout_s = _now_s() - self._began_s

    def _on_step(self) -> bool:
        return True


class TimedEnv(BipedVecEnv):
    """Sums up the time spent in the environment's step."""

    step_s = 0.0

    def step_tensor(self, actions: torch.Tensor) -> Any:
        """Step, and add its duration."""
        began_s = _now_s()
        result = super().step_tensor(actions)
        self.step_s += _now_s() - began_s
        return result

    def step_wait(self) -> Any:
        """Step, and add its duration."""
        began_s = _now_s()
        result = super().step_wait()
        self.step_s += _now_s() - began_s
        return result


@dataclass(frozen=True)
class Iteration:
    """Durations of one rollout and its update (s)."""

    env_s: float
    """Time in the environment's step."""
    inference_s: float
    """Time in the rest of the rollout: the policy, the buffer, conversions."""
    update_s: float
    """Time in the update."""

    @property
    def total_s(self) -> float:
        """Total time."""
        return self.env_s + self.inference_s + self.update_s


def _now_s() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _stock(config: Config, env: BipedVecEnv) -> RecurrentPPO:
    """Return stock `RecurrentPPO` with the arguments that `make_model` gives ours."""
    ours = make_model(config, env, seed=1)
    names = "n_steps batch_size n_epochs gamma gae_lambda clip_range ent_coef vf_coef max_grad_norm policy_kwargs"
    settings = {name: getattr(ours, name) for name in names.split()}
    return RecurrentPPO(
        StockPassPolicy, env, learning_rate=config.ppo.learning_rate, seed=1, device=ours.device, **settings
    )


def _iterate(model: RecurrentPPO, env: TimedEnv, callback: SharesOfTime) -> Iteration:
    env.step_s, began_s = 0.0, _now_s()
    model.collect_rollouts(env, callback, model.rollout_buffer, model.n_steps)
    collected_s = _now_s()
    model.train()
    return Iteration(env.step_s, collected_s - began_s - env.step_s, _now_s() - collected_s)


def measure_end_to_end(device: str) -> dict[str, Any]:
    """Let all learners train the device's preset in turns, on the same simulator, and print the shares of time."""
    preset = PRESETS["gpu" if device == "cuda" else "cpu"]()
    # Stock has neither; with them the learners would not do the same work.
    config = replace(preset, ppo=replace(preset.ppo, mirror=False, adaptive_lr=False))
    if config.train.torch_threads:
        torch.set_num_threads(config.train.torch_threads)
    env = TimedEnv(make_env(config.env, device, seed=1))
    mixed = replace(config, ppo=replace(config.ppo, precision="bf16"))
    models: dict[str, RecurrentPPO] = {
        "ours": make_model(config, env, seed=1),
        "ours, bf16": make_model(mixed, env, seed=1),
        "stock": _stock(config, env),
    }
    turns: dict[str, list[Iteration]] = {name: [] for name in models}
    callbacks = {}
    for name, model in models.items():
        callbacks[name] = model._setup_learn(1, SharesOfTime())[1]
        model.set_logger(Logger(folder=None, output_formats=[]))
        for _ in range(WARM_UP if name == "ours" else 1):
            _iterate(model, env, callbacks[name])
    # All learners start their turns with the same weights, so that the robots behave alike.
    for model in models.values():
        model.policy.load_state_dict(models["ours"].policy.state_dict())
    for _ in range(TURNS):
        for name, model in models.items():
            turns[name].append(_iterate(model, env, callbacks[name]))
    return _report(config, turns)


def _report(config: Config, turns: dict[str, list[Iteration]]) -> dict[str, Any]:
    transitions = config.env.num_envs * config.ppo.n_steps
    over_stock = {
        name: statistics.median(s.total_s / o.total_s for o, s in zip(iterations, turns["stock"], strict=True))
        for name, iterations in turns.items()
    }
    print(f"preset {config.preset}, {config.env.num_envs} x {config.ppo.n_steps}, {config.ppo.n_epochs} epochs")
    record: dict[str, Any] = {"preset": config.preset, "threads": torch.get_num_threads(), "over_stock": over_stock}
    for name, iterations in turns.items():
        parts = {
            part: statistics.median(getattr(iteration, part) for iteration in iterations)
            for part in ("env_s", "inference_s", "update_s", "total_s")
        }
        record[name] = {"steps_per_s": transitions / parts["total_s"], **parts}
        shares = ", ".join(
            f"{part.removesuffix('_s')} {parts[part] / parts['total_s']:.0%}" for part in list(parts)[:3]
        )
        rate = transitions / parts["total_s"]
        print(f"  {name:10s} {rate:>9,.0f} steps/s   {over_stock[name]:.2f} x stock   {shares}")
    return record
