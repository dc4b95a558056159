"""Signals as a wish: noted, not raised."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from biped.interrupts import Interrupts
from biped.ppo.recurrent_ppo import DeviceRecurrentPPO
from biped.runs import RunDirectory
from tests.conftest import ROOT
from wandb_callback import BipedCallback


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_handlers_are_given_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Interrupts(grace_s=0.2) as interrupts:
        assert interrupts.received is None
        os.kill(os.getpid(), number)
        assert interrupts.received is number
        assert not interrupts.is_urgent
        time.sleep(0.25)
        assert interrupts.is_urgent
    assert signal.getsignal(number) == before


def test_the_second_signal_ends_the_process() -> None:
    code = """
import os, signal
from biped.interrupts import Interrupts
with Interrupts(last_act=lambda: print("last act", flush=True)):
    os.kill(os.getpid(), signal.SIGINT)
    print("one", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    print("two", flush=True)
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (143, "one\nlast act\n")


def learner(**kwargs: int) -> DeviceRecurrentPPO:
    return DeviceRecurrentPPO("MlpLstmPolicy", "CartPole-v1", n_steps=16, batch_size=4, seed=1, **kwargs)


def test_what_takes_too_long_is_broken_off_between_two_steps(tmp_path: Path) -> None:
    saved: list[Path] = []
    with Interrupts(grace_s=0.0) as interrupts:
        callback = BipedCallback(RunDirectory(tmp_path), dict, saved.append, 10**9, interrupts=interrupts)
        model = learner(n_epochs=1)
        os.kill(os.getpid(), signal.SIGTERM)
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
