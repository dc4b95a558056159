"""From the command line of biped_train.py to what is to be done; nothing is written yet."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from biped.command_line import AUTO
from biped.config_io import differences, with_settings
from biped.errors import UsageError
from biped.learner import choose_device
from biped.memory import choose_num_envs, estimate, gib
from biped.models import find_furthest
from biped.ppo.checkpoint import Checkpoint, CheckpointError, read_checkpoint
from biped.runs import RunDirectory, run_path
from biped.train_flags import MAY_CHANGE_ON_RESUME, requested_settings
from biped.wandb_names import named
from biped_config import PRESETS, Config, TrainConfig


@dataclass(frozen=True)
class Plan:
    """What a command line comes to."""

    config: Config
    """The configuration of the run."""
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


def make_plan(args: argparse.Namespace) -> Plan:
    """Turn flags into a configuration and a start; nothing is written yet.

    Raises:
        ConfigError: the configuration cannot hold a value.
        UsageError: what is asked for cannot be.
        MachineError: CUDA was asked for and is absent, or the disk does not let us.
    """
    run_path(args.log_dir, args.exp_name)
    if args.continue_training:
        return _continued(args)
    settings = requested_settings(args)
    config = named(with_settings(PRESETS[_preset(args.preset, settings)](), settings))
    device = choose_device(config.train.device, config.train.sim)
    if args.num_envs == AUTO and not any(path == "env.num_envs" for path, _ in settings):
        config = with_settings(config, [("env.num_envs", choose_num_envs(config, device))])
        need = estimate(config, device).total
        _say(f"--num_envs auto: {config.env.num_envs} environments, about {gib(need)} of memory")
    RunDirectory.check_new(args.log_dir, args.exp_name, may_exist=args.new_run)
    return Plan(config, None if args.load_model is None else _read(args.load_model), None)


def _continued(args: argparse.Namespace) -> Plan:
    """Plan to go on with a run: its own configuration, save for what may change."""
    if args.load_model is not None or args.new_run:
        other = "--load_model" if args.load_model is not None else "--new_run"
        raise UsageError(f"--continue_training goes on with a run as it is: leave out {other}")
    run = RunDirectory.open(args.log_dir, args.exp_name)
    with run.locked():  # refuse now rather than after building
        pass
    recorded = run.read_config()
    if args.preset not in (None, "auto", recorded.preset):
        raise UsageError(f"the run in {run.path} has the preset {recorded.preset}: leave out --preset {args.preset}")
    config = with_settings(recorded, requested_settings(args))
    for path, (before, after) in differences(recorded, config).items():
        if not path.startswith(MAY_CHANGE_ON_RESUME):
            raise UsageError(
                f"--continue_training keeps the run's configuration, but {path} was {before} and is now {after}: "
                "leave it out, or start another run with -e NAME"
            )
    config = named(config, recorded)
    choose_device(config.train.device, config.train.sim)
    start = _furthest(run, recorded)
    goal = max(config.train.goal_timesteps, config.train.total_timesteps)
    done = start.num_timesteps if start else 0
    if goal <= done:
        goal = done + config.train.total_timesteps
    return Plan(with_settings(config, [("train.goal_timesteps", goal)]), start, run)


def _furthest(run: RunDirectory, config: Config) -> Checkpoint | None:
    """Read the model that a run goes on from, and say which; None where it holds none yet."""
    found = find_furthest(run, config, "restore one, start anew with --new_run, or use -e NAME")
    if found is None:
        _say(f"{run.path} holds no checkpoint yet: beginning anew")
        return None
    path, checkpoint = found
    _say(f"going on from {path}, trained for {checkpoint.num_timesteps:,} steps")
    return checkpoint


def _read(path: Path) -> Checkpoint:
    try:
        return read_checkpoint(path)
    except CheckpointError as error:
        raise UsageError(f"--load_model: {error}") from error


def _preset(name: str | None, settings: Sequence[tuple[str, Any]]) -> str:
    """Resolve `auto` by the device that a training with these settings uses, and say in one line what was chosen."""
    if name not in (None, "auto"):
        return name
    asked = dict(settings)
    device = choose_device(asked.get("train.device", "auto"), asked.get("train.sim", TrainConfig().sim))
    chosen = "gpu" if device == "cuda" else "cpu"
    why = "CUDA found" if chosen == "gpu" else "on the CPU" if torch.cuda.is_available() else "no CUDA found"
    config = PRESETS[chosen]()
    network = "-".join(map(str, config.policy.hidden_sizes))
    print(
        f"{why}: preset {chosen} ({config.env.num_envs} environments, "
        f"MLP {network} into LSTM {config.policy.lstm_layers} x {config.policy.lstm_hidden_size}, "
        f"{config.train.total_timesteps:,} steps)",
        flush=True,
    )
    return chosen


def _say(text: str) -> None:
    print(text, flush=True)
