"""The sbatch scripts in a real SLURM of one node, whose tasks stand for nodes."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from biped.runs.checkpoint import read_checkpoint
from biped.runs.directory import RunDirectory
from biped.train.state import RANKS
from tests import slurm
from tests.processes import UNDRAWN, until

SMALL = ("--preset", "smoke", "--set", "train.sim=mujoco", *UNDRAWN)
LONG = ("--total_timesteps", "100000000")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm.Cluster]:
    if (why := slurm.missing()) is not None:
        pytest.skip(why)
    with slurm.cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


def variables(logs: Path) -> dict[str, str]:
    return {"PYTHON": sys.executable, "LOGS": str(logs)}


def test_a_training_on_two_nodes_is_one_training(cluster: slurm.Cluster, tmp_path: Path) -> None:
    options = ("--job-name=walk", "--ntasks=2", "--ntasks-per-node=2")
    flags = (*SMALL, "--total_timesteps", "1024")
    job = cluster.submit("train.sbatch", flags, options, **variables(tmp_path))
    cluster.until(job, "COMPLETED")
    run = RunDirectory(tmp_path / "walk")
    assert run.final_model.is_file()
    assert read_checkpoint(run.checkpoints()[0]).notes[RANKS] == 2
    assert run.read_metrics()["time/waiting_time"].values.size == 2, "1024 steps are two rollouts of two processes"


def test_when_its_time_is_over_it_saves_goes_back_to_the_queue_and_goes_on(
    cluster: slurm.Cluster, tmp_path: Path
) -> None:
    job = cluster.submit("train.sbatch", (*SMALL, *LONG), ("--job-name=long",), **variables(tmp_path))
    run = RunDirectory(tmp_path / "long")
    until(run.metrics.exists)
    cluster.run("scancel", "--batch", "--signal=USR1", job)  # what SLURM sends three minutes before the end
    cluster.until(job, "PENDING")
    cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now+10")  # SLURM itself waits for two minutes
    until(lambda: len(run.read_launches()) == 2)
    (saved,) = (start["resumed_after_step"] for start in run.read_launches() if start["resumed_after_step"])
    assert run.checkpoint(saved).is_file()
    assert "Restarts=1" in cluster.run("scontrol", "show", "job", job)
    cluster.run("scancel", job)  # what a person does stays as it is
    cluster.until(job, "CANCELLED")


def test_a_job_that_fails_ends_and_is_not_tried_again(cluster: slurm.Cluster, tmp_path: Path) -> None:
    job = cluster.submit("train.sbatch", ("--set", "ppo.nonsense=1"), ("--job-name=bad",), **variables(tmp_path))
    cluster.until(job, "FAILED")
    assert "nonsense" in cluster.said()
    assert "Restarts=0" in cluster.run("scontrol", "show", "job", job)


@pytest.mark.slow
def test_a_worker_whose_time_is_over_goes_on_later(cluster: slurm.Cluster, tmp_path: Path) -> None:
    job = cluster.submit("sweep.sbatch", ("--study", "sd", "--seeds", "1", *SMALL, *LONG), (), **variables(tmp_path))
    run = RunDirectory(tmp_path / "sd-1")
    until(run.metrics.exists)
    cluster.run("scancel", "--batch", "--signal=USR1", job)
    cluster.until(job, "PENDING")
    assert len(run.checkpoints()) == 1, "it has saved"
    cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now+10")
    until(lambda: len(run.read_launches()) == 2)
    assert run.read_launches()[1]["resumed_after_step"] > 0
    cluster.run("scancel", job)
    cluster.until(job, "CANCELLED")


@pytest.mark.slow
def test_an_array_of_workers_shares_seeds(cluster: slurm.Cluster, tmp_path: Path) -> None:
    flags = ("--study", "sd", "--seeds", "3", *SMALL, "--total_timesteps", "512")
    job = cluster.submit("sweep.sbatch", flags, ("--array=1-2", "--cpus-per-task=1"), **variables(tmp_path))
    cluster.until(job, "COMPLETED")
    results = json.loads((tmp_path / "sd" / "seeds.json").read_text())["seeds"]
    assert [result["seed"] for result in results] == [1, 2, 3]
    assert [len(RunDirectory(tmp_path / f"sd-{seed}").read_launches()) for seed in (1, 2, 3)] == [1, 1, 1]
