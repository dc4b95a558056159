"""A run on one page: `python -m biped curves logs/NAME [--out overview.png]`, drawn from metrics.jsonl."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from biped.base.errors import UsageError, disk_error
from biped.config.scale import BIPED, Scale
from biped.eval.gate import gate_of
from biped.runs.directory import RunDirectory
from biped.runs.metrics_log import Curve
from biped.view.figures import make_figure
from biped.view.smoothing import moving_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMOOTHING = 1 / 60
"""Width of the moving mean for curves with one point per rollout, as a share of the run."""
MILLION = 1e6


@dataclass(frozen=True)
class Panel:
    """One diagram of the page."""

    title: str
    """Title of the diagram, with the unit."""
    names: tuple[str, ...]
    """Canonical names of the metrics; a name that ends in / stands for all metrics with that prefix."""
    is_log: bool = False
    """Whether the y axis is logarithmic."""


PANELS = (
    Panel("episode return", ("rollout/ep_rew_mean",)),
    Panel("episode length (control steps)", ("rollout/ep_len_mean",)),
    Panel("walking gate: score and successful trials", ("gate/score", "eval/success_rate")),
    Panel("reward terms (1/s)", ("rewards/",)),
    Panel("velocity errors in the gate (m/s)", ("gate/error_lin_vel_x_m_s", "gate/error_lin_vel_y_m_s")),
    Panel("yaw rate errors in the gate (rad/s)", ("gate/error_ang_vel_rad_s", "gate/turning_error_ang_vel_rad_s")),
    Panel("why episodes end (share)", ("terminations/",)),
    Panel("curriculum", ("curriculum/command_share", "curriculum/progress")),
    Panel("KL divergence (nats)", ("train/kl",), is_log=True),
    Panel("learning rate", ("train/learning_rate",), is_log=True),
    Panel("losses and explained variance", ("train/value_loss", "train/explained_variance")),
    Panel("seconds per rollout", ("time/collection_time", "time/learning_time")),
)
"""The diagrams of the page, row by row."""
STYLE_PANELS = (
    Panel("what the discriminator knows (share)", ("info/disc_agent_acc", "info/disc_demo_acc")),
    Panel("what the style pays", ("info/disc_reward_mean", "info/disc_reward_std")),
    Panel("the discriminator's loss and gradient penalty", ("losses/disc_loss", "info/disc_grad_penalty")),
)
"""The last row of a run with a style (`biped.ppo.style`)."""

_COLUMNS = 3


def draw(curves: Mapping[str, Curve], title: str, out: Path, scale: Scale = BIPED) -> None:
    """Draw the page.

    Args:
        curves: a run's metrics by canonical name; diagrams without metrics stay empty.
        title: title of the page.
        out: path of the PNG.
        scale: the robot's size, by which the bars are scaled.

    Raises:
        MachineError: the disk refuses the write.
    """
    bars = {f"gate/{line.name}": line.high for line in gate_of(scale) if np.isfinite(line.high)}
    panels = PANELS + (STYLE_PANELS if "losses/disc_loss" in curves else ())
    rows = -(-len(panels) // _COLUMNS)
    figure, axes = make_figure(rows, _COLUMNS, figsize=(15, 3.4 * rows))
    # A layout that Matplotlib finds by itself takes as long as the whole drawing.
    figure.subplots_adjust(left=0.05, right=0.99, bottom=0.05, top=0.94, wspace=0.18, hspace=0.25)
    for axis, panel in zip(axes.flat, panels, strict=True):
        _draw_panel(axis, panel, curves, bars)
    figure.suptitle(title)
    figure.supxlabel("million environment steps")
    try:
        figure.savefig(out, dpi=80)
    except OSError as error:
        raise disk_error(out, error, "--out") from error


def _draw_panel(axis: "Axes", panel: Panel, curves: Mapping[str, Curve], bars: Mapping[str, float]) -> None:
    names = [name for asked in panel.names for name in curves if name == asked or (asked[-1] == "/" and asked in name)]
    for number, name in enumerate(names):
        curve, is_rare = curves[name], name.startswith(("gate/", "eval/"))
        values = (
            curve.values if is_rare else moving_mean(curve.values, max(1, round(len(curve.values) * SMOOTHING)) | 1)
        )
        # The colour cycle has ten colours; the next ten lines are dashed.
        style = "o-" if is_rare else ("-", "--")[number // 10 % 2]
        label = name.split("/", 1)[1]
        (line,) = axis.plot(curve.steps / MILLION, values, style, ms=3, lw=1.2, label=label)
        if name in bars:
            axis.axhline(bars[name], color=line.get_color(), lw=0.8, ls=":")
    axis.set_title(panel.title, fontsize=10)
    if not names:
        axis.set(xticks=[], yticks=[])
        return
    axis.grid(alpha=0.3)
    if panel.is_log:
        axis.set_yscale("log")
    if len(names) > 6:  # room for the legend
        low, high = axis.get_ylim()
        axis.set_ylim(low, high + 0.6 * (high - low))
    if len(names) > 1:
        axis.legend(fontsize=6, ncols=3 if len(names) > 6 else 1)


def draw_run(run: RunDirectory, out: Path | None = None) -> Path:
    """Draw a run's page to `out`, or to overview.png in its directory; return the path.

    Raises:
        UsageError: the run has no metrics.
        MachineError: the disk refuses the write.
    """
    curves = run.read_metrics()
    if not curves:
        raise UsageError(f"{run.metrics} holds no metrics yet: train for a rollout first")
    out = run.overview if out is None else out
    last = max(int(curve.steps[-1]) for curve in curves.values())
    draw(curves, f"{run.path.name}: {last:,} environment steps", out, _scale_of(run))
    return out


def _scale_of(run: RunDirectory) -> Scale:
    """Return the size of a run's robot; the biped's where the run has no configuration that can be read."""
    try:
        return Scale.of(run.read_config().env.robot.leg_length_m)
    except (OSError, UsageError):
        return BIPED
