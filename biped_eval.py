"""Evaluate a policy in the walking gate: deterministic episodes, a table on the terminal, eval.json beside the run.

    python biped_eval.py -e walk                        the furthest model of a run
    python biped_eval.py --model logs/walk/model_final.zip --command 0.4 0 0
    python biped_eval.py --agent zero --picture logs/standing.png
    python biped_eval.py -e walk --report               film, plots and gate on one page
    python biped_eval.py --compare walk other           runs side by side
    python biped_eval.py -e walk --web --keyboard       watch and steer: docs/live.md

The configuration is the config.json beside the model. Exit codes: 0 the gate passed, 3 it did not, 1 the machine
cannot, 2 wrong usage.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from biped.base.command_line import (
    LOGS,
    OneLineParser,
    ending_at_once,
    exit_code,
    path_name,
    port_number,
    run_name,
    run_or_path,
    seed_number,
    whole_number,
)
from biped.base.errors import MachineError, UsageError, disk_error, warn
from biped.base.machine import choose_device
from biped.config.run import Config
from biped.config.settings import (
    parse_setting,
    randomization_settings,
    with_settings,
)
from biped.env.env import (
    BipedEnv,
    BipedVecEnv,
    make_env,
)
from biped.eval import robustness
from biped.eval.agents import Agent, random_agent, zero_agent
from biped.eval.bench import Evaluation
from biped.eval.episodes import record_episodes, trial_commands
from biped.eval.gate import as_json, as_table
from biped.eval.record import Recording
from biped.eval.robustness import robustness_config, run_robustness
from biped.ppo.acting import DeterministicActor
from biped.runs.directory import DEFAULT_EXP_NAME, RunDirectory
from biped.runs.models import find_model
from biped.runs.results import Place, sha256_of, write_json
from biped.train.learner import load_model
from biped.view.film import ENDINGS, choose_episodes, cut, film
from biped.view.live import LiveRequest, live_config, run_live
from biped.view.page import Subject, comparison_table, write_report
from biped.view.plots import draw_all, plot
from biped.view.web import PORT
from biped_config import PRESETS, RANDOMIZATIONS, randomization_preset

PICTURES = (".png", ".jpg")
"""Endings of files that `--picture` can write."""
EPISODES, EPISODES_A_LEVEL = 256, 32
"""Episodes of the gate, and of each level of a robustness report."""
GATE_FAILED = 3
"""Exit code of an evaluation whose policy did not pass."""


def policy_agent(config: Config, env: BipedEnv, path: Path) -> Agent:
    """Return the deterministic policy of a checkpoint.

    Raises:
        UsageError: the file is missing, damaged, or of another network.
    """
    model = load_model(config, BipedVecEnv(env), path)
    return DeterministicActor(model.policy, env.num_envs, model.runs_in)


def make_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = OneLineParser(
        prog="biped_eval.py", description="Evaluate a biped policy over full-length episodes.", allow_abbrev=False
    )
    add = parser.add_argument
    add(
        "-e",
        "--exp_name",
        type=run_name,
        default=DEFAULT_EXP_NAME,
        metavar="NAME",
        help=f"the run (default {DEFAULT_EXP_NAME})",
    )
    add("--model", type=path_name, metavar="PATH", help="a checkpoint; its config.json lies beside it")
    add("--agent", choices=("policy", "zero", "random"), default="policy", help="who acts (default policy)")
    add("--episodes", type=whole_number, metavar="N", help="in parallel (default 256; a level of --robustness 32)")
    add("--command", type=float, nargs=3, metavar=("VX", "VY", "WZ"), help="one command for all: m/s, m/s, rad/s")
    add("--set", action="append", default=[], metavar="PATH=VALUE", help="a field of the environment; repeatable")
    add("--randomize", choices=RANDOMIZATIONS, default="none", help="how much robots and ground differ (default none)")
    add("--sim", choices=("genesis", "mujoco"), default="genesis", help="the simulator (default genesis)")
    add("--robustness", action="store_true", help="sweep what may differ, one thing at a time: table, JSON and plot")
    add("--seed", type=seed_number, default=0, metavar="N", help="of starts and commands (default 0)")
    add("--device", choices=("auto", "cuda", "cpu"), default="auto", help="where to simulate (default auto)")
    add("--out", type=path_name, metavar="FILE", help="where the figures go (default eval.json in the run's folder)")
    add("--video", type=path_name, metavar="FILE", help="a film of some of the episodes, .mp4 or .gif")
    add("--video_robots", type=whole_number, default=4, metavar="N", help="robots in the film (default 4)")
    add("--video_seconds", type=float, default=20.0, metavar="S", help="its length at most (default 20)")
    add(
        "--report",
        type=path_name,
        nargs="?",
        const=Path(),
        metavar="HTML",
        help="one page of it all (default report.html)",
    )
    add(
        "--compare",
        type=run_or_path,
        nargs="+",
        metavar="NAME",
        help="evaluated runs, their folders, or results, side by side",
    )
    add("--picture", type=path_name, metavar="FILE", help="also render the first robot at the end")
    add("--log_dir", type=path_name, default=LOGS, metavar="DIR", help="the folder of all runs (default logs)")
    add("--viewer", action="store_true", help="watch in the simulator's window, in real time; nothing is judged")
    add("--web", type=port_number, nargs="?", const=PORT, metavar="PORT", help=f"watch and steer in a browser ({PORT})")
    add("--keyboard", action="store_true", help="steer by the terminal's keys, and by a gamepad where there is one")
    return parser


def run_evaluation(args: argparse.Namespace) -> Evaluation:
    """Put a policy through the walking gate.

    Raises:
        ConfigError: the environment cannot hold a setting, or its commands hardly ask for motion.
        UsageError: there is no such model.
        MachineError: this machine, its disk or its packages do not let us.
    """
    model, run, config = _prepare(args)
    cfg = replace(config.env, num_envs=args.episodes or EPISODES)
    asked = _asked(args, model, cfg.num_envs)
    place = _place(args, model, asked, EPISODES)
    env = make_env(cfg, choose_device(args.device, args.sim), sim=args.sim, camera=args.picture is not None)
    commands = trial_commands(cfg.num_envs, cfg.command, args.seed)
    if args.command is not None:
        commands = torch.tensor(args.command, dtype=torch.float32).expand(cfg.num_envs, 3)
    record = record_episodes(env, _agent(args, config, env, model), commands, args.seed)
    result = Evaluation.of(record, cfg.robot.servo)
    print(as_table(result.verdict))
    figures = {**asked, **_as_json(result)}
    _write_figures(args, "eval.json", figures, asked, place, others=("report.html", "report"))
    if args.picture is not None:
        try:
            Image.fromarray(env.scene.render()).save(args.picture)
        except OSError as error:
            raise disk_error(args.picture, error, "--picture") from error
    env.close()
    shown = cut(record.episodes(choose_episodes(record, args.video_robots)), args.video_seconds)
    if args.report is not None and run is not None and place is not None:
        subject = Subject.of(run, figures, place.robustness_reports(run.path))
        _write_report(subject, record, shown, _page(args, place))
    if args.video is not None:
        film(shown, config, args.video)
    return result


def _place(args: argparse.Namespace, model: Path | None, asked: Mapping[str, Any], episodes: int) -> Place | None:
    """Return where results go by themselves: nowhere without a model."""
    if model is None:
        return None
    return Place.of(model, args.log_dir, by_name=args.model is not None).judged(asked, episodes)


def _write_figures(
    args: argparse.Namespace,
    name: str,
    figures: Mapping[str, Any],
    asked: Mapping[str, Any],
    place: Place | None,
    others: Sequence[str],
) -> Path | None:
    """Write figures to `--out`, or else to their place, and say where; return it, None where they go nowhere."""
    out: Path | None = args.out
    if out is None and place is None:
        return None
    try:
        if out is not None:
            write_json(out, figures)
        elif place is not None:
            out = place.write(name, figures, asked, others)
    except OSError as error:
        raise disk_error(error.filename or "the figures", error, "--out") from error
    print(f"figures: {out}", flush=True)
    return out


def _page(args: argparse.Namespace, place: Place) -> Path:
    """Return where the report goes: beside the figures, unless it was said."""
    if args.report != Path():
        return args.report
    return place.file("report.html") if args.out is None else args.out.with_name(f"{args.out.stem}_report.html")


def _write_report(subject: Subject, record: Recording, shown: Recording, out: Path) -> None:
    """Write a run's page, and beside it a folder of its name with the pictures and the film."""
    folder, missing = out.with_suffix(""), ""
    video: Path | None = folder / "walk.mp4"
    try:
        folder.mkdir(exist_ok=True)
        plots = draw_all(record, subject.config.env, folder)
        try:
            film(shown, subject.config, video, flag="--report")
        except MachineError as error:
            warn(f"the report has no film: {error}")
            video, missing = None, str(error)
    except OSError as error:
        raise disk_error(error.filename or folder, error, "--report") from error
    write_report([subject], out, plots=plots, video=video, video_missing=missing)
    print(f"report: {out}", flush=True)


