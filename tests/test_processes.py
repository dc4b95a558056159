"""What tests start begins as in a terminal, is gone with its test, and a test that hangs is named."""

import shutil
import sys
from pathlib import Path

import psutil
import pytest

from tests.conftest import has_gpu
from tests.processes import ROOT, environment, run, start, until, until_it_says

ASKS = """
import signal
from biped.base.interrupts import SIGNALS
print([signal.getsignal(number).name for number in SIGNALS if number != signal.SIGINT])
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
"""Prints what becomes of signals."""
STARTS = """
import sys
from tests import processes
processes.prepare()
print(processes.run([sys.executable, "-c", sys.argv[1]], check=True).stdout, end="")
"""


def test_what_tests_start_hears_signals_that_the_tests_ignore() -> None:
    shell = ["sh", "-c", 'trap "" INT TERM HUP; exec "$@"', "sh"]
    ended = run([*shell, sys.executable, "-c", ASKS])
    assert ended.stdout == "['SIG_IGN', 'SIG_IGN']\nFalse\n", ended.stderr
    ended = run([*shell, sys.executable, "-c", STARTS, ASKS])
    assert ended.stdout == "['SIG_DFL', 'SIG_DFL']\nTrue\n", ended.stderr


def test_what_tests_start_is_on_the_same_machine(tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests" / "gpu_machine" / "gpu_machine.py", tmp_path)
    code = "import torch; print(torch.cuda.is_available(), torch.cuda.get_device_name(0))"
    on_gpu_machine = environment(ROOT, tmp_path)
    ended = run([sys.executable, "-c", "import gpu_machine" + STARTS, code], env=on_gpu_machine)
    assert ended.stdout == "True H100\n", ended.stderr


def test_a_gpu_that_is_not_there_is_not_tested() -> None:
    if has_gpu():
        pytest.skip("there is one")
    on_gpu_machine = environment(ROOT, ROOT / "tests" / "gpu_machine")
    ended = run([sys.executable, "-m", "pytest", "-p", "gpu_machine", "tests/test_gpu.py"], env=on_gpu_machine)
    assert ended.returncode == 0, ended.stdout
    assert set(ended.stdout.split()[0]) == {"s"}


LEAVES_A_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1e6)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(float(sys.argv[1]))
"""


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("seconds", ["0", "1e6"])
def test_a_test_that_fails_leaves_nothing_behind(seconds: str) -> None:
    """Not even what a process started in a session of its own, nor where that process has ended."""
    child = 0
    with (
        pytest.raises(RuntimeError, match="it fails"),
        start([sys.executable, "-c", LEAVES_A_CHILD, seconds], stderr=None) as process,
    ):
        child = int(until_it_says(process, ""))
        if seconds == "0":
            until(lambda: process.poll() is not None)
        assert is_running(child)
        raise RuntimeError("it fails")
    assert not is_running(process.pid)
    until(lambda: not is_running(child))


def test_a_test_that_hangs_is_named(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("import time\n\n\ndef test_that_hangs():\n    time.sleep(1e6)\n")
    config = ["-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider", "-o", "timeout=1"]
    ended = run([sys.executable, "-m", "pytest", *config, str(tmp_path)], cwd=tmp_path)
    assert ended.returncode == 1, ended.stderr
    assert "test_it.py::test_that_hangs - Failed: Timeout" in ended.stdout


def test_what_ends_early_is_said(tmp_path: Path) -> None:
    broken = [sys.executable, "-c", "exit('out of order')"]
    with pytest.raises(AssertionError, match="out of order"), start(broken) as process:
        until((tmp_path / "never").exists, process)
    with pytest.raises(AssertionError, match=r"never said 'ready'.*out of order"), start(broken) as process:
        until_it_says(process, "ready")
