"""What tests start begins as in a terminal, is gone with its test, and a test that hangs is named."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests import prefork
from tests.conftest import has_gpu
from tests.prefork import MARK
from tests.processes import PATIENCE_S, ROOT, environment, run, start, until, until_it_says

CAN_FORK = sys.platform == "linux" and "gpu_machine" not in sys.modules
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
import os, subprocess, sys, time
if sys.argv[1] == "fork":
    child = os.fork()
    if child == 0:
        os.setsid()
        time.sleep(1e6)
else:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1e6)"], start_new_session=True).pid
print(child, flush=True)
time.sleep(float(sys.argv[2]))
"""


SAYS = """
import json, os, signal, sys, threading
said = {
    "words": sys.argv, "name": __name__, "folder": os.getcwd(), "path": sys.path[:2],
    "leads": os.getsid(0) == os.getpid(),
    "signals": [str(signal.getsignal(number)) for number in range(1, 32) if number not in (9, 19)],
    "terminal": [stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)],
    "text": [(stream.encoding, stream.errors, stream.line_buffering) for stream in (sys.stdin, sys.stdout, sys.stderr)],
    "variables": {name: text for name, text in os.environ.items() if name != "BIPED_TEST_PROCESS"},
    "open": [fd for fd in map(int, os.listdir("/proc/self/fd")) if os.path.exists(f"/proc/self/fd/{fd}")],
    "ours": sorted(name for name in sys.modules if name.split(".")[0] in ("biped", "biped_train")),
}
for stream in (sys.stdout, sys.stderr):
    stream.reconfigure(errors="replace")
print(json.dumps(said), flush=True)
print(sys.stdin.read(), file=sys.stderr)
HOW = sys.argv[1]
if HOW == "raise":
    raise ValueError("so it ends")
if HOW == "exit":
    threading.Thread(target=sys.exit).start()
    sys.exit("so it ends")
if HOW == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if HOW == "interrupted":
    os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.skipif(not CAN_FORK, reason="there processes are started")
@pytest.mark.parametrize("form", ["script", "module"])
@pytest.mark.parametrize("how", ["ends", "raise", "exit", "killed", "interrupted"])
def test_a_fork_is_as_a_process_that_is_started(form: str, how: str, tmp_path: Path) -> None:
    (tmp_path / "says.py").write_text(SAYS)
    (tmp_path / "told").write_text("told")
    command = [sys.executable, *(["says.py"] if form == "script" else ["-m", "says"]), how]
    env = {**environment(), "WANDB_MODE": "offline", MARK: "0" * 32}
    ways, ended = [], []
    for begin in (subprocess.Popen, prefork.Forked):
        with (tmp_path / "told").open() as told:
            options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": told, "text": True}
            process = begin(command, env=env, cwd=tmp_path, start_new_session=True, **options)
            out, err = process.communicate(timeout=PATIENCE_S)
        ways.append(json.loads(out))
        ended.append((process.returncode, [line for line in err.splitlines() if line[:2] != "  "]))
    assert ways[0] == ways[1]
    assert ended[0] == ended[1]
    assert ways[0]["ours"] == []


def test_what_would_change_an_import_is_not_forked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)  # whose folders could hide what is imported
    env, leads = environment(), {"start_new_session": True}
    script = [sys.executable, "biped_train.py"]
    assert prefork.can_begin(script, env, leads) == CAN_FORK, (prefork.differing(env), Path.cwd())
    assert prefork.can_begin(script, {**environment(ROOT), "WANDB_MODE": "offline"}, leads) == CAN_FORK
    others = ["sh", "x.py"], [sys.executable, "-c", "pass"], [sys.executable, "-W", "error", "x.py"], script[:1]
    assert not any(prefork.can_begin(command, env, leads) for command in others)
    for change in ({"OMP_NUM_THREADS": "1"}, {"HOME": "/"}, {"PYTHONPATH": str(tmp_path)}):
        assert not prefork.can_begin(script, {**env, **change}, leads)
    for options in ({}, {**leads, "preexec_fn": None}, {**leads, "umask": 0o77}, {**leads, "cwd": tmp_path / "none"}):
        assert not prefork.can_begin(script, env, options)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert not prefork.can_begin(script, environment(), leads), "the imports have not seen it"


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("seconds", ["0", "1e6"])
@pytest.mark.parametrize("begun", ["fork", "exec"])
@pytest.mark.parametrize("form", ["script", "-c"])
def test_a_test_that_fails_leaves_nothing_behind(form: str, begun: str, seconds: str, tmp_path: Path) -> None:
    """Not even what a process started in a session of its own, nor where that process has ended."""
    (tmp_path / "leaves.py").write_text(LEAVES_A_CHILD)
    program = ["-c", LEAVES_A_CHILD] if form == "-c" else [str(tmp_path / "leaves.py")]
    child = 0
    with (
        pytest.raises(RuntimeError, match="it fails"),
        start([sys.executable, *program, begun, seconds], stderr=None) as process,
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
