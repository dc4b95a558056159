"""Clips of motions that the robot is to move like, or to follow."""

from typing import Annotated, Literal

from pydantic import Field

from biped.config.section import Count, NotNegative, Positive, Section, Widths, section

Feature = Literal["joint_pos", "projected_gravity", "base_height", "base_lin_vel", "base_ang_vel"]
"""What describes a pose; `biped.mdp.imitation.FEATURES` says how."""


@section
class StyleConfig(Section):
    """Adversarial motion priors (Peng et al. 2021, arXiv:2104.02180): a reward for moving as clips do.

    A discriminator learns to tell steps of the clips from those of the robot, and the robot is paid for steps that it
    takes for the clips'. The default features say nothing of the base's velocity, which is for the commands.
    """

    motions: tuple[str, ...] = ()
    """Paths of motion files, relative to the repository or absolute; empty: there is no style."""
    features: Annotated[tuple[Feature, ...], Field(min_length=1)] = ("joint_pos", "projected_gravity", "base_height")
    """What is compared, before and after each control step."""
    weight: NotNegative = 4.0
    """Weight of the style's reward, which is 0 to 1, per second, like the weights of `env.reward`."""
    hidden_sizes: Widths = (256, 128)
    """Layer widths of the discriminator."""
    learning_rate: Positive = 1e-4
    """Step size of the discriminator's Adam."""
    updates: Count = 8
    """Minibatches per rollout that the discriminator learns from."""
    batch_size: Count = 512
    """Steps of the robot per minibatch, half of them from earlier rollouts; there are as many of the clips."""
    replay_size: Count = 20_000
    """Steps of earlier rollouts that are kept, of the last twenty."""
    gradient_penalty: NotNegative = 10.0
    """Weight of the squared gradient at steps of the clips, which keeps the discriminator from winning."""
    noise: NotNegative = 0.5
    """Standard deviation of noise on the normalised features that the discriminator learns from (Arjovsky and Bottou
    2017, arXiv:1701.04862): the robot explores, clips do not, and by that alone it could always tell them apart."""
    weight_decay: NotNegative = 1e-4
    """Weight of half the squared weights of the discriminator."""

    def __post_init__(self) -> None:
        self._require(self.batch_size % 2 == 0, "batch_size", "even: half of it is from earlier rollouts")
        self._require(len(set(self.features)) == len(self.features), "features", "each feature once")


@section
class ImitationConfig(Section):
    """A stride that the robot is to follow, without a discriminator: DeepMimic's pose reward (Peng et al. 2018).

    The gait clock is the phase along the clip, so that the policy knows it, in training and on a robot. It is followed
    while the command asks for motion; `env.reward.weights.imitation` pays for it.
    """

    motion: str = ""
    """Path of a motion file of one stride, relative to the repository or absolute; empty: there is none."""
    scale_rad: Positive = 0.15
    """Mean error of the joints that earns 1/e of the reward (rad)."""
    max_error_rad: NotNegative = 0.0
    """Mean error of the joints beyond which the episode ends (rad); 0: it never does."""
