"""The table of metric names: what each is called in TensorBoard and in W&B, its unit and its meaning.

The canonical names are Stable-Baselines3's where it has one. W&B has the names that the tracking documents ask for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

from biped_config import RewardWeights

STEP_METRIC = "performance/total_timesteps"
"""W&B's x axis: environment steps so far."""

TERMINATION_CAUSES = ("height", "tilt", "error", "time_out")
"""Why episodes end."""


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


_FIXED = (
    Metric("rollout/ep_rew_mean", "rollout/ep_rew_mean", "1", "mean return of the last 100 episodes"),
    Metric("rollout/ep_len_mean", "rollout/ep_len_mean", "control steps", "mean length of the last 100 episodes"),
    Metric("episode/mean_return", "episode/mean_return", "1", "mean return of the episodes that ended in this rollout"),
    Metric(
        "episode/max_return", "episode/max_return", "1", "largest return of the episodes that ended in this rollout"
    ),
    Metric(
        "episode/mean_length",
        "episode/mean_length",
        "control steps",
        "mean length of the episodes that ended in this rollout",
    ),
    Metric("episode/count", "episode/count", "1", "episodes that ended since this process started"),
    Metric("episode/mean_reward_per_step", "episode/mean_reward_per_step", "1", "mean reward of a control step"),
    Metric("time/fps", "performance/fps", "steps/s", "environment steps a second, learning included"),
    Metric("time/iterations", "performance/iterations", "1", "rollouts since this process started"),
    Metric("time/time_elapsed", "performance/time_elapsed", "s", "time since this process started to train"),
    Metric("time/total_timesteps", STEP_METRIC, "steps", "environment steps so far, over all environments"),
    Metric("time/collection_time", "performance/collection_time", "s", "time that the rollout took"),
    Metric("time/learning_time", "performance/learning_time", "s", "time that the update took"),
    Metric("train/policy_gradient_loss", "ppo/policy_loss", "1", "clipped surrogate loss"),
    Metric("train/value_loss", "ppo/value_loss", "1", "squared error of the value function"),
    Metric("train/entropy_loss", "ppo/entropy", "nats", "entropy of the action distribution (SB3 logs minus it)", -1.0),
    Metric("train/approx_kl", "ppo/kl_divergence", "nats", "KL divergence of the update's last epoch, estimated"),
    Metric("train/kl", "ppo/kl_exact", "nats", "KL divergence of the update's last epoch, exact for Gaussians"),
    Metric("train/clip_fraction", "info/clip_frac", "1", "share of probability ratios that were clipped"),
    Metric("train/clip_range", "info/clip_range", "1", "clip of the probability ratio"),
    Metric(
        "train/explained_variance", "ppo/explained_variance", "1", "share of the returns' variance that is predicted"
    ),
    Metric("train/learning_rate", "info/last_lr", "1", "learning rate of the update's last epoch"),
    Metric("train/loss", "ppo/loss", "1", "total loss of the last minibatch"),
    Metric("train/n_updates", "info/n_updates", "1", "epochs so far"),
    Metric("train/skipped_steps", "info/skipped_steps", "1", "optimizer steps left out: loss or gradient not finite"),
    Metric("train/std", "info/action_noise_std", "1", "mean standard deviation of the actions"),
)

ALL_METRICS = (
    *_FIXED,
    *(
        Metric(f"terminations/{cause}", f"terminations/{cause}", "1", f"share of the ended episodes: {cause}")
        for cause in TERMINATION_CAUSES
    ),
    *(
        Metric(f"rewards/{item.name}", f"rewards/{item.name}", "1/s", f"weighted reward term {item.name}, per second")
        for item in fields(RewardWeights)
    ),
)
"""Every metric that training emits."""

METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in ALL_METRICS})
"""The same by canonical name."""


def as_markdown() -> str:
    """Return the table as the page docs/metrics.md: `python -m biped.metrics > docs/metrics.md`."""
    rows = [
        f"| `{metric.name}` | `{metric.wandb_name}` | {metric.unit} | {metric.meaning} |"
        for metric in sorted(ALL_METRICS, key=lambda metric: metric.name)
    ]
    head = [
        "# Metrics",
        "",
        "Written by `python -m biped.metrics > docs/metrics.md`; one row a quantity. Stable-Baselines3 keeps",
        "`time/iterations`, `time/time_elapsed`, `time/total_timesteps` and `train/n_updates` out of TensorBoard,",
        "whose x axis is the environment steps; the console and W&B have them.",
        "",
    ]
    return "\n".join([*head, "| console, TensorBoard | W&B | unit | meaning |", "|---|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    print(as_markdown(), end="")
