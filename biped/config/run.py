"""Settings of the run, of Weights & Biases, and the whole configuration."""

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from pydantic import Field

from biped.base.errors import ConfigError
from biped.config.learning import PolicyConfig, PPOConfig
from biped.config.observation import Term
from biped.config.section import Count, CountOrNone, Fraction, Section, Seed, section
from biped.config.style import StyleConfig
from biped.config.task import EnvConfig

ESTIMATES: tuple[Term, ...] = ("base_lin_vel_b", "base_height_m")
"""Critic terms that `policy.velocity_head` predicts, in the order of its outputs."""


@section
class TrainConfig(Section):
    """Settings of the run: length, device, simulator, checkpoints and evaluations."""

    total_timesteps: Count = 200_000_000
    """Environment steps to train for, summed over all environments."""
    goal_timesteps: CountOrNone = 0
    """Total environment steps that a continued run aims for; 0 for a run that was never continued."""
    seed: Seed = 1
    """Seed of torch, numpy, Python and every random draw of the environment."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """`auto` (CUDA if it is available and the simulator runs on it), `cuda` (an error if unavailable) or `cpu`."""
    sim: Literal["genesis", "mujoco"] = "genesis"
    """The simulator: `genesis`, or `mujoco`, which runs on the CPU."""
    deterministic: bool = False
    """Use only algorithms that add in a fixed order, so that a GPU gives the same bits each time; slower."""
    cuda_graphs: bool = False
    """On a GPU, launch the kernels of a step as four CUDA graphs; off until somebody has measured it."""
    torch_threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """CPU threads of torch; 0: torch's own choice. With 1, actor and critic are updated in parallel, on a core each."""
    checkpoint_every_steps: Count = 10_000_000
    """Environment steps between two checkpoints."""
    keep_checkpoints: CountOrNone = 5
    """Number of newest periodic checkpoints to keep; 0 keeps all. The best and the final model are always kept."""
    max_error_share: Fraction = 0.5
    """Training stops if the physics fails in more than this share of the environments within one rollout."""
    check_memory: bool = True
    """Refuse to start if the estimated memory need exceeds the free memory."""
    stall_after_s: Annotated[float, Field(ge=0.1, le=1e6)] = 120.0
    """Print a warning if the training makes no progress for this long (s)."""
    eval_every_steps: CountOrNone = 10_000_000
    """Environment steps between two evaluations with the walking gate; 0: no evaluations."""
    eval_episodes: Count = 64
    """Episodes per evaluation, all in parallel."""
    video_every_steps: CountOrNone = 0
    """Environment steps between two videos of evaluations; 0: no videos."""
    stop_when_walking: CountOrNone = 0
    """Stop the training after this many consecutive evaluations have passed the gate; 0: never."""
    draw_overview: bool = True
    """Draw the run on one page, overview.png, at the end; `python -m biped curves logs/NAME` draws it any time."""

    def __post_init__(self) -> None:
        filmable = self.video_every_steps == 0 or self.eval_every_steps > 0
        self._require(filmable, "video_every_steps", "0 where eval_every_steps is: evaluations are what is filmed")


@section
class WandbConfig(Section):
    """Settings of Weights & Biases (W&B). None means W&B's environment variable or settings file, if it has a value."""

    enabled: bool = False
    """Stream metrics to W&B."""
    project: str | None = None
    """Project name; None: W&B's environment variable or settings file, else biped-rl-sb3."""
    entity: str | None = None
    """User or team; None: W&B's environment variable or settings file, else the account's default."""
    run_name: str | None = None
    """Name of the run; None: W&B's environment variable or settings file, else the experiment's name."""
    group: str | None = None
    """Name that groups related runs, such as the seeds of an experiment."""
    tags: tuple[str, ...] = ()
    """Tags of the run, for searching."""
    notes: str | None = None
    """Notes on the run, such as its purpose."""
    mode: Literal["online", "offline", "disabled"] | None = None
    """`online`, `offline` (a folder to upload later) or `disabled`; None: the variable WANDB_MODE decides."""


@section
class Config(Section):
    """The whole configuration of a run, as stored in `config.json` in its directory."""

    preset: str = "gpu"
    """Name of the preset that this configuration started from."""
    env: EnvConfig = EnvConfig()
    """The environment: robot, simulation and task."""
    policy: PolicyConfig = PolicyConfig()
    """The actor's and critic's networks."""
    ppo: PPOConfig = PPOConfig()
    """The learner: hyperparameters of PPO."""
    style: StyleConfig = StyleConfig()
    """Clips that the robot is to move like."""
    train: TrainConfig = TrainConfig()
    """The run: length, device, simulator, checkpoints and evaluations."""
    wandb: WandbConfig = WandbConfig()
    """Tracking with Weights & Biases."""

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
        if self.train.deterministic and self.env.sim.performance_mode is not False:
            raise ConfigError("train.deterministic needs env.sim.performance_mode=false")
        if self.batch_size < 2:
            raise ConfigError(f"a minibatch of {self.batch_size} transition has no spread: use fewer ppo.n_minibatches")

    @property
    def batch_size(self) -> int:
        """Transitions per minibatch: num_envs × n_steps / n_minibatches."""
        return self.env.num_envs * self.ppo.n_steps // self.ppo.n_minibatches


Presets = Mapping[str, Callable[[], Config]]
"""Presets by name."""
