"""One training, from request to end: plan, build, record, then roll out and update until it is done.

The loop is `learn` of Stable-Baselines3: rollout, update, rollout, update. All other work, after each update, is the
list of parts in `Session`, in this order: measure, evaluate, film, examine, show, log, save.
"""

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from biped.base.command_line import ending_at_once, run_flags, typed
from biped.base.cuda_graph import CudaGraph
from biped.base.errors import MachineError, UsageError, disk_error, is_out_of_memory, say, warn
from biped.base.interrupts import Interrupted, Interrupts
from biped.base.machine import keep_freed_memory
from biped.base.watchdog import Watchdog
from biped.config.run import Config, Presets
from biped.config.scale import size_warning
from biped.config.serial import to_dict
from biped.env.env import BipedVecEnv, make_env
from biped.eval.bench import EvaluationBench
from biped.ppo.distributed import Team
from biped.ppo.recurrent_ppo import DeviceRecurrentPPO
from biped.runs.checkpoint import CheckpointError, restore
from biped.runs.directory import RunDirectory
from biped.runs.launches import describe_launch
from biped.runs.loggers import require_tensorboard
from biped.runs.publishing import Pictures
from biped.train.callback import BipedCallback, Doctor, Gate, Log, Rollouts
from biped.train.checkpoints import Checkpoints, HandsIn
from biped.train.determinism import determinism
from biped.train.films import Camera, Films
from biped.train.gate_watch import GateWatch, PolicyEvaluator
from biped.train.launch import Pulse, Stages, join, launched, own_seed
from biped.train.learner import make_model
from biped.train.memory import naming_what_fits, require_memory
from biped.train.plan import Plan, TrainRequest, make_plan, read_files
from biped.train.profile import Profile
from biped.train.sinks import close_sinks, open_sinks
from biped.train.state import TrainingState
from biped.train.style import add_style, demonstrations
from biped.train.watched import Page, Watched, last_evaluation

END_S = 14.0
"""Time after a signal when waiting for W&B ends (s), so that the process ends within 20 s."""


@dataclass(frozen=True)
class Drawing:
    """Drawing functions for a training, which itself does not draw."""

    curves: Callable[[RunDirectory], Path]
    """Draws a run on one page and returns the path."""
    camera: Callable[[Config, Path], Camera]
    """Makes a camera for a configuration's robots, with a folder for its films."""
    page: Callable[[str, Config, int], Page] | None = None
    """Opens a page that shows the training of a run of that name, up to these environment steps; None: there is none.
    """


def train(request: TrainRequest, presets: Presets, drawing: Drawing) -> None:
    """Train as requested.

    Raises:
        ConfigError: a value of the configuration is invalid.
        UsageError: the request cannot be carried out.
        MachineError: this machine, its disk or its packages prevent it.
        Interrupted: a signal stopped it, after a checkpoint was written.
    """
    with launched() as pulse:
        _train(request, presets, drawing, pulse)


def _train(request: TrainRequest, presets: Presets, drawing: Drawing, pulse: Pulse | None) -> None:
    """Train; `pulse` is that of the processes that train together, None for one alone."""
    make = partial(make_plan, request, presets)
    plan = make() if pulse is None else pulse.team.share(make)
    require_tensorboard()
    if plan.config.train.torch_threads:
        torch.set_num_threads(plan.config.train.torch_threads)
    may_change = plan.resume is None
    require_memory(plan.config, plan.device, may_change=may_change)
    with (
        determinism(plan.config.train.deterministic),
        naming_what_fits(plan.config, plan.device, may_change=may_change),
    ):
        training = build(plan, None if pulse is None else pulse.team)
        if pulse is not None and not pulse.team.leads:
            follow(plan, training, pulse)
            training.close()
            return
        watch = shlex.join(["tensorboard", "--logdir", str(request.logs)])
        say(f"training {plan.path} from {plan.goes_on_after or 0:,} to {plan.goal:,} steps; watch with: {watch}")
        run = plan.open_run()
        with run.locked(), Interrupts(is_patient=pulse is not None) as interrupts:
            record_launch(run, plan)
            session = Session(plan, training, run, interrupts, drawing, pulse)
            with session.watchdog:
                session.learn()
    say(f"trained {training.model.num_timesteps:,} steps: {run.final_model}")
    training.close()


@dataclass(frozen=True)
class Training:
    """The objects built from a plan."""

    env: BipedVecEnv
    """The environments."""
    bench: EvaluationBench | None
    """Environments for evaluations; None without evaluations."""
    model: DeviceRecurrentPPO
    """The learner."""
    state: TrainingState
    """Saves and restores checkpoints."""

    def close(self) -> None:
        """Free the simulators."""
        self.env.close()
        if self.bench is not None:
            self.bench.close()


