"""What policies survive, against the bars: `python benchmarks/robust_seeds.py MODEL.zip [MODEL.zip ...]`.

Runs, in both engines, those levels of `biped_eval.py --robustness` that have a bar: friction 0.4 and 1.2, a fifth of
the robot's mass more and less, motors of 80% and 120%, actions two steps late, bumps of 2 cm, a slope of 5 degrees, and
pushes of 0.5 m/s, by their heading and anywhere. Prints two Markdown tables, of all and of the headings, and writes all
figures to --out. A pushed episode has three pushes, and each is counted. The gate is `biped_eval.py`'s.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe_machine, record_file
from biped.base.command_line import path_name, whole_number
from biped.base.errors import MachineError, UsageError
from biped.config.scale import scale_of
from biped.env.env import make_env
from biped.eval import robustness
from biped.eval.robustness import Axis, Sweep
from biped.runs.models import find_model
from biped.train.learner import load_agent
from biped_config import randomization_preset

BAR = 0.95
"""Least share of the episodes, or of the single pushes, that must be survived."""
LEVELS: Mapping[str, tuple[int, ...]] = {
    "friction": (2, 6),
    "added_mass": (0, 4),
    "strength": (3, 6),
    "latency": (2,),
    "bumps": (2,),
    "slope": (2,),
    "push": (2,),
}
"""Axis to the places of the levels that have a bar; of the headings all have one."""
ENGINES = {"genesis": "Genesis", "mujoco": "MuJoCo"}


def barred(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """Return the axes with those levels alone that have a bar."""
    chosen = {axis.name: LEVELS.get(axis.name, range(len(axis.levels))) for axis in axes}
    return tuple(
        replace(axis, levels=tuple(axis.levels[place] for place in chosen[axis.name]))
        for axis in axes
        if axis.name != "noise"
    )


def survived(model: Path, sim: str, episodes: int, seed: int) -> list[Sweep]:
    """Run a policy through all levels.

    Raises:
        UsageError: there is no such model.
    """
    _, run = find_model(model, Path("logs"), "")
    config = run.read_config()
    axes = barred(robustness.scaled_axes(scale_of(config.env.robot)))
    cfg = robustness.robustness_config(config.env, episodes, axes)
    env = make_env(cfg, "cpu", sim=sim)
    noise = randomization_preset("full").noise
    found = robustness.run_robustness(env, load_agent(config, env, model), episodes, seed, noise, axes)
    env.close()
    return found


def table(results: Mapping[str, list[Sweep]], headings: bool) -> str:
    """Return the figures as a Markdown table: of all axes but the headings, or of the headings. Misses are bold.

    The columns name the levels of the first policy's robot; a robot of another size has others in proportion.
    """
    first = [sweep.axis for sweep in next(iter(results.values())) if (sweep.axis.name == "push_heading") == headings]
    columns = [f"{'' if headings else axis.name + ' '}{level:g}" for axis in first for level in axis.levels]
    lines = [f"| policy | {' | '.join(columns)} |", f"|{'---|' * (len(columns) + 1)}"]
    for name, found in results.items():
        shares = [
            share
            for sweep in found
            if (sweep.axis.name == "push_heading") == headings
            for share in (sweep.survival_each or sweep.survival)
        ]
        cells = [f"{100 * share:.1f}%" if share >= BAR else f"**{100 * share:.1f}%**" for share in shares]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def make_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(description="Judge what policies survive against the bars.")
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.zip", help="a policy in its run's folder")
    parser.add_argument(
        "--sim", nargs="+", choices=tuple(ENGINES), default=list(ENGINES), help="engines (default both)"
    )
    parser.add_argument("--episodes", type=whole_number, default=256, metavar="N", help="per level (default 256)")
    parser.add_argument("--seed", type=int, default=0, help="of starts, commands and pushes (default 0)")
    parser.add_argument("--out", type=path_name, metavar="FILE", help="record of all figures (default among the logs)")
    return parser


def main() -> int:
    """Run all policies; print the tables and write the record."""
    args = make_parser().parse_args()
    results: dict[str, list[Sweep]] = {}
    record: dict[str, Any] = {"bar": BAR, "episodes": args.episodes, "seed": args.seed, "policies": {}}
    try:
        for model in args.models:
            for sim in args.sim:
                name = f"{model.parent.name}/{model.stem}, {ENGINES[sim]}"
                results[name] = survived(model, sim, args.episodes, args.seed)
                record["policies"][name] = robustness.as_json(results[name])["axes"]
                print(f"{name} done", file=sys.stderr, flush=True)
    except (UsageError, MachineError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    print(f"{table(results, headings=False)}\n\n{table(results, headings=True)}")
    record = {"machine": describe_machine(torch.device("cpu")), **record}
    record_file(args.out, "robust_seeds").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
