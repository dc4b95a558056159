"""Signals as a wish: noted, not raised."""

import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from biped.base.interrupts import Interrupts
from biped.config.run import TrainConfig
from biped.ppo.recurrent_ppo import DeviceRecurrentPPO
from biped.runs.directory import RunDirectory
from biped.train.callback import BipedCallback
from biped.train.checkpoints import Checkpoints
from tests.processes import run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_handlers_are_given_back(number: signal.Signals) -> None:
    before, now_s = signal.getsignal(number), 100.0
    with Interrupts(grace_s=8.0, clock=lambda: now_s) as interrupts:
        assert interrupts.received is None
        signal.raise_signal(number)
        assert interrupts.received is number
        now_s += 7.9
        assert not interrupts.is_urgent
        now_s += 0.2
        assert interrupts.is_urgent
    assert signal.getsignal(number) == before


def test_the_second_signal_ends_the_process() -> None:
    code = """
import signal
from biped.base.interrupts import Interrupts
with Interrupts(last_act=lambda: print("last act", flush=True)):
    signal.raise_signal(signal.SIGINT)
    print("one", flush=True)
    signal.raise_signal(signal.SIGTERM)
    print("two", flush=True)
"""
    ended = run([sys.executable, "-c", code])
    assert (ended.returncode, ended.stdout) == (143, "one\nlast act\n")


def test_a_signal_that_is_ignored_stays_so_even_while_nothing_could_be_lost() -> None:
    """As in a background job of a script, or under nohup."""
    code = """
import signal
from biped.base.command_line import ending_at_once
from biped.base.interrupts import Interrupts
signal.signal(signal.SIGINT, signal.SIG_IGN)
with ending_at_once():
    signal.raise_signal(signal.SIGINT)
with Interrupts() as interrupts:
    signal.raise_signal(signal.SIGINT)
    print(interrupts.received)
print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)
"""
    ended = run([sys.executable, "-c", code])
    assert (ended.returncode, ended.stdout) == (0, "None\nTrue\n"), ended.stderr


def learner(**kwargs: int) -> DeviceRecurrentPPO:
    return DeviceRecurrentPPO("MlpLstmPolicy", "CartPole-v1", n_steps=16, batch_size=4, seed=1, device="cpu", **kwargs)


def test_what_takes_too_long_is_broken_off_between_two_steps(tmp_path: Path) -> None:
    saved: list[Path] = []
    with Interrupts(grace_s=0.0) as interrupts:
        state = SimpleNamespace(save=saved.append)
        checkpoints = Checkpoints(RunDirectory(tmp_path), state, TrainConfig(checkpoint_every_steps=10**9))
        callback = BipedCallback([checkpoints], interrupts)
        model = learner(n_epochs=1)
        signal.raise_signal(signal.SIGTERM)
        # It came before the first rollout: not even that is begun.
        model.learn(64, callback, log_interval=None)
    assert callback.was_interrupted
    assert (model.num_timesteps, len(saved)) == (0, 1)


def test_an_update_is_broken_off_where_it_is_asked_to() -> None:
    model = learner(n_epochs=50)
    asked = []
    model.should_break_off = lambda: asked.append(1) or len(asked) > 2
    model.learn(16)
    assert model._n_updates == 3, "asked after each epoch of one minibatch"
    model.should_break_off = lambda: False
    model.learn(16, reset_num_timesteps=False)
    assert model._n_updates == 53
