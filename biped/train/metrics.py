"""The table of metrics: names in TensorBoard and in W&B, unit and meaning.

Canonical names are Stable-Baselines3's where it has one. W&B names follow docs/tracking.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType

from biped.config.task import RewardWeights
from biped.mdp.episode_stats import CAUSES, STRAYED, EpisodeSummary
from biped.runs.names import STEP_METRIC, Metric

TERMINATION_CAUSES = (*CAUSES, STRAYED)
"""Causes of the end of an episode; `strayed`: too far from the clip of `env.imitation`."""

GATE_FIGURES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "survival": ("1", "share of the episodes that last their full time"),
        "error_lin_vel_x_m_s": ("m/s", "mean absolute error of the instantaneous forward velocity"),
        "error_lin_vel_y_m_s": ("m/s", "mean absolute error of the instantaneous velocity to the left"),
        "error_ang_vel_rad_s": ("rad/s", "mean absolute error of the instantaneous yaw rate"),
        "alternation": ("1", "share of the touchdowns that follow one of the other foot"),
        "swing_apex_left_m": ("m", "median greatest height of the centre of the left sole in a swing"),
        "swing_apex_right_m": ("m", "median greatest height of the centre of the right sole in a swing"),
        "step_frequency_left_hz": ("Hz", "touchdowns of the left foot per second"),
        "step_frequency_right_hz": ("Hz", "touchdowns of the right foot per second"),
        "stepping_episodes": ("1", "share of the episodes in which both feet step at 0.7 to 3 Hz"),
        "duty_factor_left": ("1", "share of the time that the left foot is on the ground"),
        "duty_factor_right": ("1", "share of the time that the right foot is on the ground"),
        "flight": ("1", "share of the time that both feet are in the air"),
        "stride_time_difference": ("1", "difference of both feet's stride times over their mean"),
        "duty_factor_difference": ("1", "difference of both feet's duty factors"),
        "stance_slip_m_s": ("m/s", "mean horizontal speed of a sole that is on the ground"),
        "base_height_deviation_m": ("m", "standard deviation of the base height"),
        "envelope_exceeded": ("1", "share of joint-steps with more torque than the servo has at that speed"),
        "turning_survival": ("1", "survival where the command is to turn on the spot"),
        "turning_error_ang_vel_rad_s": ("rad/s", "error of the yaw rate where the command is to turn on the spot"),
        "standing_survival": ("1", "survival where the command is to stand"),
        "standing_drift_m_s": ("m/s", "net displacement over time where the command is to stand"),
        "standing_feet_on_ground": ("1", "share of the time that both feet are on the ground where they should stand"),
        "cost_of_transport": ("1", "positive mechanical work over weight and distance"),
        "estimate_error_velocity_m_s": ("m/s", "root mean square error of the policy's estimate of its own velocity"),
        "estimate_error_height_m": ("m", "root mean square error of the policy's estimate of its own height"),
    }
)
"""Figures of the walking gate: unit and meaning. `biped.eval.gate` has their bars."""
_STYLE: Mapping[str, str] = MappingProxyType(
    {
        "losses/disc_loss": "loss of the style's discriminator, gradient penalty included",
        "info/disc_agent_acc": "share of the robots' steps that the discriminator takes for those of robots",
        "info/disc_demo_acc": "share of the clips' steps that it takes for those of clips",
        "info/disc_agent_logit": "mean of its logits at robots' steps; it learns to give -1",
        "info/disc_demo_logit": "mean of its logits at clips' steps; it learns to give 1",
        "info/disc_grad_penalty": "mean squared length of its gradient at clips' steps",
        "info/disc_reward_mean": "mean of the style's reward in the rollout, before its weight, 0 to 1",
        "info/disc_reward_std": "standard deviation of that reward",
    }
)
"""Meanings of `biped.ppo.style.METRICS`."""
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
    Metric("episode/count", "episode/count", "1", "episodes that ended so far, including those before a resume"),
    Metric("episode/mean_reward_per_step", "episode/mean_reward_per_step", "1", "mean reward of a control step"),
    Metric(
        "curriculum/progress",
        "curriculum/progress",
        "1",
        "share of the commanded velocity that is achieved, over commands to move",
    ),
    Metric(
        "curriculum/command_share", "curriculum/command_share", "1", "share of the ranges that commands are drawn from"
    ),
    Metric("time/fps", "performance/fps", "steps/s", "environment steps per second, including updates and evaluations"),
    Metric("time/iterations", "performance/iterations", "1", "rollouts so far, including those before a resume"),
    Metric("time/time_elapsed", "performance/time_elapsed", "s", "time since this process started to train"),
    Metric("time/total_timesteps", STEP_METRIC, "steps", "environment steps so far, over all environments"),
    Metric("time/collection_time", "performance/collection_time", "s", "duration of the rollout"),
    Metric("time/learning_time", "performance/learning_time", "s", "duration of the update"),
    Metric(
        "time/waiting_time",
        "performance/waiting_time",
        "s",
        "time of a rollout and its update in which the first process waited for others; only where there are several",
    ),
    Metric("env/error_resets", "env/error_resets", "count", "episodes of the rollout that ended in a physics failure"),
    Metric("buffer/size", "buffer/size", "transitions", "transitions in the rollout of this update"),
    Metric("buffer/capacity", "buffer/capacity", "transitions", "transitions that the rollout buffer holds"),
    Metric("buffer/utilisation", "buffer/utilisation", "1", "share of the rollout buffer that was filled"),
    Metric("buffer/memory", "buffer/memory", "MiB", "memory of the rollout buffer, including LSTM states"),
    Metric("train/policy_gradient_loss", "ppo/policy_loss", "1", "clipped surrogate loss"),
    Metric("train/value_loss", "ppo/value_loss", "1", "squared error of the value function"),
    Metric("train/entropy_loss", "ppo/entropy", "nats", "entropy of the action distribution (SB3 logs minus it)", -1.0),
    Metric("train/approx_kl", "ppo/kl_divergence", "nats", "KL divergence of the update's last epoch, estimated"),
    Metric("train/kl", "info/kl", "nats", "KL divergence of the update's last epoch, exact for Gaussians"),
    Metric("train/clip_fraction", "info/clip_frac", "1", "share of probability ratios that were clipped"),
    Metric("train/clip_range", "info/clip_range", "1", "clipping range of the probability ratio"),
    Metric(
        "train/explained_variance", "ppo/explained_variance", "1", "share of the returns' variance that is explained"
    ),
    Metric(
        "train/estimate_loss",
        "info/estimate_loss",
        "1",
        "mean squared error of the velocity head, in scaled units",
    ),
    *(Metric(name, name, "1", meaning) for name, meaning in _STYLE.items()),
    Metric("train/learning_rate", "info/last_lr", "1", "learning rate of the update's last epoch"),
    Metric(
        "train/rate_scale",
        "info/lr_mul",
        "1",
        "factor on a scheduled learning rate, halved where an update had to be undone",
    ),
    Metric("train/loss", "ppo/loss", "1", "total loss of the last minibatch"),
    Metric("train/n_updates", "info/n_updates", "1", "epochs so far"),
    Metric("train/skipped_steps", "info/skipped_steps", "1", "optimizer steps skipped: loss or gradient not finite"),
    Metric("train/std", "info/action_noise_std", "1", "mean standard deviation of the actions"),
)

_EVALUATION = (
    Metric("eval/num_trials", "eval/<exp_name>/num_trials", "1", "episodes of an evaluation"),
    Metric(
        "eval/success_trials",
        "eval/<exp_name>/success_trials",
        "1",
        "episodes that reach the time limit and track within the gate's bars",
    ),
    Metric("eval/fail_trials", "eval/<exp_name>/fail_trials", "1", "episodes that do not succeed"),
    Metric("eval/success_rate", "eval/<exp_name>/success_rate", "1", "share of the episodes that succeed"),
    Metric(
        "eval/success_precision",
        "eval/<exp_name>/success_precision",
        "m/s",
        "mean error of the horizontal velocity in successful episodes",
    ),
    Metric("eval/best_success_rate", "eval/<exp_name>/best_success_rate", "1", "success rate of the best model so far"),
    *(
        Metric(
            f"eval/reward_{kind}",
            f"rewards/{kind}",
            "1/s",
            f"mean reward per second in the evaluation's episodes whose command is {what}",
        )
        for kind, what in (("walking", "to walk"), ("turning", "to turn on the spot"), ("standing", "to stand"))
    ),
    Metric("gate/passed", "gate/passed", "1", "1 if every figure of the walking gate is within its bar, else 0"),
    Metric("gate/score", "gate/score", "1", "mean over the gate's figures: 1 within the bar, up to 1/2 near it"),
    Metric("gate/best_score", "gate/best_score", "1", "score of the best model so far"),
)

ALL_METRICS = (
    *_FIXED,
    *_EVALUATION,
    *(Metric(f"gate/{name}", f"gate/{name}", unit, meaning) for name, (unit, meaning) in GATE_FIGURES.items()),
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
"""The same metrics by canonical name."""

_POPULATION = (
    Metric("fitness/mean", "fitness/mean", "1", "mean fitness of a generation: scores in the walking gate at its end"),
    Metric("fitness/max", "fitness/max", "1", "best fitness of the generation"),
    Metric("fitness/min", "fitness/min", "1", "worst fitness of the generation"),
    Metric("fitness/std", "fitness/std", "1", "standard deviation of the fitness within the generation"),
    Metric("fitness/best_ever", "fitness/best_ever", "1", "best fitness of all generations so far"),
    Metric("training/generation", "training/generation", "1", "generations that have ended"),
    Metric(
        "training/generation_time",
        "training/generation_time",
        "s",
        "time from the generation's beginning to its end, interruptions included",
    ),
    Metric(
        "training/avg_generation_time",
        "training/avg_generation_time",
        "s",
        "mean of that time over the last ten generations",
    ),
    Metric(
        "validation/fitness",
        "validation/fitness",
        "1",
        "score of the generation's best member in episodes with other starts and commands",
    ),
)

_OTHER_NAMES = (
    "",
    "## Names that other systems have",
    "",
    "One number has one name here. These names of other trainers are not emitted:",
    "",
    "| name | why |",
    "|---|---|",
    "| `losses/bounds_loss` | no such loss: an action's mean has no bound, and the environment clips actions |",
    "| `info/epochs` | rollouts so far are `performance/iterations` |",
    "| `episode_lengths/mean` | `episode/mean_length` |",
    "| `rewards/mean` | `episode/mean_return` |",
    "| `rewards/0`, `rewards/1`, ... | the value has one dimension; its parts are the terms, `rewards/<term>` |",
)

POPULATION_METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _POPULATION})
"""Every metric that a population emits, by canonical name; its steps are those of all members together."""


def summary_metrics(summary: EpisodeSummary) -> dict[str, float]:
    """Return an `EpisodeSummary` under the canonical names of this table."""
    return {
        "env/error_resets": summary.errors,
        "episode/count": summary.episodes,
        "episode/mean_return": summary.mean_return,
        "episode/max_return": summary.max_return,
        "episode/mean_length": summary.mean_length,
        "episode/mean_reward_per_step": summary.reward_per_step,
        "curriculum/progress": summary.progress,
        **{f"rewards/{name}": value for name, value in summary.reward_rates.items()},
        **({f"terminations/{name}": value for name, value in summary.causes.items()} if summary.episodes else {}),
    }


def as_markdown() -> str:
    """Return the table as the page docs/metrics.md: `python -m biped metrics > docs/metrics.md`."""
    head = [
        "# Metrics",
        "",
        "Written by `python -m biped metrics > docs/metrics.md`; one row per metric. Stable-Baselines3 keeps",
        "`time/iterations`, `time/time_elapsed`, `time/total_timesteps` and `train/n_updates` out of TensorBoard,",
        "whose x axis is the environment steps; the console and W&B have them.",
        "",
    ]
    population = ["", "## Of a population", "", "`biped_sweep.py --population` writes one row per generation.", ""]
    lines = [*head, *_rows(ALL_METRICS), *population, *_rows(_POPULATION), *_OTHER_NAMES]
    return "\n".join(lines) + "\n"


def _rows(metrics: Sequence[Metric]) -> list[str]:
    rows = [
        f"| `{metric.name}` | `{metric.wandb_name}` | {metric.unit} | {metric.meaning} |"
        for metric in sorted(metrics, key=lambda metric: metric.name)
    ]
    return ["| console, TensorBoard | W&B | unit | meaning |", "|---|---|---|---|", *rows]
