"""Trainings in two processes of torchrun, with gloo on the CPU: as strong as one alone."""

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess

import psutil
import pytest
import torch

import biped_train
from biped.base.errors import MachineError
from biped.runs.checkpoint import read_checkpoint
from biped.train import launch
from biped.train.launch import own_seed
from tests import processes
from tests.conftest import SMALL
from tests.loopback import free_port
from tests.processes import ROOT, Process, until

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
QUIET = {"TORCH_CPP_LOG_LEVEL": "ERROR", "OMP_NUM_THREADS": "1"}
"""What of torchrun's own lines can be switched off."""
STYLED = [*SMALL, "--style", "assets/motions/walk.csv"]
"""A style has a network, data and draws of its own."""


def command(logs: Path, *flags: str) -> list[str]:
    return [*TORCHRUN, str(ROOT / "biped_train.py"), "-e", "two", "--log_dir", str(logs), *flags]


def train(logs: Path, *flags: str) -> "CompletedProcess[str]":
    return processes.run(command(logs, *flags), env=processes.environment() | QUIET, afresh=True)


@contextmanager
def begun(logs: Path, *flags: str) -> Iterator[tuple[Process, list[psutil.Process]]]:
    """Start a long training in two processes; yield torchrun and, once they roll out, both of them by rank."""
    long = ("--total_timesteps", "100000000", "--set", "train.checkpoint_every_steps=100000000", *flags)
    with processes.start(command(logs, *SMALL, *long), env=processes.environment() | QUIET, afresh=True) as torchrun:
        until(lambda: (logs / "two" / "metrics.jsonl").exists() and _rows(logs), torchrun)
        children = psutil.Process(torchrun.pid).children()
        yield torchrun, sorted(children, key=lambda child: int(child.environ()["RANK"]))