def compare(args: argparse.Namespace) -> None:
    """Print the gate of several runs side by side; with `--report FILE` write it as a page.

    Raises:
        UsageError: a run is missing, or was never evaluated.
        MachineError: the disk does not let us.
    """
    if (
        args.robustness
        or args.viewer
        or args.keyboard
        or any(other is not None for other in (args.video, args.out, args.picture, args.web))
    ):
        raise UsageError("--compare reads what evaluations have left: it goes with --log_dir and --report only")
    if args.report == Path():
        raise UsageError("--report: name the page of a comparison, such as --report logs/compare.html")
    _require_page(args.report)
    subjects = [_compared(args, name) for name in args.compare]
    print(comparison_table(subjects))
    if args.report is not None:
        write_report(subjects, args.report)
        print(f"report: {args.report}", flush=True)


def _compared(args: argparse.Namespace, name: str | Path) -> Subject:
    """Return what a word of `--compare` names: a run, its folder, or a result."""
    if isinstance(name, str):
        return Subject.of(RunDirectory.open(args.log_dir, name))
    return Subject.of_file(name) if name.suffix == ".json" else Subject.of(RunDirectory(name))


def run_robustness_report(args: argparse.Namespace) -> None:
    """Sweep what may differ from the model; write a table, robustness.json and robustness.png.

    Raises:
        ConfigError, UsageError, MachineError: see `run_evaluation`.
    """
    model, _, config = _prepare(args)
    episodes = args.episodes or EPISODES_A_LEVEL
    asked = _asked(args, model, episodes)
    place = _place(args, model, asked, EPISODES_A_LEVEL)
    env = make_env(robustness_config(config.env, episodes), choose_device(args.device, args.sim), sim=args.sim)
    found = run_robustness(
        env, _agent(args, config, env, model), episodes, args.seed, randomization_preset("full").noise
    )
    print(robustness.as_table(found))
    result = {**asked, **robustness.as_json(found)}
    out = _write_figures(args, "robustness.json", result, asked, place, others=("robustness.png",))
    if out is not None:
        try:
            plot(found, f"{model or args.agent} in {args.sim}", out.with_suffix(".png"))
        except OSError as error:
            raise disk_error(error.filename or "the plot", error, "--out") from error
    env.close()


