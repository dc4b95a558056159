"""Environment steps per second of MuJoCo and Genesis, with and without randomisation, in one run.

    python benchmarks/engines.py --out logs/engines.json

`scene.step` is the simulator with its state read back; `env.step` adds observations, rewards and resets. All loops
take turns of one second and get the same small actions; a ratio compares turns of one round.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe_machine
from benchmarks.throughput import ACTION_SIZE, seconds_per_step
from biped.base.command_line import path_name, whole_number
from biped.env.env import BipedEnv, make_env
from biped_config import cpu_preset, randomization_preset

TURN_S = 1.0
CPU = torch.device("cpu")
RATIOS = {
    "MuJoCo over Genesis, scene.step": ("mujoco scene", "genesis scene"),
    "MuJoCo over Genesis, env.step": ("mujoco none", "genesis none"),
    "full over none, Genesis env.step": ("genesis full", "genesis none"),
    "full over none, MuJoCo env.step": ("mujoco full", "mujoco none"),
}
"""Name of a ratio, and the two loops whose steps per second it compares."""


def main() -> int:
    """Measure, print the result, and write it if requested."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--num_envs", type=whole_number, default=256, metavar="N", help="environments (default 256)")
    parser.add_argument("--rounds", type=whole_number, default=15, metavar="N", help="turns of each loop (default 15)")
    parser.add_argument("--out", type=path_name, metavar="FILE", help="path of the JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    result = {"machine": describe_machine(CPU), **measure(args.num_envs, args.rounds)}
    print(json.dumps({name: part for name, part in result.items() if name != "machine"}, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def measure(num_envs: int, rounds: int) -> dict[str, Any]:
    """Let all loops take turns; return their steps per second and the ratios."""
    loops: dict[str, Callable[[int], object]] = {}
    for sim in ("genesis", "mujoco"):
        for level in ("none", "full"):
            cfg = replace(cpu_preset().env, num_envs=num_envs, randomization=randomization_preset(level))
            env = make_env(cfg, sim=sim)
            env.reset(seed=0)
            loops[f"{sim} {level}"] = _env_loop(env)
            if level == "none":
                loops[f"{sim} scene"] = _scene_loop(env)
    steps = {}
    for name, loop in loops.items():
        seconds_per_step(loop, 25, CPU)
        steps[name] = max(5, int(TURN_S / seconds_per_step(loop, 10, CPU)))
    turns = [{name: seconds_per_step(loop, steps[name], CPU) for name, loop in loops.items()} for _ in range(rounds)]
    ratios = {name: [turn[below] / turn[above] for turn in turns] for name, (above, below) in RATIOS.items()}
    return {
        "num_envs": num_envs,
        "rounds": rounds,
        "steps_per_s": {name: round(num_envs / statistics.median(turn[name] for turn in turns)) for name in loops},
        "ratios": {
            name: {
                "median": round(statistics.median(values), 3),
                "low": round(min(values), 3),
                "high": round(max(values), 3),
            }
            for name, values in ratios.items()
        },
    }


def _actions(env: BipedEnv) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [ACTION_SIZE * torch.randn(env.action_space.shape or (), generator=generator) for _ in range(32)]


def _env_loop(env: BipedEnv) -> Callable[[int], object]:
    actions = _actions(env)
    return lambda step: env.step(actions[step % len(actions)])


def _scene_loop(env: BipedEnv) -> Callable[[int], object]:
    default = torch.tensor(env.cfg.robot.default_joint_pos_rad)
    targets = [default + env.cfg.control.action_scale_rad * action for action in _actions(env)]
    return lambda step: env.scene.step(targets[step % len(targets)])


if __name__ == "__main__":
    sys.exit(main())
