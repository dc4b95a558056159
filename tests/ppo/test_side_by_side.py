"""Two halves at once: both run, errors arrive, and the result is the same."""

import threading
from typing import Any

import pytest
import torch

import biped.ppo.side_by_side
from biped.ppo.policy import MlpIntoLstmPolicy
from biped.ppo.side_by_side import SideBySide
from tests.ppo.tasks import learn, learner, pendulums
from tests.processes import PATIENCE_S

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(biped.ppo.side_by_side, "_cores", lambda: 2)


def test_both_run_at_once_on_a_cpu() -> None:
    met = threading.Barrier(2, timeout=PATIENCE_S)
    with SideBySide(CPU, independent=True) as halves:
        assert halves.run(lambda: (met.wait(), "first")[1], lambda: (met.wait(), "second")[1]) == ("first", "second")


@pytest.mark.parametrize(("device", "independent"), [(CPU, False), (torch.device("cuda"), True)])
def test_they_run_in_turn_where_there_is_nothing_to_gain(device: torch.device, independent: bool) -> None:
    order: list[str] = []
    with SideBySide(device, independent=independent) as halves:
        halves.run(lambda: order.append(threading.current_thread().name), lambda: order.append("second"))
    assert order == ["MainThread", "second"]


def test_one_core_runs_them_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(biped.ppo.side_by_side, "_cores", lambda: 1)
    with SideBySide(CPU, independent=True) as halves:
        assert halves.run(threading.current_thread, threading.current_thread) == (threading.main_thread(),) * 2


@pytest.mark.parametrize("who", [0, 1])
def test_what_one_raises_is_raised_after_both_have_ended(who: int) -> None:
    ended = threading.Event()

    def fail() -> None:
        raise ValueError("broken half")

    def finish() -> None:
        ended.set()

    functions = [fail, finish] if who == 0 else [finish, fail]
    with pytest.raises(ValueError, match="broken half"), SideBySide(CPU, independent=True) as halves:
        halves.run(*functions)
    assert ended.is_set()


def test_torchs_own_threads_are_enough_where_it_has_several() -> None:
    torch.set_num_threads(2)
    try:
        with SideBySide(CPU, independent=True) as halves:
            assert halves.run(threading.current_thread, threading.current_thread) == (threading.main_thread(),) * 2
    finally:
        torch.set_num_threads(1)


def test_each_has_one_thread_of_torch() -> None:
    with SideBySide(CPU, independent=True) as halves:
        assert halves.run(torch.get_num_threads, torch.get_num_threads) == (1, 1)


def test_the_update_is_the_same_as_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    kwargs = {"hidden_sizes": (8,), "lstm_hidden_size": 8, "n_lstm_layers": 1}
    models: list[Any] = []
    for cores in (1, 2):
        monkeypatch.setattr(biped.ppo.side_by_side, "_cores", lambda n=cores: n)
        models.append(learn(learner(pendulums(), MlpIntoLstmPolicy, policy_kwargs=kwargs), 3))
    for a, b in zip(*(model.policy.parameters() for model in models), strict=True):
        torch.testing.assert_close(a, b, atol=0, rtol=0)
