"""The moving mean used for curves, rewards and cameras."""

import numpy as np
from numpy.typing import NDArray


def moving_mean(values: NDArray[np.floating], width: int) -> NDArray[np.float64]:
    """Return the centred moving mean over time, without non-finite values; windows are truncated at the ends.

    Args:
        values: values over time, (steps, ...).
        width: width of the window (steps), at most all steps.
    """
    known = np.isfinite(values)
    kernel = np.ones(max(1, min(width, len(values))))

    def summed(column: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.convolve(column, kernel, mode="same")

    total = np.apply_along_axis(summed, 0, np.where(known, values, 0.0).astype(np.float64))
    count = np.apply_along_axis(summed, 0, known.astype(np.float64))
    return np.divide(total, count, out=np.full(values.shape, np.nan), where=count > 0.5)
