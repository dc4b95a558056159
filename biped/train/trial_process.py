"""Trainings and evaluations in processes of their own, for whatever needs many: searches, populations, seeds."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from biped.base.command_line import as_word
from biped.base.errors import MachineError
from biped.base.files import REPOSITORY
from biped.base.interrupts import Interrupted, Interrupts
from biped.runs.directory import RunDirectory, steps_in_name

SCORE = "gate/score"
"""The metric by which trainings are compared."""
POLL_S = 1.0
"""Time between two looks at a process (s)."""
STOP_S = 60.0
"""Time for an interrupted training to save and end (s)."""
TRIES = 3
"""How often a process that a signal ends is started."""
_SAVED = (129, 130, 143)
"""Exit codes of a training that saved and ended because of SIGHUP, SIGINT or SIGTERM."""
_GATE_FAILED = 3
"""Exit code of an evaluation whose policy did not pass the gate; it has figures all the same."""


class ProcessFailed(Exception):  # noqa: N818
    """A process ended with an error; the message is the last line that it said."""


class ProcessKilled(ProcessFailed):
    """A signal that was not ours ended a process: the system lacked memory, or a person meant only this one."""


def training(logs: Path, name: str, *flags: str) -> list[str]:
    """Return the command of a training of a run in a folder of all runs."""
    return [sys.executable, str(REPOSITORY / "biped_train.py"), "-e", name, "--log_dir", as_word(logs), *flags]


def check_names(path: Path, numbers: Iterable[int], *, is_begun: bool) -> None:
    """Check that the folder of many trainings, and those of its runs, NAME-0, NAME-1, ..., belong to nothing else.

    Args:
        path: the folder.
        numbers: those of the runs that are to be made.
        is_begun: whether the folder is that of these trainings already.

    Raises:
        UsageError: one of them exists.
        MachineError: the disk refuses the write.
    """
    for number in numbers:
        RunDirectory.check_new(path.parent, f"{path.name}-{number}", may_exist=False)
    RunDirectory.check_new(path.parent, path.name, may_exist=is_begun)


def set_flags(settings: Sequence[str]) -> list[str]:
    """Return the flags that set fields of the configuration, given as PATH=VALUE; later ones win."""
    return [word for setting in settings for word in ("--set", setting)]


def run_to_end(
    command: Sequence[str],
    interrupts: Interrupts,
    look: Callable[[bool], None] | None = None,
    *,
    also_fine: tuple[int, ...] = (),
    handles: tuple[int, ...] = (),
) -> None:
    """Run a command in a process of its own, and wait for its end.

    Args:
        command: its words.
        interrupts: a signal stops the process, which may save before it ends.
        look: called about once a second, and with True after the process has ended; what it raises stops the process.
            None: nothing looks.
        also_fine: exit codes besides 0 that are no failure.
        handles: open files that the process inherits; see `biped.train.claims.Claim`.

    Raises:
        ProcessFailed: the process failed.
        ProcessKilled: a signal ended it.
        Interrupted: a signal came.
    """
    # A W&B run id belongs to one run; with a shared id all trainings would be one run in W&B.
    environment = {name: text for name, text in os.environ.items() if name != "WANDB_RUN_ID"}
    # Use a separate session: the terminal sends Ctrl-C to its whole session, and our signal would be a second one.
    with (
        tempfile.TemporaryFile("w+", errors="replace") as said,
        subprocess.Popen(list(command), env=environment, stderr=said, **_options(handles)) as process,
    ):
        try:
            while not _is_over(process, interrupts, look):
                time.sleep(POLL_S)
        except BaseException:
            _stop(process)
            raise
        said.seek(0)
        complaint = said.read().strip().splitlines()
    if process.returncode not in (0, *also_fine):
        is_killed = process.returncode < 0 or process.returncode in _SAVED
        told = complaint[-1] if complaint else f"exit code {process.returncode}"
        raise (ProcessKilled if is_killed else ProcessFailed)(told)


def _options(handles: tuple[int, ...]) -> dict[str, Any]:
    inherited = {"pass_fds": handles} if handles else {}
    return {"stdout": subprocess.DEVNULL, "start_new_session": True, **inherited}


def finish(
    command: Callable[[], Sequence[str] | None],
    interrupts: Interrupts,
    *,
    also_fine: tuple[int, ...] = (),
    handles: tuple[int, ...] = (),
) -> None:
    """Run a command to its end; where a signal ended it, run what `command` returns then, `TRIES` times in all.

    Args:
        command: returns the words of the next process; None if nothing is left to do.
        interrupts: see `run_to_end`.
        also_fine: see `run_to_end`.
        handles: see `run_to_end`.

    Raises:
        ProcessFailed, Interrupted: see `run_to_end`.
    """
    for left in reversed(range(TRIES)):
        if (words := command()) is None:
            return
        try:
            run_to_end(words, interrupts, also_fine=also_fine, handles=handles)
        except ProcessKilled:
            if not left:
                raise
        else:
            return


def can_go_on(run: RunDirectory) -> bool:
    """Return whether a run has what `--continue_training` goes on from without training further than asked."""
    return (run.path / "config.json").is_file() and bool(run.checkpoints())


def steps_of(run: RunDirectory) -> int:
    """Return the environment steps of a run's newest checkpoint; 0 if it has none."""
    found = run.checkpoints() if run.path.is_dir() else []
    return steps_in_name(found[0]) if found else 0


def _is_over(process: "subprocess.Popen[Any]", interrupts: Interrupts, look: Callable[[bool], None] | None) -> bool:
    if interrupts.received:
        raise Interrupted(interrupts.received)
    is_over = process.poll() is not None
    if look is not None:
        look(is_over)
    return is_over


def _stop(process: "subprocess.Popen[Any]") -> None:
    """Let a training save and end; kill it if it does not end in time."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()


def judge(model: Path, out: Path, *, sim: str, seed: int, episodes: int, interrupts: Interrupts) -> dict[str, Any]:
    """Evaluate a policy with the walking gate in a process of its own, and return its eval.json.

    Args:
        model: a checkpoint, with its config.json in the same folder.
        out: path of the results.
        sim: the simulator.
        seed: seed of starts and commands.
        episodes: number of parallel episodes.
        interrupts: a signal stops it.

    Raises:
        ProcessFailed: it could not be evaluated.
        Interrupted: a signal came.
        MachineError: the results cannot be read.
    """
    command = [sys.executable, str(REPOSITORY / "biped_eval.py"), "--model", as_word(model), "--out", as_word(out)]
    command += ["--sim", sim, "--seed", str(seed), "--episodes", str(episodes)]
    finish(lambda: command, interrupts, also_fine=(_GATE_FAILED,))
    try:
        return json.loads(out.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MachineError(f"{out} cannot be read ({error}): start the command again") from error
