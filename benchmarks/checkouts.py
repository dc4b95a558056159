"""Is one commit as fast as another? `python benchmarks/checkouts.py OLD NEW [--pairs 30] [--out FILE.json]`.

OLD and NEW are folders with a checkout each. Both trainings of a pair run at once, each on a core of its own, and
change cores for the next pair: what slows the machine slows both. A training's speed is the median over its rounds,
without the first two; a pair's ratio is that of NEW over that of OLD. Linux only. Nothing else may run.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.machine import describe_machine, record_file
from biped.base.command_line import exit_code, path_name, whole_number
from biped.base.errors import MachineError
from biped.runs.directory import RunDirectory

STEPS = 50_000
"""Environment steps of a training."""
WARM_UP = 2
"""Rounds that are not counted."""
FLAGS = ("--preset", "cpu", "--sim", "mujoco", "--seed", "11", "--total_timesteps", str(STEPS))
QUIET = ("--set", "train.eval_every_steps=0", "train.draw_overview=false", "train.torch_threads=1")


def begin(checkout: Path, core: int, logs: Path, name: str) -> "subprocess.Popen[bytes]":
    """Start a training of a checkout on one core."""
    command = [sys.executable, str(checkout / "biped_train.py"), *FLAGS, "--log_dir", str(logs), "-e", name, *QUIET]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})  # a process has its parent's cores
    try:
        return subprocess.Popen(command, cwd=checkout, env=environment, stdout=subprocess.DEVNULL)
    finally:
        os.sched_setaffinity(0, mine)


def round_s(run: Path) -> float:
    """Return the median duration of a run's rounds (s)."""
    curves = RunDirectory(run).read_metrics()
    collection, learning = (curves[f"time/{part}_time"].values[WARM_UP:] for part in ("collection", "learning"))
    return statistics.median(float(a + b) for a, b in zip(collection, learning, strict=True))


def main() -> int:
    """Train the pairs, print and write their ratios.

    Raises:
        MachineError: there is one core, or a training failed.
    """
    parser = argparse.ArgumentParser(description="Is one commit as fast as another?")
    parser.add_argument("old", type=Path, help="folder of the checkout before")
    parser.add_argument("new", type=Path, help="folder of the checkout after")
    parser.add_argument("--pairs", type=whole_number, default=30)
    parser.add_argument("--out", type=path_name, metavar="FILE")
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise MachineError("a pair needs two cores")
    checkouts = {"old": args.old.resolve(), "new": args.new.resolve()}
    ratios: list[float] = []
    with tempfile.TemporaryDirectory(prefix="checkouts-") as folder:
        logs = Path(folder)
        for pair in range(args.pairs):
            turn = cores if pair % 2 else cores[::-1]
            trainings = [
                begin(checkout, core, logs, f"{name}-{pair}")
                for (name, checkout), core in zip(checkouts.items(), turn, strict=True)
            ]
            codes = [training.wait() for training in trainings]
            if any(codes):
                raise MachineError("a training failed: see above")
            ratios.append(round_s(logs / f"old-{pair}") / round_s(logs / f"new-{pair}"))
            print(f"pair {pair + 1}: {ratios[-1]:.3f}", flush=True)
    middle, spread = statistics.median(ratios), statistics.stdev(ratios) if len(ratios) > 1 else 0.0
    error = 1.2533 * spread / len(ratios) ** 0.5  # of a median of normal values
    print(f"new over old: median {middle:.3f} ± {error:.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    record = {**describe_machine(torch.device("cpu")), "steps": STEPS, "median": middle, "ratios": ratios}
    record_file(args.out, "checkouts").write_text(json.dumps(record, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code("checkouts.py", main))
