"""Train a walking biped: flags -> request -> `biped.train.session.train`.

    python biped_train.py                              the preset for this machine
    python biped_train.py --preset cpu --seed 3        a small policy on a CPU
    python biped_train.py --continue_training          continue from the model with the most steps
    python biped_train.py --set env.gait.frequency_hz=1.6 --set ppo.n_epochs=5

Exit codes: 0 trained, 1 the machine cannot do it, 2 the request cannot be carried out, 130 interrupted
(Ctrl-C), 143 terminated (kill); both of the latter save a checkpoint.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial

from biped.base.command_line import (
    AUTO,
    LOGS,
    Imports,
    OneLineParser,
    exit_code,
    input_name,
    number_or_auto,
    path_name,
    path_or_address,
    port_number,
    run_name,
    seed_number,
    whole_number,
    whole_or_none,
)

with Imports("biped_train.py"):
    from biped.base.shipped import as_stored
    from biped.config.settings import parse_setting, robot_settings
    from biped.runs.directory import DEFAULT_EXP_NAME
    from biped.runs.wandb_names import DEFAULT_PROJECT, MODES, mode_word
    from biped.train.plan import TrainRequest
    from biped.train.session import Drawing, train
    from biped.view.curves import draw_run
    from biped.view.filming import Camera
    from biped.view.training_page import open_page
    from biped.view.web import PORT, require_port, require_viser
    from biped_config import PRESETS, RANDOMIZATIONS, randomization_preset

SMALLER = "use fewer environments, such as --num_envs 512"
"""Advice for when memory runs out."""
FLAG_SETTINGS = {
    "num_envs": "env.num_envs",
    "total_timesteps": "train.total_timesteps",
    "seed": "train.seed",
    "device": "train.device",
    "sim": "train.sim",
    "deterministic": "train.deterministic",
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
"""Flags for single fields of the configuration, with the path of the field."""


def make_parser() -> argparse.ArgumentParser:
    """Return the command line's parser; a flag that is not given is None, False or empty."""
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
        help=f"the run's name (default {DEFAULT_EXP_NAME}; in a W&B sweep: sweep-ID)",
    )
    add(
        "--preset",
        choices=("auto", *PRESETS),
        help="preset to start from (default auto: gpu if CUDA is available, else cpu)",
    )
    add(
        "-B", "--num_envs", type=number_or_auto, metavar="N", help="environments (gpu: 1024, cpu: 256); auto: what fits"
    )
    add("--total_timesteps", type=whole_number, metavar="N", help="environment steps (gpu: 200000000, cpu: 5000000)")
    add("--seed", type=seed_number, metavar="N", help="seed of all random draws (default 1)")
    add("--device", choices=("auto", "cuda", "cpu"), help="device to simulate and learn on (default: the preset's)")
    add("--sim", choices=("genesis", "mujoco"), help="the simulator")
    add(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="PATH=VALUE",
        help="set any field of the configuration; repeatable",
    )
    add("--robot", type=input_name, metavar="FILE", help="another robot, or recipe:NAME=MODEL: see docs/your-robot.md")
    add("--randomize", choices=RANDOMIZATIONS, help="how much robots, ground and sensors differ (default none)")
    add("--style", type=input_name, nargs="+", metavar="FILE", help="motions to move like: see docs/style.md")
    add("--adaptive_lr", action="store_true", help="adapt the learning rate to the updates' KL divergence")
    add("--precision", choices=("fp32", "bf16"), help="precision of the networks up to their heads (default fp32)")
    add("--deterministic", action="store_true", help="give the same bits each time, also on a GPU; slower")
    add("--keep_checkpoints", type=whole_or_none, metavar="N", help="newest checkpoints to keep (default 5); 0 for all")
    add("--eval_freq", type=whole_or_none, metavar="N", help="environment steps between two evaluations; 0 for none")
    add("--video_freq", type=whole_or_none, metavar="N", help="environment steps between two videos (default none)")
    add(
        "--stop_when_walking",
        type=whole_or_none,
        metavar="N",
        help="stop after N consecutive passes of the walking gate; 0 for never",
    )
    about_start = "start from this checkpoint's weights, or a shared policy's, hf://USER/REPO; steps count from 0"
    add("--load_model", type=path_or_address, metavar="PATH", help=about_start)
    add("--continue_training", action="store_true", help="continue the run from its model with the most steps")
    add("--new_run", action="store_true", help="rename an existing run with a number and start anew")
    add(
        "--profile", type=whole_number, metavar="N", help="measure where the time goes in N rollouts: logs/NAME/profile"
    )
    add("--web", type=port_number, nargs="?", const=PORT, metavar="PORT", help=f"show it in a browser ({PORT})")
    add("--log_dir", type=path_name, default=LOGS, metavar="DIR", help="the folder of all runs (default logs)")
    _add_wandb_flags(parser)
    return parser


def _add_wandb_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--wandb", action="store_true", help="stream metrics to Weights & Biases")
    add("--wandb_project", metavar="NAME", help=f"W&B project (default: WANDB_PROJECT or {DEFAULT_PROJECT})")
    add("--wandb_entity", metavar="NAME", help="W&B user or team (default: WANDB_ENTITY or the account's)")
    add("--wandb_run_name", metavar="NAME", help="name shown in W&B (default: WANDB_NAME or the run's name)")
    add("--wandb_group", metavar="NAME", help="group of related runs, such as the seeds of an experiment")
    add("--wandb_tags", nargs="+", metavar="WORD", help="tags of the run")
    add("--wandb_notes", metavar="TEXT", help="notes on the run")
    add(
        "--wandb_mode",
        type=mode_word,
        metavar="{" + ",".join(MODES) + "}",
        help="default: WANDB_MODE or online",
    )


def _default_name() -> str:
    # The agents of a sweep start the same command line many times, several at once.
    run_id = os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None
    return f"sweep-{run_id}" if run_id else DEFAULT_EXP_NAME


def as_request(args: argparse.Namespace, command: Sequence[str] = ()) -> TrainRequest:
    """Return the training request of a command line; `--set` is applied last.

    Raises:
        ConfigError: a `--set` or the robot's file cannot be read.
    """
    choose = args.num_envs == AUTO
    flags = [(path, getattr(args, name)) for name, path in FLAG_SETTINGS.items() if name != "num_envs" or not choose]
    settings = [
        *robot_settings(args.robot, PRESETS[args.preset]().policy if args.preset in PRESETS else None),
        *([("env.sim.performance_mode", False)] if args.deterministic else []),
        *([("style.motions", [as_stored(file) for file in args.style])] if args.style else []),
        *((path, value) for path, value in flags if value is not None and value is not False),
        *(parse_setting(text) for text in args.set),
    ]
    return TrainRequest(
        logs=args.log_dir,
        exp_name=args.exp_name,
        preset=None if args.preset == AUTO else args.preset,
        settings=tuple(settings),
        randomization=None if args.randomize is None else randomization_preset(args.randomize),
        choose_num_envs=choose,
        load_model=args.load_model,
        continue_training=args.continue_training,
        new_run=args.new_run,
        profile=args.profile or 0,
        command=tuple(command),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    words = sys.argv[1:] if argv is None else argv
    args = make_parser().parse_args(words)

    def command() -> None:
        page = None
        if args.web is not None:
            require_viser()
            require_port(args.web)  # before anything is built
            page = partial(open_page, port=args.web)
        train(as_request(args, words), PRESETS, Drawing(draw_run, Camera, page))

    return exit_code("biped_train.py", command, smaller=SMALLER)


if __name__ == "__main__":
    sys.exit(main())
