"""A training in several processes, started by torchrun: who leads, what the others do, and what if one is lost.

Rank 0 plans, evaluates, prints and writes. The others step their robots, help with each update, and hand in what a
checkpoint holds of them.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from biped.base.errors import MachineError, first_line, warn
from biped.base.interrupts import SIGNALS, Interrupted
from biped.base.platforms import keep_to_share, usable_cores
from biped.env.env import BipedEnv
from biped.ppo.distributed import LostTeamError, Team
from biped.ppo.recurrent_ppo import DeviceRecurrentPPO
from biped.train.callback import Part, Row

BEAT_S = 1.0
"""Time between two signs of life of a process (s)."""
PATIENCE_S = 25.0
"""Time without one after which a process counts as lost (s); torchrun takes 30 s more to end one that is stopped."""
STARTING_S = 600.0
"""The same until the first update is done (s): simulators compile before that, and may let no other thread run."""
FOREVER = timedelta(days=30)
"""Time that a process waits for others; whether they live is known from `Pulse`."""
ANSWERS_S = 30.0
"""Time that a process looks for torchrun's store (s): it is there before any of the processes starts."""
MEETING = timedelta(minutes=5)
"""Time that a process waits for each other one to join."""
_SEED_STRIDE = 1_000_003


@contextmanager
def launched() -> Iterator["Pulse | None"]:
    """Join the processes that torchrun has started; yield None in a process that trains alone.

    Raises:
        MachineError: there are more processes than GPUs, torchrun does not answer, or one of the processes was lost.
    """
    if not is_one_of_several():
        yield None
        return
    _take_own_share()
    _meet()
    team = Team()
    if not team.leads:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - the leader says all of it
    with Pulse(team) as pulse:
        try:
            yield pulse
            team.wait()  # an end of one process is the end of all
        except Interrupted:
            team.wait()
            raise
        except LostTeamError:
            for number in SIGNALS:  # torchrun tells the others to end, before they have said why
                signal.signal(number, signal.SIG_IGN)
            raise MachineError(pulse.name_lost()) from None
    dist.destroy_process_group()


def _meet() -> None:
    """Make `torch.distributed`'s group of all processes.

    Raises:
        MachineError: torchrun has ended, or does not answer.
    """
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        # By itself, torch would wait for torchrun's store as long as for other processes.
        attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
        store = dist.PrefixStore(f"team/{attempt}", _torchruns_store())  # pyright: ignore[reportPrivateImportUsage]
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=FOREVER)
    except RuntimeError as error:
        raise MachineError(f"torchrun has ended, or does not answer ({first_line(error)}): start it again") from error


def _torchruns_store() -> Any:
    """Connect to the store that torchrun keeps, for as long as it runs.

    Raises:
        RuntimeError: there is none.
    """
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    # Asked first, because torch goes on knocking for minutes longer than it is told to.
    until_s = time.monotonic() + ANSWERS_S
    while True:
        try:
            socket.create_connection((address, port), timeout=ANSWERS_S).close()
            break
        except OSError as error:
            if time.monotonic() > until_s:
                raise RuntimeError(f"{address}:{port}: {error.strerror or error}") from error
            time.sleep(0.5)
    return dist.TCPStore(address, port, is_master=False, timeout=MEETING)  # pyright: ignore[reportPrivateImportUsage]


def is_one_of_several() -> bool:
    """Return whether torchrun has started this process together with others."""
    # Others, such as clusters, set WORLD_SIZE for programs that they start once.
    return dist.is_available() and dist.is_torchelastic_launched() and int(os.environ["WORLD_SIZE"]) > 1


def processes_here() -> int:
    """Return how many processes of this training are on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if is_one_of_several() else 1


def own_seed(seed: int, team: Team | None) -> int:
    """Return the seed of this process's robots and noise; weights are drawn with the same one everywhere."""
    return seed if team is None else (seed + _SEED_STRIDE * team.rank) % 2**32


def join(team: Team, model: DeviceRecurrentPPO, env: BipedEnv, seed: int) -> None:
    """Have a learner train with those of other processes.

    Args:
        team: the processes.
        model: the learner; it gets the leader's weights.
        env: its environments, whose statistics become those of all robots.
        seed: seed of what this process alone draws.
    """
    model.team, env.stats.total, env.stats.processes = team, team.total, team.size
    team.same_weights(model.policy)
    if model.style is not None:
        model.style.join(team, seed)
    model.set_random_seed(seed)  # its environments, too


