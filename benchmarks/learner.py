"""Compare recurrent PPO's update with stock, rsl_rl and a bare loop of the same network, in one run.

    python benchmarks/learner.py                 on the CPU; pip install -c constraints.txt -e '.[bench]' adds rsl_rl
    python benchmarks/learner.py --gpu           on the GPU: 4096 environments, fp32 and bf16
    python benchmarks/learner.py --end_to_end    training on the Genesis biped, beside stock

Each learner in turn updates with a rollout of random observations, one epoch at a time. Ratios compare neighbouring
turns, so that slow changes of the machine's speed do not matter. Rates are for ten epochs, as in the GPU preset.
Prints tables, and writes JSON and a plot.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import psutil
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks import learners
from benchmarks.end_to_end import measure_end_to_end
from benchmarks.learners import CPU_SIZES, GPU_SIZES, STOCK_SIZES, Size
from benchmarks.machine import describe_machine, record_file
from biped.base.command_line import path_name
from biped.base.machine import keep_freed_memory

LEARNERS = ("ours", "ours, asymmetric", "bare loop", "rsl_rl", "ours, bf16", "ours, two streams", "stock")
"""Names of the learners, in the order of their turns."""
EPOCHS = 10
"""Epochs per update in the reported rates."""
ENDS = (0.0, 0.001, 0.01)
"""Probability per step that an episode ends: never, after the biped's 20 s, after 2 s."""
GROWTH_UPDATES = 200
STOCK_ROUNDS = 5
"""Number of turns of stock, which is slow."""


@dataclass(frozen=True)
class Row:
    """The result of one learner at one size."""

    size: str
    """Name of the network."""
    n_envs: int
    """Number of environments."""
    n_steps: int
    """Steps per environment."""
    n_minibatches: int
    """Minibatches per epoch."""
    end_probability: float
    """Probability per step that an episode ends."""
    learner: str
    """Name of the learner."""
    steps_per_s: float
    """Transitions per second of an update of ten epochs, median over turns."""
    ours_over_it: float
    """Speed of `DeviceRecurrentPPO` divided by this learner's, median over neighbouring turns."""


def updates_of(size: Size, device: str, chosen: Sequence[str]) -> dict[str, Callable[[], object]]:
    """Return an update of ours and of each learner of `LEARNERS` that is chosen, by name; of all if none is."""
    updates = {}
    for name in LEARNERS:
        if chosen and name not in {"ours", *chosen}:
            continue
        try:
            update = _update_of(name, size, device)
        except ImportError:
            print(f"{name} is not installed: pip install -c constraints.txt -e '.[bench]'", file=sys.stderr)
            continue
        if update is not None:
            updates[name] = update
    return updates


def _update_of(name: str, size: Size, device: str) -> Callable[[], object] | None:
    """Return a learner's update; None if this machine has no bf16, or no streams."""
    if name == "bare loop":
        return learners.bare(size, device)
    if name == "rsl_rl":
        return learners.rsl_rl(size, device)
    if name == "stock":
        return learners.stock(size, device).train
    two_streams = name == "ours, two streams"
    if two_streams and device == "cpu":
        return None
    precision = "bf16" if name == "ours, bf16" else "fp32"
    model = learners.ours(size, device, precision, asymmetric=name == "ours, asymmetric")
    model.two_streams = two_streams
    return model.train if model.runs_in == precision else None


def measure(size: Size, device: str, rounds: int, chosen: Sequence[str] = ()) -> list[Row]:
    """Let every learner update in turn; stock, which is slow, takes fewer turns."""
    updates = updates_of(size, device, chosen)
    turns: dict[str, list[tuple[float, float]]] = {name: [] for name in updates}
    for name, update in updates.items():
        for _ in range(1 if name == "stock" else 3):
            update()
    for turn in range(rounds):
        ours_s = _seconds(updates["ours"], device)
        turns["ours"].append((ours_s, ours_s))
        for name, update in updates.items():
            if name != "ours" and (name != "stock" or turn < STOCK_ROUNDS):
                turns[name].append((ours_s, _seconds(update, device)))
    transitions = size.n_envs * size.n_steps
    return [
        Row(
            size.name,
            size.n_envs,
            size.n_steps,
            size.n_minibatches,
            size.end_probability,
            name,
            transitions / EPOCHS / statistics.median(its_s for _, its_s in pairs),
            statistics.median(its_s / ours_s for ours_s, its_s in pairs),
        )
        for name, pairs in turns.items()
    ]


def _seconds(update: Callable[[], object], device: str) -> float:
    _wait(device)
    start = time.perf_counter()
    update()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def measure_buffer(size: Size) -> dict[str, Any]:
    """Return the bytes per transition of both buffers."""
    stock = learners.stock(replace(size, n_envs=4), "cpu").rollout_buffer
    stock_bytes = sum(value.nbytes for value in vars(stock).values() if isinstance(value, np.ndarray))
    per_stock = stock_bytes / (4 * size.n_steps)
    result: dict[str, Any] = {"stock_bytes": per_stock}
    for n_steps in (size.n_steps, 128):
        buffer = learners.ours(replace(size, n_envs=4, n_steps=n_steps), "cpu").rollout_buffer
        states = buffer.initial_states
        assert states is not None
        state_bytes = sum(tensor.nbytes for tensor in (*states.pi, *states.vf))
        transitions = 4 * n_steps
        result[f"bytes_{n_steps}_steps"] = buffer.n_bytes / transitions
        result[f"bytes_{n_steps}_steps_without_states"] = (buffer.n_bytes - state_bytes) / transitions
    return result


