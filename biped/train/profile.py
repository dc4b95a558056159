"""Where the time of a training goes: a trace by torch's profiler, and a table of the parts of the work.

Nothing in the rooms knows of it: while a profile is taken, the functions that `places` lists are replaced by ones that
name their part to torch's profiler.
"""

import contextlib
import functools
import heapq
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile, record_function

from biped.base.errors import say, warn
from biped.base.files import whole_folder
from biped.env import env as environment
from biped.env.env import BipedEnv
from biped.ppo.sampling import Sampler
from biped.train.callback import Part, Row

STEP, SIMULATION, READING, REWARDS, OBSERVATIONS = "step", "simulation", "reading", "rewards", "observations"
INFERENCE, UPDATE, REST, OTHER, WAITS = "inference", "update", "rest of a step", "other", "waits"
MEANING = {
    SIMULATION: "physics, and setting the robots that begin an episode",
    READING: "the simulator's results as a state",
    REWARDS: "the reward terms and their sum",
    OBSERVATIONS: "what actor and critic see",
    REST: "commands, gait, randomisation and its forces, terminations, statistics",
    INFERENCE: "actions and values in the rollout",
    UPDATE: "the gradient steps after it",
    OTHER: "callbacks, the buffer, evaluations, logging",
    WAITS: "the host reads from the device (counted in the parts above too)",
}
"""The rows of the table, and what is in them."""
_WAITING = frozenset(
    (
        "aten::_local_scalar_dense",
        "aten::nonzero",
        "cudaStreamSynchronize",
        "cudaDeviceSynchronize",
        "cudaEventSynchronize",
        "cudaMemcpy",
    )
)
"""Operations for which the host waits on a GPU; on a CPU they cost next to nothing."""
_DEAREST = 20


@dataclass(frozen=True)
class Place:
    """A function that belongs to one part of the work."""

    owner: Any
    """The object, class or module that has it."""
    name: str
    """Its name there."""
    part: str
    """The part."""


def places(env: BipedEnv, learner: type) -> list[Place]:
    """Return the places of a training that are measured.

    Args:
        env: the environments; evaluations have others, which are not measured.
        learner: the class of the learner: what is set on the object itself would end up in its checkpoints.
    """
    scene = env.scene
    return [
        Place(env, "step", STEP),
        *(Place(scene, name, SIMULATION) for name in ("advance", "reset", "apply", "set_base_velocity")),
        Place(scene, "_read_state", READING),
        Place(environment, "compute_rewards", REWARDS),
        Place(env, "_observe", OBSERVATIONS),
        Place(learner, "_act", INFERENCE),
        Place(Sampler, "values", INFERENCE),
        Place(learner, "train", UPDATE),
    ]


@contextlib.contextmanager
def named(where: Sequence[Place]) -> Iterator[None]:
    """Have torch's profiler see these places under the names of their parts."""
    with contextlib.ExitStack() as undo:
        for place in where:
            is_own = place.name in vars(place.owner)
            real: Callable[..., Any] = getattr(place.owner, place.name)
            setattr(place.owner, place.name, _named(real, place.part))
            if is_own:
                undo.callback(setattr, place.owner, place.name, real)
            else:
                undo.callback(delattr, place.owner, place.name)
        yield


def _named(real: Callable[..., Any], part: str) -> Callable[..., Any]:
    @functools.wraps(real)
    def measured(*args: Any, **kwargs: Any) -> Any:
        with record_function(part):
            return real(*args, **kwargs)

    return measured


@dataclass(frozen=True)
class Cost:
    """What one part, or one operation, has cost."""

    name: str
    """Its name."""
    calls: int
    """How often it ran."""
    seconds: float
    """Time on the host (s); of an operation: its own, without what it calls."""
    device_s: float
    """Time of its kernels on the GPU (s); 0 without one."""


