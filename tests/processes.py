"""Processes that tests start: with the signals of a terminal, on the same machine, and gone with their test."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests import prefork
from tests.prefork import MARK

ROOT = Path(__file__).parents[1]
PATIENCE_S = 900.0
"""How long a test waits for anything (s): it ends what hangs, and bets on no machine's speed."""
Process = subprocess.Popen[str]
UNDRAWN = ("--set", "train.draw_overview=false")
"""Flags of a training whose page of curves nobody looks at: it takes as long as the training of a test."""

_GPU_MACHINE = Path(__file__).with_name("gpu_machine")
_SHELL = dict(os.environ)
"""The variables that there were before the libraries."""
_LEFT = ("QD_", "GS_", "MADRONA_", "TORCHINDUCTOR_", "KINETO_", "CUBLAS_", "LD_LIBRARY_PATH", "XDG_CACHE_HOME")
"""Beginnings of the names of variables that Genesis, torch and we ourselves set in this process."""
_KERNEL = 2
"""The parent of the kernel's threads, which never have an environment."""


def prepare() -> None:
    """Have every process that this one starts, whoever starts it, begin as in a terminal and on the same machine.

    A script's background jobs ignore SIGINT, and `nohup`'s SIGHUP, and so does what they start. A handler that does
    nothing ignores as well, but is not inherited.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    if "gpu_machine" in sys.modules:
        os.environ["PYTHONPATH"] = _path(_GPU_MACHINE)


def environment(*path_first: Path) -> dict[str, str]:
    """Return the environment of a fresh shell, with folders put first on Python's path, and what a test has set."""
    return {**without_what_is_left(os.environ), "PYTHONPATH": _path(*path_first)}


def without_what_is_left(variables: Mapping[str, str]) -> dict[str, str]:
    """Return variables of this process as they would be in a fresh shell."""
    fresh = {name: value for name, value in variables.items() if not name.startswith(_LEFT)}
    return {**fresh, **{name: value for name, value in _SHELL.items() if name.startswith(_LEFT)}}


def _path(*first: Path) -> str:
    return os.pathsep.join([*map(str, first), *filter(None, [os.environ.get("PYTHONPATH")])])


@contextlib.contextmanager
def start(
    command: Sequence[str], env: dict[str, str] | None = None, *, afresh: bool = False, **kwargs: Any
) -> Iterator[Process]:
    """Start a process, and wait for its end; where the test fails, kill it, and all that it started in any case.

    Args:
        command: its words.
        env: its environment; None: a fresh shell's.
        afresh: whether it may not be a fork, which shares Python's hashes with the others; see `tests.prefork`.
        kwargs: what else `subprocess.Popen` takes; by default pipes take what it says, and it is told nothing.
    """
    mark = uuid.uuid4().hex
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    marked = {**(environment() if env is None else env), MARK: mark}
    options = {"cwd": ROOT, "text": True, "start_new_session": True, **pipes, **kwargs}
    with (subprocess.Popen if afresh else prefork.begin)(command, env=marked, **options) as process:
        try:
            yield process
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
            process.wait(PATIENCE_S)
        finally:
            process.kill()
            process.wait()
            _kill_marked(mark)


def run(command: Sequence[str], check: bool = False, **kwargs: Any) -> "subprocess.CompletedProcess[str]":
    """Run a process to its end; `check` is that of `subprocess.run`, the rest as of `start`."""
    with start(command, **kwargs) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    ended = subprocess.CompletedProcess(command, process.returncode, out, err)
    assert not check or process.returncode == 0, (ended, err)
    return ended


def start_held(place: str, call: int, *flags: str, **kwargs: Any) -> contextlib.AbstractContextManager[Process]:
    """Start a training that stands still at a call of a place; see `tests.held`."""
    command = [sys.executable, "-m", "tests.held", place, str(call), *flags]
    return start(command, stdin=subprocess.PIPE, **kwargs)


def release(training: Process) -> None:
    """Have a training that is held go on."""
    assert training.stdin is not None
    training.stdin.write("\n")
    training.stdin.flush()


def _kill_marked(mark: str) -> None:
    """Kill what inherited a mark: descendants whose parents are gone too, and those in sessions of their own."""
    end_s = time.monotonic() + PATIENCE_S
    while left := [process for process in psutil.process_iter() if _may_have(process, mark)]:
        for process in left:
            with contextlib.suppress(psutil.Error):
                if _has(process, mark):
                    process.kill()
        assert time.monotonic() < end_s, left
        time.sleep(0.01)


def _has(process: psutil.Process, mark: str) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        return process.environ().get(MARK) == mark
    return False


def _may_have(process: psutil.Process, mark: str) -> bool:
    """Whether a process has a mark, or is just beginning: a program that is being loaded has no environment yet."""
    with contextlib.suppress(psutil.Error, OSError):
        is_loading = not process.environ() and not process.cmdline() and not _is_of_the_kernel(process)
        return (is_loading and process.status() != psutil.STATUS_ZOMBIE) or _has(process, mark)
    return False


def _is_of_the_kernel(process: psutil.Process) -> bool:
    return _KERNEL in (process.pid, process.ppid())


def until(condition: Callable[[], object], process: Process | None = None) -> None:
    """Wait until something is the case, while a process goes on."""
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert process is None or process.poll() is None, f"it ended early: {process.communicate()}"
        assert time.monotonic() < end_s, "it never came"
        time.sleep(0.02)


def until_it_says(process: Process, wanted: str) -> str:
    """Read what a process prints up to a line that has something, and return that line."""
    assert process.stdout is not None
    for line in process.stdout:
        if wanted in line:
            return line
    raise AssertionError(f"it ended, and never said {wanted!r}: {process.communicate()}")
