"""The network and the learner."""

from typing import Annotated, Literal

from pydantic import Field

from biped.config.section import Count, Fraction, NotNegative, Positive, Section, Widths, section


@section
class PolicyConfig(Section):
    """The network: an MLP into an LSTM, one of each for the actor and for the critic."""

    hidden_sizes: Widths = (512, 256, 128)
    """Widths of the MLP in front of the LSTM (ELU)."""
    lstm_hidden_size: Count = 512
    """Width of the LSTM."""
    lstm_layers: Count = 2
    """Layers of the LSTM."""
    initial_std: Annotated[float, Field(ge=0.001, le=10)] = 1.0
    """Standard deviation of the actions at the start."""
    min_std: Annotated[float, Field(ge=0.001, le=10)] = 0.01
    """Floor of the standard deviation: exploration never dries up."""
    max_std: Annotated[float, Field(ge=0.001, le=100)] = 5.0
    """Ceiling of the standard deviation."""
    memory: bool = True
    """Whether the LSTM remembers; without, every step begins with an empty memory, as in a feed-forward network."""
    velocity_head: bool = True
    """The actor's memory also predicts velocity and height of the base, which no sensor of a small robot gives."""
    normalize_observations: bool = False
    """Normalise observations by their running mean and variance, kept in the policy; the scales are fixed otherwise."""

    def __post_init__(self) -> None:
        self._require(self.min_std <= self.initial_std <= self.max_std, "initial_std", "between min_std and max_std")


@section
class PPOConfig(Section):
    """Hyperparameters of recurrent PPO (Schulman et al. 2017), by their usual names."""

    n_steps: Count = 32
    """Steps an environment and rollout."""
    n_minibatches: Count = 4
    """Minibatches an epoch: batch size = num_envs × n_steps / n_minibatches."""
    n_epochs: Count = 10
    """Passes over a rollout."""
    learning_rate: Positive = 1e-4
    """Step size of Adam; the start of the adaptive rate."""
    adaptive_lr: bool = False
    """Steer the learning rate by the KL divergence of each epoch."""
    desired_kl: Positive = 0.01
    """KL divergence that the adaptive rate aims at (nats)."""
    min_learning_rate: Positive = 1e-5
    """Lower bound of the adaptive rate."""
    max_learning_rate: Positive = 1e-2
    """Upper bound of the adaptive rate."""
    clip_range: Positive = 0.2
    """Clip of the probability ratio."""
    gamma: Fraction = 0.99
    """Discount a step."""
    gae_lambda: Fraction = 0.95
    """Lambda of generalised advantage estimation."""
    ent_coef: NotNegative = 0.005
    """Weight of the entropy bonus."""
    vf_coef: NotNegative = 0.5
    """Weight of the value loss."""
    velocity_coef: NotNegative = 0.1
    """Weight of the loss of `policy.velocity_head`: its mean square error, of scaled observations."""
    max_grad_norm: Positive = 1.0
    """Gradients are clipped to this norm."""
    mirror: bool = True
    """Learn as much from the mirror image of what happened as from what happened: left is as right."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the networks up to their heads: `fp32`, or `bf16` for bfloat16 by autocast."""

    def __post_init__(self) -> None:
        self._require(
            self.min_learning_rate <= self.max_learning_rate, "min_learning_rate", "at most max_learning_rate"
        )
        if self.adaptive_lr:
            within = self.min_learning_rate <= self.learning_rate <= self.max_learning_rate
            self._require(within, "learning_rate", "between min_learning_rate and max_learning_rate where it adapts")
            steps = self.n_epochs * self.n_minibatches
            self._require(steps > 1, "n_epochs", "above 1 where the rate adapts: one step shows no divergence")
