"""Styled trainings beside plain ones: `python benchmarks/style_seeds.py logs/plain-1 logs/styled-1 OUT.png`.

Prints a Markdown table with a row for each run, from metrics.jsonl, its evaluation (`biped_eval.py -e NAME --sim
mujoco`, or without `--sim`), and 6 s of its last policy in MuJoCo, told to do what the clip does: how far its joints
are from the clip on average, by dynamic time warping. Draws the accuracies of the discriminators while they learned.
`--film FILE.mp4` shows the first run and the last side by side.
"""

import argparse
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import fmean

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.compare_seeds import MILLION, Seed
from benchmarks.seeds import millions
from biped.base.command_line import exit_code, film_name
from biped.base.shipped import ASSETS
from biped.eval.motion import distances_rad
from biped.eval.recording import Recording
from biped.robot.motion_files import clip_of
from biped.runs.models import find_model
from biped.train.learner import load_agent
from biped.view.film import film
from biped.view.motion import RecordRequest, record_episode, record_policy
from biped.view.smoothing import moving_mean

COMPARED_S = 6.0
"""Length of what is compared (s)."""
ACCURACIES = {"robots": "info/disc_agent_acc", "clips": "info/disc_demo_acc"}
"""What a discriminator tells right."""
LOW, HIGH = 0.5, 0.95
"""Where accuracies are to be: above, it wins; below, it knows nothing."""
SMOOTHED = 15
"""Rounds of the moving mean in the picture."""


@dataclass(frozen=True)
class Row:
    """One run."""

    seed: Seed
    """How it trained."""
    distance_rad: float
    """Mean distance of its joints to the clip."""

    @classmethod
    def read(cls, folder: Path, clip: Path, command: tuple[float, float, float]) -> "Row":
        """Read a run, and let its last policy move.

        Raises:
            UsageError: it has no evaluations or no model, or its robot falls.
            MachineError: MuJoCo is missing.
        """
        done = record_policy(request_of(folder, command), load_agent)
        dt_s = done.length_s / (len(done) - 1)
        far = distances_rad(clip_of(str(clip.resolve()), done.joint_names, dt_s), done)
        return cls(Seed.read(folder), fmean(far.values()))

    def ranges(self) -> list[str]:
        """Return the range of each accuracy over the last half of the steps; empty without a style."""
        found = []
        for name in ACCURACIES.values():
            if name in self.seed.curves:
                curve = self.seed.curves[name]
                late = curve.values[curve.steps > curve.steps[-1] / 2]
                found.append(f"{np.nanmin(late):.2f} to {np.nanmax(late):.2f}")
            else:
                found.append("")
        return found

    def cells(self) -> list[str]:
        """Return the run's row of the table."""
        verdict = ("passed" if all(self.seed.verdicts) else "**failed**") if self.seed.verdicts else "not judged"
        end = float(self.seed.curves["gate/score"].steps[-1])
        steps = [millions(self.seed.first_pass), millions(end)]
        return [self.seed.name, *steps, verdict, f"{self.distance_rad:.4f}", *self.ranges()]


def request_of(run: Path, command: tuple[float, float, float]) -> RecordRequest:
    """Return the request for what a run's last policy does.

    Raises:
        UsageError: it has no model.
    """
    model, _ = find_model(None, run.parent, run.name)
    return RecordRequest(model, run.parent, command, COMPARED_S)


def side_by_side(first: Recording, second: Recording) -> Recording:
    """Return the episodes of two recordings of one robot in one; the rewards, which may differ, are those of the first.

    The shorter one's length counts.
    """
    steps = min(len(first.running), len(second.running))
    parts = {**vars(first), "rewards": np.repeat(first.rewards[:steps], 2, axis=1)}
    for name in ("command", "fell"):
        parts[name] = np.concatenate((getattr(first, name), getattr(second, name)))
    for item in fields(first):
        values = getattr(first, item.name)
        if isinstance(values, np.ndarray) and item.name not in ("command", "fell", "rewards", "reward_names"):
            parts[item.name] = np.concatenate((values[:steps], getattr(second, item.name)[:steps]), axis=1)
    return Recording(**parts)


def draw(rows: list[Row], out: Path) -> None:
    """Draw the accuracies of all discriminators."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True, layout="constrained")
    for axis, (kind, name) in zip(axes, ACCURACIES.items(), strict=True):
        for row in rows:
            if name in row.seed.curves:
                curve = row.seed.curves[name]
                axis.plot(curve.steps / MILLION, moving_mean(curve.values, SMOOTHED), label=row.seed.name)
        axis.axhspan(LOW, HIGH, color="black", alpha=0.06)
        axis.set(title=f"share of the {kind}' steps that it tells right", xlabel="million environment steps")
        axis.set_ylim(0.4, 1.02)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(out, dpi=90)


def main() -> int:
    """Print the table and draw the picture; for errors see `Row.read`."""
    parser = argparse.ArgumentParser(description="Styled trainings beside plain ones.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="logs/NAME", help="run folders")
    parser.add_argument("out", type=Path, metavar="OUT.png")
    parser.add_argument("--clip", type=Path, default=ASSETS / "motions" / "walk.csv", help="what is compared with")
    parser.add_argument("--command", type=float, nargs=3, default=[0.4, 0.0, 0.0], help="m/s, m/s, rad/s of the clip")
    parser.add_argument("--film", type=film_name, metavar="FILE", help="the first run and the last, .mp4 or .gif")
    args = parser.parse_args()
    command = (args.command[0], args.command[1], args.command[2])
    rows = [Row.read(run, args.clip, command) for run in args.runs]
    columns = [
        "run",
        "first pass",
        "end",
        "gate",
        "from the clip (rad)",
        *(f"{kind} told right" for kind in ACCURACIES),
    ]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(row.cells())} |")
    draw(rows, args.out)
    if args.film is not None:
        ends = (args.runs[0], args.runs[-1])
        (first, config), (last, _) = (record_episode(request_of(run, command), load_agent) for run in ends)
        film(side_by_side(first, last), config, args.film, flag="--film")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code("style_seeds.py", main))
