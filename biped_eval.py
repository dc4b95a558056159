"""Evaluate a policy: deterministic episodes, a table on the terminal, eval.json beside the model.

    python biped_eval.py -e walk                        the newest model of a run
    python biped_eval.py --model logs/walk/model_final.zip --command 0.4 0 0
    python biped_eval.py --agent zero --picture standing.png

The configuration is the config.json beside the model. Exit codes: 0 evaluated, 1 the machine cannot, 2 wrong usage.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from biped.command_line import OneLineParser, exit_code, seed_number, whole_number
from biped.errors import UsageError, disk_error
from biped.learner import choose_device, make_model
from biped.ppo.checkpoint import CheckpointError, read_checkpoint, restore
from biped.runs import DEFAULT_EXP_NAME, RunDirectory
from biped_config import PRESETS, CommandConfig, Config, EnvConfig
from biped_env import BipedEnv, BipedVecEnv, make_env

PICTURES = (".png", ".jpg")
"""Endings of files that `--picture` can write."""
SETTLE_S = 1.0
"""The start of an episode that tracking errors leave out (s)."""

Agent = Callable[[Tensor, Tensor], Tensor]
"""From observations (num_envs, width) and episode starts (num_envs,), bool, to actions (num_envs, num_joints)."""


@dataclass(frozen=True)
class Evaluation:
    """Figures over one full-length episode an environment."""

    episodes: int
    """Episodes that were run."""
    without_fall: float
    """Share of episodes that lasted their full time."""
    mean_length_s: float
    """Mean time until the fall or the end (s)."""
    error_lin_vel_x_m_s: float
    """Mean absolute error of the forward velocity (m/s), after the first second."""
    error_lin_vel_y_m_s: float
    """Mean absolute error of the velocity to the left (m/s)."""
    error_ang_vel_rad_s: float
    """Mean absolute error of the yaw rate (rad/s)."""
    step_frequency_hz: float
    """Valid steps of a foot, a second."""
    alternating_steps: float
    """Share of valid steps that were the other foot's turn; see `biped.mdp.gait.advance_steps`."""
    mean_return: float
    """Mean sum of rewards until the fall or the end."""


@torch.inference_mode()
def evaluate(env: BipedEnv, agent: Agent, seed: int) -> Evaluation:
    """Run one episode in every environment, until it falls or times out.

    Args:
        env: the environments; each counts once.
        agent: the policy.
        seed: of the starts and the commands.
    """
    cfg = env.cfg
    dt_s = cfg.sim.control_dt_s
    observations, _ = env.reset(seed=seed)
    running = torch.ones(env.num_envs, dtype=torch.bool, device=env.device)
    starts = running.clone()
    survived = torch.zeros_like(running)
    errors = torch.zeros(env.num_envs, 3, device=env.device)
    steps, settled, valid, alternating, returns = (torch.zeros(env.num_envs, device=env.device) for _ in range(5))
    for step in range(round(cfg.termination.episode_s / dt_s)):
        command = env.command
        observations, rewards, terminated, truncated, _ = env.step(agent(observations, starts))
        starts = terminated | truncated
        # The state after an autoreset is the next episode's; the step that ends an episode is not measured.
        measured = running & ~starts
        steps += running
        returns += rewards * running
        valid += env.events.valid_step.any(dim=1) & measured
        alternating += (env.events.alternated_swing_s > 0.0) & measured
        if step * dt_s >= SETTLE_S:
            state = env.state
            achieved = torch.cat((state.base_lin_vel_b[:, :2], state.base_ang_vel_b[:, 2:]), dim=1)
            errors += (command - achieved).abs() * measured[:, None]
            settled += measured
        survived |= running & truncated
        running &= ~starts
    survived |= running
    mean_errors = (errors.sum(dim=0) / settled.sum().clamp_min(1.0)).tolist()
    return Evaluation(
        episodes=env.num_envs,
        without_fall=survived.float().mean().item(),
        mean_length_s=steps.mean().item() * dt_s,
        error_lin_vel_x_m_s=mean_errors[0],
        error_lin_vel_y_m_s=mean_errors[1],
        error_ang_vel_rad_s=mean_errors[2],
        step_frequency_hz=(valid.sum() / (2.0 * dt_s * steps.sum())).item(),
        alternating_steps=(alternating.sum() / valid.sum().clamp_min(1.0)).item(),
        mean_return=returns.mean().item(),
    )


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
    states: tuple[np.ndarray, ...] | None = None

    def act(observations: Tensor, episode_starts: Tensor) -> Tensor:
        nonlocal states
        actions, states = model.predict(
            observations.cpu().numpy(), states, episode_starts.cpu().numpy(), deterministic=True
        )
        return torch.as_tensor(actions)

    return act


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
    add("--episodes", type=whole_number, default=256, metavar="N", help="episodes, all in parallel (default 256)")
    add("--command", type=float, nargs=3, metavar=("VX", "VY", "WZ"), help="one command for all: m/s, m/s, rad/s")
    add("--seed", type=seed_number, default=0, metavar="N", help="of starts and commands (default 0)")
    add("--device", choices=("auto", "cuda", "cpu"), default="auto", help="where to simulate (default auto)")
    add("--picture", type=Path, metavar="FILE", help="also render the first robot at the end")
    add("--log_dir", type=Path, default=Path("logs"), metavar="DIR", help="the folder of all runs (default logs)")
    return parser


def run_evaluation(args: argparse.Namespace) -> Evaluation:
    """Carry out a command line.

    Raises:
        ConfigError: the command is no configuration.
        UsageError: there is no such model.
        MachineError: this machine, its disk or its packages do not let us.
    """
    if args.picture is not None and (args.picture.suffix not in PICTURES or not args.picture.parent.is_dir()):
        raise UsageError(f"--picture: {args.picture} is not a file in a folder that exists, ending in {PICTURES}")
    if args.agent == "policy":
        model, run = _find_model(args)
        config = run.read_config()
    else:
        model, run, config = None, None, PRESETS["cpu"]()
    config = replace(config, env=_evaluated(config.env, args), train=replace(config.train, device=args.device))
    env = make_env(config.env, choose_device(args.device), sim=config.train.sim, camera=args.picture is not None)
    if model is not None:
        agent = policy_agent(config, env, model)
    else:
        agent = zero_agent(env) if args.agent == "zero" else random_agent(env, args.seed)
    result = evaluate(env, agent, args.seed)
    for name, value in asdict(result).items():
        print(f"{name:24s} {value:10.4g}")
    try:
        if run is not None:
            record = {"model": str(model), "seed": args.seed, "command": args.command, **asdict(result)}
            (run.path / "eval.json").write_text(json.dumps(record, indent=2) + "\n")
        if args.picture is not None:
            Image.fromarray(env.render()).save(args.picture)
    except OSError as error:
        raise disk_error(error.filename or "the result", error) from error
    env.close()
    return result


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


def _evaluated(cfg: EnvConfig, args: argparse.Namespace) -> EnvConfig:
    """Return the environment with one robot an episode and, if asked for, one command for all."""
    command = cfg.command
    if args.command is not None:
        vx, vy, wz = args.command
        command = CommandConfig(
            lin_vel_x_m_s=(vx, vx), lin_vel_y_m_s=(vy, vy), ang_vel_rad_s=(wz, wz), standing_fraction=0.0
        )
    return replace(cfg, num_envs=args.episodes, command=command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = make_parser().parse_args(argv)
    return exit_code("biped_eval.py", lambda: run_evaluation(args))


if __name__ == "__main__":
    sys.exit(main())
