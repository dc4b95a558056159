"""What a style costs: the discriminator's part of an update and of a rollout. `python benchmarks/style.py`.

One training of a preset with the clips of `assets/motions`, in MuJoCo. Each update is timed as a whole and, within it,
the discriminator's learning; each rollout as a whole and, within it, what the style keeps and pays. The shares are
medians over the rounds. The environment's features count to the rollout's share.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.machine import describe_machine, record_file
from biped.base.command_line import path_name, whole_number
from biped.base.shipped import ASSETS, as_stored
from biped.config.settings import with_settings
from biped.env.env import BipedVecEnv, make_env
from biped.train.learner import make_model
from biped.train.style import add_style, demonstrations
from biped_config import PRESETS

WARM_UP = 3
"""Rounds that are not counted."""


class Stopwatch:
    """Adds up the time in some calls."""

    def __init__(self, device: torch.device) -> None:
        """Wait for the device at both ends of each call."""
        self._device, self.passed_s = device, 0.0

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a call that is timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = self._now()
            try:
                return call(*args, **kwargs)
            finally:
                self.passed_s += self._now() - began

        return timed

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def take(self) -> float:
        """Return the time since the last call (s)."""
        passed, self.passed_s = self.passed_s, 0.0
        return passed


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description="What a style costs.")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="cpu")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=whole_number, default=30)
    parser.add_argument("--out", type=path_name, metavar="FILE")
    args = parser.parse_args()
    clips = [as_stored(file) for file in sorted((ASSETS / "motions").glob("*.csv"))]
    settings: list[tuple[str, Any]] = [("style.motions", clips), ("train.device", args.device), ("train.sim", "mujoco")]
    config = with_settings(PRESETS[args.preset](), settings)
    if config.train.torch_threads:
        torch.set_num_threads(config.train.torch_threads)
    env = BipedVecEnv(make_env(config.env, args.device, sim="mujoco", seed=1))
    model = make_model(config, env, seed=1)
    demos = demonstrations(config)
    assert demos is not None
    add_style(config, model, env.env, demos, seed=1)
    style, features = model.style, env.env.features
    assert style is not None
    assert features is not None
    watches = {name: Stopwatch(model.device) for name in ("update", "learning", "rollout", "paying")}
    wrap = partial(setattr, style)
    wrap("learn", watches["learning"].around(style.learn))
    wrap("note", watches["paying"].around(style.note))
    wrap("pay", watches["paying"].around(style.pay))
    object.__setattr__(features, "step", watches["paying"].around(features.step))
    model.train = watches["update"].around(model.train)
    model.collect_rollouts = watches["rollout"].around(model.collect_rollouts)
    rounds: list[dict[str, float]] = []
    for _ in range(WARM_UP + args.rounds):
        model.learn(model.n_steps * model.n_envs, reset_num_timesteps=False)
        rounds.append({name: watch.take() for name, watch in watches.items()})
    rows = rounds[WARM_UP:]
    shares = {
        "of the update": [row["learning"] / row["update"] for row in rows],
        "of the rollout": [row["paying"] / row["rollout"] for row in rows],
        "of both": [(row["learning"] + row["paying"]) / (row["update"] + row["rollout"]) for row in rows],
    }
    for name, values in shares.items():
        print(f"{name:16s} {statistics.median(values):6.1%}  ({min(values):.1%} to {max(values):.1%})")
    record = {
        **describe_machine(model.device),
        "preset": args.preset,
        "rounds": args.rounds,
        "shares": {name: [round(value, 4) for value in values] for name, values in shares.items()},
    }
    record_file(args.out, "style").write_text(json.dumps(record, indent=1), encoding="utf-8")
    env.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
