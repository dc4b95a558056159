"""The Stable-Baselines3 callback of a training run, and the writer that streams its metrics to Weights & Biases.

`BipedCallback` runs the parts of a training around its rollouts: `Rollouts`, `Gate`, `Doctor`, `Log`, `Checkpoints`.
`WandbWriter` works beside TensorBoard's writer and gives every metric its W&B name from the table `METRICS`. wandb is
imported only by `start_wandb`. A failure of wandb is reported once; training continues without delay.
"""

from biped.runs.publishing import Publisher
from biped.runs.wandb_writer import WandbWriter, start_wandb
from biped.train.callback import BipedCallback, Doctor, Gate, Log, Part, Rollouts
from biped.train.checkpoints import Checkpoints
from biped.train.metrics import METRICS

__all__ = [
    "METRICS",
    "BipedCallback",
    "Checkpoints",
    "Doctor",
    "Gate",
    "Log",
    "Part",
    "Publisher",
    "Rollouts",
    "WandbWriter",
    "start_wandb",
]
