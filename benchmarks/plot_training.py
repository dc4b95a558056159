"""Draw the learning curves of runs: `python benchmarks/plot_training.py logs/NAME [logs/NAME ...] OUT.png`."""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from biped.runs.directory import RunDirectory

PANELS = {
    "score in the walking gate": "gate/score",
    "mean episode length (control steps)": "rollout/ep_len_mean",
    "foot_alternation (1/s)": "rewards/foot_alternation",
    "error of vx in the gate (m/s)": "gate/error_lin_vel_x_m_s",
    "error of vy in the gate (m/s)": "gate/error_lin_vel_y_m_s",
    "error of the yaw rate in the gate (rad/s)": "gate/error_ang_vel_rad_s",
    "standard deviation of actions": "train/std",
    "KL divergence (nats)": "train/kl",
    "learning rate": "train/learning_rate",
}
BARS = {"gate/error_lin_vel_x_m_s": 0.08, "gate/error_lin_vel_y_m_s": 0.08, "gate/error_ang_vel_rad_s": 0.25}
"""Bars of the gate, drawn in the panels that have one."""


def main() -> int:
    """Draw the panels, with one line for each run on the command line."""
    if len(sys.argv) < 3:
        print("usage: plot_training.py logs/NAME [logs/NAME ...] OUT.png", file=sys.stderr)
        return 2
    *runs, out = sys.argv[1:]
    figure, axes = plt.subplots(3, 3, figsize=(14, 9.5), layout="constrained")
    for run in map(Path, runs):
        curves = RunDirectory(run).read_metrics()
        for axis, name in zip(axes.flat, PANELS.values(), strict=True):
            if name in curves:
                dots = "o-" if name.startswith("gate/") else "-"
                axis.plot(curves[name].steps / 1e6, curves[name].values, dots, ms=3, label=run.name)
    for axis, (title, name) in zip(axes.flat, PANELS.items(), strict=True):
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
        if name in BARS:
            axis.axhline(BARS[name], color="black", lw=0.8, ls="--")
    axes[2, 2].set_yscale("log")
    axes[0, 0].legend(fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("million environment steps")
    figure.savefig(out, dpi=90)
    return 0


if __name__ == "__main__":
    sys.exit(main())
