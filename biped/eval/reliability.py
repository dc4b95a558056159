"""What several seeds say about a recipe: interquartile mean and intervals instead of the best one's points.

After Agarwal et al. 2021 (arXiv:2108.13264), whose library is rliable.
"""

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
"""Bootstrap samples of an interval."""


def share_interval(passed: int, count: int) -> tuple[float, float]:
    """Return the 95% interval of a share of `count` seeds (Wilson 1927)."""
    from scipy.stats import binomtest  # here, because it takes longer than most commands that draw nothing

    interval = binomtest(passed, count).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def interquartile_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of the middle half: a quarter of the seeds is left out at either end, rounded down.

    Args:
        values: (seeds, ...).

    Returns:
        (...,).
    """
    from scipy.stats import trim_mean

    return np.asarray(trim_mean(values, 0.25, axis=0), np.float64)


def interquartile_interval(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the 95% interval of the interquartile mean: bounds of a percentile bootstrap over the seeds.

    Args:
        values: (seeds, points). All points of a seed are drawn together.

    Returns:
        Lower and upper bound, (points,) each.
    """
    dice = np.random.default_rng(0)  # the same table each time
    drawn = dice.integers(len(values), size=(RESAMPLES, len(values)))
    means = interquartile_mean(np.moveaxis(values[drawn], 1, 0))
    low, high = np.quantile(means, (0.025, 0.975), axis=0)
    return low, high


def held(grid: NDArray[np.float64], steps: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a curve's last value at or before each point of a grid, its first value before that; 0 without values.

    A training that has passed and ended early keeps its last value.

    Args:
        grid: (points,).
        steps: (evaluations,), ascending.
        values: (evaluations,).

    Returns:
        (points,).
    """
    if not len(steps):
        return np.zeros_like(grid)
    return values[np.maximum(np.searchsorted(steps, grid, side="right") - 1, 0)]
