"""How far a policy carries: survival over what may differ from the model, one thing at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

HALF = 0.5
"""The push that this share of the episodes survives is the policy's one number."""
HEADED_PUSH_M_S = 0.5
"""Size of the pushes whose heading is varied."""
DISTURBED = ("push", "push_heading")
"""Axes of single disturbances: an episode has several, and each is counted."""
_COLUMNS = 3


@dataclass(frozen=True)
class Axis:
    """One thing that is varied, and the values that it takes."""

    name: str
    """What is varied."""
    unit: str
    """Its unit."""
    nominal: float | None
    """The model's own value; None where it has none."""
    levels: tuple[float, ...]
    """Values, ascending."""


AXES = (
    Axis("friction", "1", 1.0, (0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.2)),
    Axis("added_mass", "share of the robot", 0.0, (-0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4)),
    Axis("strength", "share of the model's", 1.0, (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2)),
    Axis("latency", "control steps", 0.0, (0.0, 1.0, 2.0, 3.0, 4.0)),
    Axis("push", "m/s", 0.0, (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)),
    Axis("push_heading", f"degrees, {HEADED_PUSH_M_S:g} m/s", None, tuple(45.0 * eighth for eighth in range(-3, 5))),
    Axis("noise", "times --randomize full", 0.0, (0.0, 0.5, 1.0, 2.0, 3.0, 4.0)),
    Axis("slope", "degrees", 0.0, (0.0, 2.5, 5.0, 7.5, 10.0)),
    Axis("bumps", "cm", 0.0, (0.0, 1.0, 2.0, 3.0, 4.0)),
)
"""What is swept. On a slope robots walk in all directions. A push heads where it sends the base: 0 straight ahead, 90
to the left; those of the axis `push` head anywhere."""


@dataclass(frozen=True)
class Sweep:
    """Survival over one axis."""

    axis: Axis
    survival: tuple[float, ...]
    """Share of the episodes without a fall, a level."""
    survival_each: tuple[float, ...] | None = None
    """Share of the single disturbances without a fall, a level; None where what is varied holds all the time."""


def sweeps(fell: NDArray[np.bool_], episodes: int, axes: Sequence[Axis] = AXES) -> list[Sweep]:
    """Return survival over each axis.

    Args:
        fell: episodes that ended in a fall, axis by axis, level by level, (levels of all axes × episodes,).
        episodes: of each level.
        axes: what was swept.
    """
    shares = 1.0 - fell.reshape(-1, episodes).mean(axis=1)
    found, first = [], 0
    for axis in axes:
        found.append(Sweep(axis, tuple(float(share) for share in shares[first : first + len(axis.levels)])))
        first += len(axis.levels)
    return found


def survived_each(fell: NDArray[np.bool_], disturbances: NDArray[np.int_], episodes: int) -> tuple[float, ...]:
    """Return the share of single disturbances that did not end in a fall, a level; 1 where there was none.

    Args:
        fell: episodes that ended in a fall, level by level, (levels × episodes,).
        disturbances: how many each episode has seen, likewise.
        episodes: of each level.
    """
    falls, seen = (values.reshape(-1, episodes).sum(axis=1) for values in (fell, disturbances))
    return tuple(
        float(1.0 - min(fall, count) / count) if count else 1.0 for fall, count in zip(falls, seen, strict=True)
    )


def level_survived_by_half(sweep: Sweep) -> float | None:
    """Return the value at which survival first falls through a half, between two levels by a straight line.

    None if it never does.
    """
    levels, shares = sweep.axis.levels, sweep.survival
    for index in range(1, len(levels)):
        if shares[index] < HALF <= shares[index - 1]:
            part = (shares[index - 1] - HALF) / (shares[index - 1] - shares[index])
            return levels[index - 1] + part * (levels[index] - levels[index - 1])
    return None


def as_table(found: Sequence[Sweep]) -> str:
    """Return survival a level, a line an axis, for a terminal."""
    lines = []
    for sweep in found:
        lines.append(f"{sweep.axis.name} ({sweep.axis.unit})")
        lines.append("  " + "".join(f"{level:>8g}" for level in sweep.axis.levels))
        lines.append("  " + "".join(f"{100 * share:>7.0f}%" for share in sweep.survival))
        if sweep.survival_each is not None:
            lines.append("  " + "".join(f"{100 * share:>7.0f}%" for share in sweep.survival_each) + "  of each one")
    half = _half_push(found)
    lines.append(
        "half of the episodes survive pushes of " + ("more than were tried" if half is None else f"{half:.2f} m/s")
    )
    return "\n".join(lines)


def as_json(found: Sequence[Sweep]) -> dict[str, Any]:
    """Return survival a level, by axis, and the push that half of the episodes survive (m/s; None: above all tried)."""
    axes: Mapping[str, Any] = {
        sweep.axis.name: {
            "unit": sweep.axis.unit,
            "levels": sweep.axis.levels,
            "survival": sweep.survival,
            **({"survival_each": sweep.survival_each} if sweep.survival_each else {}),
        }
        for sweep in found
    }
    return {"axes": axes, "half_survive_push_m_s": _half_push(found)}


def _half_push(found: Sequence[Sweep]) -> float | None:
    return next((level_survived_by_half(sweep) for sweep in found if sweep.axis.name == "push"), None)


def plot(found: Sequence[Sweep], title: str, file: Path) -> None:
    """Draw survival over each axis, the model's own value marked.

    Raises:
        OSError: the disk does not let us.
    """
    rows = -(-len(found) // _COLUMNS)
    figure, panels = plt.subplots(rows, _COLUMNS, figsize=(3.2 * _COLUMNS, 2.6 * rows), sharey=True, squeeze=False)
    for panel, sweep in zip(panels.flat, found, strict=False):
        if sweep.axis.nominal is not None:
            panel.axvline(sweep.axis.nominal, color="0.8", linewidth=1)
        panel.axhline(0.95, color="tab:green", linewidth=0.8, linestyle=":")
        panel.plot(sweep.axis.levels, sweep.survival, marker="o", markersize=4)
        if sweep.survival_each is not None:
            panel.plot(sweep.axis.levels, sweep.survival_each, "--", linewidth=1, label="each one")
            panel.legend(fontsize=8, loc="lower left")
        panel.set_xlabel(f"{sweep.axis.name} ({sweep.axis.unit})", fontsize=9)
        panel.set_ylim(-0.03, 1.03)
        panel.grid(alpha=0.3)
    for panel in panels.flat[len(found) :]:
        panel.axis("off")
    for row in panels:
        row[0].set_ylabel("episodes without a fall", fontsize=9)
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    plt.close(figure)