def _take_own_share() -> None:
    """Take a GPU, or a share of the cores, of those that processes on this machine have in common.

    Raises:
        MachineError: there are fewer GPUs than processes.
    """
    mine, count = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if torch.cuda.is_available():
        if count > torch.cuda.device_count():
            raise MachineError(
                f"{count} processes need a GPU each, and there are {torch.cuda.device_count()}: "
                f"use --nproc_per_node={torch.cuda.device_count()}, or CUDA_VISIBLE_DEVICES= for the CPU"
            )
        torch.cuda.set_device(mine)
        return
    keep_to_share(mine, count)
    torch.set_num_threads(usable_cores())


class Pulse:
    """Shows the others that this process lives and what it does, and ends this process if another one is lost."""

    def __init__(self, team: Team, patience_s: float = PATIENCE_S) -> None:
        """Prepare to beat in the store of torchrun; `with` starts.

        Args:
            team: the processes.
            patience_s: time without a beat after which a process counts as lost (s).
        """
        self.team, self._patience_s = team, patience_s
        self._store = _torchruns_store()
        self._doing, self._silent_s, self._has_started = "starting", _never_silent, False
        self._heard: list[tuple[str, float]] = [("", time.monotonic())] * team.size
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)

    def does(self, what: str, silent_s: Callable[[], float] | None = None) -> None:
        """Note what this process does.

        Args:
            what: such as "rolling out".
            silent_s: returns for how long the training has given no sign of life (s); None: it need not give one.
        """
        self._doing, self._silent_s = what, silent_s or _never_silent

    def has_started(self) -> None:
        """Note that an update is done: from now on processes give signs of life."""
        self._has_started = True

    def name_lost(self) -> str:
        """Return a line that names the processes that give no signs of life any more, and what they did last."""
        lost: list[int] = []
        with suppress(RuntimeError):
            self._listen()
            before = [beat for beat, _ in self._heard]
            time.sleep(3.0 * BEAT_S)
            self._listen()
            lost = [rank for rank in self._others() if self._heard[rank][0] == before[rank]]
        return self._line(lost)

    def __enter__(self) -> "Pulse":
        """Start beating."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._is_over.set()
        self._thread.join()

    def _beat(self) -> None:
        count = 0
        while not self._is_over.wait(BEAT_S):
            count += 1
            silent_s = 0.0 if self.team.is_waiting else self._silent_s()
            try:
                if silent_s < self._patience_s:
                    self._store.set(f"pulse/{self.team.rank}", f"{count} {self._doing}")
                self._listen()
            except RuntimeError:
                self._end("torchrun has ended")
            patience_s = self._patience_s if self._has_started else STARTING_S
            lost = [rank for rank in self._others() if time.monotonic() - self._heard[rank][1] > patience_s]
            if lost:
                self._end(self._line(lost))

    def _others(self) -> list[int]:
        return [rank for rank in range(self.team.size) if rank != self.team.rank]

    def _listen(self) -> None:
        keys = [f"pulse/{rank}" for rank in self._others()]
        if not self._store.check(keys):
            return
        for rank, beat in zip(self._others(), self._store.multi_get(keys), strict=True):
            text = beat.decode()
            if text != self._heard[rank][0]:
                self._heard[rank] = text, time.monotonic()

    def _line(self, lost: list[int]) -> str:
        if not lost:
            return "the processes of this training have lost each other: go on with --continue_training"
        told = [f"process {rank} of {self.team.size} was lost, {_last(self._heard[rank][0])}" for rank in lost]
        return f"{'; '.join(told)}: go on with --continue_training"

    def _end(self, line: str) -> None:
        """End at once: the training itself waits for a process that does not come."""
        warn(f"biped_train.py: {line}")
        os._exit(1)


class Stages(Part):
    """Tells the pulse what the training does; the first part."""

    def __init__(self, pulse: Pulse, silent_s: Callable[[], float]) -> None:
        """Connect the part; `silent_s` returns for how long there was no sign of life (s)."""
        super().__init__()
        self._pulse, self._silent_s, self._has_updated = pulse, silent_s, False

    def _on_rollout_start(self) -> None:
        # The first rollout compiles kernels, without a sign of life.
        self._pulse.does("rolling out", self._silent_s if self._has_updated else None)

    def _on_rollout_end(self) -> None:
        self._pulse.does("learning", self._silent_s if self._has_updated else None)

    def after_update(self, row: Row, *, last: bool) -> None:
        """Evaluations and checkpoints take what they take."""
        del row, last
        self._has_updated = True
        self._pulse.has_started()
        self._pulse.does("evaluating or saving")


def _never_silent() -> float:
    return 0.0


def _last(beat: str) -> str:
    doing = beat.partition(" ")[2]
    return f"while {doing}" if doing else "before it began"
