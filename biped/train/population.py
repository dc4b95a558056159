"""Population-based training over whole runs: every member is a training of its own, with a folder in the logs.

All state is in files: the ledger `logs/<name>/population.json`, the members' runs, and copies of their weights at the
end of a generation. So any number of processes work on it, on this machine or on others with the same disk, and each
may be killed at any time.
"""

import platform
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from biped.base.errors import ConfigError, MachineError, UsageError, disk_error
from biped.base.files import link_or_copy
from biped.base.interrupts import Interrupted, Interrupts
from biped.config.run import Config
from biped.config.settings import with_settings
from biped.eval.bench import TRIAL_SEED
from biped.runs.checkpoint import CheckpointError, copy_with_policy, read_checkpoint
from biped.runs.directory import RunDirectory, run_path
from biped.train.claims import Claim, Claims
from biped.train.evolution import Generation, Ledger, Member, first_members, successors
from biped.train.population_records import Records
from biped.train.space import Range, check_space
from biped.train.trial_process import (
    POLL_S,
    SCORE,
    ProcessFailed,
    can_go_on,
    check_names,
    finish,
    judge,
    set_flags,
    steps_of,
    training,
)

VALIDATION_SEED = TRIAL_SEED + 1
"""Seed of the validation's commands and starts; the fitness has those of `TRIAL_SEED`."""
FLAGS = {
    "preset": "--preset",
    "size": "--population",
    "steps_each": "--total_timesteps per generation",
    "seed": "--seed",
    "search": "--search",
    "set": "--set or --wandb",
}
"""What is asked for by each entry of a ledger."""


@dataclass(frozen=True)
class PopulationRequest:
    """A request for a population."""

    logs: Path
    """The folder of all runs, which all machines have in common."""
    name: str
    """The population's name; the same name continues it."""
    size: int
    """Number of members."""
    generations: int
    """Total number of generations."""
    preset: str
    """Name of the preset that every member starts from."""
    config: Config
    """The configuration of that preset."""
    space: tuple[Range, ...]
    """The settings that are varied."""
    settings: tuple[str, ...] = ()
    """Fixed settings of every member, as PATH=VALUE."""
    total_timesteps: int | None = None
    """Environment steps of a member over all generations; None: the preset's."""
    seed: int | None = None
    """Seed of the settings' draws; None: a new population's own."""


def grow(request: PopulationRequest, draw: Callable[[Path], Path]) -> None:
    """Train a population, or what of it is left to do and no other process does.

    Args:
        request: what is asked for.
        draw: draws the ledger in a file, and returns the picture.

    Raises:
        UsageError: the request cannot be carried out.
        MachineError: this machine or its disk prevents it, or no member can be trained.
        Interrupted: a signal stopped it.
    """
    if request.size < 2:
        raise UsageError("--population: at least 2 members are needed")
    config = check_space(request.config, request.settings, request.space)
    if not config.train.eval_every_steps:
        raise UsageError("--population judges by evaluations: leave out train.eval_every_steps=0")
    with Interrupts() as interrupts, ExitStack() as held:
        population = Population(request, config, interrupts, held)
        population.open()
        records = Records(population.path, population.ledger, config.wandb, draw, held)
        while not population.is_over:
            population.work(records)
        if population.lead():  # a process that was killed may have left something out
            records.write(request.generations)
    number, best = population.read().best_ever()
    print(f"best of all: {best.rank:.3f} in generation {number + 1}: {population.best.path}")
    for path, value in best.settings.items():
        print(f"  --set {path}={value!r}")


