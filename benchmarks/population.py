"""Does a population beat a random search? `python benchmarks/population.py [--repeats 5] [--out FILE.json]`.

Each repeat trains four members twice, with the same settings drawn, the same seeds and the same steps: once over one
generation, which is a random search, and once over several, between which the worst takes over from the best. Both
keep their best member of all by its fitness, and are compared by the score of that member in episodes with other starts
and commands. The task is small: 64 robots, a small network, some twenty minutes per repeat on one core.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.machine import describe_machine, record_file
from biped.base.command_line import exit_code, whole_number
from biped.train.population import PopulationRequest, grow
from biped.train.space import Range
from biped.view.lineage import draw_lineage
from biped_config import PRESETS

MEMBERS, GENERATIONS, STEPS = 4, 4, 480_000
"""Members, generations of the population, and environment steps per member."""
SPACE = (
    Range("ppo.max_learning_rate", 1.5e-3, 1e-2, is_log=True),
    Range("ppo.n_epochs", 1, 8, is_whole=True),
    Range("ppo.desired_kl", 0.001, 0.2, is_log=True),
    Range("ppo.ent_coef", 0.0001, 0.1, is_log=True),
    Range("env.reward.weights.tracking_lin_vel_y", 0.5, 12.0, is_log=True),
    Range("env.reward.weights.tracking_ang_vel", 0.5, 20.0, is_log=True),
)
"""What is varied."""
SMALL = (
    "train.sim=mujoco",
    "train.draw_overview=false",
    "env.num_envs=64",
    "train.eval_episodes=64",
    "policy.hidden_sizes=[64,64]",
    "policy.lstm_hidden_size=64",
    "policy.lstm_layers=1",
)


def run(logs: Path, name: str, generations: int, seed: int) -> dict[str, Any]:
    """Train a population, and return the generation that has its best member of all."""
    settings = (*SMALL, f"train.seed={1000 * seed}")
    config = PRESETS["cpu"]()
    grow(
        PopulationRequest(logs, name, MEMBERS, generations, "cpu", config, SPACE, settings, STEPS, seed),
        draw_lineage,
    )
    ledger = json.loads((logs / name / "population.json").read_text(encoding="utf-8"))
    trained: list[dict[str, Any]] = ledger["generations"]
    return max(trained, key=lambda item: max(member["fitness"] or 0.0 for member in item["members"]))


def main() -> int:
    """Run the repeats, and print and write what came out."""
    parser = argparse.ArgumentParser(description="A population against a random search.")
    parser.add_argument("--repeats", type=whole_number, default=5)
    parser.add_argument("--first", type=whole_number, default=11, help="seed of the first repeat")
    parser.add_argument("--logs", type=Path, help="folder of the runs (default: a temporary one)")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    logs = args.logs or Path(tempfile.mkdtemp(prefix="population-"))
    rows = []
    for seed in range(args.first, args.first + args.repeats):
        search, population = run(logs, f"search-{seed}", 1, seed), run(logs, f"population-{seed}", GENERATIONS, seed)
        rows.append(
            {
                "seed": seed,
                "search": search["validation"],
                "population": population["validation"],
                "search_fitness": [member["fitness"] for member in search["members"]],
                "population_fitness": [member["fitness"] for member in population["members"]],
            }
        )
        row = rows[-1]
        print(f"seed {seed}: random search {row['search']:.3f}, population {row['population']:.3f}", flush=True)
    wins = sum(row["population"] > row["search"] for row in rows)
    print(f"the population is better in {wins} of {len(rows)} repeats")
    sizes = {"members": MEMBERS, "generations": GENERATIONS, "steps": STEPS, "search": [str(item) for item in SPACE]}
    record = {**describe_machine(torch.device("cpu")), **sizes, "repeats": rows}
    record_file(args.out, "population").write_text(json.dumps(record, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("WANDB_MODE", "disabled")
    sys.exit(exit_code("population.py", main))
