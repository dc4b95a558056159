"""Train a walking biped: flags -> config -> environment -> model -> learn.

    python biped_train.py                              the preset that fits this machine
    python biped_train.py --preset cpu --seed 3        a small policy on a CPU
    python biped_train.py --continue_training          go on from the furthest model
    python biped_train.py --set env.gait.frequency_hz=1.6 --set ppo.n_epochs=5

Exit codes: 0 trained, 1 the machine cannot, 2 the command line asks for what cannot be, 130 interrupted
(Ctrl-C), 143 terminated (kill); both keep a checkpoint.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.logger import Logger
from torch import Tensor

from biped.command_line import ending_at_once, exit_code, run_flags, typed
from biped.config_io import flatten, to_dict
from biped.errors import MachineError, UsageError, disk_error, is_out_of_memory, warn
from biped.gate_watch import GateWatch, Trial, TrialBench
from biped.interrupts import Interrupted, Interrupts
from biped.learner import choose_device, keep_freed_memory, make_model
from biped.mdp.commands import widened
from biped.mdp.episode_stats import EpisodeSummary
from biped.memory import naming_what_fits, require_memory
from biped.overview import draw_run
from biped.ppo.acting import DeterministicActor
from biped.ppo.checkpoint import Checkpoint, CheckpointError, restore
from biped.ppo.recurrent_ppo import DeviceRecurrentPPO
from biped.reward_doctor import examine
from biped.run_info import describe_start
from biped.runs import RunDirectory, run_path
from biped.sinks import JsonLinesWriter, TensorBoardWriter, make_logger, require_tensorboard
from biped.train_flags import make_parser
from biped.train_plan import Plan, make_plan
from biped.training_state import TrainingState
from biped.training_video import FilmingWatch
from biped.watchdog import Watchdog
from biped_config import Config, TrainConfig
from biped_env import BipedEnv, BipedVecEnv, make_env
from wandb_callback import BipedCallback, Publisher, WandbWriter, start_wandb

PUBLISHED_CHECKPOINTS = 10
"""Checkpoints of a training that are sent to W&B."""
END_S = 14.0
"""Time after a signal when W&B is waited for no longer (s), so that the process is gone after 20."""
CONSOLE_EVERY_S = 15.0
"""Seconds between two tables on the console."""


def summary_metrics(summary: EpisodeSummary) -> dict[str, float]:
    """Return an `EpisodeSummary` by the canonical names of `biped.metrics`."""
    return {
        "env/error_resets": summary.errors,
        "episode/count": summary.episodes,
        "episode/mean_return": summary.mean_return,
        "episode/max_return": summary.max_return,
        "episode/mean_length": summary.mean_length,
        "episode/mean_reward_per_step": summary.reward_per_step,
        "curriculum/progress": summary.progress,
        **{f"rewards/{name}": value for name, value in summary.reward_rates.items()},
        **({f"terminations/{name}": value for name, value in summary.causes.items()} if summary.episodes else {}),
    }


def train(args: argparse.Namespace, command: Sequence[str]) -> None:
    """Carry out a command line; `command` is its words, for the record.

    Raises:
        ConfigError: the configuration cannot hold a value.
        UsageError: what is asked for cannot be.
        MachineError: this machine, its disk or its packages do not let us.
        Interrupted: a signal stopped it; a checkpoint was written before.
    """
    plan = make_plan(args)
    config = plan.config
    require_tensorboard()
    if config.train.torch_threads:
        torch.set_num_threads(config.train.torch_threads)
    device = choose_device(config.train.device, config.train.sim)
    may_change = plan.resume is None
    require_memory(config, device, may_change=may_change)
    with naming_what_fits(config, device, may_change=may_change):
        training = _build(plan, device)
        done, goal = plan.goes_on_after or 0, config.train.goal_timesteps or config.train.total_timesteps
        path = run_path(args.log_dir, args.exp_name)
        watch = f"watch with: {shlex.join(['tensorboard', '--logdir', str(args.log_dir)])}"
        _say(f"training {path} from {done:,} to {goal:,} steps; {watch}")
        run = plan.resume or RunDirectory.create(args.log_dir, args.exp_name, keep_old_as_numbered=args.new_run)
        with run.locked():
            _record_start(run, config, command, plan.goes_on_after)
            _carry_out(plan, training, run, goal)
    _say(f"trained {training.model.num_timesteps:,} steps: {run.final_model}")
    training.env.close()
    if training.bench is not None:
        training.bench.close()


@dataclass(frozen=True)
class Training:
    """What is built of a plan."""

    env: BipedVecEnv
    """The environments."""
    bench: TrialBench | None
    """Environments for the evaluations; None without any."""
    model: DeviceRecurrentPPO
    """The learner."""
    state: TrainingState
    """What checkpoints are made of."""


def _build(plan: Plan, device: str) -> Training:
    config = plan.config
    # A resumed run draws on: with the same seed it would see the same starts and the same noise once more.
    seed = (config.train.seed + (plan.goes_on_after or 0)) % 2**32
    _say(f"building {config.env.num_envs} robots (the first time on a machine this compiles for a minute or two)")
    with ending_at_once():
        env = BipedVecEnv(make_env(config.env, device, sim=config.train.sim, seed=seed))
        bench = TrialBench(config, device) if config.train.eval_every_steps else None
    env.env.command_share = config.env.command.start_share
    keep_freed_memory()
    model = make_model(config, env, seed)
    training = Training(env, bench, model, TrainingState(model, env.env))
    if plan.start is not None:
        _restore(model, training.state, plan.start, goes_on=plan.resume is not None)
    return training


def _carry_out(plan: Plan, training: Training, run: RunDirectory, goal: int) -> None:
    config, model, state, env = plan.config, training.model, training.state, training.env.env
    steps = goal - (plan.goes_on_after or 0)
    with Interrupts() as interrupts:
        writer = _open_sinks(model, run, config, plan.goes_on_after)
        with Watchdog(config.train.stall_after_s, lambda text: _warn_of_stall(text, run, writer)) as watchdog:
            gate = None if training.bench is None else _watch(run, training, config.train, watchdog, interrupts)
            film = _filming(gate, training, config, run, writer, watchdog, interrupts)
            watch = film or gate
            callback = BipedCallback(
                run,
                drain=lambda: _drain(env, config.train.max_error_share),
                save=state.save,
                save_weights=state.save_weights,
                checkpoint_every_steps=config.train.checkpoint_every_steps,
                keep_checkpoints=config.train.keep_checkpoints,
                watch=watch,
                interrupts=interrupts,
                publisher=writer,
                publish_every_steps=steps // PUBLISHED_CHECKPOINTS,
                examine=lambda rates, figures: examine(rates, figures, config.env.reward.weights),
                sign_of_life=watchdog.sign_of_life,
            )
            state.keepers = [callback] if gate is None else [callback, gate]
            state.restore_notes(plan.start if plan.resume else None)
            model.should_break_off = lambda: watchdog.sign_of_life() or interrupts.is_urgent
            try:
                _learn(model, callback, steps, run, interrupts, writer)
            finally:
                if film is not None:
                    film.close()


def _warn_of_stall(text: str, run: RunDirectory, publisher: Publisher | None) -> None:
    warn(text)
    if publisher is not None:
        publisher.alert(f"{run.path.name}: stalled", text)


def _restore(model: DeviceRecurrentPPO, state: TrainingState, start: Checkpoint, *, goes_on: bool) -> None:
    try:
        if not goes_on:
            restore(model, start, counters=False)
        elif why := state.restore(start):
            _say(f"going on with new episodes ({why})")
    except CheckpointError as error:
        remedy = "restore config.json" if goes_on else "use the preset and --set policy.* that it was trained with"
        raise UsageError(f"{error}: {remedy}") from error


def _drain(env: BipedEnv, max_error_share: float) -> dict[str, float]:
    """Return the metrics of a rollout, and widen the commands if they were followed well.

    Raises:
        FloatingPointError: the physics failed too often.
    """
    summary = env.stats.drain()
    if summary.errors > max_error_share * env.num_envs:
        raise FloatingPointError(
            f"the physics failed {summary.errors} times in {env.num_envs} environments in one rollout: lower the gains "
            "or the action scale (--set env.robot.kp_nm_per_rad, env.control.action_scale_rad), or more substeps"
        )
    env.command_share = widened(env.command_share, summary.progress, env.cfg.command)
    return {**summary_metrics(summary), "curriculum/command_share": env.command_share}


class _BrokenOff(Exception):  # noqa: N818 - not an error
    """A signal has no time for the evaluation that is under way."""


def _watch(
    run: RunDirectory, training: Training, cfg: TrainConfig, watchdog: Watchdog, interrupts: Interrupts
) -> GateWatch:
    model, bench = training.model, training.bench
    assert bench is not None

    def evaluate() -> Trial | None:
        actor = DeterministicActor(model.policy, cfg.eval_episodes, model.runs_in)

        def act(observations: Tensor, starts: Tensor) -> Tensor:
            watchdog.sign_of_life()
            if interrupts.is_urgent:
                raise _BrokenOff
            return actor(observations, starts)

        try:
            return bench.run(act)
        except _BrokenOff:
            return None

    return GateWatch(
        run,
        evaluate=evaluate,
        save_best=lambda: training.state.save_weights(run.best_model),
        every_steps=cfg.eval_every_steps,
        stop_after_passes=cfg.stop_when_walking,
    )


def _filming(
    gate: GateWatch | None,
    training: Training,
    config: Config,
    run: RunDirectory,
    publisher: Publisher | None,
    watchdog: Watchdog,
    interrupts: Interrupts,
) -> FilmingWatch | None:
    """Return the gate's watch with a camera, where films are asked for."""
    bench, every = training.bench, config.train.video_every_steps
    if gate is None or bench is None or not every:
        return None

    def publish(film: Path, steps: int) -> None:
        _show("video/walk", film, steps, training.model, publisher)

    def may_wait() -> bool:
        watchdog.sign_of_life()
        return not interrupts.received

    return FilmingWatch(gate, lambda: bench.last_record, config, run.videos, every, publish, may_wait)


