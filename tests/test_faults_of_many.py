"""Whatever is killed of many processes that train, the same command goes on to the same result.

`make faults` runs this file with a hundred kills.
"""

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
import torch

from biped.runs.checkpoint import read_checkpoint
from biped.runs.directory import RunDirectory
from biped.train.studies import Place, open_study
from tests import processes
from tests.processes import PATIENCE_S, ROOT, UNDRAWN, Process
from tests.train.test_launch import QUIET, TORCHRUN

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("FAULTS", "6"))
"""How many kills, over all kinds of trainings."""
LONGEST_S = 20.0
"""The latest time for a kill (s)."""
SMALL = ("--preset", "smoke", "--set", "train.sim=mujoco", *UNDRAWN)
SWEEP = (sys.executable, str(ROOT / "biped_sweep.py"))


def family(process: Process) -> list[psutil.Process]:
    """Return a process and all that it has started, sessions of their own included."""
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    return []


def killed(command: Sequence[str], kills: int, seed: int) -> dict[str, int]:
    """Start a command again and again, and kill something of it at some time, so many times; then let it end.

    Returns:
        What was killed, and how often.
    """
    dice, done = random.Random(seed), {"kill -9": 0, "SIGTERM": 0}
    while sum(done.values()) < kills:
        number = dice.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
        with processes.start(command) as process:
            time.sleep(dice.uniform(0.1, LONGEST_S))
            if process.poll() is None and (victims := family(process)):
                with contextlib.suppress(psutil.Error):
                    dice.choice(victims).send_signal(number)
                    done["kill -9" if number == signal.SIGKILL else "SIGTERM"] += 1
            out, err = process.communicate(timeout=PATIENCE_S)
        if process.returncode == 0:
            return done
        assert "Traceback" not in err, (out, err)
    ended = processes.run(command)
    assert ended.returncode == 0, ended.stderr
    return done


def over(command: Callable[[Path], Sequence[str]], folder: Path, kills: int, check: Callable[[Path], None]) -> None:
    """Kill a training in fresh folders, until there were so many kills; check each result."""
    left, turn = kills, 0
    while left > 0:
        logs = folder / str(turn)
        logs.mkdir()
        done = killed(command(logs), left, turn)
        check(logs)
        left -= sum(done.values())
        turn += 1
        print(f"{folder.name}, turn {turn}: {done}", flush=True)


def test_ranks_of_one_training(tmp_path: Path) -> None:
    """A checkpoint per rollout, killed anywhere: the last one has the bits of an uninterrupted training."""
    flags = ("--total_timesteps", "20480", "--set", "train.checkpoint_every_steps=512", "--eval_freq", "0")
    env = processes.environment() | QUIET

    def command(logs: Path, *more: str) -> list[str]:
        return [*TORCHRUN, str(ROOT / "biped_train.py"), "-e", "two", "--log_dir", str(logs), *more]

    def last(logs: Path) -> dict[str, torch.Tensor]:
        return read_checkpoint(logs / "two" / "biped_model_20480_steps.zip").policy

    assert processes.run(command(tmp_path / "whole", *SMALL, *flags), env=env, afresh=True).returncode == 0
    whole, left, dice = last(tmp_path / "whole"), -(-KILLS // 2), random.Random(1)
    while left > 0:
        logs = tmp_path / str(left)
        while not (logs / "two" / "model_final.zip").exists():
            is_begun = (logs / "two" / "config.json").exists()
            words = ["--continue_training"] if is_begun else [*SMALL, *flags, "--new_run"]
            with processes.start(command(logs, *words), env=env, afresh=True) as torchrun:
                time.sleep(dice.uniform(0.1, 25.0))
                if left > 0 and (victims := family(torchrun)):
                    with contextlib.suppress(psutil.Error):
                        dice.choice(victims).send_signal(dice.choice((signal.SIGKILL, signal.SIGTERM)))
                        left -= torchrun.poll() is None
                torchrun.communicate(timeout=PATIENCE_S)
        assert all(torch.equal(value, last(logs)[name]) for name, value in whole.items())


def test_workers_of_a_population(tmp_path: Path) -> None:
    """Whatever is killed, worker or training: its history is that of an uninterrupted population."""
    sizes = ("--population", "3", "--generations", "3", "--total_timesteps", "12288", "--seed", "5")
    varied = ("--search", "ppo.learning_rate=0.0001:0.01:log", "--search", "ppo.n_epochs=1:4")
    often = ("--set", "train.checkpoint_every_steps=512")

    def command(logs: Path) -> list[str]:
        return [*SWEEP, "--study", "pop", *sizes, *varied, "--log_dir", str(logs), *SMALL, *often]

    def history(logs: Path) -> list[Any]:
        generations = json.loads((logs / "pop" / "population.json").read_text())["generations"]
        return [(item["members"], item["validation"]) for item in generations]

    assert processes.run(command(tmp_path)).returncode == 0
    whole = history(tmp_path)

    def check(logs: Path) -> None:
        assert history(logs) == whole
        assert RunDirectory(logs / "pop").read_metrics()["training/generation"].values.tolist() == [1.0, 2.0, 3.0]

    over(command, tmp_path, -(-KILLS // 4), check)


def test_workers_of_a_search(tmp_path: Path) -> None:
    """Each trial that was asked for has a score, whatever was killed of the processes that made them."""

    def command(logs: Path) -> list[str]:
        steps = ("--total_timesteps", "4096", "--trials", "3")
        return [*SWEEP, "--study", "s", *steps, "--search", "ppo.n_epochs=1:4", "--log_dir", str(logs), *SMALL]

    def check(logs: Path) -> None:
        study = open_study(Place(file=logs / "sweeps" / "s.db"), "s", None)
        scores = [trial.value for trial in study.get_trials() if trial.state in (optuna.trial.TrialState.COMPLETE,)]
        pruned = [trial for trial in study.get_trials() if trial.state is optuna.trial.TrialState.PRUNED]
        assert len(scores) + len(pruned) == 3
        assert all(value is not None and value > 0 for value in scores)

    over(command, tmp_path, -(-KILLS // 4), check)
