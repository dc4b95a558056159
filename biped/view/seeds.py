"""Many seeds of one training as a picture: the score while they trained, and how many have passed."""

import json
from pathlib import Path

import numpy as np

from biped.eval.reliability import held, interquartile_interval, interquartile_mean
from biped.view.figures import make_figure

_POINTS = 200
MILLION = 1e6


def draw_seeds(results: Path) -> Path:
    """Draw the seeds of a file into seeds.png beside it, and return the path.

    Raises:
        OSError: the disk refuses the access.
    """
    seeds = json.loads(results.read_text(encoding="utf-8"))["seeds"]
    figure, (left, right) = make_figure(1, 2, figsize=(12, 4.5), layout="constrained")
    # A training that broke down before its first evaluation has no curve, and counts as 0.
    steps = [step for seed in seeds for step in seed["steps"]] or [0, 1]
    grid = np.linspace(min(steps), max(steps), _POINTS)
    scores = np.stack([held(grid, np.array(seed["steps"]), np.array(seed["scores"])) for seed in seeds])
    for seed in seeds:
        left.plot(np.array(seed["steps"]) / MILLION, seed["scores"], color="gray", lw=0.7, alpha=0.6)
    low, high = interquartile_interval(scores)
    left.fill_between(grid / MILLION, low, high, alpha=0.3, color="tab:blue", label="its 95% interval")
    left.plot(grid / MILLION, interquartile_mean(scores), color="tab:blue", lw=2, label="interquartile mean")
    left.set(xlabel="million environment steps", title="score in the walking gate while training", ylim=(0, 1.03))
    left.legend(loc="lower right")
    first = np.sort([np.inf if seed["first_pass_steps"] is None else seed["first_pass_steps"] for seed in seeds])
    passed = np.searchsorted(first, grid, side="right") / len(seeds)
    right.step(grid / MILLION, passed, where="post", lw=2)
    right.set(xlabel="million environment steps", title="share of the seeds that have passed", ylim=(0, 1.03))
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.suptitle(f"{results.parent.name}: {len(seeds)} seeds")
    out = results.with_name("seeds.png")
    part = out.with_name(".seeds.part.png")
    figure.savefig(part, dpi=90)
    part.replace(out)
    return out