def _learn(
    model: DeviceRecurrentPPO,
    callback: BipedCallback,
    steps: int,
    run: RunDirectory,
    interrupts: Interrupts,
    publisher: Publisher | None,
) -> None:
    try:
        never: Any = None  # BipedCallback writes the log itself
        model.learn(steps, callback, log_interval=never, reset_num_timesteps=False, progress_bar=sys.stdout.isatty())
        if callback.was_interrupted and interrupts.received:
            _say_how_to_go_on(model, run)
            raise Interrupted(interrupts.received)
        callback.save_final()
        _draw_overview(model, run, publisher)
    except BrokenPipeError:
        callback.save_checkpoint()
        _say_how_to_go_on(model, run)
        raise
    except OSError as error:
        raise disk_error(run.path, error) from error
    except FloatingPointError as error:
        callback.save_checkpoint()
        raise MachineError(f"training broke down: {error}") from error
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error) and run.checkpoints():  # it fitted, until somebody else came
            _say_how_to_go_on(model, run)
            raise MachineError(f"no memory is left on {model.device}: free some first") from None
        raise
    finally:
        for sink in model.logger.output_formats:
            if isinstance(sink, WandbWriter) and interrupts.received:
                sink.finish_s = min(sink.finish_s, max(1.0, END_S - interrupts.age_s))
        _close(model.logger, run)


