"""Trainings and evaluations in processes of their own, for whatever needs many: searches, populations, seeds."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from biped.base.command_line import as_word
from biped.base.errors import MachineError
from biped.base.files import REPOSITORY
from biped.base.interrupts import Interrupted, Interrupts

POLL_S = 1.0
"""Time between two looks at a process (s)."""
STOP_S = 60.0
"""Time for an interrupted training to save and end (s)."""
_GATE_FAILED = 3
"""Exit code of an evaluation whose policy did not pass the gate; it has figures all the same."""


class ProcessFailed(Exception):  # noqa: N818
    """A process ended with an error; the message is the last line that it said."""


def training(logs: Path, name: str, *flags: str) -> list[str]:
    """Return the command of a training of a run in a folder of all runs."""
    return [sys.executable, str(REPOSITORY / "biped_train.py"), "-e", name, "--log_dir", as_word(logs), *flags]


def set_flags(settings: Sequence[str]) -> list[str]:
    """Return the flags that set fields of the configuration, given as PATH=VALUE; later ones win."""
    return [word for setting in settings for word in ("--set", setting)]


def run_to_end(
    command: Sequence[str],
    interrupts: Interrupts,
    look: Callable[[bool], None] | None = None,
    *,
    also_fine: tuple[int, ...] = (),
) -> None:
    """Run a command in a process of its own, and wait for its end.

    Args:
        command: its words.
        interrupts: a signal stops the process, which may save before it ends.
        look: called about once a second, and with True after the process has ended; what it raises stops the process.
            None: nothing looks.
        also_fine: exit codes besides 0 that are no failure.

    Raises:
        ProcessFailed: the process failed.
        Interrupted: a signal came.
    """
    # A W&B run id belongs to one run; with a shared id all trainings would be one run in W&B.
    environment = {name: text for name, text in os.environ.items() if name != "WANDB_RUN_ID"}
    # Use a separate session: the terminal sends Ctrl-C to its whole session, and our signal would be a second one.
    with (
        tempfile.TemporaryFile("w+", errors="replace") as said,
        subprocess.Popen(
            list(command), env=environment, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
        ) as process,
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
        raise ProcessFailed(complaint[-1] if complaint else f"exit code {process.returncode}")


def _is_over(process: "subprocess.Popen[bytes]", interrupts: Interrupts, look: Callable[[bool], None] | None) -> bool:
    if interrupts.received:
        raise Interrupted(interrupts.received)
    is_over = process.poll() is not None
    if look is not None:
        look(is_over)
    return is_over


def _stop(process: "subprocess.Popen[bytes]") -> None:
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
    run_to_end(command, interrupts, also_fine=(_GATE_FAILED,))
    try:
        return json.loads(out.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MachineError(f"{out} cannot be read ({error}): start the command again") from error
