"""One recipe, many seeds: `python benchmarks/seeds.py logs/NAME [logs/NAME ...] OUT.png`.

Reads how each run trained (metrics.jsonl) and its evaluations in one engine or in both (`biped_eval.py -e NAME`, with
and without `--sim mujoco`). Prints one row per run as a Markdown table. Draws how the first passes are distributed, and
how near each line of the gate comes to its bar.
"""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from biped.base.errors import UsageError
from biped.runs.directory import RunDirectory
from biped.runs.metrics_log import Curve

ENGINES = {"Genesis": "eval.json", "MuJoCo": "eval_mujoco.json"}
"""Engine to the file of its evaluation."""
SHOWN = {
    "vx": "error_lin_vel_x_m_s",
    "vy": "error_lin_vel_y_m_s",
    "yaw": "error_ang_vel_rad_s",
    "turning": "turning_error_ang_vel_rad_s",
    "duty difference": "duty_factor_difference",
    "velocity known to": "estimate_error_velocity_m_s",
}
"""Columns of the table."""


@dataclass(frozen=True)
class Trained:
    """How a run trained, and its evaluations."""

    name: str
    """The folder."""
    first_pass: float
    """Steps at the first evaluation that passed; infinite where none did."""
    end: float
    """Steps at the end."""
    judged: Mapping[str, Mapping[str, Any]]
    """Engine to the content of its eval.json; at least one."""

    @classmethod
    def read(cls, folder: Path) -> "Trained":
        """Read a run.

        Raises:
            UsageError: it has no metrics, no evaluation in training, or none afterwards.
        """
        curves = evaluated_curves(folder)
        first = first_pass(curves["gate/passed"])
        files = {engine: folder / name for engine, name in ENGINES.items() if (folder / name).is_file()}
        if not files:
            raise UsageError(f"{folder} has no evaluation: python biped_eval.py -e {folder.name}")
        judged = {engine: json.loads(file.read_text(encoding="utf-8")) for engine, file in files.items()}
        return cls(folder.name, first, float(curves["train/kl"].steps[-1]), judged)

    def row(self) -> str:
        """Return the run's row of the table; figures of two engines are divided by a slash."""
        verdicts = [_verdict(self.judged[engine]) if engine in self.judged else "" for engine in ENGINES]
        figures = [
            " / ".join(f"{_value(judged['lines'], line):.3f}" for judged in self.judged.values())
            for line in SHOWN.values()
        ]
        cells = [self.name, millions(self.first_pass), millions(self.end), *verdicts, *figures]
        return f"| {' | '.join(cells)} |"


def evaluated_curves(folder: Path) -> Mapping[str, Curve]:
    """Return the metrics of a run by canonical name.

    Raises:
        UsageError: it has none, or was never evaluated while it trained.
    """
    curves = RunDirectory(folder).read_metrics()
    if "gate/passed" not in curves:
        raise UsageError(f"{folder} has no evaluation in training: train it without train.eval_every_steps=0")
    return curves


def first_pass(passed: Curve) -> float:
    """Return the steps at the first evaluation in training that passed; infinite where none did."""
    found = (float(step) for step, value in zip(passed.steps, passed.values, strict=True) if value)
    return min(found, default=math.inf)


def share_of_bar(line: Mapping[str, Any]) -> float:
    """Return how much of what its bars allow a line of eval.json uses: 1 is just at the bar, more has failed.

    A figure that must be at least its bar uses the bar over the figure; one between two bars the larger of both.
    """
    value, low, high = line["value"], line["low"], line["high"]
    at_most = value / high if high else 0.0
    at_least = (low / value if value > 0 else math.inf) if low else 0.0
    return max(at_most, at_least)


def draw(runs: list[Trained], out: Path) -> None:
    """Draw the distribution of the first passes, and each line of the gate beside its bar."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(13, 6), layout="constrained", gridspec_kw={"width_ratios": [2, 3]}
    )
    steps = np.sort([run.first_pass for run in runs])
    left.step(np.append(0.0, steps) / 1e6, np.arange(len(steps) + 1), where="post", lw=2)
    left.axvline(median(steps) / 1e6, color="black", lw=0.8, ls="--", label=f"median {median(steps) / 1e6:.2f}")
    left.set(xlabel="million environment steps", ylabel="seeds that have passed", ylim=(0, len(steps) + 0.5), xlim=0)
    left.set_title("first pass of the walking gate in training")
    left.legend(loc="upper left")
    lines = next(iter(runs[0].judged.values()))["lines"]
    names = [name for name, line in lines.items() if line["low"] or line["high"]][::-1]
    for offset, (engine, colour) in enumerate(zip(ENGINES, ("tab:blue", "tab:orange"), strict=True)):
        judged = [run.judged[engine]["lines"] for run in runs if engine in run.judged]
        for number, lines in enumerate(judged):
            shares = [share_of_bar(lines[name]) for name in names]
            heights = np.arange(len(names)) + 0.15 - 0.3 * offset
            right.plot(shares, heights, "o", ms=4, alpha=0.6, color=colour, label=None if number else engine)
    right.axvline(1.0, color="black", lw=0.8, ls="--")
    right.set_yticks(range(len(names)), names, fontsize=8)
    right.set(xlabel="share of the bar that is used (1: at the bar)", xlim=0)
    right.set_title("every line of the gate after training, a dot for each seed")
    right.legend(loc="upper left")
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.savefig(out, dpi=90)


def main() -> int:
    """Print the table and draw the picture."""
    if len(sys.argv) < 3:
        print("usage: seeds.py logs/NAME [logs/NAME ...] OUT.png", file=sys.stderr)
        return 2
    *folders, out = sys.argv[1:]
    try:
        runs = [Trained.read(Path(folder)) for folder in folders]
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    columns = ["run", "first pass", "end", *ENGINES, *SHOWN]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for run in runs:
        print(run.row())
    passed = sum(all(judged["passed"] for judged in run.judged.values()) for run in runs)
    steps = [run.first_pass for run in runs]
    print(f"\n{passed} of {len(runs)} pass every evaluation; first pass: median {millions(median(steps))}", end="")
    print(f", latest {millions(max(steps))}")
    draw(runs, Path(out))
    return 0


def _value(lines: Mapping[str, Any], name: str) -> float:
    return lines[name]["value"] if name in lines and lines[name]["value"] is not None else math.nan


def _verdict(judged: Mapping[str, Any]) -> str:
    failed = [name for name, line in judged["lines"].items() if line["passed"] is False]
    return "passed" if judged["passed"] else f"**failed**: {', '.join(failed)}"


def millions(steps: float) -> str:
    """Return steps in millions, or that there are none."""
    return f"{steps / 1e6:.2f} M" if math.isfinite(steps) else "never"


if __name__ == "__main__":
    sys.exit(main())
