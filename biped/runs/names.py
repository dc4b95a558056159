"""One quantity under one name per sink: the canonical name, W&B's, unit and meaning."""

from dataclasses import dataclass

STEP_METRIC = "performance/total_timesteps"
"""W&B's x axis: environment steps so far."""

RUN_NAME = "<exp_name>"
"""Stands for the run's name in names that hold it."""


@dataclass(frozen=True)
class Metric:
    """One quantity under one name per sink."""

    name: str
    """Canonical name: SB3's logger, TensorBoard."""
    wandb_name: str
    """Name in W&B."""
    unit: str
    """Unit of the value; 1 for a pure number."""
    meaning: str
    """What it says, in one line."""
    wandb_factor: float = 1.0
    """What the value is multiplied by for W&B; -1 where SB3 logs a loss and W&B the quantity itself."""
