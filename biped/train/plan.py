"""From a request to a plan; nothing is written yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from biped.base.errors import ConfigError, MachineError, UsageError, say, warn
from biped.base.machine import choose_device, gib
from biped.config.randomization import RandomizationConfig
from biped.config.run import Config, Presets, TrainConfig
from biped.config.serial import differences
from biped.config.settings import sized_randomization, with_settings
from biped.config.style import StyleConfig
from biped.env.files import clips_of, files_of
from biped.runs.checkpoint import Checkpoint, CheckpointError, read_checkpoint
from biped.runs.directory import RunDirectory, run_path
from biped.runs.launches import changed_files, fingerprints
from biped.runs.models import find_furthest
from biped.runs.shared import local_model
from biped.runs.wandb_names import named
from biped.train.memory import choose_num_envs, estimate

MAY_CHANGE_ON_RESUME = (
    "train.total_timesteps",
    "train.checkpoint_every_steps",
    "train.keep_checkpoints",
    "train.device",
    "train.check_memory",
    "train.stall_after_s",
    "train.max_error_share",
    "train.eval_",
    "train.video_every_steps",
    "train.stop_when_walking",
    "train.draw_overview",
    "train.deterministic",
    "env.sim.performance_mode",
    "wandb.",
)
"""Fields, or their prefixes, whose value may change when a run is continued."""


@dataclass(frozen=True)
class TrainRequest:
    """A request for a training."""

    logs: Path
    """The folder of all runs."""
    exp_name: str
    """The run's name."""
    preset: str | None = None
    """Name of the preset; None: the one for this machine, or a continued run's own."""
    settings: tuple[tuple[str, Any], ...] = ()
    """Changed fields of the configuration by dotted path; the last value of a field wins."""
    randomization: RandomizationConfig | None = None
    """A randomisation for a robot of the biped's size instead of the preset's, or of a continued run's."""
    choose_num_envs: bool = False
    """Whether to use as many environments as fit, unless a setting gives the number."""
    load_model: Path | str | None = None
    """A checkpoint, or the address of a shared policy, whose weights a new run starts from."""
    continue_training: bool = False
    """Whether to continue the run from its model with the most steps."""
    new_run: bool = False
    """Whether to rename an existing run of this name with a number, and start anew."""
    profile: int = 0
    """Rollouts to profile; 0: none."""
    command: tuple[str, ...] = ()
    """The words of the command line, for the run's records."""


@dataclass(frozen=True)
class Plan:
    """A plan for a training, made from a request."""

    request: TrainRequest
    """The request."""
    config: Config
    """The configuration of the run."""
    device: str
    """Device of the training: cpu or cuda."""
    start: Checkpoint | None
    """The weights to start from; None for random ones."""
    resume: RunDirectory | None
    """The run to continue; None for a new one."""

    @property
    def goes_on_after(self) -> int | None:
        """Steps of the model that the run continues from, 0 if it has none yet; None for a new run."""
        if self.resume is None:
            return None
        return self.start.num_timesteps if self.start else 0

    @property
    def goal(self) -> int:
        """Environment steps after which the run is done, including those before a resume."""
        return self.config.train.goal_timesteps or self.config.train.total_timesteps

    @property
    def steps(self) -> int:
        """Environment steps of this process."""
        return self.goal - (self.goes_on_after or 0)

    @property
    def seed(self) -> int:
        """Seed of this process: it differs after a resume, so that starts and noise are not repeated."""
        return (self.config.train.seed + (self.goes_on_after or 0)) % 2**32

    @property
    def path(self) -> Path:
        """The run's directory."""
        return run_path(self.request.logs, self.request.exp_name)

    def open_run(self) -> RunDirectory:
        """Return the run's directory; for a new run, make it.

        Raises:
            UsageError: a run of that name exists meanwhile.
            MachineError: the disk refuses the write.
        """
        request = self.request
        return self.resume or RunDirectory.create(request.logs, request.exp_name, keep_old_as_numbered=request.new_run)


def make_plan(request: TrainRequest, presets: Presets) -> Plan:
    """Turn a request into a configuration and a start; nothing is written yet.

    Raises:
        ConfigError: a value of the configuration is invalid.
        UsageError: the request cannot be carried out.
        MachineError: CUDA was requested but is absent, the disk refuses the write, or a policy cannot be fetched.
    """
    run_path(request.logs, request.exp_name)
    if request.continue_training:
        return _continued(request)
    settings = request.settings
    preset = presets[request.preset or _fitting(presets, settings)]()
    config = named(_changed(preset, request, request.randomization or preset.env.randomization))
    if config.preset not in presets:
        raise ConfigError(f"preset is {config.preset}, but it must be one of {', '.join(presets)}")
    device = choose_device(config.train.device, config.train.sim)
    if request.choose_num_envs and not any(path == "env.num_envs" for path, _ in settings):
        config = with_settings(config, [("env.num_envs", choose_num_envs(config, device))])
        need = estimate(config, device).total
        say(f"--num_envs auto: {config.env.num_envs} environments, about {gib(need)} of memory")
    for text in idle_settings(config):
        warn(text)
    RunDirectory.check_new(request.logs, request.exp_name, may_exist=request.new_run)
    start = None if request.load_model is None else _read(request.load_model, request.logs)
    return Plan(request, config, device, start, None)