def build(plan: Plan, team: Team | None = None) -> Training:
    """Build environments and learner, and restore the plan's checkpoint.

    Args:
        plan: the plan.
        team: the processes that train together; only its leader evaluates.

    Raises:
        UsageError: the checkpoint belongs to another network.
        MachineError: the simulator cannot be built on this machine.
    """
    config, seed = plan.config, own_seed(plan.seed, team)
    demos = demonstrations(config)
    each = "" if team is None else f"{team.size} x "
    say(f"building {each}{config.env.num_envs} robots (the first time this compiles for a minute or two)")
    with ending_at_once():
        env = BipedVecEnv(make_env(config.env, plan.device, sim=config.train.sim, seed=seed))
        evaluates = config.train.eval_every_steps and (team is None or team.leads)
        bench = EvaluationBench(config, plan.device) if evaluates else None
    if text := size_warning(config.env, env.env.scene.mass_kg):
        warn(text)
    env.env.command_share = config.env.command.start_share
    keep_freed_memory()
    model = make_model(config, env, plan.seed)
    if demos is not None:
        add_style(config, model, env.env, demos, plan.seed)
    if team is not None:
        join(team, model, env.env, seed)
    training = Training(env, bench, model, TrainingState(model, env.env))
    _restore(plan, training)
    if config.train.cuda_graphs:
        _use_graphs(env, model)
    return training


def _use_graphs(env: BipedVecEnv, model: DeviceRecurrentPPO) -> None:
    if env.env.device.type != "cuda":
        warn("train.cuda_graphs: there are none on the CPU, so that the training runs without")
        return
    env.env.use_graphs(CudaGraph)
    model.use_graphs(CudaGraph)


def record_launch(run: RunDirectory, plan: Plan) -> None:
    """Record the configuration and the conditions of this process in the run's directory.

    Raises:
        MachineError: the disk refuses the write.
    """
    run.remove_leftovers()
    run.write_config(plan.config)
    command = ["biped_train.py", *plan.request.command]
    launch = describe_launch(command, plan.goes_on_after, read_files(plan.config))
    run.add_launch({**launch, "config": to_dict(plan.config)})


def follow(plan: Plan, training: Training, pulse: Pulse) -> None:
    """Train in a process that does not lead: it steps robots, and hands in its part of each checkpoint.

    Raises:
        MachineError: the physics fails.
        Interrupted: a signal stopped it, or another process.
    """
    model, train = training.model, plan.config.train
    rollouts = Rollouts(training.env.env, train.max_error_share)
    training.state.keepers = [rollouts]
    training.state.restore_notes(plan.start if plan.resume else None)
    model.set_logger(Logger(None, []))
    never: Any = None
    with Interrupts(is_patient=True) as interrupts, Watchdog(train.stall_after_s, warn) as watchdog:
        stages = Stages(pulse, lambda: watchdog.silent_s)
        parts = [stages, rollouts, HandsIn(training.state, train.checkpoint_every_steps)]
        callback = BipedCallback(parts, interrupts, watchdog, pulse.team)
        try:
            model.learn(plan.steps, callback, log_interval=never, reset_num_timesteps=False)
        except FloatingPointError as error:
            raise MachineError(f"training broke down: {error}") from error
        if callback.was_interrupted and interrupts.received:
            raise Interrupted(interrupts.received)


