"""Saved models of a run: finding the one with the most steps, and finding a model for evaluation."""

from pathlib import Path

from biped.base.command_line import with_a_name
from biped.base.errors import UsageError, warn
from biped.base.files import set_aside
from biped.config.run import Config
from biped.runs.checkpoint import Checkpoint, CheckpointError, read_checkpoint, read_steps
from biped.runs.directory import RunDirectory, steps_in_name
from biped.runs.shared import local_model


def find_furthest(run: RunDirectory, config: Config, remedy: str) -> tuple[Path, Checkpoint] | None:
    """Return the undamaged model of a run with the most steps; None if the run has no model at all.

    At equal steps the order is: periodic checkpoint, which alone has the exact state, then final, best and average
    model. The best model is written between two checkpoints. If it is ahead of a checkpoint by at most the checkpoint
    interval, no checkpoint is missing, and the checkpoint is used. Damaged models are reported and skipped.

    Args:
        run: the run.
        config: its configuration.
        remedy: advice if no model is usable.

    Raises:
        UsageError: there are models, but all are damaged.
    """
    apart = config.train.checkpoint_every_steps + config.env.num_envs * config.ppo.n_steps
    ahead: tuple[Path, Checkpoint] | None = None
    for path, steps in _by_steps(run):
        is_near = path == run.checkpoint(steps) and ahead is not None and ahead[1].num_timesteps - steps <= apart
        if ahead is not None and not is_near:
            continue
        try:
            found = path, read_checkpoint(path)
        except CheckpointError as error:
            print(f"{error}: skipped", flush=True)
            continue
        if path != run.best_model:
            return found
        ahead = found
    if ahead is None and run.models():
        raise UsageError(f"{run.path} holds no sound model: {remedy}")
    return ahead


def _by_steps(run: RunDirectory) -> list[tuple[Path, int]]:
    """Return the models with their steps, most steps first; report unreadable ones."""
    found = [(path, steps_in_name(path)) for path in run.checkpoints()]
    for path in run.models()[len(found) :]:
        try:
            found.append((path, read_steps(path)))
        except CheckpointError as error:
            print(f"{error}: skipped", flush=True)
    return sorted(found, key=lambda item: item[1], reverse=True)


def make_way(path: Path, steps: int) -> None:
    """Rename a model that is about to be replaced, if it has more steps or is damaged.

    Args:
        path: the model; it need not exist.
        steps: environment steps of the model that will replace it.

    Raises:
        OSError: the disk refuses to rename it.
    """
    if not path.is_file():
        return
    try:
        has = read_steps(path)
        why = f"has {has:,} steps, more than the {steps:,} of its replacement"
    except CheckpointError:
        has, why = steps + 1, "is damaged"
    if has > steps:
        warn(f"{path} {why}: it is kept as {set_aside(path).name}")


def find_run(model: Path | str | None, logs: Path, exp_name: str) -> RunDirectory:
    """Return the run directory of the checkpoint that `--model` names, or else that of the name.

    Args:
        model: a path, or the address of a shared policy, which is fetched.
        logs: the folder of all runs.
        exp_name: the run's name, if no model is named.

    Raises:
        UsageError: there is no such model or run.
        MachineError: a shared policy cannot be fetched.
    """
    model = local_model(model, logs)
    if model is None:
        return RunDirectory.open(logs, exp_name)
    if not model.is_file():
        raise UsageError(f"--model: there is no file {model}")
    if not (model.parent / "config.json").is_file():
        raise UsageError(f"--model: there is no config.json beside {model}, which says what the model is")
    return RunDirectory(with_a_name(model.parent))


def find_model(model: Path | str | None, logs: Path, exp_name: str) -> tuple[Path, RunDirectory]:
    """Return the model that `--model` names, or else the run's model with the most steps, and its run directory.

    Raises:
        UsageError: there is no such model.
        MachineError: a shared policy cannot be fetched.
    """
    model = local_model(model, logs)
    run = find_run(model, logs, exp_name)
    if model is not None:
        return model, run
    remedy = "train first, or name a file with --model PATH"
    found = find_furthest(run, run.read_config(), remedy)
    if found is None:
        raise UsageError(f"{run.path} holds no checkpoint yet: {remedy}")
    path, checkpoint = found
    print(f"the model is {path}, trained for {checkpoint.num_timesteps:,} steps", flush=True)
    return path, run