def _continued(request: TrainRequest) -> Plan:
    """Plan to continue a run with its own configuration, except for fields that may change."""
    if request.load_model is not None or request.new_run:
        other = "--load_model" if request.load_model is not None else "--new_run"
        raise UsageError(f"--continue_training goes on with a run as it is: leave out {other}")
    run = RunDirectory.open(request.logs, request.exp_name)
    with run.locked():  # raise now, not after building
        pass
    recorded = run.read_config()
    if request.preset not in (None, recorded.preset):
        raise UsageError(f"the run in {run.path} has the preset {recorded.preset}: leave out --preset {request.preset}")
    config = _changed(recorded, request, request.randomization)
    for path, (before, after) in differences(recorded, config).items():
        if not path.startswith(MAY_CHANGE_ON_RESUME):
            raise UsageError(
                f"--continue_training keeps the run's configuration, but {path} was {before} and is now {after}: "
                "leave it out, or start another run with -e NAME"
            )
    config = named(config, recorded)
    device = choose_device(config.train.device, config.train.sim)
    start = _furthest(run, recorded)
    _require_clips(config)
    for name in changed_files(run.read_launches(), read_files(config)):
        warn(f"{name} is not what it was when this run was last started: it goes on with the new one")
    goal = max(config.train.goal_timesteps, config.train.total_timesteps)
    done = start.num_timesteps if start else 0
    if goal <= done:
        goal = done + config.train.total_timesteps
    return Plan(request, with_settings(config, [("train.goal_timesteps", goal)]), device, start, run)


def idle_settings(config: Config) -> list[str]:
    """Return a sentence for each clip or style that is set up and that nothing uses."""
    found = []
    if config.env.imitation.motion and not config.env.follows_clip:
        found.append("env.imitation.motion is not followed: env.reward.weights.imitation is 0")
    if not config.style.motions and config.style != StyleConfig():
        found.append("settings of style do nothing: there are no motions, add --style FILE")
    return found


def _require_clips(config: Config) -> None:
    """Check that the clips of a run are still there.

    Raises:
        UsageError: one is not.
    """
    for file in clips_of(config.env, config.style.motions):
        if not file.exists():
            raise UsageError(f"{file} is gone, which this run moves like: put it back, or start another run")


def read_files(config: Config) -> dict[str, str]:
    """Return the SHA-256 hashes by path of the files that a training reads besides its configuration."""
    try:
        return fingerprints(files_of(config.env, config.style.motions))
    except MachineError:  # the simulator says what is wrong with the robot's model
        return {}


def _changed(config: Config, request: TrainRequest, randomization: RandomizationConfig | None) -> Config:
    """Return a configuration with a request's settings and, sized to the robot, a randomisation; None: its own."""
    if randomization is None:
        return with_settings(config, request.settings)
    sized = sized_randomization(config, request.settings, randomization)
    return with_settings(config, [*sized, *request.settings])


def _furthest(run: RunDirectory, config: Config) -> Checkpoint | None:
    """Read the model that a run continues from, and print which; None if it has none yet."""
    found = find_furthest(run, config, "restore one, start anew with --new_run, or use -e NAME")
    if found is None:
        say(f"{run.path} holds no checkpoint yet: beginning anew")
        return None
    path, checkpoint = found
    say(f"going on from {path}, trained for {checkpoint.num_timesteps:,} steps")
    return checkpoint


def _read(model: Path | str, logs: Path) -> Checkpoint:
    path = local_model(model, logs)
    assert path is not None
    try:
        return read_checkpoint(path)
    except CheckpointError as error:
        raise UsageError(f"--load_model: {error}") from error


def _fitting(presets: Presets, settings: Sequence[tuple[str, Any]]) -> str:
    """Return the preset for the device of a training with these settings, and print which."""
    asked = dict(settings)
    device = choose_device(asked.get("train.device", "auto"), asked.get("train.sim", TrainConfig().sim))
    chosen = "gpu" if device == "cuda" else "cpu"
    why = "CUDA found" if chosen == "gpu" else "on the CPU" if torch.cuda.is_available() else "no CUDA found"
    config = presets[chosen]()
    network = "-".join(map(str, config.policy.hidden_sizes))
    say(
        f"{why}: preset {chosen} ({config.env.num_envs} environments, "
        f"MLP {network} into LSTM {config.policy.lstm_layers} x {config.policy.lstm_hidden_size}, "
        f"{config.train.total_timesteps:,} steps)"
    )
    return chosen
