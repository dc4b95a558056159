"""Paths and names on every command line: home directories, slashes, odd characters, hints that can be pasted."""

import argparse
import importlib
import io
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import biped_eval
import biped_export
import biped_sweep
from biped import __main__ as small_commands
from biped.base.command_line import Imports, as_word, called, exit_code, path_name, run_flags, run_or_path, typed
from biped.base.errors import UsageError
from biped.config.settings import robot_settings, with_settings
from biped.robot.model import model_file
from biped.runs.directory import run_path
from biped.train.studies import open_study
from biped_config import smoke_preset
from biped_train import make_parser
from tests import processes
from tests.conftest import ROOT, SMALL

PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "biped_train.py": make_parser,
    "biped_eval.py": biped_eval.make_parser,
    "biped_export.py": biped_export.make_parser,
    "biped_sweep.py": biped_sweep.make_parser,
}
PATH_FLAGS = {"--log_dir", "--model", "--load_model", "--robot", "--out", "--video", "--report", "--picture"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory, and another folder to work in."""
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


@pytest.mark.parametrize("program", PARSERS)
def test_every_flag_with_a_path_knows_the_home_directory(program: str, home: Path) -> None:
    flags = [flag for action in PARSERS[program]()._actions for flag in action.option_strings if flag in PATH_FLAGS]
    assert "--log_dir" in flags
    needed = ["--study", "x", "--trials", "1"] if program == "biped_sweep.py" else []
    for flag in flags:
        args = PARSERS[program]().parse_args([*needed, f"{flag}=~/x"])
        assert getattr(args, flag[2:]) == home / "x", flag
        for nothing in ("", "~nobody-of-this-name/x"):
            with pytest.raises(SystemExit):
                PARSERS[program]().parse_args([*needed, f"{flag}={nothing}"])


@pytest.mark.parametrize("command", ["average", "curves", "check-robot"])
def test_so_does_every_folder_and_file_that_is_named_without_a_flag(command: str, home: Path, capsys) -> None:
    assert small_commands.main([command, "~/x"]) in (1, 2)
    error = capsys.readouterr().err
    assert str(home / "x") in error
    assert len(error.splitlines()) == 1


def test_so_does_the_model_of_a_robot(home: Path) -> None:
    home.mkdir()
    (home / "mine.xml").write_text("<mujoco/>")
    config = with_settings(smoke_preset(), [("env.robot.model_path", "~/mine.xml")])
    assert model_file(config.env) == home / "mine.xml"
    (home / "robot.json").write_text('{"robot": {"model_path": "~/mine.xml"}}')
    assert dict(robot_settings(home / "robot.json"))["env.robot.model_path"] == str(home / "mine.xml")


def test_a_folder_that_is_called_like_a_home_directory_can_be_named() -> None:
    assert path_name("./~") == Path("~")
    assert path_name(as_word(Path("~"))) == Path("~")
    assert run_flags(Path("-x/walk")) == ["-e", "walk", "--log_dir", "./-x"]


def test_a_run_is_named_as_a_shell_completes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for parser in (make_parser(), biped_eval.make_parser(), biped_export.make_parser()):
        assert parser.parse_args(["-e", "walk/"]).exp_name == "walk"
    assert run_path(tmp_path, f"{tmp_path}/walk") == tmp_path / "walk"
    monkeypatch.chdir(tmp_path)
    assert run_path(Path("logs"), "logs/walk") == Path("logs/walk")
    for other in ("other/walk", "logs/../walk", "logs/a/walk", "/walk", "logs/.."):
        with pytest.raises(UsageError, match="is not a name"):
            run_path(Path("logs"), other)


def test_what_is_compared_is_a_name_a_folder_or_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_or_path("walk/") == "walk"
    assert run_or_path("logs/walk/") == Path("logs/walk")
    assert run_or_path(".") == tmp_path
    assert run_or_path("eval_mujoco.json") == Path("eval_mujoco.json")


@pytest.mark.parametrize("folder", ["50%2Fdone", "what?", "a?b=c&d", "{x}", "a#b", "a:b@c", "two words"])
def test_a_study_lies_in_its_folder_whatever_that_is_called(folder: str, tmp_path: Path) -> None:
    logs = tmp_path / folder
    words = ["--study", "s/", "--trials", "1", "--log_dir", str(logs)]
    request = biped_sweep.as_request(biped_sweep.make_parser().parse_args(words))
    study = open_study(request.place, request.study, request.seed)
    study.tell(study.ask(), 0.5)
    assert len(open_study(request.place, request.study, request.seed).trials) == 1
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()] == [
        Path(folder, "sweeps", "s.db")
    ]


QUICK = ["--agent", "zero", "--sim", "mujoco", "--episodes", "2", "--set", "env.termination.episode_s=0.2"]


@pytest.mark.parametrize(
    ("flags", "named"),
    [(["--out", "/proc/1/task/x.json"], "--out"), (["--out", "/dev/full"], "--out")],
    ids=["a folder that takes nothing", "a full disk"],
)
def test_a_place_that_takes_no_result_is_named_by_its_flag(
    flags: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert biped_eval.main([*QUICK, *flags]) == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert f"another {named}" in error
    assert "--log_dir" not in error


def test_a_folder_is_no_place_for_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert biped_eval.main([*QUICK, "--out", f"{tmp_path}/"]) == 2
    assert "is a folder: name a file" in capsys.readouterr().err


def test_memory_that_runs_out_is_said_with_the_flag_of_that_command(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise MemoryError

    assert exit_code("biped_eval.py", command, smaller="use --episodes 64") == 1
    assert capsys.readouterr().err == "biped_eval.py: out of memory: use --episodes 64 (MemoryError)\n"
    assert exit_code("biped.runs.average", command) == 1
    assert "--num_envs" not in capsys.readouterr().err


def test_what_a_terminal_cannot_show_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding, errors in (("ascii", "strict"), ("ascii", "surrogateescape"), ("utf-8", "strict")):
        terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors)
        monkeypatch.setattr(sys, "stdout", terminal)
        assert exit_code("x", lambda: print("5 N·m in /tmp/\udcff", flush=True)) == 0
        terminal.seek(0)
        assert terminal.buffer.read() in (b"5 N?m in /tmp/?\n", "5 N·m in /tmp/?\n".encode())


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "biped", "check-robot", "assets/strider/robot.json"],
        ["-m", "biped", "metrics"],
        ["biped_eval.py", "--compare", "assets/policies", "LACKING"],
    ],
    ids=" ".join,
)
def test_every_command_works_in_an_ascii_terminal(words: list[str], tmp_path: Path) -> None:
    lacking = tmp_path / "n\u00e4mlich"
    lacking.mkdir()
    (lacking / "config.json").write_bytes((ROOT / "assets" / "policies" / "config.json").read_bytes())
    (lacking / "eval.json").write_text('{"lines": {}, "score": 0.0, "passed": false}')
    words = [str(lacking) if word == "LACKING" else word for word in words]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run([sys.executable, *words], cwd=ROOT, env=env, capture_output=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == b""
    assert ended.stdout.isascii()


def test_the_command_that_an_interrupted_training_names_goes_on_with_it(tmp_path: Path) -> None:
    logs = tmp_path / "it's $mine; 100%"
    first = [sys.executable, str(ROOT / "biped_train.py"), "-e", "walk", "--log_dir", str(logs), *SMALL]
    err = interrupted([*first, "--total_timesteps", "100000000"], "total_timesteps")
    stopped, hint = err.strip().split("; go on with: ", 1)
    assert hint == typed("biped_train.py", "--continue_training", "-e", "walk", "--log_dir", str(logs))
    steps = stopped.removeprefix("stopped after ").removesuffix(" steps")
    interrupted(["bash", "-c", f"exec {hint}"], f"from {steps} to 100,000,000 steps")


def interrupted(command: list[str], sign: str) -> str:
    """Interrupt a training once it has printed something, and return what it says."""
    with processes.start(command, env=processes.environment(ROOT)) as process:
        processes.until_it_says(process, sign)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=processes.PATIENCE_S)
    assert process.returncode == 130, err
    return err


def test_a_hint_leaves_out_what_goes_without_saying(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert run_flags(Path("logs/walk")) == ["-e", "walk"]
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.chdir(ROOT)
    assert typed("biped_eval.py", "-e", "walk") == "python biped_eval.py -e walk"
    monkeypatch.chdir(tmp_path)
    assert typed("biped_eval.py", "-e", "walk") == f"python {shlex.quote(str(ROOT / 'biped_eval.py'))} -e walk"
    monkeypatch.setenv("PATH", "")
    assert shlex.split(typed("biped_eval.py"))[0] == sys.executable


def test_who_types_a_console_script_is_told_to_type_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no folder above the environment
    scripts = Path(sys.executable).parent
    assert called("biped_eval.py") == "biped_eval.py"
    monkeypatch.setattr(sys, "argv", [str(scripts / "biped-eval")])
    monkeypatch.setenv("PATH", "")
    assert called("biped_eval.py") == "biped-eval"
    assert typed("biped_eval.py", "-e", "walk") == f"{scripts / 'biped-eval'} -e walk"
    monkeypatch.setattr(sys, "argv", [str(scripts / "biped")])
    assert called("python -m biped") == "biped"


def test_a_package_that_is_missing_is_named_and_a_module_of_ours_is_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    def needs(name: str) -> Callable[[], None]:
        return lambda: importlib.import_module(name) and None

    assert exit_code("biped", needs("no_such_package.part")) == 1
    said = capsys.readouterr().err
    assert said == (
        "biped: no_such_package is not installed: run ./install_genesis.sh, or pip install 'biped-walking[train]'\n"
    )
    with pytest.raises(SystemExit) as ended, Imports("biped_eval.py"):
        importlib.import_module("no_such_package.part")
    assert ended.value.code == 1
    assert capsys.readouterr().err == said.replace("biped:", "biped_eval.py:")
    with pytest.raises(ModuleNotFoundError):
        exit_code("biped", needs("biped.no_such_room"))
    with pytest.raises(ModuleNotFoundError), Imports("biped_eval.py"):
        importlib.import_module("biped.no_such_room")
