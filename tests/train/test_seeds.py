"""Seeds of a real training: trained, judged, reported; ended and gone on with."""

import json
import math
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import biped_sweep
from biped.runs.directory import RunDirectory
from biped.runs.metrics_log import Curve
from biped.train.seeds import SeedResult, as_table, summarise, trained_s
from tests import processes
from tests.processes import PATIENCE_S, UNDRAWN, start, until

SMALL = ("--preset", "smoke", "--set", "train.sim=mujoco", *UNDRAWN)


def words(logs: Path, *flags: str, seeds: int = 2) -> list[str]:
    return ["--study", "sd", "--seeds", str(seeds), "--log_dir", str(logs), *SMALL, "--total_timesteps", "512", *flags]


def result(seed: int, *, passed: bool, first: float = math.inf, score: float = 0.5) -> SeedResult:
    return SeedResult(seed, passed, () if passed else ("survival",), score, first, first / 1000, (1, 2), (0.1, 0.2))


def test_the_summary_is_that_of_hand_computed_seeds() -> None:
    scores = (0.1, 0.8, 0.9, 1.0)
    firsts = (math.inf, 3000.0, 1000.0, 2000.0)
    results = [
        result(seed, passed=seed > 1, first=first, score=score)
        for seed, (first, score) in enumerate(zip(firsts, scores, strict=True), start=1)
    ]
    summary = summarise(results)
    assert summary.share == 0.75
    assert summary.median_steps == 2500.0
    assert summary.median_s == 2.5
    assert summary.score == pytest.approx(0.85), "the best and the worst of four are left out"
    table = as_table(results, summary)
    assert "passed: 3 of 4, 75% (95% interval 30% to 95%)" in table
    assert "median first pass: 2,500 steps" in table
    assert "   1         never     never  failed in survival" in table


def test_where_half_never_pass_the_median_is_never() -> None:
    summary = summarise([result(1, passed=False), result(2, passed=True, first=5.0)])
    assert math.isinf(summary.median_steps)
    assert "median first pass: never" in as_table([result(1, passed=False)], summary)


def test_many_failed_lines_are_counted_not_listed() -> None:
    many = SeedResult(1, False, tuple("abcde"), 0.1, math.inf, math.inf)
    assert many.verdict == "failed in a, b, c and 2 more"


def test_times_of_a_run_that_was_continued_are_added_up() -> None:
    curve = Curve(np.array([1, 2, 3, 4, 5]), np.array([10.0, 20.0, 5.0, 9.0, 2.0]))
    assert trained_s(curve).tolist() == [10.0, 20.0, 25.0, 29.0, 31.0]


@pytest.mark.usefixtures("quick_trials")
def test_seeds_are_trained_judged_and_reported_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert biped_sweep.main(words(tmp_path)) == 0
    said = capsys.readouterr().out
    assert "passed: 0 of 2, 0% (95% interval 0% to 66%)" in said
    found = json.loads((tmp_path / "sd" / "seeds.json").read_text())
    assert found["summary"]["median_steps"] is None, "strict JSON knows no infinity"
    for seed, stored in enumerate(found["seeds"], start=1):
        run = RunDirectory(tmp_path / f"sd-{seed}")
        assert run.read_config().train.seed == seed
        assert stored["scores"] == run.read_metrics()["gate/score"].values.tolist()
        assert stored["steps"] == [512]
        assert 0.0 < stored["score"] < 1.0
    assert Image.open(tmp_path / "sd" / "seeds.png").size[0] > 500
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("sd-*/*")}
    assert biped_sweep.main(words(tmp_path)) == 0
    assert {file: file.stat().st_mtime_ns for file in tmp_path.glob("sd-*/*")} == before, "nothing is trained again"
    assert "seed 1: training" not in capsys.readouterr().out


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL])
def test_whenever_it_is_ended_a_seed_goes_on_where_it_was(number: signal.Signals, tmp_path: Path) -> None:
    flags = words(tmp_path, "--total_timesteps", "20480", seeds=1)
    command = [sys.executable, str(processes.ROOT / "biped_sweep.py"), *flags]
    with start(command) as first:
        until((tmp_path / "sd-1" / "metrics.jsonl").exists, first)
        os.kill(first.pid, number)
        first.wait(PATIENCE_S)
        ended = processes.run(command)  # a training of the first one may live on
    assert ended.returncode == 0, ended.stderr
    launches = RunDirectory(tmp_path / "sd-1").read_launches()
    assert len(launches) == (2 if number == signal.SIGINT else 1), "a living training is waited for"
    assert RunDirectory(tmp_path / "sd-1").checkpoints()[0].name == "biped_model_20480_steps.zip"


@pytest.mark.slow
def test_two_workers_share_seeds_and_both_report(tmp_path: Path) -> None:
    command = [sys.executable, str(processes.ROOT / "biped_sweep.py"), *words(tmp_path, seeds=3)]
    with start(command) as one, start(command) as other:
        said = [worker.communicate(timeout=PATIENCE_S) for worker in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0), said
    assert all("passed: 0 of 3" in out for out, _ in said)
    assert [len(RunDirectory(tmp_path / f"sd-{seed}").read_launches()) for seed in (1, 2, 3)] == [1, 1, 1]


@pytest.mark.slow
@pytest.mark.usefixtures("quick_trials")
def test_a_seed_that_breaks_down_counts_as_one_that_does_not_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert biped_sweep.main(words(tmp_path, seeds=1)) == 0
    (tmp_path / "sd" / "claims" / "judged-2.json").mkdir()  # where the judge's results should go
    assert biped_sweep.main(words(tmp_path, seeds=2)) == 0
    assert "seed 2: broke down: " in capsys.readouterr().out
    found = json.loads((tmp_path / "sd" / "seeds.json").read_text())
    assert found["seeds"][1]["score"] == 0.0
    assert found["summary"]["share"] == 0.0


@pytest.mark.usefixtures("quick_trials")
def test_a_series_keeps_to_its_training_and_to_its_own_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert biped_sweep.main(words(tmp_path, seeds=1)) == 0
    assert biped_sweep.main(words(tmp_path, "--set", "ppo.n_epochs=3", seeds=1)) == 2
    assert "were begun with another --preset, --set" in capsys.readouterr().err
    (tmp_path / "sd-2").mkdir()
    (tmp_path / "sd-2" / "config.json").write_text("mine")
    assert biped_sweep.main(words(tmp_path, seeds=2)) == 2
    assert "sd-2 exists already" in capsys.readouterr().err
    assert (tmp_path / "sd-2" / "config.json").read_text() == "mine"


@pytest.mark.usefixtures("quick_trials")
def test_a_seed_that_cannot_be_trained_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert biped_sweep.main(words(tmp_path, "--set", "env.robot.model_path=nowhere.xml")) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "seed 1: " in said
    assert "nowhere.xml" in said


@pytest.mark.parametrize(
    "flags", [["--generations", "3"], ["--search", "ppo.gamma=0.5:0.9"], ["--storage", "sqlite:///x"], ["--seed", "3"]]
)
def test_what_seeds_have_no_use_for_is_refused(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert biped_sweep.main([*words(tmp_path), *flags]) == 2
    assert f"{flags[0]} is of no use with --seeds" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick_trials")
def test_a_result_that_is_damaged_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert biped_sweep.main(words(tmp_path, seeds=1)) == 0
    (tmp_path / "sd" / "seed_1.json").write_text("{")
    assert biped_sweep.main(words(tmp_path, seeds=1)) == 2
    assert "seed_1.json is damaged" in capsys.readouterr().err