def _rows(logs: Path) -> list[dict[str, float]]:
    lines = (logs / "two" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    logs = tmp_path_factory.mktemp("whole")
    ended = train(logs, *STYLED, "--total_timesteps", "4096")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("trained 4,096 steps") == 1, "only one of them speaks"
    assert "building 2 x 16 robots" in ended.stdout
    return logs


def test_both_count_and_one_writes(whole: Path) -> None:
    rows = _rows(whole)
    per_rollout = rows[0]["step"]
    assert [row["step"] for row in rows] == [per_rollout * (i + 1) for i in range(len(rows))]
    one = json.loads((whole / "two" / "config.json").read_text())
    assert per_rollout == 2 * one["env"]["num_envs"] * one["ppo"]["n_steps"]
    assert rows[-1]["step"] == 4096
    assert all(0.0 < row["time/waiting_time"] < 60.0 for row in rows)


def test_resumed_it_goes_on_to_the_last_bit(whole: Path, tmp_path: Path) -> None:
    assert train(tmp_path, *STYLED, "--total_timesteps", "2048").returncode == 0
    ended = train(tmp_path, "--continue_training", "--total_timesteps", "4096")
    assert ended.returncode == 0, ended.stderr
    assert "new episodes" not in ended.stdout
    name = "two/biped_model_4096_steps.zip"
    once, twice = read_checkpoint(whole / name), read_checkpoint(tmp_path / name)
    assert once.notes["ranks"] == 2.0
    for one, other in ((once.policy, twice.policy), (once.live, twice.live)):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
    own = [name for name in once.live if "generator" in name or "observations" in name]
    assert {name.removeprefix("rank1.") for name in own} == {name for name in own if not name.startswith("rank1.")}
    for name in own:
        if not name.startswith("rank1."):
            assert not torch.equal(once.live[name], once.live[f"rank1.{name}"]), "each has its own robots and draws"
    learned = [name for name in once.live if name.startswith("style.discriminator.")]
    assert learned
    assert all(torch.equal(once.live[name], once.live[f"rank1.{name}"]) for name in learned)
    assert not torch.equal(once.live["style.replay"], once.live["rank1.style.replay"])


def test_alone_it_goes_on_with_new_episodes_and_says_so(whole: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "two").symlink_to(whole / "two")
    resume = ["-e", "two", "--log_dir", str(tmp_path), "--continue_training", "--total_timesteps", "4608"]
    assert biped_train.main(resume) == 0
    said = capsys.readouterr()
    assert "new episodes (they were those of 2 processes, and now there is 1)" in said.out
    assert "discriminator begins anew" not in said.err


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_signal_to_one_ends_all_with_one_checkpoint(rank: int, tmp_path: Path) -> None:
    with begun(tmp_path) as (torchrun, members):
        members[rank].send_signal(signal.SIGTERM)
        _, said = torchrun.communicate(timeout=60)
    assert torchrun.returncode != 0
    assert len(list((tmp_path / "two").glob("biped_model_*_steps.zip"))) == 1
    assert said.count("stopped after") == 1
    assert not any(member.is_running() for member in members)


@pytest.mark.slow
def test_torchrun_waits_for_an_update_that_takes_longer_than_half_a_minute_if_told(tmp_path: Path) -> None:
    """Without the flag torchrun kills after 30 s what has not ended."""
    patient = [*TORCHRUN, "--shutdown_timeout=300", *command(tmp_path, *SMALL)[len(TORCHRUN) :]]
    long = ["--total_timesteps", "100000000", "--set", "ppo.n_epochs=1500", "train.checkpoint_every_steps=100000000"]
    with processes.start([*patient, *long], env=processes.environment() | QUIET, afresh=True) as torchrun:
        until(lambda: (tmp_path / "two" / "metrics.jsonl").exists() and _rows(tmp_path), torchrun)
        update_s = _rows(tmp_path)[-1]["time/learning_time"]
        time.sleep(5.0)  # into the next update
        began_s = time.monotonic()
        torchrun.send_signal(signal.SIGTERM)
        _, said = torchrun.communicate(timeout=300)
        took_s = time.monotonic() - began_s
    assert update_s > 40.0, "the update is too short to tell"
    assert took_s > 31.0
    assert said.count("stopped after") == 1
    assert len(list((tmp_path / "two").glob("biped_model_*_steps.zip"))) == 1


@pytest.mark.parametrize(
    ("number", "rank"),
    [
        (signal.SIGKILL, 1),
        pytest.param(signal.SIGKILL, 0, marks=pytest.mark.slow),
        pytest.param(signal.SIGSTOP, 1, marks=pytest.mark.slow),
    ],
)
def test_a_process_that_is_lost_ends_the_others_with_a_line_that_names_it(
    number: signal.Signals, rank: int, tmp_path: Path
) -> None:
    with begun(tmp_path) as (torchrun, members):
        began_s = time.monotonic()
        members[rank].send_signal(number)
        _, said = torchrun.communicate(timeout=100)
        took_s = time.monotonic() - began_s
    assert torchrun.returncode != 0
    assert f"process {rank} of 2 was lost, while " in said
    assert "go on with --continue_training" in said
    assert took_s < 60.0


def test_what_the_leader_refuses_is_said_once(tmp_path: Path) -> None:
    ended = train(tmp_path, "--preset", "smoke", "--set", "ppo.n_epochs=none")
    assert ended.returncode != 0
    assert ended.stderr.count("biped_train.py: ") == 1


def test_robots_and_noise_differ_between_processes_and_between_seeds() -> None:
    class Rank:
        def __init__(self, rank: int) -> None:
            self.rank = rank

    seeds = {own_seed(seed, Rank(rank)) for seed in range(20) for rank in range(8)}  # pyright: ignore[reportArgumentType]
    assert len(seeds) == 160
    assert own_seed(7, None) == own_seed(7, Rank(0)) == 7  # pyright: ignore[reportArgumentType]


def test_processes_that_find_no_torchrun_end_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where torchrun was killed before they had joined: they waited for it for a month."""
    monkeypatch.setattr(launch, "ANSWERS_S", 1.0)
    variables = {"TORCHELASTIC_RUN_ID": "x", "TORCHELASTIC_RESTART_COUNT": "0", "RANK": "1", "WORLD_SIZE": "2"}
    for name, value in {**variables, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(launch, "_take_own_share", lambda: None)
    with pytest.raises(MachineError, match="torchrun has ended, or does not answer"), launch.launched():
        pass
