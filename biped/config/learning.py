"""The network and the learner."""

from typing import Annotated, Literal

from pydantic import Field

from biped.config.section import Count, Fraction, NotNegative, Positive, Section, Widths, section


@section
class PolicyConfig(Section):
    """The network: an MLP into an LSTM, one of each for the actor and for the critic."""

    hidden_sizes: Widths = (512, 256, 128)
    """Layer widths of the MLP in front of the LSTM, with ELU activations."""
    lstm_hidden_size: Count = 512
    """Width of each LSTM layer."""
    lstm_layers: Count = 2
    """Number of LSTM layers."""
    initial_std: Annotated[float, Field(ge=0.001, le=10)] = 1.0
    """Initial standard deviation of the actions."""
    min_std: Annotated[float, Field(ge=0.001, le=10)] = 0.01
    """Lower bound of the actions' standard deviation, so that exploration never stops."""
    max_std: Annotated[float, Field(ge=0.001, le=100)] = 5.0
    """Upper bound of the actions' standard deviation."""
    memory: bool = True
    """Keep the LSTM's state between steps; if false, every step starts from an empty state, like a feed-forward net."""
    velocity_head: bool = True
    """Predict velocity and height of the base from the actor's memory; a small robot has no sensor for them."""
    normalize_observations: bool = False
    """Normalise observations by their running mean and variance, kept in the policy; if false, use the fixed scales."""

    def __post_init__(self) -> None:
        self._require(self.min_std <= self.initial_std <= self.max_std, "initial_std", "between min_std and max_std")


@section
class PPOConfig(Section):
    """Hyperparameters of recurrent PPO (Schulman et al. 2017), by their usual names."""

    n_steps: Count = 32
    """Steps per environment in each rollout."""
    n_minibatches: Count = 4
    """Minibatches per epoch; the batch size is num_envs × n_steps / n_minibatches."""
    n_epochs: Count = 10
    """Passes over each rollout."""
    learning_rate: Positive = 1e-4
    """Step size of Adam; with `adaptive_lr`, its initial value."""
    adaptive_lr: bool = False
    """Adapt the learning rate to the KL divergence of each epoch."""
    desired_kl: Positive = 0.01
    """Target KL divergence of the adaptive learning rate (nats)."""
    min_learning_rate: Positive = 1e-5
    """Lower bound of the adaptive learning rate."""
    max_learning_rate: Positive = 1e-2
    """Upper bound of the adaptive learning rate."""
    clip_range: Positive = 0.2
    """Clipping range of the probability ratio."""
    gamma: Fraction = 0.99
    """Discount factor per step."""
    gae_lambda: Fraction = 0.95
    """Lambda of generalised advantage estimation."""
    ent_coef: NotNegative = 0.005
    """Weight of the entropy bonus."""
    vf_coef: NotNegative = 0.5
    """Weight of the value loss."""
    velocity_coef: NotNegative = 3.0
    """Weight of the loss of `policy.velocity_head`: the mean squared error of its predictions, in scaled units."""
    max_grad_norm: Positive = 1.0
    """Upper bound of the gradient's norm; larger gradients are scaled down to it."""
    mirror: bool = True
    """Learn equally from each transition and from its left-right mirror image, because the robot is symmetric."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the networks up to their heads: `fp32`, or `bf16` for bfloat16 by autocast."""
    two_streams: bool = False
    """On a GPU, compute the gradients of actor and critic on a stream each; off until somebody has measured it."""

    def __post_init__(self) -> None:
        self._require(
            self.min_learning_rate <= self.max_learning_rate, "min_learning_rate", "at most max_learning_rate"
        )
        if self.adaptive_lr:
            within = self.min_learning_rate <= self.learning_rate <= self.max_learning_rate
            self._require(within, "learning_rate", "between min_learning_rate and max_learning_rate where it adapts")
            steps = self.n_epochs * self.n_minibatches
            self._require(steps > 1, "n_epochs", "above 1 where the rate adapts: one step shows no divergence")
