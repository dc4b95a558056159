"""Calls on another thread: in order, never in the way."""

import threading

from biped.base.background import Background
from tests.processes import PATIENCE_S


def test_calls_are_done_in_order_and_finish_waits_for_them() -> None:
    done: list[int] = []
    work = Background(lambda _: None, 100)
    for number in range(50):
        assert work.do(lambda number=number: done.append(number))
    assert work.finish(PATIENCE_S)
    assert done == list(range(50))


def test_the_caller_does_not_wait_for_a_call_that_hangs() -> None:
    """Whatever waited for the call would wait for ever, here too."""
    taken, gate = threading.Event(), threading.Event()
    work = Background(lambda _: None, 2)
    work.do(lambda: (taken.set(), gate.wait()))
    assert taken.wait(PATIENCE_S)
    assert work.do(lambda: None)
    assert work.do(lambda: None)
    assert not work.do(lambda: None), "a full queue must refuse rather than wait"
    assert not work.finish(0.2), "there was no room for the end"
    gate.set()
    assert work.finish(PATIENCE_S)


def test_finish_gives_up_on_a_call_that_hangs() -> None:
    gate = threading.Event()
    work = Background(lambda _: None, 2)
    work.do(gate.wait)
    assert not work.finish(0.2)
    gate.set()


def test_the_first_failure_is_reported_and_nothing_is_done_after_it() -> None:
    failures: list[Exception] = []
    done: list[int] = []
    work = Background(failures.append, 100)

    def fail() -> None:
        raise ConnectionResetError("gone")

    work.do(fail)
    work.do(fail)
    work.do(lambda: done.append(1))
    assert work.finish(PATIENCE_S)
    assert [str(failure) for failure in failures] == ["gone"]
    assert done == []
    assert not work.do(lambda: None)
