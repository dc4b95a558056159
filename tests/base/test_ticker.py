"""What takes long says so, even while Python's lock is held."""

import contextlib
import ctypes
import os
import pty
import re
import select
import signal
from collections.abc import Iterator

from biped.base.ticker import Ticker


def read_until(descriptor: int, pattern: str) -> str:
    """Read until the text has a match of the pattern."""
    text = ""
    while not re.search(pattern, text):
        data = os.read(descriptor, 4096)
        assert data, text
        text += data.decode()
    return text


@contextlib.contextmanager
def errors_into(write: int) -> Iterator[None]:
    """Let standard error lead elsewhere; not a fixture, as pytest takes it back between a fixture and its test."""
    before = os.dup(2)
    os.dup2(write, 2)
    os.close(write)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


@contextlib.contextmanager
def errors_in_a_pipe() -> Iterator[int]:
    """Yield the reading end of a pipe that standard error leads into."""
    read, write = os.pipe()
    with errors_into(write):
        yield read
    os.close(read)


def test_it_speaks_while_the_lock_is_held() -> None:
    """No thread of this process could: `PyDLL` calls keep the lock."""
    with errors_in_a_pipe() as errors, Ticker("compiling", every_s=0.05) as ticker:
        ticker.show("kernel_detection")
        read_until(errors, "kernel_detection")  # its process has started
        ctypes.PyDLL(None).usleep(500_000)
        # One read takes what has been written meanwhile.
        lines = os.read(errors, 65536).decode().splitlines()
    assert len(lines) >= 2
    assert re.fullmatch(r"compiling: kernel_detection, \d+ s so far", lines[0])


def test_new_details_do_not_put_a_line_off() -> None:
    with errors_in_a_pipe() as errors, Ticker("compiling", every_s=0.3) as ticker:
        for number in range(100_000):
            ticker.show(f"kernel {number}")
            if select.select([errors], [], [], 0.01)[0]:
                break
        assert re.match(r"compiling: kernel \d+, 0 s so far\n", read_until(errors, "\n"))


def test_what_is_over_soon_says_nothing() -> None:
    with errors_in_a_pipe() as errors:
        with Ticker("compiling", every_s=3600.0) as ticker:
            ticker.show("kernel")
        os.write(2, b"end\n")
        assert read_until(errors, "end\n") == "end\n"


def test_a_terminal_gets_a_spinner_that_leaves_nothing_behind() -> None:
    ours, theirs = pty.openpty()
    with errors_into(theirs):
        with Ticker("compiling") as ticker:
            ticker.show("kernel_detection")
            text = read_until(ours, r"kernel_detection, \d+ s so far")
        os.write(2, b"end")
        text += read_until(ours, "end")
    os.close(ours)
    assert re.search(r"\r\x1b\[K[|/\\-] compiling", text)
    assert "\n" not in text
    assert text.endswith("\r\x1b[Kend")


def test_it_outlives_ctrl_c_and_not_its_owner() -> None:
    with errors_in_a_pipe() as errors:
        ticker = Ticker("compiling", every_s=0.05)
        ticker.show("kernel")
        read_until(errors, "kernel")  # its process has started
        process = ticker._process
        assert process is not None
        process.send_signal(signal.SIGINT)
        for _ in range(3):
            read_until(errors, "so far\n")
        assert process.stdin is not None
        process.stdin.close()  # as when its owner is killed
        assert process.wait(timeout=300) == 0
