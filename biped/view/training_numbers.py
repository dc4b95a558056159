"""The panel of a training's page, as HTML: how far it is, what the gate said, and what each reward term pays."""

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from biped.eval.clip import Clip
from biped.eval.gate import Judged, Line, bar_of, has_bar
from biped.view.steering import AXES

_GOOD, _BAD, _FAINT = "#2b8a3e", "#c92a2a", "#868e96"
_STYLE = "font-size:12.5px;line-height:1.45;color:#212529;padding:2px 10px 8px"
_TICK = 0.012
"""Width of a tick, as a share of its track."""
_TRACK = "position:relative;height:9px;background:#e9ecef;border-radius:2px"


def progress(steps: int, goal: int, per_s: float, row: Mapping[str, float]) -> str:
    """Return how far a training is.

    Args:
        steps: environment steps so far.
        goal: steps at the end.
        per_s: steps per second since the last update; NaN if that is not known.
        row: metrics of the last update.
    """
    share = min(1.0, steps / max(1, goal))
    bar = f'<div style="{_TRACK}">{_part(0.0, share, "#228be6")}</div>'
    numbers = {
        "{:,.0f} steps/s": per_s,
        "return {:.1f}": row.get("episode/mean_return", math.nan),
        "commands {:.0%}": row.get("curriculum/command_share", math.nan),
    }
    said = [text.format(value) for text, value in numbers.items() if math.isfinite(value)]
    return _block(f"{bar}<b>{steps:,}</b> of {goal:,} steps<br>{' · '.join(said)}")


def command(clip: Clip) -> str:
    """Return what the robot was told and what it did, on average over a clip."""
    told = clip.command[-1]
    done = np.mean([*clip.base_lin_vel_b[:, :2].T, clip.base_ang_vel_b[:, -1]], axis=1)
    units = ("m/s", "m/s", "rad/s")
    rows = "".join(
        f"<tr><td>{name}</td><td {_RIGHT}>{wanted:+.2f}</td><td {_RIGHT}>{got:+.2f}</td><td {_DIM}>{unit}</td></tr>"
        for name, wanted, got, unit in zip(AXES, told, done, units, strict=True)
    )
    head = f"<tr {_DIM}><td></td><td {_RIGHT}>command</td><td {_RIGHT}>measured</td><td></td></tr>"
    return _block(f'<table style="width:100%;border-collapse:collapse">{head}{rows}</table>')


_RIGHT, _DIM = 'style="text-align:right"', f'style="color:{_FAINT}"'


def rewards(rates: Mapping[str, float], of_all: Mapping[str, float]) -> str:
    """Return a bar for each reward term.

    Args:
        rates: what each term pays the shown robot, per second.
        of_all: what it pays on average over all robots, per second; a tick on the bar.
    """
    values = [0.0, *rates.values(), *filter(math.isfinite, of_all.values())]
    low, high = min(values), max(*values, 1e-9)
    rows = "".join(_reward(name, rate, of_all.get(name, math.nan), low, high) for name, rate in rates.items())
    total = sum(rates.values())
    head = f"<div><b>{total:+.2f}</b> per second; tick: mean of all robots</div>"
    return _block(head + rows)


def _reward(name: str, rate: float, of_all: float, low: float, high: float) -> str:
    zero, end, mean = ((value - low) / (high - low) for value in (0.0, rate, of_all))
    bar = _part(min(zero, end), abs(end - zero), _GOOD if rate >= 0 else _BAD)
    if math.isfinite(mean):
        bar += _part(mean - 0.5 * _TICK, _TICK, "#212529")
    return (
        '<div style="display:flex;align-items:center;gap:6px">'
        '<span style="flex:0 0 44%;font-size:11px;overflow:hidden;text-overflow:ellipsis">'
        f"{escape(name)}</span>"
        f'<span style="flex:1;{_TRACK}">{bar}</span>'
        f'<span style="flex:0 0 42px;text-align:right">{round(rate, 2) + 0.0:+.2f}</span></div>'
    )


def gate(lines: Sequence[Line], row: Mapping[str, float], steps: int) -> str:
    """Return the newest verdict of the gate.

    Args:
        lines: the gate of the robot's size.
        row: metrics with those of the evaluation.
        steps: environment steps at which it was.
    """
    judged = [
        Judged(line, 1, row[f"gate/{line.name}"]) for line in lines if has_bar(line) and f"gate/{line.name}" in row
    ]
    failed = [line for line in judged if not line.passed]
    colour, verdict = (_BAD, f"{len(failed)} of {len(judged)} lines fail") if failed else (_GOOD, "passed")
    head = f'<div><b style="color:{colour}">{verdict}</b>, score {row["gate/score"]:.2f}, after {steps:,} steps</div>'
    rows = "".join(
        f"<tr><td>{line.line.name}</td><td {_RIGHT}>{_number(line.value)}</td>"
        f"<td {_DIM}>&nbsp;{bar_of(line.line)}</td></tr>"
        for line in failed
    )
    return _block(f'{head}<table style="width:100%;border-collapse:collapse">{rows}</table>')


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "none"  # nothing could be measured, such as no step


def note(text: str) -> str:
    """Return a faint line."""
    return _block(f"<span {_DIM}>{escape(text)}</span>")


def _part(start: float, width: float, colour: str) -> str:
    """Return a part of a track; from 0 to 1."""
    place = f"left:{100 * start:.1f}%;width:{100 * width:.1f}%"
    return f'<span style="position:absolute;top:0;bottom:0;{place};background:{colour}"></span>'


def _block(content: str) -> str:
    return f'<div style="{_STYLE}">{content}</div>'