@dataclass(frozen=True)
class Table:
    """A profile as figures."""

    device: str
    """Where the training ran."""
    num_envs: int
    """Environments."""
    rollouts: int
    """Rollouts, each with its update."""
    total_s: float
    """How long they took, with the profiler's own work (s)."""
    parts: tuple[Cost, ...]
    """The parts; all but the last, the waits, add up to the whole."""
    operations: tuple[Cost, ...]
    """The operations of torch that took longest by themselves."""

    @classmethod
    def of(cls, events: Sequence[Any], device: str, num_envs: int, rollouts: int, total_s: float) -> "Table":
        """Sum up a profile.

        Args:
            events: torch's `key_averages()`; times in microseconds.
            device: the device's name.
            num_envs: environments.
            rollouts: rollouts that were profiled.
            total_s: how long they took (s).
        """
        known = {event.key: event for event in events}

        def cost(name: str) -> Cost:
            event = known.get(name)
            return Cost(name, 0, 0.0, 0.0) if event is None else _cost(event, name, event.cpu_time_total)

        inner = [cost(name) for name in (SIMULATION, READING, REWARDS, OBSERVATIONS)]
        step, inference, update = cost(STEP), cost(INFERENCE), cost(UPDATE)
        rest = Cost(
            REST,
            step.calls,
            step.seconds - sum(part.seconds for part in inner),
            step.device_s - sum(part.device_s for part in inner),
        )
        other = Cost(OTHER, rollouts, max(0.0, total_s - step.seconds - inference.seconds - update.seconds), 0.0)
        waiting = [_cost(event, WAITS, event.self_cpu_time_total) for event in events if event.key in _WAITING]
        waits = Cost(WAITS, sum(wait.calls for wait in waiting), sum(wait.seconds for wait in waiting), 0.0)
        operations = [
            _cost(event, event.key, event.self_cpu_time_total) for event in events if event.key not in {*MEANING, STEP}
        ]
        dearest = heapq.nlargest(_DEAREST, operations, key=lambda row: max(row.seconds, row.device_s))
        parts = (*inner, rest, inference, update, other, waits)
        return cls(device, num_envs, rollouts, total_s, parts, tuple(dearest))

    def __str__(self) -> str:
        """Return it as text."""
        head = (
            f"{self.rollouts} rollouts of {self.num_envs} environments and their updates on {self.device}: "
            f"{self.total_s:.2f} s, with the profiler's own work\n\n"
            f"{'part':16} {'s':>8} {'share':>7} {'GPU s':>8} {'calls':>8}  what it is"
        )
        rows = [
            f"{part.name:16} {part.seconds:8.3f} {part.seconds / max(self.total_s, 1e-9):7.1%} {part.device_s:8.3f} "
            f"{part.calls:8,}  {MEANING[part.name]}"
            for part in self.parts
        ]
        below = ["", f"{'operation':48} {'own s':>8} {'GPU s':>8} {'calls':>8}"]
        below += [f"{op.name:48.48} {op.seconds:8.3f} {op.device_s:8.3f} {op.calls:8,}" for op in self.operations]
        return "\n".join((head, *rows, *below, ""))


def _cost(event: Any, name: str, time_us: float) -> Cost:
    return Cost(name, int(event.count), 1e-6 * float(time_us), 1e-6 * float(event.device_time_total))


class Profile(Part):
    """Profiles some rollouts and their updates, after one that warms up; must be the first part."""

    def __init__(self, env: BipedEnv, rollouts: int, out: Path) -> None:
        """Connect the part.

        Args:
            env: the environments.
            rollouts: rollouts to profile.
            out: the folder for trace.json.gz, table.txt and table.json.
        """
        super().__init__()
        self._env, self._wanted, self._out = env, rollouts, out
        self._seen = self._done = 0
        self._started_s = 0.0
        self._profiler: Any = None
        self._running = contextlib.ExitStack()

    def _on_rollout_start(self) -> None:
        self._seen += 1
        if self._seen == 2:
            self._start()

    def after_update(self, row: Row, *, last: bool) -> None:
        """Count a rollout; write the profile after the last one.

        Raises:
            OSError: the disk refuses the write.
        """
        del row
        if self._profiler is not None:
            self._done += 1
            if last or self._done == self._wanted:
                self._finish()

    def _on_training_end(self) -> None:
        self.keep()
        if self._done < self._wanted:
            text = f"{self._done} of {self._wanted} rollouts are in the profile: training ended before"
            warn(f"--profile: {text}; the first rollout only warms up")

    def keep(self) -> None:
        """Give the profile up: training ends in the middle of it."""
        self._profiler = None
        self._running.close()

    def _start(self) -> None:
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # its notes are for its own developers
        cuda = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
        self._running.enter_context(named(places(self._env, type(self.model))))
        self._synchronize()
        # Actor and critic may be updated in threads of their own.
        threads = _ExperimentalConfig(profile_all_threads=True)
        self._profiler = profile(activities=[ProfilerActivity.CPU, *cuda], experimental_config=threads)
        self._running.enter_context(self._profiler)
        self._started_s = time.perf_counter()

    def _finish(self) -> None:
        self._synchronize()
        total_s = time.perf_counter() - self._started_s
        profiler, self._profiler = self._profiler, None
        self._running.close()
        device = torch.cuda.get_device_name() if self._device.type == "cuda" else "the CPU"
        table = Table.of(cast("Any", profiler).key_averages(), device, self._env.num_envs, self._done, total_s)
        with whole_folder(self._out) as folder:
            profiler.export_chrome_trace(str(folder / "trace.json.gz"))
            (folder / "table.txt").write_text(str(table))
            (folder / "table.json").write_text(json.dumps(asdict(table), indent=2) + "\n")
        say(f"{table}\nprofile: {self._out}; https://ui.perfetto.dev shows its trace.json.gz")

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    @property
    def _device(self) -> torch.device:
        return self._env.device
