"""Does the CPU preset still learn to walk as it did? `make nightly`, or `python benchmarks/nightly.py`.

Trains it from scratch in MuJoCo with a fixed seed, evaluates it in the walking gate, and compares: every line of the
gate with its bar, and the figures of `TEN_SEEDS` with what ten seeds gave. Prints all figures as a Markdown table, then
one line per figure outside of its range.

    python benchmarks/nightly.py                          train, evaluate and compare
    python benchmarks/nightly.py -- --num_envs 64         with flags for biped_train.py
    python benchmarks/nightly.py --run logs/walk          only compare a run that was evaluated with --sim mujoco

Exit codes: 0 all within, 3 a figure is not, 1 the machine cannot do it, 2 wrong usage.
"""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from biped.base.command_line import LOGS, OneLineParser, exit_code, path_name, run_name, seed_number, whole_number
from biped.base.errors import MachineError, UsageError, say
from biped.runs.directory import RunDirectory

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = 3
"""Exit code where a figure is outside of its range; also that of a failed gate in `biped_eval.py`."""
SEED = 1
JUDGED = "eval_mujoco.json"
"""What `biped_eval.py --sim mujoco` writes into the run's folder."""
FIRST_PASS, END = "first_pass_steps", "end_steps"
TEN_SEEDS: Mapping[str, tuple[float, float]] = {
    FIRST_PASS: (2.25e6, 2.75e6),
    END: (3.0e6, 3.5e6),
    "error_lin_vel_x_m_s": (0.032, 0.046),
    "error_lin_vel_y_m_s": (0.040, 0.064),
    "error_ang_vel_rad_s": (0.130, 0.201),
    "turning_error_ang_vel_rad_s": (0.106, 0.170),
    "duty_factor_difference": (0.022, 0.071),
    "estimate_error_velocity_m_s": (0.020, 0.023),
}
"""Least and most of seeds 1 to 10 in MuJoCo: the table of docs/training.md, which a test compares."""
SLACK = 0.5
"""How far a figure may lie beyond the ten seeds, in widths of their range.

Another processor rounds otherwise, and is as good as another seed. An eleventh seed may lie a little beyond ten.
"""


@dataclass(frozen=True)
class Figure:
    """One figure and the range that it has to be in."""

    name: str
    value: float
    """NaN where there is none."""
    low: float
    high: float
    source: str
    """Where the range is from."""

    @property
    def is_within(self) -> bool:
        """Whether it is in its range; NaN is not."""
        return self.low <= self.value <= self.high

    @property
    def range(self) -> str:
        """The range in words."""
        if math.isinf(self.high):
            return f"at least {number(self.low)}"
        return f"at most {number(self.high)}" if math.isinf(self.low) else f"{number(self.low)} to {number(self.high)}"

    def row(self) -> str:
        """Return its row of the table."""
        said = number(self.value) if self.is_within else f"**{number(self.value)}**"
        return f"| {self.name} | {said} | {self.range} | {self.source} |"

    def complaint(self) -> str:
        """Return the line that says that it is outside."""
        return f"out of range: {self.name} is {number(self.value)}, not {self.range} ({self.source})"


def number(value: float) -> str:
    """Format a figure; steps in millions."""
    if math.isnan(value):
        return "missing"
    if math.isinf(value):
        return "never"
    return f"{value / 1e6:.2f} M" if value >= 1e4 else f"{value:.3f}"


def widened(low: float, high: float) -> tuple[float, float]:
    """Return the range of the ten seeds with its slack; no figure here is below zero."""
    slack = SLACK * (high - low)
    return max(0.0, low - slack), high + slack


def figures_of(run: RunDirectory) -> list[Figure]:
    """Return what a run gave beside its ranges.

    Raises:
        UsageError: it has no metrics, or was not evaluated in MuJoCo.
    """
    try:
        lines = json.loads((run.path / JUDGED).read_text(encoding="utf-8"))["lines"]
    except FileNotFoundError as error:
        raise UsageError(f"{run.path} has no {JUDGED}: python biped_eval.py -e {run.path.name} --sim mujoco") from error
    values = {**_of_training(run), **{name: _value(line) for name, line in lines.items()}}
    return [*_beside_the_seeds(values), *_beside_the_bars(lines)]