def run_live_view(args: argparse.Namespace) -> None:
    """Show the policy in real time and let a person steer it; see `biped.view.live`.

    Raises:
        ConfigError, UsageError, MachineError: see `run_evaluation`; there is no display, page or terminal.
    """
    files = (args.picture, args.out, args.video, args.report)
    if args.robustness or any(file is not None for file in files):
        names = "--robustness, --picture, --out, --video and --report"
        raise UsageError(f"--viewer, --web and --keyboard judge nothing: leave out {names}")
    command = None if args.command is None else tuple(args.command)
    request = LiveRequest(args.viewer, args.keyboard, args.web, command, args.episodes or 1)
    model, _, config = _prepare(args)
    cfg = live_config(config.env, request)
    with ending_at_once():
        env = make_env(cfg, choose_device(args.device, args.sim), sim=args.sim, viewer=args.viewer)
        agent = _agent(args, config, env, model)
    run_live(env, agent, request, args.seed)
    env.close()


def _prepare(args: argparse.Namespace) -> tuple[Path | None, RunDirectory | None, Config]:
    """Return the model, its run and the configuration to judge it in."""
    if args.picture is not None and (args.picture.suffix not in PICTURES or not args.picture.parent.is_dir()):
        raise UsageError(f"--picture: {args.picture} is not a file in a folder that exists, ending in {PICTURES}")
    if args.video is not None and (args.video.suffix not in ENDINGS or not args.video.parent.is_dir()):
        raise UsageError(f"--video: {args.video} is not a file in a folder that exists, ending in {ENDINGS}")
    if args.report is not None and (args.agent != "policy" or args.robustness):
        raise UsageError("--report is of a run's policy in the gate: leave out --agent and --robustness")
    _require_page(args.report)
    if not 0 < args.video_seconds < math.inf:
        raise UsageError(f"--video_seconds: {args.video_seconds} is no time")
    if args.out is not None and not args.out.parent.is_dir():
        raise UsageError(f"--out: there is no folder {args.out.parent}")
    if args.out is not None and args.out.is_dir():
        raise UsageError(f"--out: {args.out} is a folder: name a file")
    if args.command is not None and not all(map(math.isfinite, args.command)):
        raise UsageError(f"--command: {args.command} are not three finite numbers")
    others = (args.command, args.picture, args.video)
    if args.robustness and (any(other is not None for other in others) or args.randomize != "none"):
        names = "--command, --picture, --video and --randomize"
        raise UsageError(f"--robustness varies one thing at a time: leave out {names}")
    settings = [parse_setting(text) for text in args.set]
    if args.robustness and (varied := [path for path, _ in settings if path.startswith("env.randomization")]):
        raise UsageError(f"--robustness sets by itself what differs: leave out {varied[0]}")
    if strange := [path for path, _ in settings if not path.startswith("env.") or path == "env.num_envs"]:
        raise UsageError(
            f"--set: an evaluation changes env.* only, and its robots by --episodes: leave out {strange[0]}"
        )
    model, run, config = None, None, PRESETS["cpu"]()
    if args.agent == "policy":
        model, run = find_model(args.model, args.log_dir, args.exp_name)
        config = run.read_config()
    # By default the judge is the model as it is, whatever the policy was trained with.
    where = [("train.device", args.device), ("train.sim", args.sim)]
    return (
        model,
        run,
        with_settings(config, [*randomization_settings(randomization_preset(args.randomize)), *settings, *where]),
    )


