"""The flags of biped_train.py, and the fields of the configuration that they stand for."""

import argparse
import os
from typing import Any

from biped.command_line import (
    AUTO,
    LOGS,
    OneLineParser,
    number_or_auto,
    path_name,
    run_name,
    seed_number,
    whole_number,
    whole_or_none,
)
from biped.config_io import parse_setting, randomization_settings, robot_settings
from biped.runs import DEFAULT_EXP_NAME
from biped.wandb_names import DEFAULT_PROJECT, MODES, mode_word
from biped_config import PRESETS, RANDOMIZATIONS

FLAG_SETTINGS = {
    "num_envs": "env.num_envs",
    "total_timesteps": "train.total_timesteps",
    "seed": "train.seed",
    "device": "train.device",
    "sim": "train.sim",
    "adaptive_lr": "ppo.adaptive_lr",
    "precision": "ppo.precision",
    "keep_checkpoints": "train.keep_checkpoints",
    "eval_freq": "train.eval_every_steps",
    "video_freq": "train.video_every_steps",
    "stop_when_walking": "train.stop_when_walking",
    "wandb": "wandb.enabled",
    "wandb_project": "wandb.project",
    "wandb_entity": "wandb.entity",
    "wandb_run_name": "wandb.run_name",
    "wandb_group": "wandb.group",
    "wandb_tags": "wandb.tags",
    "wandb_notes": "wandb.notes",
    "wandb_mode": "wandb.mode",
}
"""Flags that stand for a field of the configuration, and the path of that field."""

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


def make_parser() -> argparse.ArgumentParser:
    """Return the command line's parser; a flag that is not given is None (or False)."""
    parser = OneLineParser(
        prog="biped_train.py", description="Train a walking biped with RecurrentPPO in Genesis.", allow_abbrev=False
    )
    add = parser.add_argument
    add(
        "-e",
        "--exp_name",
        type=run_name,
        default=_default_name(),
        metavar="NAME",
        help=f"the run's name (default {DEFAULT_EXP_NAME}; in a W&B sweep sweep-ID)",
    )
    add(
        "--preset",
        choices=("auto", *PRESETS),
        help="sizes to start from (default auto: gpu where CUDA is found, or cpu)",
    )
    add(
        "-B", "--num_envs", type=number_or_auto, metavar="N", help="environments (gpu: 1024, cpu: 256); auto: what fits"
    )
    add("--total_timesteps", type=whole_number, metavar="N", help="environment steps (gpu: 200000000, cpu: 5000000)")
    add("--seed", type=seed_number, metavar="N", help="seeds everything that is drawn (default 1)")
    add("--device", choices=("auto", "cuda", "cpu"), help="where to simulate and to learn (default: the preset's)")
    add("--sim", choices=("genesis", "mujoco"), help="the simulator")
    add(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="PATH=VALUE",
        help="any field of the configuration; repeatable",
    )
    add("--robot", type=path_name, metavar="FILE", help="another robot: see docs/your-robot.md (default: assets/biped)")
    add("--randomize", choices=RANDOMIZATIONS, help="how much robots, ground and sensors differ (default none)")
    add("--adaptive_lr", action="store_true", help="steer the learning rate by the updates' KL divergence")
    add("--precision", choices=("fp32", "bf16"), help="of the networks up to their heads (default fp32)")
    add("--keep_checkpoints", type=whole_or_none, metavar="N", help="newest checkpoints to keep (default 5); 0 for all")
    add("--eval_freq", type=whole_or_none, metavar="N", help="environment steps between two evaluations; 0 for none")
    add("--video_freq", type=whole_or_none, metavar="N", help="environment steps between two films (default none)")
    add(
        "--stop_when_walking",
        type=whole_or_none,
        metavar="N",
        help="end once the walking gate has passed N times in a row; 0 for never",
    )
    add("--load_model", type=path_name, metavar="PATH", help="begin with this checkpoint's weights; steps count from 0")
    add("--continue_training", action="store_true", help="go on with the run from its furthest model")
    add("--new_run", action="store_true", help="keep an existing run under a numbered name and start anew")
    add("--log_dir", type=path_name, default=LOGS, metavar="DIR", help="the folder of all runs (default logs)")
    _add_wandb_flags(parser)
    return parser


def _add_wandb_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--wandb", action="store_true", help="stream metrics to Weights & Biases")
    add("--wandb_project", metavar="NAME", help=f"W&B project (default: WANDB_PROJECT's, or {DEFAULT_PROJECT})")
    add("--wandb_entity", metavar="NAME", help="W&B user or team (default: WANDB_ENTITY's, or the account's)")
    add("--wandb_run_name", metavar="NAME", help="name shown in W&B (default: WANDB_NAME's, or the run's name)")
    add("--wandb_group", metavar="NAME", help="runs that belong together, such as the seeds of an experiment")
    add("--wandb_tags", nargs="+", metavar="WORD", help="words to find the run by")
    add("--wandb_notes", metavar="TEXT", help="what the run is for")
    add(
        "--wandb_mode",
        type=mode_word,
        metavar="{" + ",".join(MODES) + "}",
        help="default: what WANDB_MODE says, or online",
    )


def _default_name() -> str:
    # The agents of a sweep start the same command line many times, several at once.
    run_id = os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None
    return f"sweep-{run_id}" if run_id else DEFAULT_EXP_NAME


def requested_settings(args: argparse.Namespace) -> list[tuple[str, Any]]:
    """Return the fields that the command line sets, by path; `--set` comes last and wins.

    `--num_envs auto` sets none: who knows the rest of the configuration chooses.

    Raises:
        ConfigError: a `--set` cannot be read.
    """
    names = [name for name in FLAG_SETTINGS if not (name == "num_envs" and args.num_envs == AUTO)]
    flags = [(FLAG_SETTINGS[name], getattr(args, name)) for name in names]
    return [
        *robot_settings(args.robot),
        *randomization_settings(args.randomize),
        *((path, value) for path, value in flags if value is not None and value is not False),
        *(parse_setting(text) for text in args.set),
    ]
