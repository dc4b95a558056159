"""Figures without a display and without matplotlib's global state."""

from typing import Any

from matplotlib.figure import Figure

__all__ = ["Figure", "make_figure"]


def make_figure(rows: int = 1, columns: int = 1, **how: Any) -> tuple[Figure, Any]:
    """Return a figure and its axes, as `matplotlib.pyplot.subplots` does.

    Args:
        rows: of axes.
        columns: of axes.
        how: `figsize` and `layout` of the figure; all else is for its `subplots`, such as `sharex`.
    """
    of_figure = {name: how.pop(name) for name in ("figsize", "layout") if name in how}
    figure = Figure(**of_figure)
    return figure, figure.subplots(rows, columns, **how)