class Session:
    """The training loop, and all work around it."""

    def __init__(
        self,
        plan: Plan,
        training: Training,
        run: RunDirectory,
        interrupts: Interrupts,
        drawing: Drawing,
        pulse: Pulse | None = None,
    ) -> None:
        """Open the metric outputs and connect the parts.

        Args:
            plan: the plan.
            training: the objects built from it.
            run: the run's directory; locked.
            interrupts: the signals, already handled by it.
            drawing: draws films and curves.
            pulse: that of the processes that train together; None: this one trains alone.

        Raises:
            UsageError: W&B would reject a name.
            MachineError: the disk refuses the write, or the page cannot be served.
        """
        self._plan, self._training, self._run = plan, training, run
        self._interrupts, self._drawing, self._pulse = interrupts, drawing, pulse
        self._page = None if drawing.page is None else drawing.page(run.path.name, plan.config, plan.goal)
        if self._page is not None and plan.resume:
            self._page.update(*last_evaluation(run), None)
        self._publisher = open_sinks(training.model, run, plan)
        self._pictures = Pictures(training.model.logger, self._publisher)
        self.watchdog = Watchdog(plan.config.train.stall_after_s, self._warn_of_stall)
        """Reports a stalled training; `train` enters its context."""
        self._films: Films | None = None
        self._checkpoints = Checkpoints(
            run, training.state, plan.config.train, publisher=self._publisher, steps=plan.steps
        )
        self._callback = BipedCallback(self._make_parts(), interrupts, self.watchdog, training.model.team)
        training.state.restore_notes(plan.start if plan.resume else None)
        training.model.should_break_off = self._should_break_off

    def _make_parts(self) -> list[BaseCallback]:
        """Make the parts that act after each update: measure, evaluate, film, examine, show, log, save."""
        cfg, training = self._plan.config, self._training
        rollouts = Rollouts(training.env.env, cfg.train.max_error_share)
        training.state.keepers = [rollouts]
        judging = [] if training.bench is None else self._judging(training.bench)
        watched = [] if self._page is None else [Watched(training.env.env, self._page)]
        stages = [] if self._pulse is None else [Stages(self._pulse, lambda: self.watchdog.silent_s)]
        return [*stages, *self._profiling(), rollouts, *judging, *watched, Log(rollouts), self._checkpoints]

    def _profiling(self) -> list[BaseCallback]:
        rollouts = self._plan.request.profile
        return [Profile(self._training.env.env, rollouts, self._run.profile)] if rollouts else []

    def _judging(self, bench: EvaluationBench) -> list[BaseCallback]:
        cfg, training = self._plan.config, self._training
        tell = None if self._page is None else self._page.judge
        evaluator = PolicyEvaluator(training.model, bench, self.watchdog, self._interrupts, tell)
        watch = GateWatch(
            self._run,
            evaluator,
            training.state,
            every_steps=cfg.train.eval_every_steps,
            stop_after_passes=cfg.train.stop_when_walking,
        )
        training.state.keepers.append(watch)
        gate = Gate(watch, self._interrupts)
        doctor = Doctor(cfg.env.reward.weights, self._run.path.name, self._publisher)
        if not cfg.train.video_every_steps:
            return [gate, doctor]
        camera = self._drawing.camera(cfg, self._run.videos)
        every, showing = cfg.train.video_every_steps, self._pictures
        self._films = Films(camera, bench, every, showing, self.watchdog, self._interrupts)
        return [gate, self._films, doctor]

    def learn(self) -> None:
        """Roll out and update until the goal, the gate or a signal ends training.

        Raises:
            MachineError: the disk, the memory or the physics fails.
            Interrupted: a signal stopped it, after a checkpoint was written.
        """
        model, run = self._training.model, self._run
        never: Any = None  # the part `Log` writes after each update
        bar = sys.stdout.isatty()
        try:
            model.learn(
                self._plan.steps, self._callback, log_interval=never, reset_num_timesteps=False, progress_bar=bar
            )
            if self._callback.was_interrupted and self._interrupts.received:
                self._say_how_to_go_on()
                raise Interrupted(self._interrupts.received)
            self._checkpoints.save_final()
            if self._plan.config.train.draw_overview:
                self._draw_curves()
        except BrokenPipeError:
            self._part()
            self._callback.keep()
            self._say_how_to_go_on()
            raise
        except OSError as error:
            raise disk_error(run.path, error) from error
        except FloatingPointError as error:
            self._part()
            self._callback.keep()
            raise MachineError(f"training broke down: {error}") from error
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error) and run.checkpoints():  # it did fit; another process took the memory
                self._say_how_to_go_on()
                raise MachineError(f"no memory is left on {model.device}: free some first") from None
            raise
        finally:
            self._end()

    def _part(self) -> None:
        if self._pulse is not None:
            self._pulse.team.part()

    def _end(self) -> None:
        """Close everything that is open, after any kind of end."""
        if self._films is not None:
            self._films.close()
        if self._page is not None:
            self._page.close()
        if self._publisher is not None and self._interrupts.received:
            self._publisher.finish_s = min(self._publisher.finish_s, max(1.0, END_S - self._interrupts.age_s))
        close_sinks(self._training.model.logger, self._run)

    def _should_break_off(self) -> bool:
        self.watchdog.sign_of_life()
        return self._pulse is None and self._interrupts.is_urgent

    def _warn_of_stall(self, text: str) -> None:
        warn(text)
        if self._publisher is not None:
            self._publisher.alert(f"{self._run.path.name}: stalled", text)

    def _say_how_to_go_on(self) -> None:
        command = typed("biped_train.py", "--continue_training", *run_flags(self._run.path))
        warn(f"stopped after {self._training.model.num_timesteps:,} steps; go on with: {command}")

    def _draw_curves(self) -> None:
        try:
            picture = self._drawing.curves(self._run)
        except (UsageError, MachineError) as error:
            say(f"no overview is drawn: {error}")
            return
        self._pictures.show("overview", picture, self._training.model.num_timesteps)


def _restore(plan: Plan, training: Training) -> None:
    """Restore the plan's checkpoint: completely to continue a run, else only its weights."""
    if plan.start is None:
        return
    goes_on = plan.resume is not None
    try:
        if not goes_on:
            restore(training.model, plan.start, counters=False)
        elif why := training.state.restore(plan.start):
            say(f"going on with new episodes ({why})")
    except CheckpointError as error:
        remedy = "restore config.json" if goes_on else "use the preset and --set policy.* that it was trained with"
        raise UsageError(f"{error}: {remedy}") from error
