"""Draw the learning curves of a run: `python benchmarks/plot_training.py logs/NAME OUT.png`."""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

PANELS = {
    "mean episode length (control steps)": ["rollout/ep_len_mean"],
    "reward terms (1/s)": [
        "rewards/tracking_lin_vel_x",
        "rewards/sinusoidal_gait",
        "rewards/foot_alternation",
        "rewards/tracking_ang_vel",
    ],
    "standard deviation of actions": ["train/std"],
    "KL divergence (nats)": ["train/kl"],
    "learning rate": ["train/learning_rate"],
    "environment steps a second": ["time/fps"],
}


def main() -> int:
    """Draw the panels of the run named on the command line."""
    if len(sys.argv) != 3:
        print("usage: plot_training.py logs/NAME OUT.png", file=sys.stderr)
        return 2
    run, out = Path(sys.argv[1]), sys.argv[2]
    events = EventAccumulator(str(run / "RecurrentPPO_1"), size_guidance={"scalars": 0})
    events.Reload()
    figure, axes = plt.subplots(2, 3, figsize=(14, 6.5), layout="constrained")
    for axis, (title, names) in zip(axes.flat, PANELS.items(), strict=True):
        for name in names:
            curve = events.Scalars(name)
            axis.plot([e.step / 1e6 for e in curve], [e.value for e in curve], label=name.partition("/")[2])
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
        if title == "learning rate":
            axis.set_yscale("log")
        if len(names) > 1:
            axis.legend(fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("million environment steps")
    figure.savefig(out, dpi=90)
    return 0


if __name__ == "__main__":
    sys.exit(main())
