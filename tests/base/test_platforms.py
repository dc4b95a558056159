"""Windows and macOS, as far as a Python of this system can lack what theirs lack; see `tests.other_system`."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from biped.base.errors import MachineError
from biped.base.platforms import posix_module, signals, terminal_errors, usable_cores
from tests import processes
from tests.conftest import SMALL

POLICY, MODEL = "assets/policies/robust/policy.onnx", "assets/policies/biped_walk.zip"
QUICK = [*SMALL, "--eval_freq", "0"]


def on(system: str, *words: str) -> list[str]:
    return [sys.executable, "-m", "tests.other_system", system, *words]


def test_what_this_system_has_is_given() -> None:
    assert posix_module("termios", "it").tcgetattr
    assert terminal_errors() == (posix_module("termios", "it").error,)
    assert signals("SIGINT", "SIGHUP", "SIGOFNOWHERE") == (signal.SIGINT, signal.SIGHUP)
    assert usable_cores() == len(os.sched_getaffinity(0))


def test_what_it_lacks_is_one_line() -> None:
    with pytest.raises(MachineError, match=r"^a keyboard needs a POSIX system: use Linux, macOS or, on Windows, WSL2$"):
        posix_module("termios_of_nowhere", "a keyboard")


@pytest.mark.parametrize("system", ["windows", "macos"])
def test_a_training_in_mujoco_goes_through(system: str, tmp_path: Path) -> None:
    ended = processes.run(on(system, "biped_train.py", "-e", "demo", "--log_dir", str(tmp_path), *QUICK))
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "demo" / "model_final.zip").is_file()
    assert "cannot" not in ended.stderr


def test_two_trainings_in_one_folder_are_refused_where_folders_have_no_locks(tmp_path: Path) -> None:
    """The second one is told who trains there; once the first has ended, the run goes on, or is set aside."""
    flags = ["-e", "demo", "--log_dir", str(tmp_path), *QUICK]
    first = on("windows", "tests/held.py", "rollout", "1", *flags)
    with processes.start(first, stdin=subprocess.PIPE) as training:
        processes.until_it_says(training, "held:")
        assert (tmp_path / ".demo.lock").exists()
        second = processes.run(on("windows", "biped_train.py", *flags, "--continue_training"))
        assert second.returncode == 2
        assert f"another process is training in {tmp_path / 'demo'}" in second.stderr
        processes.release(training)
        training.communicate()
    assert training.returncode == 0
    assert not (tmp_path / ".demo.lock").exists()
    assert processes.run(on("windows", "biped_train.py", *flags, "--new_run")).returncode == 0
    assert (tmp_path / "demo.1" / "model_final.zip").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("biped_run.py", POLICY, "--simulate"), "a simulated robot needs a POSIX system"),
        (("biped_run.py", POLICY, "--wire", "none.json", "--port", "COM3"), "a robot's bus needs a POSIX system"),
        (("biped_eval.py", "--sim", "mujoco", "--keyboard", "--model", MODEL), "--keyboard needs a POSIX terminal"),
    ],
)
def test_what_needs_a_terminal_says_so_in_one_line(words: tuple[str, ...], said: str) -> None:
    ended = processes.run(on("windows", *words))
    assert ended.returncode == 1, ended.stderr
    assert said in ended.stderr.splitlines()[-1]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system keeps no process to cores")
def test_processes_that_share_a_machine_share_its_cores_if_there_are_enough() -> None:
    cores = sorted(os.sched_getaffinity(0))
    program = "import os, sys; from biped.base.platforms import keep_to_share; keep_to_share(*map(int, sys.argv[1:]))"
    program += "; print(sorted(os.sched_getaffinity(0)))"

    def kept(index: int, count: int) -> str:
        return processes.run([sys.executable, "-c", program, str(index), str(count)], check=True).stdout.strip()

    assert kept(0, len(cores)) == str(cores[:1])
    assert kept(0, 1) == str(cores)
    assert kept(len(cores), len(cores) + 1) == str(cores)
