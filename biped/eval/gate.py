"""The walking gate: a bar for each figure, and the verdict.

The bars are those of the biped; `gate_of` scales them. Each figure is measured over episodes of one kind: walking
(commanded horizontal speed of at least `WALKING_M_S`), turning on the spot, or standing.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from biped.config.robot import RobotConfig
from biped.config.scale import Scale
from biped.eval import figures as fig
from biped.eval.recording import Bools, Recording


@dataclass(frozen=True)
class Line:
    """One line of the gate."""

    name: str
    """Name of the figure; its key in eval.json."""
    of: Callable[[Recording], Bools]
    """Selects the episodes that count."""
    figure: fig.Figure
    """Computes the figure."""
    unit: str
    """Unit of the figure."""
    low: float = -math.inf
    """Smallest value that passes."""
    high: float = math.inf
    """Largest value that passes."""

    def scaled(self, scale: Scale) -> "Line":
        """Return the line with the bars of a robot of another size."""
        factor = scale.factor(self.unit)
        return self if factor == 1.0 else replace(self, low=self.low * factor, high=self.high * factor)


def _all(record: Recording) -> Bools:
    return np.ones(len(record.command), dtype=bool)


def _that_estimate(record: Recording) -> Bools:
    return _all(record) & (record.estimate.shape[-1] > 0)


TRACKING_BARS = (0.08, 0.08, 0.25)
"""Largest mean absolute errors of vx (m/s), vy (m/s) and yaw rate (rad/s)."""

GATE = (
    Line("survival", _all, fig.survival, "1", low=0.97),
    Line("error_lin_vel_x_m_s", fig.walking, fig.error_lin_vel_x, "m/s", high=TRACKING_BARS[0]),
    Line("error_lin_vel_y_m_s", fig.walking, fig.error_lin_vel_y, "m/s", high=TRACKING_BARS[1]),
    Line("error_ang_vel_rad_s", fig.walking, fig.error_ang_vel, "rad/s", high=TRACKING_BARS[2]),
    Line("alternation", fig.walking, fig.alternation, "1", low=0.97),
    Line("swing_apex_left_m", fig.walking, fig.swing_apex_left, "m", low=0.015),
    Line("swing_apex_right_m", fig.walking, fig.swing_apex_right, "m", low=0.015),
    Line("step_frequency_left_hz", fig.walking, fig.step_frequency_left, "Hz", *fig.STEPPING_HZ),
    Line("step_frequency_right_hz", fig.walking, fig.step_frequency_right, "Hz", *fig.STEPPING_HZ),
    Line("stepping_episodes", fig.walking, fig.stepping, "1", low=0.97),
    Line("duty_factor_left", fig.walking, fig.duty_factor_left, "1", 0.50, 0.80),
    Line("duty_factor_right", fig.walking, fig.duty_factor_right, "1", 0.50, 0.80),
    Line("flight", fig.walking, fig.flight, "1", high=0.02),
    Line("stride_time_difference", fig.walking, fig.stride_time_difference, "1", high=0.10),
    Line("duty_factor_difference", fig.walking, fig.duty_factor_difference, "1", high=0.08),
    Line("stance_slip_m_s", fig.walking, fig.stance_slip, "m/s", high=0.08),
    Line("base_height_deviation_m", fig.walking, fig.base_height_deviation, "m", high=0.03),
    Line("envelope_exceeded", _all, fig.envelope_exceeded, "1", high=0.05),
    Line("turning_survival", fig.turning, fig.survival, "1", low=0.97),
    Line("turning_error_ang_vel_rad_s", fig.turning, fig.error_ang_vel, "rad/s", high=TRACKING_BARS[2]),
    Line("standing_survival", fig.standing, fig.survival, "1", low=0.97),
    Line("standing_drift_m_s", fig.standing, fig.drift, "m/s", high=0.05),
    Line("standing_feet_on_ground", fig.standing, fig.feet_on_ground, "1", low=0.95),
    Line("cost_of_transport", fig.walking, fig.cost_of_transport, "1"),
    Line("estimate_error_velocity_m_s", _that_estimate, fig.estimate_error_velocity, "m/s"),
    Line("estimate_error_height_m", _that_estimate, fig.estimate_error_height, "m"),
)
"""Every figure with its bar. A line without episodes is not judged; a line without a bar is only reported."""


@dataclass(frozen=True)
class Judged:
    """A line of the gate with its result."""

    line: Line
    """The figure and its bar."""
    episodes: int
    """Number of episodes that counted; without any the line is not judged."""
    value: float
    """The figure; NaN if there is nothing to measure."""

    @property
    def passed(self) -> bool:
        """Whether the figure is within the bar, or there is nothing to judge."""
        return self.episodes == 0 or not has_bar(self.line) or self.line.low <= self.value <= self.line.high


@dataclass(frozen=True)
class Verdict:
    """The result of the whole gate."""

    lines: tuple[Judged, ...]
    """The results, in the order of `GATE`."""

    @property
    def passed(self) -> bool:
        """Whether every line is within its bar."""
        return all(judged.passed for judged in self.lines)

    @property
    def score(self) -> float:
        """Mean over the lines with a bar: 1 for a line that passes, otherwise up to 1/2, depending on its distance."""
        judged = [judged for judged in self.lines if judged.episodes and has_bar(judged.line)]
        return float(np.mean([1.0 if line.passed else _nearness(line) for line in judged])) if judged else 1.0

    def figures(self) -> Mapping[str, float]:
        """Return the figures by name, without those that have no episodes."""
        return {judged.line.name: judged.value for judged in self.lines if judged.episodes}


def _nearness(judged: Judged) -> float:
    """Return how close a failed figure is to its bar: 1/2 at the bar, 0 far from it."""
    value, bar = judged.value, judged.line.low if judged.value < judged.line.low else judged.line.high
    if not math.isfinite(value):
        return 0.0
    return 0.5 * max(0.0, 1.0 - abs(value - bar) / abs(bar)) if bar else 0.0


def gate_of(scale: Scale) -> tuple[Line, ...]:
    """Return the gate for a robot of another size than the biped's."""
    return tuple(line.scaled(scale) for line in GATE)


