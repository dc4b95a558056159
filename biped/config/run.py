"""The run around the learner, and the whole configuration."""

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from pydantic import Field

from biped.base.errors import ConfigError
from biped.config.learning import PolicyConfig, PPOConfig
from biped.config.observation import Term
from biped.config.section import Count, CountOrNone, Fraction, Section, Seed, section
from biped.config.task import EnvConfig

ESTIMATES: tuple[Term, ...] = ("base_lin_vel_b", "base_height_m")
"""Terms of the critic that `policy.velocity_head` predicts, in the order of its outputs."""


@section
class TrainConfig(Section):
    """The run around the learner."""

    total_timesteps: Count = 200_000_000
    """Environment steps to train for, over all environments."""
    goal_timesteps: CountOrNone = 0
    """Environment steps that a continued run is heading for; 0 in a run that was never continued."""
    seed: Seed = 1
    """Seeds torch, numpy, Python and every draw of the environment."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """`auto` (CUDA where it is found and the simulator runs on it), `cuda` (an error without) or `cpu`."""
    sim: Literal["genesis", "mujoco"] = "genesis"
    """The simulator: `genesis`, or `mujoco` on the CPU."""
    torch_threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """CPU threads of torch; 0 leaves the choice to torch. With 1, actor and critic are updated on a core each."""
    checkpoint_every_steps: Count = 10_000_000
    """Environment steps between two checkpoints."""
    keep_checkpoints: CountOrNone = 5
    """Periodic checkpoints that stay on the disk, the newest; 0 keeps all. The best and the final model always stay."""
    max_error_share: Fraction = 0.5
    """Training stops when the physics fails in more than this share of the environments within one rollout."""
    check_memory: bool = True
    """Refuse to begin where the estimate of the memory that it takes is above what is free."""
    stall_after_s: Annotated[float, Field(ge=0.1, le=1e6)] = 120.0
    """A line names a training in which nothing has happened for so long (s)."""
    eval_every_steps: CountOrNone = 10_000_000
    """Environment steps between two evaluations in the walking gate; 0 for none."""
    eval_episodes: Count = 64
    """Episodes of each of these evaluations, all in parallel."""
    video_every_steps: CountOrNone = 0
    """Environment steps between two films of evaluations; 0 for none."""
    stop_when_walking: CountOrNone = 0
    """Training ends once so many evaluations in a row have passed the gate; 0 for never."""

    def __post_init__(self) -> None:
        filmable = self.video_every_steps == 0 or self.eval_every_steps > 0
        self._require(filmable, "video_every_steps", "0 where eval_every_steps is: evaluations are what is filmed")


@section
class WandbConfig(Section):
    """Weights & Biases."""

    enabled: bool = False
    """Stream metrics to W&B."""
    project: str | None = None
    """Project name; None here and below: what W&B's variable says, or its settings file; else biped-rl-sb3."""
    entity: str | None = None
    """User or team; else the account's default."""
    run_name: str | None = None
    """Name of the run; else the experiment's name."""
    group: str | None = None
    """Runs that belong together, such as the seeds of an experiment."""
    tags: tuple[str, ...] = ()
    """Words to find the run by."""
    notes: str | None = None
    """What the run is for."""
    mode: Literal["online", "offline", "disabled"] | None = None
    """`online`, `offline` (a folder to send later) or `disabled`; None: what the variable WANDB_MODE says."""


@section
class Config(Section):
    """Everything about a run: what `config.json` in its directory holds."""

    preset: str = "gpu"
    """The preset that this config started from."""
    env: EnvConfig = EnvConfig()
    """The environment."""
    policy: PolicyConfig = PolicyConfig()
    """The network."""
    ppo: PPOConfig = PPOConfig()
    """The learner."""
    train: TrainConfig = TrainConfig()
    """The run."""
    wandb: WandbConfig = WandbConfig()
    """The tracker."""

    def __post_init__(self) -> None:
        if self.env.num_envs * self.ppo.n_steps % self.ppo.n_minibatches:
            raise ConfigError(
                f"a rollout of {self.env.num_envs} environments x {self.ppo.n_steps} steps does not divide into "
                f"{self.ppo.n_minibatches} minibatches: change num_envs, ppo.n_steps or ppo.n_minibatches"
            )
        missing = [name for name in ESTIMATES if name not in self.env.observation.critic]
        if self.policy.velocity_head and missing:
            raise ConfigError(
                f"policy.velocity_head learns from {missing[0]} of env.observation.critic, which does not list it: "
                "list it there, or use --set policy.velocity_head=false"
            )
        if self.batch_size < 2:
            raise ConfigError(f"a minibatch of {self.batch_size} transition has no spread: use fewer ppo.n_minibatches")

    @property
    def batch_size(self) -> int:
        """Transitions a minibatch: num_envs × n_steps / n_minibatches."""
        return self.env.num_envs * self.ppo.n_steps // self.ppo.n_minibatches


Presets = Mapping[str, Callable[[], Config]]
"""Presets by name."""