class Population:
    """The folder of a population, and this process's work on it."""

    def __init__(self, request: PopulationRequest, config: Config, interrupts: Interrupts, held: ExitStack) -> None:
        """Refer to the population that a request names.

        Args:
            request: the request.
            config: its preset's configuration with its fixed settings.
            interrupts: the signals.
            held: keeps what this process claims until it ends.
        """
        self.request, self.config = request, config
        self.path = run_path(request.logs, request.name)
        self.ledger = self.path / "population.json"
        self.best = RunDirectory(self.path / "best")
        """The best member of all, as a run that can be evaluated, exported and shared."""
        self._interrupts, self._held = interrupts, held
        self._claims = Claims(self.path / "claims")
        self._failed: dict[tuple[int, int], str] = {}
        self._leads = False

    @property
    def steps_each(self) -> int:
        """Environment steps of a member per generation."""
        total = self.request.total_timesteps or self.config.train.total_timesteps
        return -(-total // self.request.generations)

    @property
    def is_over(self) -> bool:
        """Whether all generations are done."""
        ledger = self.read()
        return ledger.last.ended is not None and len(ledger.generations) >= self.request.generations

    def read(self) -> Ledger:
        """Read the ledger.

        Raises:
            UsageError, MachineError: see `Ledger.read`.
        """
        return Ledger.read(self.ledger)

    def open(self) -> None:
        """Begin the population, or find that there is one with the same request.

        Raises:
            UsageError: there is another one of this name, or a run.
            MachineError: the disk refuses the write.
        """
        if not self._claims.is_used:
            self._check_names()
        with self._claims.alone("ledger"):
            if not self.ledger.exists():
                self._check_names()
                seed = self.request.seed if self.request.seed is not None else time.time_ns() % 2**31
                members = first_members(self.request.name, self.request.size, self.request.space, seed)
                Ledger(self._asked(seed), (Generation(members, time.time()),)).write(self.ledger)
        begun = self.read().asked
        wanted = self._asked(begun.get("seed") if self.request.seed is None else self.request.seed)
        for name, value in wanted.items():
            if begun.get(name) != value:
                raise UsageError(
                    f"the population in {self.path} was begun with another {FLAGS[name]} ({begun.get(name)}, "
                    f"and now {value}): ask for the same, or use another --study"
                )

    def _check_names(self) -> None:
        check_names(self.path, range(self.request.size), is_begun=self._claims.is_used)

    def _asked(self, seed: Any) -> dict[str, Any]:
        request = self.request
        return {
            "preset": request.preset,
            "size": request.size,
            "steps_each": self.steps_each,
            "seed": seed,
            "search": [str(item) for item in request.space],
            "set": list(request.settings),
        }

    def lead(self) -> bool:
        """Return whether this process is the one that ends generations and writes metrics; it is so until it ends."""
        if not self._leads:
            with ExitStack() as tried:
                if tried.enter_context(self._claims.claimed("lead")) is not None:
                    self._held.enter_context(tried.pop_all())
                    self._leads = True
        return self._leads

    def work(self, records: Records) -> None:
        """Do one piece of what is to be done, or wait for other processes for a moment.

        Raises:
            MachineError: no member can be trained, or the disk refuses a write.
            Interrupted: a signal came.
        """
        if self._interrupts.received:
            raise Interrupted(self._interrupts.received)
        ledger = self.read()
        last, generation = ledger.last, len(ledger.generations)
        waiting = [number for number, member in enumerate(last.members) if member.is_open]
        # What failed is put off: others show whether it is the member or the machine.
        waiting.sort(key=lambda number: (generation, number) in self._failed)
        if waiting:
            is_done = any(self._train(number) for number in waiting)
        else:
            is_done = self.lead()
            if is_done:
                self._end(records)
        if not is_done:
            time.sleep(POLL_S)

    def _train(self, number: int) -> bool:
        """Train and judge a member, unless another process does; return whether anything was done."""
        with self._claims.claimed(f"member-{number}") as claim:
            ledger = self.read()
            generation, member = len(ledger.generations), ledger.last.members[number]
            if claim is None or not member.is_open:
                return False
            if (complaint := self._failed.get((generation, number))) is not None:
                return self._give_up(ledger, number, complaint)
            told = ", ".join(f"{path.rpartition('.')[2]}={value:.4g}" for path, value in member.settings.items())
            print(f"generation {generation}, member {number}: {told}", flush=True)
            try:
                fitness = self._trained(ledger, number, claim)
            except ProcessFailed as failed:
                print(f"generation {generation}, member {number}: failed: {failed}", flush=True)
                self._failed[generation, number] = str(failed)
                return True
            self._record(number, replace(member, fitness=fitness, host=platform.node()))
            print(f"generation {generation}, member {number}: {fitness:.3f}", flush=True)
        return True

    def _give_up(self, ledger: Ledger, number: int, complaint: str) -> bool:
        """Leave a member whose training failed without a fitness, once others show that it is not the machine.

        Raises:
            MachineError: no member was ever trained on this machine.
        """
        generation, members = len(ledger.generations), ledger.last.members
        if any(m.is_open and (generation, place) not in self._failed for place, m in enumerate(members)):
            return False
        if not any(member.host == platform.node() for g in ledger.generations for member in g.members):
            raise MachineError(f"no member could be trained on this machine; one said: {complaint}")
        self._record(number, replace(members[number], failure=complaint))
        return True

    def _record(self, number: int, member: Member) -> None:
        with self._claims.alone("ledger"):
            self.read().with_member(number, member).write(self.ledger)

    def _trained(self, ledger: Ledger, number: int, claim: Claim) -> float:
        """Train a member up to the end of the generation, and return its fitness."""
        generation, member = len(ledger.generations), ledger.last.members[number]
        run, goal = RunDirectory(run_path(self.request.logs, member.run)), generation * self.steps_each
        if member.parent is not None and not can_go_on(run):
            self._fork(ledger, number, run)
        finish(lambda: self._command(number, member, goal, run), self._interrupts, handles=claim.handles)
        checkpoint = run.checkpoints()[0]
        fitness = _last_score(run, steps_of(run))
        if fitness is None:  # a signal left no time for the evaluation
            fitness = self._score(checkpoint, TRIAL_SEED)
        try:
            link_or_copy(checkpoint, self._weights(generation, number))
        except OSError as error:
            raise disk_error(self.path, error) from error
        return fitness

    def _command(self, number: int, member: Member, goal: int, run: RunDirectory) -> list[str] | None:
        """Return the command that trains a member up to its goal; None if it is there."""
        until = f"train.total_timesteps={goal}"
        logs, seed = self.request.logs, self.config.train.seed + number
        if steps_of(run) >= goal:
            return None
        if can_go_on(run):
            return training(logs, member.run, "--continue_training", *set_flags([until]))
        varied = [f"{path}={value!r}" for path, value in member.settings.items()]
        ours = [f"train.eval_every_steps={self.steps_each}", f"wandb.group={self.request.name}"]
        last = [f"train.seed={seed}", "train.stop_when_walking=0", until]
        flags = set_flags([*ours, *self.request.settings, *varied, *last])
        return training(logs, member.run, "--new_run", "--preset", self.request.preset, *flags)

    def _fork(self, ledger: Ledger, number: int, run: RunDirectory) -> None:
        """Begin a run with the parent's weights, optimizer and curriculum, other settings, and new episodes."""
        member, generation = ledger.last.members[number], len(ledger.generations)
        assert member.parent is not None
        parent = RunDirectory(run_path(self.request.logs, ledger.generations[-2].members[member.parent].run))
        source = self._weights(generation - 1, member.parent)
        seed = self.config.train.seed + number + self.request.size * generation
        changes: list[tuple[str, Any]] = [*member.settings.items(), ("train.seed", seed), ("wandb.run_name", None)]
        part = run.path.with_name(f".{run.path.name}.part")
        try:
            shutil.rmtree(part, ignore_errors=True)  # what a killed process had begun
            part.mkdir()
            begun, weights = RunDirectory(part), read_checkpoint(source)
            begun.write_config(with_settings(parent.read_config(), changes))
            copy_with_policy(source, begun.checkpoint(weights.num_timesteps), weights.policy)
            part.rename(run.path)
        except OSError as error:
            raise disk_error(run.path, error) from error
        except ConfigError as error:  # values that each are allowed, but not together
            raise ProcessFailed(str(error)) from error
        except CheckpointError as error:
            raise MachineError(f"{error}: restore it, or use another --study") from error

    def _score(self, model: Path, seed: int) -> float:
        train, out = self.config.train, self.path / "claims" / f"judged-{model.parent.name}-{seed}.json"
        episodes = train.eval_episodes
        return float(
            judge(model, out, sim=train.sim, seed=seed, episodes=episodes, interrupts=self._interrupts)["score"]
        )

    def _weights(self, generation: int, number: int) -> Path:
        folder = self.path / "weights"
        folder.mkdir(exist_ok=True)
        return folder / f"{generation}-{number}.zip"

    def _end(self, records: Records) -> None:
        """End the generation, all of whose members are judged, and begin the next one, if there is one to be."""
        ledger = self.read()
        generation = ledger.last
        if generation.ended is None:
            best = generation.members[generation.best]
            model = RunDirectory(run_path(self.request.logs, best.run)).checkpoints()[0]
            try:
                validation = self._score(model, VALIDATION_SEED)
            except ProcessFailed as failed:
                raise MachineError(f"{model} cannot be evaluated: {failed}") from failed
            self._keep_best(ledger)
            generation = replace(generation, ended=time.time(), validation=validation)
            ledger = ledger.with_last(generation)
            with self._claims.alone("ledger"):
                ledger.write(self.ledger)
            self._forget(len(ledger.generations) - 1)
            records.write(self.request.generations)
        number = len(ledger.generations)
        if number < self.request.generations:
            seed = int(ledger.asked["seed"])
            members = successors(generation.members, self.request.name, number + 1, self.request.space, seed)
            following = (*ledger.generations, Generation(members, time.time()))
            with self._claims.alone("ledger"):
                replace(ledger, generations=following).write(self.ledger)

    def _keep_best(self, ledger: Ledger) -> None:
        """Keep a copy of the last generation's best member, if it is the best of all."""
        number, best = ledger.best_ever()
        if number < len(ledger.generations) - 1:
            return
        try:
            self.best.path.mkdir(exist_ok=True)
            self.best.write_config(RunDirectory(run_path(self.request.logs, best.run)).read_config())
            part = self.best.path / ".best_model.zip.part"
            link_or_copy(self._weights(number + 1, ledger.last.best), part)
            part.replace(self.best.best_model)
        except OSError as error:
            raise disk_error(self.best.path, error) from error

    def _forget(self, generation: int) -> None:
        """Delete copies of weights that nothing begins from any more: those of earlier generations."""
        for file in (self.path / "weights").iterdir():
            if file.suffix == ".zip" and int(file.stem.partition("-")[0]) <= generation:
                file.unlink(missing_ok=True)


def _last_score(run: RunDirectory, steps: int) -> float | None:
    """Return the score of the evaluation after these environment steps; None if there was none."""
    curve = run.read_metrics().get(SCORE) if run.metrics.is_file() else None
    is_there = curve is not None and len(curve.steps) and curve.steps[-1] == steps
    return float(curve.values[-1]) if curve is not None and is_there else None
