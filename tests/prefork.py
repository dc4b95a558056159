"""Processes that begin where a Python that has imported torch stands: a fork of it, in place of a start of its own.

A hundred tests start commands, and each command would import torch for two seconds. Such a process is one of its own
in all else: its session, its signals, its pipes, its folder, its variables, its way to end. It shares with the others
what an import decides: the seed of Python's hashes, so that a test of equal bits in two processes needs `afresh`, and
what the third parties whose modules are imported take from variables (see `PLAIN`). Modules of this project are not
among them: each process imports those of its own path.
"""

import contextlib
import ctypes
import functools
import gc
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import uuid
import warnings
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy

MARK = "BIPED_TEST_PROCESS"
"""A variable by which what a process has started is found."""
PLAIN = ("BIPED_", "WANDB_", "PYTEST_")
"""Beginnings of the names of variables in which a process may differ from this one, besides Python's path to us."""
_PATH = "PYTHONPATH"
_IMPORTED = (
    "torch",
    "torch._dynamo",
    "torch.utils.tensorboard",
    "stable_baselines3",
    "sb3_contrib",
    "mujoco",
    "gymnasium",
    "pydantic",
    "psutil",
)
_MOST_BYTES = 1 << 17
_AT_START = dict(os.environ)
"""The variables with which what takes long is imported."""
_CAN = frozenset(("stdin", "stdout", "stderr", "cwd", "env", "text", "errors", "encoding", "start_new_session"))
"""Options of `subprocess.Popen` that a fork can have."""
_UNMARKED = "0" * len(uuid.uuid4().hex)


def can_begin(command: Sequence[str], env: Mapping[str, str], options: Mapping[str, Any]) -> bool:
    """Whether a process can be forked: a script or a module of this Python, and nothing that an import would read.

    Args:
        command: its words.
        env: its variables.
        options: what `subprocess.Popen` is given besides.
    """
    program = [*command[1:], ""][0]
    is_ours = command[0] == sys.executable and (program == "-m" or program.endswith(".py"))
    is_plain = all(name.startswith(PLAIN) for name in differing(env))
    has_only_ours = all((Path(folder) / "biped").is_dir() for folder in _python_path(env))
    is_simple = set(options) <= _CAN and options.get("start_new_session") and Path(options.get("cwd") or ".").is_dir()
    is_here = sys.platform == "linux" and "gpu_machine" not in sys.modules
    return bool(is_here and is_ours and is_plain and has_only_ours and is_simple)


def differing(env: Mapping[str, str]) -> set[str]:
    """Return the names of variables that are not as they were when this process started, but for Python's path."""
    return {name for name, _ in set(env.items()) ^ set(_AT_START.items())} - {_PATH}


def _python_path(env: Mapping[str, str]) -> list[str]:
    return [folder for folder in env.get(_PATH, "").split(os.pathsep) if folder]


def begin(command: Sequence[str], **options: Any) -> "subprocess.Popen[Any]":
    """Start a process as `subprocess.Popen` does, by a fork where one can be."""
    env = os.environ if options.get("env") is None else options["env"]
    return (Forked if can_begin(command, env, options) else subprocess.Popen)(command, **{**options, "env": env})


class Forked(subprocess.Popen[Any]):
    """A process as `subprocess.Popen` has it, which is a fork of one that has imported what takes long."""

    _waitpid_lock: threading.Lock

    def _execute_child(self, args: Sequence[str], *places: Any) -> None:
        """Ask for a fork, and take its number."""
        cwd, env = places[4:6]
        ends = places[9:15]  # two of each pipe
        pipes = [own if own != -1 else usual for usual, own in enumerate((ends[0], ends[3], ends[5]))]
        request = json.dumps({"command": list(args[1:]), "cwd": str(cwd or Path.cwd()), "env": dict(env)}).encode()
        if len(request) > _MOST_BYTES:
            raise OSError(f"{len(request)} bytes of words and variables are more than a fork takes")
        self._status, status = os.pipe()
        self._closed = weakref.finalize(self, os.close, self._status)
        try:
            socket.send_fds(_template(), [request], [*pipes, status])
        finally:
            os.close(status)
        self._close_pipe_fds(*ends)  # pyright: ignore[reportAttributeAccessIssue]
        self.pid = int(self._read_line())
        self._child_created = True

    def _read_line(self) -> str:
        """Return a line of what the process's parent says: its number, then how it ended."""
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self._status, 1)
            if not byte:
                raise ChildProcessError(f"what {self.args} would begin as has ended")
            line += byte
        return line.decode()

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        """As `os.waitpid`."""
        if wait_flags == os.WNOHANG and not select.select([self._status], [], [], 0)[0]:
            return 0, 0
        status = int(self._read_line())
        self._closed()
        return self.pid, status

    def _internal_poll(self, _deadstate: int | None = None, *_: Any) -> int | None:
        """Return how the process ended, or None while it goes on."""
        if self.returncode is None and self._waitpid_lock.acquire(blocking=False):
            try:
                pid, status = self._try_wait(os.WNOHANG) if self.returncode is None else (0, 0)
                if pid:
                    self._handle_exitstatus(status)  # pyright: ignore[reportAttributeAccessIssue]
            except OSError:
                self.returncode = _deadstate
            finally:
                self._waitpid_lock.release()
        return self.returncode


