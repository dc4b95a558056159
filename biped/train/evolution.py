"""Population-based training (Jaderberg et al. 2017, arXiv:1711.09846) as data: members, generations, who follows whom.

Each generation trains every member for a while and judges it. Then a quarter of the members, the worst, take weights
and settings of one of the best quarter, and change the settings; the others go on as they are.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from biped.base.errors import MachineError, UsageError, disk_error
from biped.base.files import write_whole
from biped.train.space import Range

REPLACED = 0.25
"""Share of the members that are replaced, and of those that replace them (section 4.1.1: truncation selection)."""
ROLLING = 10
"""Generations of the rolling mean of their time."""


@dataclass(frozen=True)
class Member:
    """A member in one generation."""

    run: str
    """Name of its run; the same as in the generation before, if it goes on."""
    settings: dict[str, float]
    """Its settings, by path."""
    parent: int | None = None
    """The member of the generation before whose weights it has, its own number if it goes on; None in the first."""
    fitness: float | None = None
    """Score in the walking gate at the end; None before that, or if its training failed."""
    failure: str | None = None
    """What its training said when it failed."""
    host: str | None = None
    """The machine that judged it."""

    @property
    def is_open(self) -> bool:
        """Whether it is still to be trained and judged."""
        return self.fitness is None and self.failure is None

    @property
    def rank(self) -> float:
        """Its fitness, below every other where its training failed."""
        return -1.0 if self.fitness is None else self.fitness


@dataclass(frozen=True)
class Generation:
    """All members between two selections."""

    members: tuple[Member, ...]
    """The members; their places are their numbers."""
    began: float
    """When it began (s since 1970)."""
    ended: float | None = None
    """When all its members were judged (s since 1970); None before that."""
    validation: float | None = None
    """Score of its best member in episodes with other starts and commands."""

    @property
    def best(self) -> int:
        """Number of the best member."""
        return max(range(len(self.members)), key=lambda number: self.members[number].rank)

    @property
    def took_s(self) -> float:
        """Time from its beginning to its end, interruptions included (s)."""
        return 0.0 if self.ended is None else self.ended - self.began


@dataclass(frozen=True)
class Ledger:
    """All that a population remembers; a file in its folder."""

    asked: dict[str, Any]
    """What was asked for; a population keeps to it."""
    generations: tuple[Generation, ...]
    """The generations; the last one is under way, or the end."""

    @classmethod
    def read(cls, file: Path) -> "Ledger":
        """Read it from its file.

        Raises:
            UsageError: the file is damaged.
            MachineError: it cannot be read.
        """
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            return cls(found["asked"], tuple(_generation(item) for item in found["generations"]))
        except OSError as error:
            raise disk_error(file, error) from error
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{file} is no population's ledger ({error}): restore it, or use another --study"
            ) from error

    def write(self, file: Path) -> None:
        """Write it to its file, completely or not at all.

        Raises:
            MachineError: the disk refuses the write.
        """
        try:
            write_whole(file, json.dumps(asdict(self), indent=1).encode())
        except OSError as error:
            raise disk_error(file, error) from error

    @property
    def last(self) -> Generation:
        """The last generation."""
        return self.generations[-1]

    def with_last(self, generation: Generation) -> "Ledger":
        """Return a copy with another last generation."""
        return replace(self, generations=(*self.generations[:-1], generation))

    def with_member(self, number: int, member: Member) -> "Ledger":
        """Return a copy with another member in the last generation."""
        members = self.last.members
        return self.with_last(replace(self.last, members=(*members[:number], member, *members[number + 1 :])))

    def best_ever(self) -> tuple[int, Member]:
        """Return the best member of all, the first if several are equal, and its generation.

        Raises:
            MachineError: no member was judged.
        """
        best = max(((number, g.members[g.best]) for number, g in enumerate(self.generations)), key=lambda i: i[1].rank)
        if best[1].fitness is None:
            raise MachineError("no member has a fitness: start the command again")
        return best


def _generation(item: Mapping[str, Any]) -> Generation:
    members = tuple(Member(**member) for member in item["members"])
    return Generation(members, item["began"], item["ended"], item["validation"])


def first_members(name: str, size: int, space: Sequence[Range], seed: int) -> tuple[Member, ...]:
    """Return the members of the first generation, with settings drawn from the whole space."""
    dice = random.Random(f"{seed}")
    return tuple(Member(f"{name}-{number}", {r.path: r.draw(dice) for r in space}) for number in range(size))


def successors(
    members: Sequence[Member], name: str, number: int, space: Sequence[Range], seed: int
) -> tuple[Member, ...]:
    """Return the members of the next generation: the same draws each time, whoever draws.

    Args:
        members: those of the generation before, all judged; at least two.
        name: the population's name.
        number: the new generation's number; the first generation is 1.
        space: the settings that are varied.
        seed: the population's seed.
    """
    dice = random.Random(f"{seed} {number}")
    order = sorted(range(len(members)), key=lambda place: members[place].rank, reverse=True)
    count = max(1, int(REPLACED * len(members)))
    best, worst = order[:count], order[-count:]
    failed = [place for place in order if members[place].fitness is None and place not in worst]
    followers = [replace(member, parent=place, fitness=None, host=None) for place, member in enumerate(members)]
    for place in [*worst, *failed]:
        parent = dice.choice([other for other in best if other not in failed and other != place] or [order[0]])
        if members[place].rank == members[parent].rank:
            continue  # there is nothing to gain
        settings = {r.path: r.perturbed(members[parent].settings[r.path], dice) for r in space}
        followers[place] = Member(f"{name}-{place}-g{number}", settings, parent)
    return tuple(followers)


def row(generations: Sequence[Generation]) -> dict[str, float]:
    """Return the metrics of the last of some generations, which have ended, by the names of docs/metrics.md."""
    last = generations[-1]
    fitness = [member.fitness for member in last.members if member.fitness is not None]
    recent = [generation.took_s for generation in generations[-ROLLING:]]
    return {
        "fitness/mean": float(np.mean(fitness)),
        "fitness/max": max(fitness),
        "fitness/min": min(fitness),
        "fitness/std": float(np.std(fitness)),
        "fitness/best_ever": max(member.rank for generation in generations for member in generation.members),
        "training/generation": float(len(generations)),
        "training/generation_time": last.took_s,
        "training/avg_generation_time": float(np.mean(recent)),
        **({} if last.validation is None else {"validation/fitness": last.validation}),
    }