def _of_training(run: RunDirectory) -> dict[str, float]:
    """Return after how many steps the gate passed first in training, and where training ended."""
    curves = run.read_metrics()
    passed = curves.get("gate/passed")
    pairs = () if passed is None else zip(passed.steps, passed.values, strict=True)
    last = max((curve.steps[-1] for curve in curves.values()), default=math.nan)
    return {FIRST_PASS: float(min((step for step, value in pairs if value), default=math.inf)), END: float(last)}


def _beside_the_seeds(values: Mapping[str, float]) -> Iterator[Figure]:
    for name, seeds in TEN_SEEDS.items():
        yield Figure(name, values.get(name, math.nan), *widened(*seeds), "ten seeds")


def _beside_the_bars(lines: Mapping[str, Mapping[str, Any]]) -> Iterator[Figure]:
    for name, line in lines.items():
        low, high = line["low"], line["high"]
        if low is not None or high is not None:
            bars = (-math.inf if low is None else low, math.inf if high is None else high)
            yield Figure(name, _value(line), *bars, "the gate")


def _value(line: Mapping[str, Any]) -> float:
    return math.nan if line["value"] is None else float(line["value"])


def train_and_evaluate(args: argparse.Namespace) -> RunDirectory:
    """Train and evaluate in processes of their own, as a person does.

    Raises:
        MachineError: one of them failed.
    """
    where = ["-e", args.exp_name, "--log_dir", str(args.log_dir.absolute())]
    fixed = ["--preset", "cpu", "--sim", "mujoco", "--seed", str(args.seed), "--wandb_mode", "disabled", "--new_run"]
    _run("biped_train.py", *where, *fixed, *args.training)
    run = RunDirectory.open(args.log_dir, args.exp_name)
    judging = ["--sim", "mujoco", "--episodes", str(args.episodes), "--out", str((run.path / JUDGED).absolute())]
    _run("biped_eval.py", *where, *judging, may_end_with=(0, OUTSIDE))
    return run


def _run(script: str, *words: str, may_end_with: tuple[int, ...] = (0,)) -> None:
    ended = subprocess.run([sys.executable, str(ROOT / script), *words], cwd=ROOT, check=False)
    if ended.returncode not in may_end_with:
        raise MachineError(f"{script} ended with exit code {ended.returncode}: what it printed above says why")


def make_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = OneLineParser(prog="nightly.py", description="Train the CPU preset and compare it with ten seeds.")
    add = parser.add_argument
    add("--run", type=path_name, metavar="DIR", help="compare this run only, which was evaluated in MuJoCo")
    add("-e", "--exp_name", type=run_name, default="nightly", metavar="NAME", help="the run (default nightly)")
    add("--log_dir", type=path_name, default=LOGS, metavar="DIR", help=f"the folder of all runs (default {LOGS})")
    add("--seed", type=seed_number, default=SEED, metavar="N", help=f"seed of the training (default {SEED})")
    add("--episodes", type=whole_number, default=256, metavar="N", help="of the evaluation (default 256)")
    add("training", nargs="*", metavar="FLAG", help="flags for biped_train.py, after --")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = make_parser().parse_args(argv)

    def command() -> int | None:
        run = train_and_evaluate(args) if args.run is None else RunDirectory(args.run)
        figures = figures_of(run)
        say("\n".join(["| figure | value | range | from |", "|---|---|---|---|", *(each.row() for each in figures)]))
        outside = [figure for figure in figures if not figure.is_within]
        for figure in outside:
            print(figure.complaint(), file=sys.stderr, flush=True)
        return OUTSIDE if outside else None

    return exit_code("nightly.py", command)


if __name__ == "__main__":
    sys.exit(main())
