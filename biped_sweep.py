"""Search for better settings, without an account: an Optuna study, on this machine or shared by many.

    python biped_sweep.py --study rates --trials 20 --preset cpu
    python biped_sweep.py --study rates --trials 20 --search ppo.desired_kl=0.01:0.1:log
    python biped_sweep.py --study rates --trials 20 --storage postgresql://me@server/studies      on each machine

Each trial is a training, `logs/<study>-<number>`, whose value is its best score in the walking gate; bad trials are
stopped early. After an interruption the same command continues until `--trials` are done. Start it twice, and two
processes share the work.

Exit codes: 0 done, 1 the machine cannot do it, 2 the request cannot be carried out, 130 interrupted.
"""

import argparse
import sys
from collections.abc import Sequence

from biped.base.command_line import LOGS, Imports, OneLineParser, exit_code, path_name, run_name, whole_number

with Imports("biped_sweep.py"):
    from biped.runs.directory import run_path
    from biped.train.sweep import SPACE, Range, SweepRequest, how_to_watch, sweep
    from biped_config import PRESETS


def make_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = OneLineParser(prog="biped_sweep.py", description="Search for better settings.", allow_abbrev=False)
    add = parser.add_argument
    add("--study", type=run_name, required=True, metavar="NAME", help="the study's name; the same name continues it")
    add("--trials", type=whole_number, required=True, metavar="N", help="total number of trials")
    add("--preset", choices=tuple(PRESETS), default="cpu", help="preset to start from (default cpu)")
    add("--total_timesteps", type=whole_number, metavar="N", help="environment steps per trial (default: the preset's)")
    add("--search", type=Range.parse, action="append", metavar="PATH=LOW:HIGH[:log]", help="a setting; repeatable")
    add("--set", action="extend", nargs="+", default=[], metavar="PATH=VALUE", help="settings fixed for every trial")
    add(
        "--storage",
        metavar="WHERE",
        help="a study that machines share: postgresql://..., mysql://..., sqlite:///FILE, or FILE.log, a journal on a "
        "common disk (default: a SQLite file in the folder of all runs)",
    )
    add("--dashboard", action="store_true", help="only say how to watch the study in optuna-dashboard")
    add("--log_dir", type=path_name, default=LOGS, metavar="DIR", help="the folder of all runs (default logs)")
    add(
        "--seed",
        type=whole_number,
        metavar="N",
        help="seed of the search (default: random); leave it out if two processes share a study",
    )
    return parser


def as_request(args: argparse.Namespace) -> SweepRequest:
    """Return the search request of a command line.

    Raises:
        UsageError: the study's name is invalid.
    """
    return SweepRequest(
        logs=args.log_dir,
        study=run_path(args.log_dir, args.study).name,
        trials=args.trials,
        preset=args.preset,
        config=PRESETS[args.preset](),
        space=tuple(args.search or SPACE),
        settings=tuple(args.set),
        total_timesteps=args.total_timesteps,
        seed=args.seed,
        storage=args.storage,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = make_parser().parse_args(argv)

    def command() -> None:
        request = as_request(args)
        if args.dashboard:
            print(how_to_watch(request))
        else:
            sweep(request)

    return exit_code("biped_sweep.py", command)


if __name__ == "__main__":
    sys.exit(main())