def measure_growth() -> list[float]:
    """Return the resident memory (MiB) of a separate process after 20 and after 220 rollouts and updates.

    It runs the small policy on 64 environments, with glibc's default memory settings.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_resident_mib)


def _resident_mib() -> list[float]:
    torch.set_num_threads(1)
    model = learners.ours(replace(learners.SMALL, n_envs=64), "cpu")
    callback, env = model._init_callback(None), model.env
    assert env is not None
    resident = []
    for update in range(GROWTH_UPDATES + 20):
        model.collect_rollouts(env, callback, model.rollout_buffer, model.n_steps)
        model.train()
        if update + 1 in (20, GROWTH_UPDATES + 20):
            resident.append(psutil.Process().memory_info().rss / 2**20)
    return resident


def show(rows: list[Row]) -> None:
    """Print the results of one size."""
    first = rows[0]
    print(
        f"\n{first.size}, {first.n_envs} x {first.n_steps}, {first.n_minibatches} minibatches, "
        f"episodes end with probability {first.end_probability} per step"
    )
    for row in rows:
        print(f"  {row.learner:12s} {row.steps_per_s:>10,.0f} steps/s   ours / it {row.ours_over_it:>7.2f}", flush=True)


def plot(rows: list[Row], out: Path) -> None:
    """Draw rates on a logarithmic axis, one group of bars per size."""
    by_bar = {((row.size, row.n_envs, row.n_steps), row.learner): row.steps_per_s for row in rows}
    groups = list(dict.fromkeys(group for group, _ in by_bar))
    names = list(dict.fromkeys(row.learner for row in rows))
    figure, axis = plt.subplots(figsize=(9, 4.5), layout="constrained")
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        heights = [by_bar[group, name] for group in groups]
        bars = axis.bar([place + index * width for place in range(len(groups))], heights, width, label=name)
        axis.bar_label(bars, [f"{height:,.0f}" for height in heights], fontsize=8)
    axis.set_xticks(
        [place + 0.4 - width / 2 for place in range(len(groups))],
        [f"{size}\n{n_envs} x {n_steps}" for size, n_envs, n_steps in groups],
    )
    axis.set_yscale("log")
    axis.set_ylabel("transitions per second of an update")
    axis.set_title("An update of ten epochs, from ten times the time of one; episodes of 1000 steps", fontsize=10)
    axis.legend(fontsize=8)
    axis.grid(axis="y", alpha=0.3)
    figure.savefig(out, dpi=90)


def main() -> int:
    """Run the requested measurement, print it and write it to a file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gpu", action="store_true", help="on the GPU, with 4096 environments")
    parser.add_argument("--tiny", action="store_true", help="ours alone at one small size: tries this program")
    parser.add_argument("--end_to_end", action="store_true", help="training on the Genesis biped, beside stock")
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="torch threads on the CPU (default: torch's)"
    )
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="turns of each learner (default 15)")
    parser.add_argument(
        "--learner",
        action="append",
        default=[],
        choices=LEARNERS,
        metavar="NAME",
        help=f"beside ours only this one, repeatable: {'; '.join(LEARNERS[1:])}",
    )
    parser.add_argument("--out", type=path_name, metavar="FILE", help="path of the JSON (default: logs/benchmarks)")
    args = parser.parse_args()
    if args.gpu and not torch.cuda.is_available():
        print("learner.py: --gpu, but torch finds no CUDA device", file=sys.stderr)
        return 1
    device = "cuda" if args.gpu else "cpu"
    if args.threads:
        torch.set_num_threads(args.threads)
    keep_freed_memory()
    machine = describe_machine(torch.device(device))  # before this program may write into the checkout
    out = record_file(args.out, f"{'end_to_end' if args.end_to_end else 'learner'}_{device}")
    if args.end_to_end:
        record = measure_end_to_end(device)
    elif args.tiny:
        tiny = replace(CPU_SIZES[1], n_envs=8, n_steps=4, end_probability=0.01)
        record = {"rounds": 1, "rows": [vars(row) for row in measure(tiny, device, 1, ["ours"])]}
    else:
        rows = []
        for size in GPU_SIZES if args.gpu else CPU_SIZES:
            for chance in ENDS:
                rows.append(measure(replace(size, end_probability=chance), device, args.rounds, args.learner))
                show(rows[-1])
                so_far = {"rounds": args.rounds, "rows": [vars(row) for group in rows for row in group]}
                out.write_text(json.dumps({"machine": machine, **so_far}, indent=2) + "\n")
        for size in STOCK_SIZES if not args.gpu else ():
            rows.append(measure(replace(size, end_probability=0.001), device, args.rounds, args.learner))
            show(rows[-1])
        flat = [row for group in rows for row in group]
        buffer = measure_buffer(learners.LARGE)
        buffer["resident_mib_after_20_and_220_updates"] = measure_growth()
        print("\nbuffer at 2 x 512:", json.dumps(buffer, indent=2))
        record = {"rounds": args.rounds, "rows": [vars(row) for row in flat], "buffer": buffer}
        shown = [row for row in flat if row.end_probability == 0.001 and row.n_minibatches == 4]
        plot(shown, out.with_suffix(".png"))
    out.write_text(json.dumps({"machine": machine, **record}, indent=2) + "\n")
    print(f"written to {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
