"""Evaluate a policy with the walking gate: deterministic episodes, a table, and eval.json in the run's folder.

    python biped_eval.py -e walk                        a run's model with the most steps
    python biped_eval.py --model logs/walk/model_final.zip --command 0.4 0 0
    python biped_eval.py --agent zero --picture logs/standing.png
    python biped_eval.py -e walk --report               video, plots and gate on one page
    python biped_eval.py --compare walk other           runs side by side
    python biped_eval.py -e walk --web --keyboard       watch and steer: docs/live.md

The configuration is the config.json beside the model. Exit codes: 0 the gate passed, 3 it did not, 1 the machine
cannot do it, 2 wrong usage.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from biped.base.command_line import (
    Imports,
    OneLineParser,
    add_run_flags,
    ending_at_once,
    exit_code,
    path_name,
    port_number,
    run_or_path,
    seed_number,
    whole_number,
)
from biped.base.errors import UsageError

with Imports("biped_eval.py"):
    from biped.base.machine import choose_device
    from biped.env.env import make_env
    from biped.runs.directory import DEFAULT_EXP_NAME, RunDirectory
    from biped.train.learner import load_agent
    from biped.view.evaluation import (
        BESIDE_THE_FIGURES,
        EvalPlan,
        EvalRequest,
        evaluate,
        report_robustness,
        require_page,
    )
    from biped.view.live import LiveRequest, live_config, run_live
    from biped.view.page import Subject, comparison_table, write_report
    from biped.view.web import PORT
    from biped_config import PRESETS, RANDOMIZATIONS, randomization_preset

GATE_FAILED = 3
"""Exit code of an evaluation whose policy did not pass the gate."""


def make_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = OneLineParser(
        prog="biped_eval.py", description="Evaluate a biped policy over full-length episodes.", allow_abbrev=False
    )
    add = parser.add_argument
    add_run_flags(parser, DEFAULT_EXP_NAME)
    add("--agent", choices=("policy", "zero", "random"), default="policy", help="the agent (default policy)")
    add("--episodes", type=whole_number, metavar="N", help="parallel episodes (default 256; per robustness level 32)")
    add("--command", type=float, nargs=3, metavar=("VX", "VY", "WZ"), help="one command for all: m/s, m/s, rad/s")
    add("--set", action="append", default=[], metavar="PATH=VALUE", help="set a field of the environment; repeatable")
    add("--randomize", choices=RANDOMIZATIONS, default="none", help="how much robots and ground differ (default none)")
    add("--sim", choices=("genesis", "mujoco"), default="genesis", help="the simulator (default genesis)")
    add("--robustness", action="store_true", help="vary one property of the robots at a time: table, JSON and plot")
    add("--seed", type=seed_number, default=0, metavar="N", help="seed of starts and commands (default 0)")
    add("--device", choices=("auto", "cuda", "cpu"), default="auto", help="device to simulate on (default auto)")
    add("--out", type=path_name, metavar="FILE", help="path of the results (default eval.json in the run's folder)")
    add("--video", type=path_name, metavar="FILE", help="a video of some of the episodes, .mp4 or .gif")
    add("--video_robots", type=whole_number, default=4, metavar="N", help="robots in the video (default 4)")
    add("--video_seconds", type=float, default=20.0, metavar="S", help="largest length of the video (default 20)")
    add(
        "--report",
        type=path_name,
        nargs="?",
        const=BESIDE_THE_FIGURES,
        metavar="HTML",
        help="one page with all results (default report.html)",
    )
    add(
        "--compare",
        type=run_or_path,
        nargs="+",
        metavar="NAME",
        help="show evaluated runs, their folders, or results side by side",
    )
    add("--picture", type=path_name, metavar="FILE", help="also render the first robot at the end")
    add("--viewer", action="store_true", help="watch in the simulator's window, in real time, without the gate")
    add("--web", type=port_number, nargs="?", const=PORT, metavar="PORT", help=f"watch and steer in a browser ({PORT})")
    add("--keyboard", action="store_true", help="steer with the terminal's keys, and a gamepad if there is one")
    return parser


def as_request(args: argparse.Namespace) -> EvalRequest:
    """Return the evaluation request of a command line."""
    return EvalRequest(
        logs=args.log_dir,
        exp_name=args.exp_name or DEFAULT_EXP_NAME,
        is_named=(args.exp_name or args.model) is not None,
        model=args.model,
        agent=args.agent,
        episodes=args.episodes,
        command=None if args.command is None else tuple(args.command),
        settings=tuple(args.set),
        randomize=args.randomize,
        randomization=randomization_preset(args.randomize),
        full_randomization=randomization_preset("full"),
        sim=args.sim,
        device=args.device,
        seed=args.seed,
        out=args.out,
        picture=args.picture,
        video=args.video,
        video_robots=args.video_robots,
        video_seconds=args.video_seconds,
        report=args.report,
    )


def compare(args: argparse.Namespace) -> None:
    """Print the gate of several runs side by side; with `--report FILE` write it as a page.

    Raises:
        UsageError: a run is missing, or was never evaluated.
        MachineError: the disk refuses the write.
    """
    others = (args.video, args.out, args.picture, args.web)
    if args.robustness or args.viewer or args.keyboard or any(other is not None for other in others):
        raise UsageError("--compare only reads existing results: use it with --log_dir and --report only")
    if args.report == BESIDE_THE_FIGURES:
        raise UsageError("--report: name the page of a comparison, such as --report logs/compare.html")
    require_page(args.report)
    subjects = [_compared(args.log_dir, name) for name in args.compare]
    print(comparison_table(subjects))
    if args.report is not None:
        write_report(subjects, args.report)
        print(f"report: {args.report}", flush=True)


def _compared(logs: Path, name: str | Path) -> Subject:
    """Return the subject that a word of `--compare` names: a run, its folder, or a result."""
    if isinstance(name, str):
        return Subject.of(RunDirectory.open(logs, name))
    return Subject.of_file(name) if name.suffix == ".json" else Subject.of(RunDirectory(name))


def watch(args: argparse.Namespace) -> None:
    """Show the policy in real time and let the user steer it; see `biped.view.live`.

    Raises:
        ConfigError, UsageError, MachineError: see `evaluate`; also without a display, page or terminal.
    """
    files = (args.picture, args.out, args.video, args.report)
    if args.robustness or any(file is not None for file in files):
        names = "--robustness, --picture, --out, --video and --report"
        raise UsageError(f"--viewer, --web and --keyboard do not evaluate: leave out {names}")
    request = as_request(args)
    asked = LiveRequest(args.viewer, args.keyboard, args.web, request.command, args.episodes or 1)
    plan = EvalPlan.of(request, PRESETS["cpu"](), 1)
    cfg = live_config(plan.config.env, asked)
    with ending_at_once():
        env = make_env(cfg, choose_device(args.device, args.sim), sim=args.sim, viewer=args.viewer)
        agent = plan.agent(env, load_agent)
    run_live(env, agent, asked, args.seed)
    env.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = make_parser().parse_args(argv)

    def command() -> int | None:
        if args.compare is not None:
            return compare(args)
        if args.viewer or args.keyboard or args.web is not None:
            return watch(args)
        request, default = as_request(args), PRESETS["cpu"]()
        if args.robustness:
            if args.report is not None:
                raise UsageError("--report needs a run's policy in the gate: leave out --agent and --robustness")
            return report_robustness(request, default, load_agent)
        return None if evaluate(request, default, PRESETS, load_agent).verdict.passed else GATE_FAILED

    return exit_code("biped_eval.py", command, smaller="use fewer robots, such as --episodes 64")


if __name__ == "__main__":
    sys.exit(main())
