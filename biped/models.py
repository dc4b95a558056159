"""Saved models, for what only acts with them: found by the command line's flags, and loaded."""

from pathlib import Path

from stable_baselines3.common.vec_env import VecEnv

from biped.errors import UsageError
from biped.learner import make_model
from biped.ppo.checkpoint import CheckpointError, read_checkpoint, restore
from biped.ppo.recurrent_ppo import DeviceRecurrentPPO
from biped.runs import RunDirectory
from biped_config import Config


def find_model(model: Path | None, logs: Path, exp_name: str) -> tuple[Path, RunDirectory]:
    """Return the checkpoint that `--model` names, or else the newest of a run, and the folder with its config.json.

    Raises:
        UsageError: there is none.
    """
    if model is not None:
        if not model.is_file():
            raise UsageError(f"--model: there is no file {model}")
        if not (model.parent / "config.json").is_file():
            raise UsageError(f"--model: there is no config.json beside {model}, which says what the model is")
        return model, RunDirectory(model.parent)
    run = RunDirectory.open(logs, exp_name)
    newest = next(iter(run.checkpoints()), None)
    if newest is None:
        raise UsageError(f"{run.path} holds no checkpoint yet: train first, or name a file with --model PATH")
    return newest, run


def load_model(config: Config, env: VecEnv, path: Path) -> DeviceRecurrentPPO:
    """Return the learner with the weights of a checkpoint.

    Args:
        config: what the checkpoint was trained with.
        env: a `VecEnv` of any number of environments.
        path: the checkpoint.

    Raises:
        UsageError: the file is missing, damaged, or of another network.
    """
    model = make_model(config, env, seed=0)
    try:
        restore(model, read_checkpoint(path))
    except CheckpointError as error:
        raise UsageError(f"{error}: name a checkpoint with --model PATH, with its config.json beside it") from error
    return model