def _close(logger: Logger, run: RunDirectory) -> None:
    """Close every sink, whatever becomes of the others.

    Raises:
        MachineError: the disk does not let us.
    """
    failures: list[OSError] = []
    for sink in logger.output_formats:
        try:
            sink.close()
        except OSError as error:
            failures.append(error)
    if failures:
        raise disk_error(run.path, failures[0])


def _say_how_to_go_on(model: DeviceRecurrentPPO, run: RunDirectory) -> None:
    command = typed("biped_train.py", "--continue_training", *run_flags(run.path))
    text = f"stopped after {model.num_timesteps:,} steps; go on with: {command}"
    print(text, file=sys.stderr, flush=True)


def _record_start(run: RunDirectory, config: Config, command: Sequence[str], goes_on_after: int | None) -> None:
    run.remove_leftovers()
    run.write_config(config)
    start = describe_start(["biped_train.py", *command], goes_on_after)
    run.add_start({**start, "config": to_dict(config)})


def _open_sinks(
    model: DeviceRecurrentPPO, run: RunDirectory, config: Config, goes_on_after: int | None
) -> WandbWriter | None:
    """Give the model a logger with every sink; W&B's comes last, as it never fails here."""
    logger = make_logger(
        run.tensorboard,
        resume_after_step=goes_on_after,
        console_every_s=CONSOLE_EVERY_S,
        more=[JsonLinesWriter(run.metrics, goes_on_after)],
        settings=flatten(to_dict(config)),
    )
    model.set_logger(logger)
    writer = start_wandb(run, config.wandb, to_dict(config)) if config.wandb.enabled else None
    logger.output_formats += [] if writer is None else [writer]
    return writer


def _draw_overview(model: DeviceRecurrentPPO, run: RunDirectory, publisher: Publisher | None) -> None:
    try:
        picture = draw_run(run)
    except (UsageError, MachineError) as error:
        _say(f"no overview is drawn: {error}")
        return
    _show("overview", picture, model.num_timesteps, model, publisher)


def _show(name: str, file: Path, steps: int, model: DeviceRecurrentPPO, publisher: Publisher | None) -> None:
    for sink in model.logger.output_formats:
        if isinstance(sink, TensorBoardWriter):
            sink.add_picture(name, file, steps)
    if publisher is not None:
        publisher.publish_picture(name, file, steps)


def _say(text: str) -> None:
    print(text, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    args = make_parser().parse_args(words)
    smaller = "use fewer environments, such as --num_envs 512"
    return exit_code("biped_train.py", lambda: train(args, words), smaller=smaller)


if __name__ == "__main__":
    sys.exit(main())
