"""From what is asked for to what is to be done; nothing is written yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from biped.base.errors import ConfigError, UsageError, say
from biped.base.machine import choose_device, gib
from biped.config.run import Config, Presets, TrainConfig
from biped.config.serial import differences
from biped.config.settings import with_settings
from biped.runs.checkpoint import Checkpoint, CheckpointError, read_checkpoint
from biped.runs.directory import RunDirectory, run_path
from biped.runs.models import find_furthest
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
    "wandb.",
)
"""Fields, or beginnings of them, that a run may be continued with another value of."""


@dataclass(frozen=True)
class TrainRequest:
    """What a person asks of a training."""

    logs: Path
    """The folder of all runs."""
    exp_name: str
    """The run's name."""
    preset: str | None = None
    """The preset's name; None for the one that fits this machine, or a continued run's own."""
    settings: tuple[tuple[str, Any], ...] = ()
    """Fields of the configuration by their dotted paths; the last of several wins."""
    choose_num_envs: bool = False
    """As many environments as fit, unless a setting says how many."""
    load_model: Path | None = None
    """A checkpoint whose weights a new run begins with."""
    continue_training: bool = False
    """Go on with the run from its furthest model."""
    new_run: bool = False
    """Keep a run of this name under a numbered one, and start anew."""
    command: tuple[str, ...] = ()
    """The words of the command line, for the record."""


@dataclass(frozen=True)
class Plan:
    """What a request comes to."""

    request: TrainRequest
    """The request."""
    config: Config
    """The configuration of the run."""
    device: str
    """Where it trains: cpu or cuda."""
    start: Checkpoint | None
    """The weights to start from."""
    resume: RunDirectory | None
    """The run to go on with; None for a new one."""

    @property
    def goes_on_after(self) -> int | None:
        """The steps of the model that a run goes on from, 0 where it has none yet; None for a new run."""
        if self.resume is None:
            return None
        return self.start.num_timesteps if self.start else 0

    @property
    def goal(self) -> int:
        """Environment steps after which the run is done, those before a resume included."""
        return self.config.train.goal_timesteps or self.config.train.total_timesteps

    @property
    def steps(self) -> int:
        """Environment steps that this process is to train for."""
        return self.goal - (self.goes_on_after or 0)

    @property
    def seed(self) -> int:
        """Of this process: a resumed run draws on, or it would see the same starts and the same noise once more."""
        return (self.config.train.seed + (self.goes_on_after or 0)) % 2**32

    @property
    def path(self) -> Path:
        """The run's directory."""
        return run_path(self.request.logs, self.request.exp_name)

    def open_run(self) -> RunDirectory:
        """Return the run's directory; a new run's is made now.

        Raises:
            UsageError: a run of that name exists by now.
            MachineError: the disk does not let us.
        """
        request = self.request
        return self.resume or RunDirectory.create(request.logs, request.exp_name, keep_old_as_numbered=request.new_run)


def make_plan(request: TrainRequest, presets: Presets) -> Plan:
    """Turn a request into a configuration and a start; nothing is written yet.

    Raises:
        ConfigError: the configuration cannot hold a value.
        UsageError: what is asked for cannot be.
        MachineError: CUDA was asked for and is absent, or the disk does not let us.
    """
    run_path(request.logs, request.exp_name)
    if request.continue_training:
        return _continued(request)
    settings = request.settings
    config = named(with_settings(presets[request.preset or _fitting(presets, settings)](), settings))
    if config.preset not in presets:
        raise ConfigError(f"preset is {config.preset}, but it must be one of {', '.join(presets)}")
    device = choose_device(config.train.device, config.train.sim)
    if request.choose_num_envs and not any(path == "env.num_envs" for path, _ in settings):
        config = with_settings(config, [("env.num_envs", choose_num_envs(config, device))])
        need = estimate(config, device).total
        say(f"--num_envs auto: {config.env.num_envs} environments, about {gib(need)} of memory")
    RunDirectory.check_new(request.logs, request.exp_name, may_exist=request.new_run)
    start = None if request.load_model is None else _read(request.load_model)
    return Plan(request, config, device, start, None)


def _continued(request: TrainRequest) -> Plan:
    """Plan to go on with a run: its own configuration, save for what may change."""
    if request.load_model is not None or request.new_run:
        other = "--load_model" if request.load_model is not None else "--new_run"
        raise UsageError(f"--continue_training goes on with a run as it is: leave out {other}")
    run = RunDirectory.open(request.logs, request.exp_name)
    with run.locked():  # refuse now rather than after building
        pass
    recorded = run.read_config()
    if request.preset not in (None, recorded.preset):
        raise UsageError(f"the run in {run.path} has the preset {recorded.preset}: leave out --preset {request.preset}")
    config = with_settings(recorded, request.settings)
    for path, (before, after) in differences(recorded, config).items():
        if not path.startswith(MAY_CHANGE_ON_RESUME):
            raise UsageError(
                f"--continue_training keeps the run's configuration, but {path} was {before} and is now {after}: "
                "leave it out, or start another run with -e NAME"
            )
    config = named(config, recorded)
    device = choose_device(config.train.device, config.train.sim)
    start = _furthest(run, recorded)
    goal = max(config.train.goal_timesteps, config.train.total_timesteps)
    done = start.num_timesteps if start else 0
    if goal <= done:
        goal = done + config.train.total_timesteps
    return Plan(request, with_settings(config, [("train.goal_timesteps", goal)]), device, start, run)


def _furthest(run: RunDirectory, config: Config) -> Checkpoint | None:
    """Read the model that a run goes on from, and say which; None where it holds none yet."""
    found = find_furthest(run, config, "restore one, start anew with --new_run, or use -e NAME")
    if found is None:
        say(f"{run.path} holds no checkpoint yet: beginning anew")
        return None
    path, checkpoint = found
    say(f"going on from {path}, trained for {checkpoint.num_timesteps:,} steps")
    return checkpoint


def _read(path: Path) -> Checkpoint:
    try:
        return read_checkpoint(path)
    except CheckpointError as error:
        raise UsageError(f"--load_model: {error}") from error


def _fitting(presets: Presets, settings: Sequence[tuple[str, Any]]) -> str:
    """Return the preset for the device that a training with these settings uses, and say which in one line."""
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
