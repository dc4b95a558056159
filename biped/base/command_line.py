"""Shared parts of the command lines: one-line errors, exit codes, and types of flags (numbers, paths, names)."""

import argparse
import contextlib
import io
import math
import os
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from biped.base.errors import ConfigError, MachineError, UsageError, disk_error, first_line, is_out_of_memory
from biped.base.files import REPOSITORY
from biped.base.interrupts import Interrupted, is_ignored
from biped.base.packages import how_to_install
from biped.base.shipped import IS_INSTALLED, found

DONE, MACHINE, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes; the last is Ctrl-C's: 128 plus the signal's number, as for every signal."""

AUTO = "auto"
"""A flag's value that leaves the choice to the program."""
PICTURES = (".png", ".jpg")
"""File endings of pictures."""
FILMS = (".mp4", ".gif")
"""File endings of films."""
LOGS = Path("logs")
"""The folder of all runs, unless `--log_dir` names another."""


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def __init__(self, *, prog: str, **how: Any) -> None:
        """Make a parser of the program that was called by `called(prog)`; `how` goes to the base class."""
        super().__init__(prog=called(prog), **how)

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and exit with code 2."""
        # The message contains what the user typed, which may have line breaks.
        self.exit(USAGE, f"{self.prog}: {' '.join(message.split())} (see {self.prog} --help)\n")


def add_run_flags(parser: argparse.ArgumentParser, default_name: str) -> None:
    """Add the flags that name a run or one checkpoint: `-e`, None where no run is named, `--model`, `--log_dir`."""
    add, text = parser.add_argument, f"the run (default {default_name})"
    add("-e", "--exp_name", type=run_name, metavar="NAME", help=text)
    text = "a checkpoint, with its config.json in the same folder; or a shared policy, such as hf://USER/REPO"
    add("--model", type=path_or_address, metavar="PATH", help=text)
    add("--log_dir", type=path_name, default=LOGS, metavar="DIR", help=f"the folder of all runs (default {LOGS})")


def whole_number(text: str) -> int:
    """Read a whole number above 0, such as 1000, 1_000 or 1e3.

    Raises:
        argparse.ArgumentTypeError: it is not one.
    """
    return _whole(text, 1, "above 0")


def whole_or_none(text: str) -> int:
    """Read a whole number of at least 0.

    Raises:
        argparse.ArgumentTypeError: it is not one.
    """
    return _whole(text, 0, "of at least 0")


def _whole(text: str, least: int, rule: str) -> int:
    try:
        value = float(text) if "e" in text.lower() else int(text)
    except ValueError:
        value = -1
    if not math.isfinite(value) or value < least or value != int(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {rule}")
    return int(value)


def finite_number(text: str) -> float:
    """Read a number, such as -0.5.

    Raises:
        argparse.ArgumentTypeError: it is not one.
    """
    return _number(text, "a number", lambda _: True)


def positive_number(text: str) -> float:
    """Read a number above 0.

    Raises:
        argparse.ArgumentTypeError: it is not one.
    """
    return _number(text, "a number above 0", lambda value: value > 0.0)


def share(text: str) -> float:
    """Read a share from 0 to 1, such as 0.01.

    Raises:
        argparse.ArgumentTypeError: it is not one.
    """
    return _number(text, "a share from 0 to 1", lambda value: 0.0 <= value <= 1.0)


def _number(text: str, what: str, is_one: Callable[[float], bool]) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and is_one(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return value


def film_name(text: str) -> Path:
    """Read the path of a film that will be written.

    Raises:
        argparse.ArgumentTypeError: the path is none, or ends in nothing that a film can be written as.
    """
    path = path_name(text)
    if path.suffix.lower() not in FILMS:
        raise argparse.ArgumentTypeError(f"{text} is not the name of a film, ending in {' or '.join(FILMS)}")
    return path


def number_or_auto(text: str) -> int | str:
    """Read a whole number above 0, or the word auto.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    try:
        return AUTO if text == AUTO else whole_number(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, nor {AUTO}") from error


def port_number(text: str) -> int:
    """Read a TCP port, a whole number from 1 to 65535.

    Raises:
        argparse.ArgumentTypeError: it is not one.
    """
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, a whole number from 1 to 65535")
    return int(text)


def seed_number(text: str) -> int:
    """Read a seed, a whole number from 0 to 2³² - 1.

    Raises:
        argparse.ArgumentTypeError: it is not one.
    """
    if not (text.isascii() and text.isdigit() and int(text) < 2**32):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 4294967295")
    return int(text)


def path_name(text: str) -> Path:
    """Read a path; `~` becomes the home directory, because shells do not expand it in `--flag=~/x`.

    Raises:
        argparse.ArgumentTypeError: it is empty, or names a home directory that does not exist.
    """
    if not text:
        raise argparse.ArgumentTypeError("'' is no path")
    try:
        return Path(text).expanduser() if text.startswith("~") else Path(text)
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: there is no such home directory; ./{text} is a path") from error


def input_name(text: str) -> Path:
    """Read the path of a file to read; `assets/...`, what comes with the project, is found from every folder.

    Raises:
        argparse.ArgumentTypeError: see `path_name`.
    """
    return found(path_name(text))


def path_or_address(text: str) -> Path | str:
    """Read the path of a file to read, or the address of a shared policy, such as hf://USER/REPO, which stays text.

    Raises:
        argparse.ArgumentTypeError: see `path_name`.
    """
    return text if "://" in text else input_name(text)


def picture_name(text: str) -> Path:
    """Read the path of a picture that will be written.

    Raises:
        argparse.ArgumentTypeError: the path is none, or ends in nothing that a picture can be written as.
    """
    path = path_name(text)
    if path.suffix not in PICTURES:
        raise argparse.ArgumentTypeError(f"{text} is not the name of a picture, ending in {' or '.join(PICTURES)}")
    return path


def folder_name(text: str) -> Path:
    """Read the path of a run's folder, resolved so that it ends in the folder's name even for `.` or `..`.

    Raises:
        argparse.ArgumentTypeError: see `path_name`.
    """
    return with_a_name(path_name(text))


def with_a_name(folder: Path) -> Path:
    """Return the path of the same folder that ends in its name."""
    return folder.resolve() if folder.name in ("", "..") else folder


def run_name(text: str) -> str:
    """Read a run's name, without the slash that shell completion adds."""
    return text.rstrip("/")


def run_or_path(text: str) -> str | Path:
    """Read a run's name, the path of its folder (contains a slash), or the path of a result (ends in .json).

    Raises:
        argparse.ArgumentTypeError: see `path_name`.
    """
    name = run_name(text)
    return folder_name(text) if "/" in name or name in ("", ".", "..", "~") or name.endswith(".json") else name


def as_word(path: Path) -> str:
    """Return a path in a form that our command lines read neither as a flag nor as a home directory."""
    return f"./{path}" if str(path).startswith(("-", "~")) else str(path)


def run_flags(run: Path) -> list[str]:
    """Return the flags that name the run in this folder."""
    return ["-e", run.name, *([] if run.parent == LOGS else ["--log_dir", as_word(run.parent)])]


def called(script: str) -> str:
    """Return the name by which a person called a door such as biped_eval.py: biped-eval, if it was that."""
    name = _console_script(script)
    return name if Path(sys.argv[0]).name == name else script


def typed(script: str, *words: str) -> str:
    """Return a command line of this project that can be pasted into the shell that started this process."""
    if IS_INSTALLED or called(script) != script:
        return shlex.join([_as_found(_console_script(script)), *words])
    return shlex.join([_as_found("python"), _from_here(REPOSITORY / script), *words])


def _console_script(script: str) -> str:
    return script.removeprefix("python -m ").removesuffix(".py").replace("_", "-")


def _as_found(name: str) -> str:
    """Return how to call a program of this process's environment: by its name, if the shell finds that very one."""
    here = Path(sys.executable) if name == "python" else Path(sys.executable).with_name(name)
    on_path = shutil.which(name)
    return name if on_path is not None and Path(on_path).parent == here.parent else _from_here(here)


def _from_here(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def exit_code(program: str, command: Callable[[], int | None], *, smaller: str = "free some first") -> int:
    """Carry out a command and return its exit code; 0 if it returns None.

    Errors that the user can fix are printed as one line, without a traceback.

    Args:
        program: its name, printed before the message.
        command: the function to call.
        smaller: advice for when memory runs out.
    """
    if sys.stdout is None:  # closed by the parent process
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        # Terminals may lack characters, and file names may not decode.
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")
    try:
        return command() or DONE
    except (ConfigError, UsageError) as error:
        return _fail(program, USAGE, str(error))
    except MachineError as error:
        return _fail(program, MACHINE, str(error))
    except ModuleNotFoundError as error:
        if (package := _foreign(error)) is None:
            raise
        return _fail(program, MACHINE, f"{package} is not installed: {how_to_install(package)}")
    except BrokenPipeError:
        # The reader of our output has gone, as in `... | head`. Python would report this again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return MACHINE
    except (RuntimeError, MemoryError, OSError) as error:
        if is_out_of_memory(error):
            return _fail(program, MACHINE, f"out of memory: {smaller} ({first_line(error)})")
        if not isinstance(error, OSError):
            raise
        return _fail(program, MACHINE, str(disk_error(error.filename or "its output", error, "place")))
    except Interrupted as interrupted:
        return 128 + interrupted.number
    except KeyboardInterrupt:
        return INTERRUPTED


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process at once, with exit code 130, while there is nothing to save.

    Genesis and its dependencies run Python inside callbacks that swallow a `KeyboardInterrupt`. If Ctrl-C was ignored,
    as in a script's background job, it stays ignored.
    """
    if threading.current_thread() is not threading.main_thread() or is_ignored(signal.SIGINT):
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Imports:
    """Context of a door's own imports: a package that is missing ends the program with one line, not a traceback."""

    def __init__(self, script: str) -> None:
        """Name the door, such as biped_eval.py."""
        self._script = script

    def __enter__(self) -> None:
        """Begin to import."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """End the program if a package is missing.

        Raises:
            SystemExit: a package is missing.
        """
        if isinstance(error, ModuleNotFoundError) and (package := _foreign(error)) is not None:
            said = f"{package} is not installed: {how_to_install(package)}"
            raise SystemExit(_fail(self._script, MACHINE, said)) from error


def _foreign(error: ModuleNotFoundError) -> str | None:
    """Return the package that is missing; None if it is a module of this project, which is a fault."""
    package = (error.name or "").partition(".")[0]
    return None if not package or package.startswith("biped") else package


def _fail(program: str, code: int, text: str) -> int:
    print(f"{called(program)}: {' '.join(text.split())}", file=sys.stderr, flush=True)
    return code
