"""The names of a quantity in each output: the canonical name, W&B's name, unit and meaning."""

from dataclasses import dataclass

STEP_METRIC = "performance/total_timesteps"
"""W&B's x axis: environment steps so far."""

RUN_NAME = "<exp_name>"
"""Placeholder for the run's name in metric names."""


@dataclass(frozen=True)
class Metric:
    """One quantity, with its name in each output."""

    name: str
    """Canonical name, used in SB3's logger and in TensorBoard."""
    wandb_name: str
    """Name in W&B."""
    unit: str
    """Unit of the value; 1 for a pure number."""
    meaning: str
    """Description in one line."""
    wandb_factor: float = 1.0
    """Factor on the value for W&B; -1 where SB3 logs a loss and W&B the quantity itself."""
