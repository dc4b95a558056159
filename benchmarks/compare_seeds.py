"""Recipes beside each other: `python benchmarks/compare_seeds.py logs/one-1 logs/one-2 logs/two-1 logs/two-2 OUT.png`.

Runs whose names differ only in the number at their end are seeds of one recipe. Prints a Markdown table with one row
per recipe, from metrics.jsonl and, where there is one, the evaluation (`biped_eval.py -e NAME --sim mujoco`, or without
`--sim`). Draws the score in the walking gate while they trained: each seed, and the seeds' interquartile mean with its
interval.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.seeds import ENGINES, evaluated_curves, first_pass, millions
from biped.base.command_line import exit_code
from biped.eval.reliability import held, interquartile_interval, interquartile_mean
from biped.runs.metrics_log import Curve

PARTS = ("time/collection_time", "time/learning_time")
"""What a round consists of, in seconds."""
POINTS = 200
MILLION = 1e6


@dataclass(frozen=True)
class Seed:
    """How one seed trained."""

    name: str
    """The folder."""
    curves: Mapping[str, Curve]
    """Its metrics by canonical name."""
    verdicts: tuple[bool, ...]
    """Whether each of its evaluations passed."""

    @classmethod
    def read(cls, folder: Path) -> "Seed":
        """Read a run.

        Raises:
            UsageError: it was never evaluated while it trained.
        """
        curves = evaluated_curves(folder)
        files = [folder / name for name in ENGINES.values() if (folder / name).is_file()]
        verdicts = tuple(bool(json.loads(file.read_text(encoding="utf-8"))["passed"]) for file in files)
        return cls(folder.name, curves, verdicts)

    @property
    def first_pass(self) -> float:
        """Steps at the first evaluation in training that passed; infinite where none did."""
        return first_pass(self.curves["gate/passed"])

    def seconds(self, *names: str) -> float:
        """Return the time in some parts of all rounds; 0 for parts that it has not."""
        return sum(float(np.nansum(self.curves[name].values)) for name in names if name in self.curves)


def recipe_of(name: str) -> str:
    """Return a run's name without the number at its end."""
    return name.rstrip("0123456789").rstrip("-_") or name


def row(recipe: str, seeds: list[Seed]) -> str:
    """Return the recipe's row of the table."""
    first = [seed.first_pass for seed in seeds]
    speeds = [median(seed.curves["time/fps"].values) for seed in seeds if "time/fps" in seed.curves]
    waits = [seed.seconds("time/waiting_time") / seed.seconds(*PARTS) for seed in seeds]
    judged = [seed for seed in seeds if seed.verdicts]
    cells = [
        recipe,
        str(len(seeds)),
        f"{sum(all(seed.verdicts) for seed in judged)} of {len(judged)}" if judged else "not judged",
        " to ".join(millions(steps) for steps in (min(first), max(first))),
        millions(median(first)),
        f"{min(speeds):,.0f} to {max(speeds):,.0f}" if speeds else "",
        f"{min(waits):.1%} to {max(waits):.1%}" if any(waits) else "",
    ]
    return f"| {' | '.join(cells)} |"


def draw(recipes: Mapping[str, list[Seed]], out: Path) -> None:
    """Draw the scores of all recipes in one diagram."""
    figure, axis = plt.subplots(figsize=(9, 5), layout="constrained")
    for number, (recipe, seeds) in enumerate(recipes.items()):
        scores = [seed.curves["gate/score"] for seed in seeds]
        grid = np.linspace(min(curve.steps[0] for curve in scores), max(curve.steps[-1] for curve in scores), POINTS)
        values = np.stack([held(grid, curve.steps, np.asarray(curve.values, np.float64)) for curve in scores])
        low, high = interquartile_interval(values)
        for curve in scores:
            axis.plot(curve.steps / MILLION, curve.values, color=f"C{number}", lw=0.7, alpha=0.5)
        axis.fill_between(grid / MILLION, low, high, color=f"C{number}", alpha=0.2)
        axis.plot(
            grid / MILLION,
            interquartile_mean(values),
            color=f"C{number}",
            lw=2.5,
            label=f"{recipe}, {len(seeds)} seeds",
        )
    axis.set(xlabel="million environment steps", ylabel="score in the walking gate", ylim=(None, 1.02))
    axis.set_title("each seed, interquartile mean, and its 95% interval", fontsize=10)
    axis.legend(loc="lower right")
    axis.grid(alpha=0.3)
    figure.savefig(out, dpi=90)


def main() -> int:
    """Print the table and draw the picture; for errors see `Seed.read`."""
    if len(sys.argv) < 3:
        print("usage: compare_seeds.py logs/NAME [logs/NAME ...] OUT.png", file=sys.stderr)
        return 2
    *folders, out = sys.argv[1:]
    recipes: dict[str, list[Seed]] = {}
    for folder in folders:
        seed = Seed.read(Path(folder))
        recipes.setdefault(recipe_of(seed.name), []).append(seed)
    columns = ["recipe", "seeds", "pass at the end", "first pass", "median", "steps/s", "waiting for others"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for recipe, seeds in recipes.items():
        print(row(recipe, seeds))
    draw(recipes, Path(out))
    return 0


if __name__ == "__main__":
    sys.exit(exit_code("compare_seeds.py", main))
