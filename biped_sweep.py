"""Many trainings: a search for better settings, a population that finds them while it trains, or many seeds.

    python biped_sweep.py --study rates --trials 20 --preset cpu
    python biped_sweep.py --study rates --trials 20 --search ppo.desired_kl=0.01:0.1:log
    python biped_sweep.py --study rates --trials 20 --storage postgresql://me@server/studies      on each machine
    python biped_sweep.py --study pop --population 8 --generations 20
    python biped_sweep.py --study ten --seeds 10

A trial is a training, `logs/<study>-<number>`, whose value is its best score in the walking gate; bad trials are
stopped early. After an interruption the same command goes on. Start it twice, and two processes share the work; other
machines share a search by `--storage`, a population and seeds by the same `--log_dir`.

Exit codes: 0 done, 1 the machine cannot do it, 2 the request cannot be carried out, 130 interrupted,
143 terminated.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from biped.base.command_line import LOGS, Imports, OneLineParser, exit_code, path_name, run_name, whole_number
from biped.base.errors import UsageError

with Imports("biped_sweep.py"):
    from biped.runs.directory import run_path
    from biped.train.population import PopulationRequest, grow
    from biped.train.seeds import SeedsRequest, train_seeds
    from biped.train.space import SPACE, Range
    from biped.train.sweep import SweepRequest, how_to_watch, sweep
    from biped.view.lineage import draw_lineage
    from biped.view.seeds import draw_seeds
    from biped_config import PRESETS

GENERATIONS = 20
"""Default number of a population's generations."""
WANDB = "wandb.enabled=true"
"""The setting that `--wandb` stands for."""


def make_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = OneLineParser(prog="biped_sweep.py", description="Train many times.", allow_abbrev=False)
    add = parser.add_argument
    add("--study", type=run_name, required=True, metavar="NAME", help="the study's name; the same name continues it")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--trials", type=whole_number, metavar="N", help="search: total number of trials")
    kind.add_argument("--population", type=whole_number, metavar="N", help="population-based training: its members")
    kind.add_argument("--seeds", type=whole_number, metavar="N", help="train seeds 1 to N, and say how many pass")
    add(
        "--generations", type=whole_number, metavar="N", help="of a population (default 20); --total_timesteps is split"
    )
    add("--preset", choices=tuple(PRESETS), default="cpu", help="preset to start from (default cpu)")
    add(
        "--total_timesteps",
        type=whole_number,
        metavar="N",
        help="environment steps of each training (default: the preset's)",
    )
    add("--search", type=Range.parse, action="append", metavar="PATH=LOW:HIGH[:log]", help="a setting; repeatable")
    add("--set", action="extend", nargs="+", default=[], metavar="PATH=VALUE", help="settings fixed for every trial")
    add(
        "--storage",
        metavar="WHERE",
        help="a study that machines share: postgresql://..., mysql://..., sqlite:///FILE, or FILE.log, a journal on a "
        "common disk (default: a SQLite file in the folder of all runs)",
    )
    add("--wandb", action="store_true", help="stream each training, and a population's own metrics, to W&B")
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
        UsageError: the study's name is invalid, or options do not go together.
    """
    _refuse("--trials", generations=args.generations)
    return SweepRequest(
        **_common(args),
        study=run_path(args.log_dir, args.study).name,
        trials=args.trials,
        space=tuple(args.search or SPACE),
        seed=args.seed,
        storage=args.storage,
    )


def as_population(args: argparse.Namespace) -> PopulationRequest:
    """Return the population request of a command line.

    Raises:
        UsageError: see `as_request`.
    """
    if args.storage is not None:
        raise UsageError(
            "--population keeps its state beside its weights: leave out --storage, and give each machine the same "
            "--log_dir on a common disk"
        )
    _refuse("--population", dashboard=args.dashboard)
    return PopulationRequest(
        **_common(args),
        name=run_path(args.log_dir, args.study).name,
        size=args.population,
        generations=args.generations or GENERATIONS,
        space=tuple(args.search or SPACE),
        seed=args.seed,
    )


def as_seeds(args: argparse.Namespace) -> SeedsRequest:
    """Return the request of a command line for many seeds.

    Raises:
        UsageError: see `as_request`.
    """
    others = {name: getattr(args, name) for name in ("generations", "search", "storage", "dashboard", "seed")}
    _refuse("--seeds", **others)
    return SeedsRequest(**_common(args), name=run_path(args.log_dir, args.study).name, seeds=args.seeds)


def _common(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "logs": args.log_dir,
        "preset": args.preset,
        "config": PRESETS[args.preset](),
        "settings": ((WANDB,) if args.wandb else ()) + tuple(args.set),
        "total_timesteps": args.total_timesteps,
    }


def _refuse(kind: str, **others: object) -> None:
    for name, value in others.items():
        if value not in (None, False):
            raise UsageError(f"--{name} is of no use with {kind}: leave it out")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = make_parser().parse_args(argv)

    def command() -> None:
        if args.population is not None:
            grow(as_population(args), draw_lineage)
        elif args.seeds is not None:
            train_seeds(as_seeds(args), draw_seeds)
        elif args.dashboard:
            print(how_to_watch(as_request(args)))
        else:
            sweep(as_request(args))

    return exit_code("biped_sweep.py", command)


if __name__ == "__main__":
    sys.exit(main())