def judge(record: Recording, robot: RobotConfig) -> Verdict:
    """Measure every line of the gate on a recording."""
    lines = []
    for line in gate_of(record.scale):
        chosen = line.of(record)
        count = int(chosen.sum())
        lines.append(Judged(line, count, line.figure(record.episodes(chosen), robot) if count else math.nan))
    return Verdict(tuple(lines))


def as_table(verdict: Verdict) -> str:
    """Return the verdict as a text table."""
    rows = [f"{'figure':30s} {'value':>9s}  {'bar':16s} {'episodes':>8s}"]
    for judged in verdict.lines:
        if judged.episodes:
            mark = "" if judged.passed else "  FAILED"
            unit = "" if judged.line.unit == "1" else f" {judged.line.unit}"
            bar = bar_of(judged.line) + unit if has_bar(judged.line) else "reported"
            rows.append(f"{judged.line.name:30s} {judged.value:9.4f}  {bar:16s} {judged.episodes:8d}{mark}")
    failed = sum(not judged.passed for judged in verdict.lines)
    outcome = "passed" if verdict.passed else f"FAILED in {failed} line{'s' if failed > 1 else ''}"
    return "\n".join([*rows, f"walking gate: {outcome} (score {verdict.score:.3f})"])


def bar_of(line: Line) -> str:
    """Return a line's bar in words, without the unit."""
    if math.isinf(line.low):
        return f"at most {line.high:g}"
    return f"at least {line.low:g}" if math.isinf(line.high) else f"{line.low:g} to {line.high:g}"


def has_bar(line: Line) -> bool:
    """Return whether a line is judged, and not only reported."""
    return math.isfinite(line.low) or math.isfinite(line.high)


def as_json(verdict: Verdict) -> dict[str, Any]:
    """Return the verdict for eval.json: strict JSON, with null for a figure that could not be measured."""
    return {
        "passed": verdict.passed,
        "score": verdict.score,
        "lines": {
            judged.line.name: {
                "value": judged.value if math.isfinite(judged.value) else None,
                "unit": judged.line.unit,
                "low": judged.line.low if math.isfinite(judged.line.low) else None,
                "high": judged.line.high if math.isfinite(judged.line.high) else None,
                "episodes": judged.episodes,
                "passed": judged.passed,
            }
            for judged in verdict.lines
            if judged.episodes
        },
    }