@functools.cache
def _template() -> socket.socket:
    """Return the way to the process that has imported what takes long, which this begins; it ends with this one."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    env = {name: text for name, text in _AT_START.items() if name != _PATH} | {MARK: _UNMARKED}
    command = [sys.executable, __file__, str(its.fileno())]
    subprocess.Popen(command, env=env, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL, start_new_session=True)
    its.close()
    return ours


def _serve(requests: socket.socket) -> dict[str, Any]:
    """Begin a process for each request; return in each of them, with its request."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # of nobody waited for by it
    while True:
        message, descriptors, *_ = socket.recv_fds(requests, _MOST_BYTES, 4)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            requests.close()
            *pipes, status = descriptors
            if (pid := os.fork()) != 0:
                _tell(pid, status, pipes)
            os.close(status)
            os.setsid()
            for place, pipe in enumerate(pipes):
                os.dup2(pipe, place)
            os.closerange(3, 4096)
            return json.loads(message)
        for descriptor in descriptors:
            os.close(descriptor)


def _tell(pid: int, status: int, pipes: Sequence[int]) -> NoReturn:
    """Say a process's number and, in the end, how it ended."""
    os.setsid()
    for pipe in pipes:
        os.close(pipe)
    with contextlib.suppress(BrokenPipeError):
        os.write(status, f"{pid}\n".encode())
        os.write(status, f"{os.waitpid(pid, 0)[1]}\n".encode())
    os._exit(0)


def _become(command: Sequence[str], cwd: str, env: Mapping[str, str]) -> None:
    """Run a command as a Python does that has just been started."""
    os.chdir(cwd)
    numpy.random.seed()  # or all forks would draw the same
    os.environ.clear()
    os.environ.update(env)
    if MARK in env:
        _show_mark(env[MARK])
    sys.stdin, sys.stdout, sys.stderr = map(_on, range(3), (sys.stdin, sys.stdout, sys.stderr))
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    is_module = command[0] == "-m"
    first = cwd if is_module else str(Path(command[0]).resolve().parent)
    sys.path[0:1] = [first, *_python_path(env)]
    if is_module:
        sys.argv = list(command[1:])
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(command)
        runpy.run_path(command[0], run_name="__main__")


def _on(place: int, own: Any) -> io.TextIOWrapper:
    """Return a stream like one of this process's own, on what the new process has there."""
    through = own.write_through
    binary = open(place, "wb" if place else "rb", 0 if through else -1, closefd=False)  # noqa: SIM115 - as long as it
    lines = os.isatty(place) or (place == 2 and own.line_buffering)
    return io.TextIOWrapper(binary, own.encoding, own.errors, line_buffering=lines, write_through=through)


def _show_mark(mark: str) -> None:
    """Have the variables that others see of this process have its mark: these are as its first program was given."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[47]), int(fields[48])
    unmarked = f"{MARK}={_UNMARKED}".encode()
    place = start + ctypes.string_at(start, end - start).index(unmarked)
    ctypes.memmove(place, f"{MARK}={mark}".encode(), len(unmarked))


if __name__ == "__main__":
    for imported in _IMPORTED:
        __import__(imported)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads that others' imports have begun
        gc.freeze()
        asked = _serve(socket.socket(fileno=int(sys.argv[1])))
    _become(**asked)