def _require_page(file: Path | None) -> None:
    if file is not None and file != Path() and (file.suffix != ".html" or not file.parent.is_dir()):
        raise UsageError(f"--report: {file} is not an .html file in a folder that exists")


def _agent(args: argparse.Namespace, config: Config, env: BipedEnv, model: Path | None) -> Agent:
    if model is not None:
        return policy_agent(config, env, model)
    return zero_agent(env) if args.agent == "zero" else random_agent(env, args.seed)


def _as_json(result: Evaluation) -> dict[str, Any]:
    trials = result.trials
    counted = {**asdict(trials), "success_rate": trials.success_rate, "fail_trials": trials.fail_trials}
    if not trials.success_trials:
        counted["success_precision"] = None  # JSON knows no NaN
    return {**as_json(result.verdict), "trials": counted}


def _asked(args: argparse.Namespace, model: Path | None, episodes: int) -> dict[str, Any]:
    return {
        "model": model and str(model),
        "model_sha256": model and sha256_of(model),
        "agent": args.agent,
        "sim": args.sim,
        "randomize": args.randomize,
        "seed": args.seed,
        "episodes": episodes,
        "command": args.command,
        "set": args.set,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = make_parser().parse_args(argv)

    def command() -> int | None:
        if args.compare is not None:
            return compare(args)
        if args.viewer or args.keyboard or args.web is not None:
            return run_live_view(args)
        if args.robustness:
            return run_robustness_report(args)
        return None if run_evaluation(args).verdict.passed else GATE_FAILED

    return exit_code("biped_eval.py", command, smaller="use fewer robots, such as --episodes 64")


if __name__ == "__main__":
    sys.exit(main())
