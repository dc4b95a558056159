"""Evaluate a policy in the walking gate: deterministic episodes, a table on the terminal, eval.json beside the model.

    python biped_eval.py -e walk                        the newest model of a run
    python biped_eval.py --model logs/walk/model_final.zip --command 0.4 0 0
    python biped_eval.py --agent zero --picture standing.png

The configuration is the config.json beside the model. Exit codes: 0 the gate passed, 3 it did not, 1 the machine
cannot, 2 wrong usage.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from biped.command_line import OneLineParser, exit_code, seed_number, whole_number
from biped.config_io import parse_setting, randomization_settings, with_settings
from biped.errors import UsageError, disk_error
from biped.eval import robustness
from biped.eval.gate import as_json, as_table
from biped.evaluation import Agent, record_episodes, trial_commands
from biped.gate_watch import Trial
from biped.learner import choose_device, make_model
from biped.ppo.acting import DeterministicActor
from biped.ppo.checkpoint import CheckpointError, read_checkpoint, restore
from biped.robustness import robustness_config, run_robustness
from biped.runs import DEFAULT_EXP_NAME, RunDirectory
from biped_config import PRESETS, RANDOMIZATIONS, Config
from biped_env import BipedEnv, BipedVecEnv, make_env

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
    model = make_model(config, BipedVecEnv(env), seed=0)
    try:
        restore(model, read_checkpoint(path))
    except CheckpointError as error:
        raise UsageError(f"{error}: name a checkpoint with --model PATH, with its config.json beside it") from error
    return DeterministicActor(model.policy, env.num_envs, model.precision)


def zero_agent(env: BipedEnv) -> Agent:
    """Return the agent that holds the default pose."""
    shape = env.action_space.shape or ()
    return lambda observations, _: torch.zeros(shape, device=observations.device)


def random_agent(env: BipedEnv, seed: int) -> Agent:
    """Return the agent that draws actions uniformly from the action space."""
    generator = np.random.default_rng(seed)
    space = env.action_space
    assert space.shape is not None
    return lambda *_: torch.as_tensor(
        generator.uniform(-env.cfg.control.action_clip, env.cfg.control.action_clip, space.shape).astype(np.float32)
    )


def make_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = OneLineParser(
        prog="biped_eval.py", description="Evaluate a biped policy over full-length episodes.", allow_abbrev=False
    )
    add = parser.add_argument
    add("-e", "--exp_name", default=DEFAULT_EXP_NAME, metavar="NAME", help=f"the run (default {DEFAULT_EXP_NAME})")
    add("--model", type=Path, metavar="PATH", help="a checkpoint; its config.json lies beside it")
    add("--agent", choices=("policy", "zero", "random"), default="policy", help="who acts (default policy)")
    add("--episodes", type=whole_number, metavar="N", help="in parallel (default 256; a level of --robustness 32)")
    add("--command", type=float, nargs=3, metavar=("VX", "VY", "WZ"), help="one command for all: m/s, m/s, rad/s")
    add("--set", action="append", default=[], metavar="PATH=VALUE", help="a field of the environment; repeatable")
    add("--randomize", choices=RANDOMIZATIONS, default="none", help="how much robots and ground differ (default none)")
    add("--sim", choices=("genesis", "mujoco"), default="genesis", help="the simulator (default genesis)")
    add("--robustness", action="store_true", help="sweep what may differ, one thing at a time: table, JSON and plot")
    add("--seed", type=seed_number, default=0, metavar="N", help="of starts and commands (default 0)")
    add("--device", choices=("auto", "cuda", "cpu"), default="auto", help="where to simulate (default auto)")
    add("--out", type=Path, metavar="FILE", help="where the figures go (default eval.json beside the model)")
    add("--picture", type=Path, metavar="FILE", help="also render the first robot at the end")
    add("--log_dir", type=Path, default=Path("logs"), metavar="DIR", help="the folder of all runs (default logs)")
    return parser


def run_evaluation(args: argparse.Namespace) -> Trial:
    """Put a policy through the walking gate.

    Raises:
        ConfigError: the environment cannot hold a setting, or its commands hardly ask for motion.
        UsageError: there is no such model.
        MachineError: this machine, its disk or its packages do not let us.
    """
    model, run, config = _prepare(args)
    cfg = replace(config.env, num_envs=args.episodes or EPISODES)
    env = make_env(cfg, choose_device(args.device), sim=args.sim, camera=args.picture is not None)
    commands = trial_commands(cfg.num_envs, cfg.command, args.seed)
    if args.command is not None:
        commands = torch.tensor(args.command).expand(cfg.num_envs, 3)
    record = record_episodes(env, _agent(args, config, env, model), commands, args.seed)
    result = Trial.of(record, cfg.robot.servo)
    print(as_table(result.verdict))
    try:
        out = args.out or (None if run is None else run.path / "eval.json")
        if out is not None:
            out.write_text(json.dumps(_as_json(args, model, result), indent=2) + "\n")
        if args.picture is not None:
            Image.fromarray(env.render()).save(args.picture)
    except OSError as error:
        raise disk_error(error.filename or "the result", error) from error
    env.close()
    return result


def run_robustness_report(args: argparse.Namespace) -> None:
    """Sweep what may differ from the model; write a table, robustness.json and robustness.png beside the model.

    Raises:
        ConfigError, UsageError, MachineError: see `run_evaluation`.
    """
    model, run, config = _prepare(args)
    episodes = args.episodes or EPISODES_A_LEVEL
    env = make_env(robustness_config(config.env, episodes), choose_device(args.device), sim=args.sim)
    found = run_robustness(env, _agent(args, config, env, model), episodes, args.seed)
    print(robustness.as_table(found))
    out = args.out or (None if run is None else run.path / "robustness.json")
    if out is not None:
        result = {**_asked(args, model), "episodes": episodes, **robustness.as_json(found)}
        try:
            out.write_text(json.dumps(result, indent=2) + "\n")
            robustness.plot(found, f"{model or args.agent} in {args.sim}", out.with_suffix(".png"))
        except OSError as error:
            raise disk_error(error.filename or "the report", error) from error
    env.close()


def _prepare(args: argparse.Namespace) -> tuple[Path | None, RunDirectory | None, Config]:
    """Return the model, its run and the configuration to judge it in."""
    if args.picture is not None and (args.picture.suffix not in PICTURES or not args.picture.parent.is_dir()):
        raise UsageError(f"--picture: {args.picture} is not a file in a folder that exists, ending in {PICTURES}")
    if args.out is not None and not args.out.parent.is_dir():
        raise UsageError(f"--out: there is no folder {args.out.parent}")
    if args.command is not None and not all(map(math.isfinite, args.command)):
        raise UsageError(f"--command: {args.command} are not three finite numbers")
    if args.robustness and (args.command is not None or args.picture is not None or args.randomize != "none"):
        raise UsageError("--robustness varies one thing at a time: leave out --command, --picture and --randomize")
    settings = [parse_setting(text) for text in args.set]
    if strange := [path for path, _ in settings if not path.startswith("env.") or path == "env.num_envs"]:
        raise UsageError(
            f"--set: an evaluation changes env.* only, and its robots by --episodes: leave out {strange[0]}"
        )
    model, run, config = None, None, PRESETS["cpu"]()
    if args.agent == "policy":
        model, run = _find_model(args)
        config = run.read_config()
    # By default the judge is the model as it is, whatever the policy was trained with.
    settings = [*randomization_settings(args.randomize), *settings, ("train.device", args.device)]
    return model, run, with_settings(config, settings)


def _agent(args: argparse.Namespace, config: Config, env: BipedEnv, model: Path | None) -> Agent:
    if model is not None:
        return policy_agent(config, env, model)
    return zero_agent(env) if args.agent == "zero" else random_agent(env, args.seed)


def _as_json(args: argparse.Namespace, model: Path | None, result: Trial) -> dict[str, Any]:
    trials = result.trials
    counted = {**asdict(trials), "success_rate": trials.success_rate, "fail_trials": trials.fail_trials}
    if not trials.success_trials:
        counted["success_precision"] = None  # JSON knows no NaN
    return {**_asked(args, model), **as_json(result.verdict), "trials": counted}


def _asked(args: argparse.Namespace, model: Path | None) -> dict[str, Any]:
    return {
        "model": model and str(model),
        "agent": args.agent,
        "sim": args.sim,
        "randomize": args.randomize,
        "seed": args.seed,
        "command": args.command,
        "set": args.set,
    }


def _find_model(args: argparse.Namespace) -> tuple[Path, RunDirectory]:
    if args.model is not None:
        if not args.model.is_file():
            raise UsageError(f"--model: there is no file {args.model}")
        if not (args.model.parent / "config.json").is_file():
            raise UsageError(f"--model: there is no config.json beside {args.model}, which says what the model is")
        return args.model, RunDirectory(args.model.parent)
    run = RunDirectory.open(args.log_dir, args.exp_name)
    newest = next(iter(run.checkpoints()), None)
    if newest is None:
        raise UsageError(f"{run.path} holds no checkpoint yet: train first, or name a file with --model PATH")
    return newest, run


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = make_parser().parse_args(argv)
    if args.robustness:
        return exit_code("biped_eval.py", lambda: run_robustness_report(args))
    return exit_code("biped_eval.py", lambda: 0 if run_evaluation(args).verdict.passed else GATE_FAILED)


if __name__ == "__main__":
    sys.exit(main())
