"""Matplotlib figures without a display and without global state."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["make_figure"]


def make_figure(rows: int = 1, columns: int = 1, **how: Any) -> "tuple[Figure, Any]":
    """Return a figure and its axes, like `matplotlib.pyplot.subplots`.

    Args:
        rows: number of rows of axes.
        columns: number of columns of axes.
        how: `figsize` and `layout` of the figure; other arguments go to its `subplots`, such as `sharex`.
    """
    from matplotlib.figure import Figure  # here, because commands that draw nothing would wait for it

    of_figure = {name: how.pop(name) for name in ("figsize", "layout") if name in how}
    figure = Figure(**of_figure)
    return figure, figure.subplots(rows, columns, **how)
