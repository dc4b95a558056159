"""The cost of metric outputs: training with all of them and with none, in one run.

    python benchmarks/sinks.py --out logs/sinks.json

The CPU preset is trained in pairs of short blocks of rollouts, one with the console, TensorBoard, metrics.jsonl and
an offline W&B run, one without outputs, in alternating order. Blocks differ by more than the expected effect, so two
results are given: the time that the training's own thread spends in the outputs, and the median of the pairs' ratios
with its standard error.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["WANDB_SILENT"] = "true"

import torch
from stable_baselines3.common.logger import Logger

from biped.base.command_line import path_name, whole_number
from biped.base.machine import keep_freed_memory
from biped.config.run import WandbConfig
from biped.config.serial import to_dict
from biped.env.env import BipedVecEnv, make_env
from biped.runs.directory import RunDirectory
from biped.runs.loggers import make_logger
from biped.runs.metrics_log import JsonLinesWriter
from biped.runs.wandb_writer import start_wandb
from biped.train.callback import BipedCallback, Log, Rollouts
from biped.train.learner import make_model
from biped.train.metrics import METRICS
from biped_config import cpu_preset


def main() -> int:
    """Measure, print, and write JSON if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=whole_number, default=5, help="rollouts per block (default 5)")
    parser.add_argument("--pairs", type=whole_number, default=60, help="pairs of blocks (default 60)")
    parser.add_argument("--out", type=path_name, help="path of the JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), args.rollouts, args.pairs)
    print(json.dumps(result, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def measure(folder: Path, rollouts: int, pairs: int) -> dict[str, Any]:
    """Train alternately with and without outputs; return seconds per rollout and the shares of the outputs."""
    config = cpu_preset()
    torch.set_num_threads(config.train.torch_threads)
    env = BipedVecEnv(make_env(config.env, "cpu"))
    keep_freed_memory()
    model = make_model(config, env, 1)
    run = RunDirectory.create(folder, "bench")
    wandb_config = replace(WandbConfig(), mode="offline")
    writer = start_wandb(run, wandb_config, to_dict(config), METRICS)
    assert writer is not None
    more = [JsonLinesWriter(run.metrics, None), writer]
    loggers = {
        "with sinks": make_logger(run.tensorboard, resume_after_step=None, console_every_s=15.0, more=more),
        "without": Logger(None, []),
    }
    steps = rollouts * config.ppo.n_steps * config.env.num_envs
    seconds: dict[str, list[float]] = {name: [] for name in loggers}
    in_sinks: list[float] = []
    for pair in range(-2, pairs):  # the first two pairs are a warm-up
        for name, logger in sorted(loggers.items(), reverse=pair % 2 == 0):
            dump = _timed(logger)
            model.set_logger(logger)
            part = Rollouts(env.env, 1.0)
            callback = BipedCallback([part, Log(part)])
            started = time.perf_counter()
            model.learn(steps, callback, log_interval=None, reset_num_timesteps=False)  # pyright: ignore[reportArgumentType]
            if pair >= 0:
                seconds[name].append((time.perf_counter() - started) / rollouts)
                in_sinks += [sum(dump) / rollouts] if name == "with sinks" else []
    loggers["with sinks"].close()
    env.close()
    without = statistics.median(seconds["without"])
    ratios = [one / other for one, other in zip(seconds["with sinks"], seconds["without"], strict=True)]
    return {
        "seconds_a_rollout_without": without,
        "seconds_a_rollout_in_sinks": statistics.median(in_sinks),
        "share_in_sinks": statistics.median(in_sinks) / without,
        "median_ratio": statistics.median(ratios),
        # The standard error of a median of Gaussian values is 1.25 times that of the mean.
        "standard_error_of_ratio": 1.25 * statistics.stdev(ratios) / len(ratios) ** 0.5,
        "ratios": sorted(round(ratio, 4) for ratio in ratios),
        "rollouts_a_block": rollouts,
        "torch": torch.__version__,
    }


def _timed(logger: Logger) -> list[float]:
    """Time the logger's dumps from now on; return the list that collects the durations (s)."""
    spent: list[float] = []
    dump = type(logger).dump

    def timed(step: int = 0) -> None:
        started = time.perf_counter()
        dump(logger, step)
        spent.append(time.perf_counter() - started)

    logger.dump = timed
    return spent


if __name__ == "__main__":
    sys.exit(main())
