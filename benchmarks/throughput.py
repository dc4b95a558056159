"""Environment steps per second of `BipedEnv.step` and of a bare Genesis loop of the same scene, in one run.

    python benchmarks/throughput.py            64, 256 and 1024 environments on the CPU
    python benchmarks/throughput.py --gpu      and 4096 and 16384, on the GPU

The bare loop sets joint targets and steps the simulator; it reads no state, resets no robot and computes no reward.
On a GPU a third loop steps the environment as CUDA graphs. All loops get the same small actions, under which every
robot stands, because a robot lying on its side has other contacts and takes another time. The loops take turns, and
ratios compare neighbouring turns, so that slow changes of the machine's speed do not matter. Prints a table and writes
JSON.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe_machine, record_file
from biped.base.command_line import path_name
from biped.base.cuda_graph import CudaGraph
from biped.config.task import EnvConfig
from biped.env.env import BipedEnv
from biped.sim.genesis_scene import GenesisScene
from biped_config import cpu_preset

SIZES, GPU_SIZES = (64, 256, 1024), (64, 256, 1024, 4096, 16384)
ROUNDS = 9
TURN_S = 1.5
"""Duration of each turn (s)."""
ACTION_SIZE = 0.2
"""Standard deviation of the actions: 0.05 rad, with which no robot falls."""


@dataclass(frozen=True)
class Row:
    """The result for one number of environments."""

    num_envs: int
    """Environments stepped in parallel."""
    env_steps_per_s: float
    """Rate of `BipedEnv.step` over all environments, median of the turns (1/s)."""
    bare_steps_per_s: float
    """Rate of the bare loop over all environments, median of the turns (1/s)."""
    ratio: float
    """First rate divided by the second, median over neighbouring turns."""
    ratio_low: float
    """Lowest of those ratios."""
    ratio_high: float
    """Highest of those ratios."""
    graph_steps_per_s: float | None
    """Rate of `BipedEnv.step` as CUDA graphs, median of the turns (1/s); None on the CPU."""


def seconds_per_step(loop: Callable[[int], object], steps: int, device: torch.device) -> float:
    """Return a loop's seconds per step, waiting for the device at both ends."""
    _wait(device)
    start = time.perf_counter()
    for step in range(steps):
        loop(step)
    _wait(device)
    return (time.perf_counter() - start) / steps


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(cfg: EnvConfig, device: torch.device) -> Row:
    """Build the scene and let both loops take turns on it."""
    scene = GenesisScene(cfg, device)
    env = BipedEnv(cfg, scene)
    joints = len(cfg.robot.joint_names)
    generator = torch.Generator(device).manual_seed(0)
    actions = [ACTION_SIZE * torch.randn(cfg.num_envs, joints, generator=generator, device=device) for _ in range(32)]
    default = torch.tensor(cfg.robot.default_joint_pos_rad, device=device)
    targets = [default + cfg.control.action_scale_rad * action for action in actions]

    def full(step: int) -> None:
        env.step(actions[step % len(actions)])

    def bare(step: int) -> None:
        scene.advance(targets[step % len(targets)])

    env.reset(seed=0)
    loops, scenes = [full, bare], [scene]
    if device.type == "cuda":
        scenes += [GenesisScene(cfg, device)]  # its own, because a part of the scene becomes a graph too
        quick = BipedEnv(cfg, scenes[-1])
        quick.use_graphs(CudaGraph)
        quick.reset(seed=0)
        loops += [lambda step: quick.step(actions[step % len(actions)])]
    for loop in loops:
        seconds_per_step(loop, 25, device)
    steps = max(10, int(TURN_S / seconds_per_step(full, 10, device)))
    turns = [[seconds_per_step(loop, steps, device) for loop in loops] for _ in range(ROUNDS)]
    ratios = [bare_s / full_s for full_s, bare_s, *_ in turns]
    rates = [cfg.num_envs / statistics.median(turn) for turn in zip(*turns, strict=True)]
    for built in scenes:
        built.close()
    return Row(
        num_envs=cfg.num_envs,
        env_steps_per_s=rates[0],
        bare_steps_per_s=rates[1],
        ratio=statistics.median(ratios),
        ratio_low=min(ratios),
        ratio_high=max(ratios),
        graph_steps_per_s=rates[2] if len(rates) > 2 else None,
    )


def main() -> int:
    """Measure every size, print the table and write it to a file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gpu", action="store_true", help="measure on the GPU, also with 4096 and 16384 environments")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="N", help="numbers of environments")
    parser.add_argument("--out", type=path_name, metavar="FILE", help="path of the JSON (default: logs/benchmarks)")
    args = parser.parse_args()
    if args.gpu and not torch.cuda.is_available():
        print("throughput.py: --gpu, but torch finds no CUDA device", file=sys.stderr)
        return 1
    device = torch.device("cuda" if args.gpu else "cpu")
    if not args.gpu:
        torch.set_num_threads(cpu_preset().train.torch_threads)

    columns = f"{'BipedEnv.step':>15} {'bare Genesis':>15} {'ratio':>7} {'lowest..highest':>17} {'as graphs':>15}"
    print(f"{'environments':>12} {columns}")
    rows, out, machine = [], record_file(args.out, f"throughput_{device.type}"), describe_machine(device)
    for num_envs in args.sizes or (GPU_SIZES if args.gpu else SIZES):
        row = measure(replace(cpu_preset().env, num_envs=num_envs), device)
        rows.append(row)
        graphs = "-" if row.graph_steps_per_s is None else f"{row.graph_steps_per_s:,.0f}/s"
        print(
            f"{row.num_envs:>12,} {row.env_steps_per_s:>13,.0f}/s {row.bare_steps_per_s:>13,.0f}/s {row.ratio:>7.2f} "
            f"{row.ratio_low:>10.2f}..{row.ratio_high:.2f}     {graphs:>15}",
            flush=True,
        )
        record = {"machine": machine, "rounds": ROUNDS, "rows": [vars(row) for row in rows]}
        out.write_text(json.dumps(record, indent=2) + "\n")
    print(f"written to {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
