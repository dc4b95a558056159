"""A population's history as a picture: who follows whom, with which fitness, and how the settings moved."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from biped.view.figures import make_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3


def draw_lineage(ledger: Path) -> Path:
    """Draw a population's ledger into lineage.png beside it, and return the path.

    Raises:
        OSError: the disk refuses the access.
    """
    content = json.loads(ledger.read_text(encoding="utf-8"))
    generations = [generation["members"] for generation in content["generations"]]
    paths = list(generations[0][0]["settings"])
    rows = 2 + -(-len(paths) // _COLUMNS)
    figure, _ = make_figure(figsize=(4.2 * _COLUMNS, 2.6 * rows), layout="constrained")
    figure.clear()
    grid = figure.add_gridspec(rows, _COLUMNS)
    _draw_family(figure.add_subplot(grid[:2, :2]), generations)
    _draw_fitness(figure.add_subplot(grid[:2, 2:]), content["generations"])
    for place, path in enumerate(paths):
        _draw_setting(figure.add_subplot(grid[2 + place // _COLUMNS, place % _COLUMNS]), generations, path)
    figure.suptitle(f"{ledger.parent.name}: {len(generations[0])} members, {len(generations)} generations")
    out = ledger.with_name("lineage.png")
    part = out.with_name(".lineage.part.png")
    figure.savefig(part, dpi=90)
    part.replace(out)
    return out


def _draw_family(axes: "Axes", generations: list[list[dict[str, Any]]]) -> None:
    ancestors = _ancestors_of_the_best(generations)
    for number, members in enumerate(generations):
        for place, member in enumerate(members):
            if member["parent"] is None:
                continue
            is_kept = member["parent"] == place
            style = {"color": "tab:blue" if is_kept else "tab:orange", "lw": 0.8, "alpha": 0.6}
            if (number, place) in ancestors:
                style = {"color": "black", "lw": 2.2}
            axes.plot([number, number + 1], [member["parent"] + 1, place + 1], zorder=1, **style)
    points = [
        (number + 1, place + 1, member["fitness"])
        for number, members in enumerate(generations)
        for place, member in enumerate(members)
        if member["fitness"] is not None
    ]
    if points:
        x, y, fitness = np.array(points, np.float64).T
        shown = axes.scatter(x, y, c=fitness, cmap="viridis", s=60, zorder=2, edgecolors="black", linewidths=0.5)
        axes.figure.colorbar(shown, ax=axes, label="fitness")
    axes.set(xlabel="generation", ylabel="member", title="blue: goes on; orange: takes over; black: line of the best")
    axes.set_xticks(_ticks(len(generations)))
    axes.set_yticks(range(1, len(generations[0]) + 1))


def _ancestors_of_the_best(generations: list[list[dict[str, Any]]]) -> set[tuple[int, int]]:
    """Return the best member of the last judged generation, and whom it goes back to, as (generation, member)."""
    judged = [n for n, members in enumerate(generations) if any(m["fitness"] is not None for m in members)]
    if not judged:
        return set()
    number = judged[-1]
    fitness = [-1.0 if member["fitness"] is None else member["fitness"] for member in generations[number]]
    place: int | None = int(np.argmax(fitness))
    found: set[tuple[int, int]] = set()
    while place is not None and number >= 0:
        found.add((number, place))
        place, number = generations[number][place]["parent"], number - 1
    return found


def _draw_fitness(axes: "Axes", generations: list[dict[str, Any]]) -> None:
    ended = [generation for generation in generations if generation["ended"] is not None]
    fitness = [[m["fitness"] for m in g["members"] if m["fitness"] is not None] for g in ended]
    x = np.arange(1, len(ended) + 1)
    if ended:
        axes.fill_between(x, [min(f) for f in fitness], [max(f) for f in fitness], alpha=0.25, label="worst to best")
        axes.plot(x, [float(np.mean(f)) for f in fitness], label="mean")
        axes.plot(x, [np.nan if g["validation"] is None else g["validation"] for g in ended], "k--", label="validation")
        axes.legend(loc="lower right")
    axes.set(xlabel="generation", title="fitness: score in the walking gate")
    axes.set_xticks(_ticks(len(generations)))
    axes.grid(alpha=0.3)


def _draw_setting(axes: "Axes", generations: list[list[dict[str, Any]]], path: str) -> None:
    for place in range(len(generations[0])):
        values = [members[place]["settings"][path] for members in generations]
        axes.step(range(1, len(values) + 1), values, where="mid", marker=".", lw=1)
    axes.set(title=path.rpartition(".")[2], xlabel="generation")
    axes.set_xticks(_ticks(len(generations)))
    axes.grid(alpha=0.3)


def _ticks(count: int) -> list[int]:
    return list(range(1, count + 1, max(1, count // 10)))
