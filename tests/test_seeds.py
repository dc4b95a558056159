"""The table and the picture of many seeds: `benchmarks/seeds.py`."""

import json
import math
import sys
from pathlib import Path

import pytest

from benchmarks import seeds
from tests import processes
from tests.conftest import ROOT


def a_run(folder: Path, passes: list[tuple[int, bool]], evaluations: dict[str, float]) -> Path:
    """Write what the script reads of a run: when the gate passed, and the error of vx in each evaluation."""
    folder.mkdir()
    rows = [{"step": step, "time": 0.0, "gate/passed": float(passed), "train/kl": 0.01} for step, passed in passes]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, error in evaluations.items():
        lines = {
            line: {"value": error, "unit": "m/s", "low": None, "high": 0.08, "episodes": 4, "passed": error <= 0.08}
            for line in ("error_lin_vel_x_m_s", "duty_factor_difference")
        }
        (folder / name).write_text(json.dumps({"passed": error <= 0.08, "lines": lines}))
    return folder


@pytest.mark.parametrize(
    ("value", "low", "high", "share"),
    [
        (0.04, None, 0.08, 0.5),
        (0.10, None, 0.08, 1.25),
        (1.0, 0.97, None, 0.97),
        (0.5, 0.97, None, 1.94),
        (0.0, 0.97, None, math.inf),
        (0.6, 0.5, 0.8, 0.5 / 0.6),
        (0.76, 0.5, 0.8, 0.95),
    ],
)
def test_a_share_of_1_is_just_at_the_bar(value: float, low: float | None, high: float | None, share: float) -> None:
    assert seeds.share_of_bar({"value": value, "low": low, "high": high}) == pytest.approx(share)


def test_the_table_says_when_each_seed_passed_first_and_what_each_engine_found(tmp_path: Path) -> None:
    early = a_run(
        tmp_path / "one",
        [(250_000, False), (500_000, True), (750_000, False), (1_000_000, True)],
        {"eval.json": 0.05, "eval_mujoco.json": 0.09},
    )
    late = a_run(tmp_path / "two", [(250_000, False), (1_500_000, True)], {"eval.json": 0.06, "eval_mujoco.json": 0.07})
    command = [sys.executable, "benchmarks/seeds.py", str(early), str(late), str(tmp_path / "seeds.png")]
    ended = processes.run(command, check=True, cwd=ROOT)
    rows = ended.stdout.splitlines()
    assert rows[2].startswith(
        "| one | 0.50 M | 1.00 M | passed | **failed**: error_lin_vel_x_m_s, duty_factor_difference | 0.050 / 0.090 |"
    )
    assert rows[3].startswith("| two | 1.50 M | 1.50 M | passed | passed | 0.060 / 0.070 |")
    assert rows[-1] == "1 of 2 pass every evaluation; first pass: median 1.00 M, latest 1.50 M"
    assert (tmp_path / "seeds.png").stat().st_size > 10_000


def test_one_engine_is_enough_and_a_seed_may_never_pass(tmp_path: Path) -> None:
    run = seeds.Trained.read(a_run(tmp_path / "one", [(250_000, False)], {"eval_mujoco.json": 0.09}))
    assert run.first_pass == math.inf
    assert run.row().startswith("| one | never | 0.25 M |  | **failed**:")


def test_a_run_without_an_evaluation_is_named(tmp_path: Path) -> None:
    run = a_run(tmp_path / "one", [(250_000, True)], {})
    ended = processes.run([sys.executable, "benchmarks/seeds.py", str(run), str(tmp_path / "x.png")], cwd=ROOT)
    assert ended.returncode == 2
    assert ended.stderr == f"error: {run} has no evaluation: python biped_eval.py -e one\n"


def test_a_run_that_was_never_judged_in_training_is_named(tmp_path: Path) -> None:
    run = a_run(tmp_path / "one", [], {"eval.json": 0.09})
    (run / "metrics.jsonl").write_text('{"step": 256, "time": 0.0, "train/kl": 0.01}\n')
    ended = processes.run([sys.executable, "benchmarks/seeds.py", str(run), str(tmp_path / "x.png")], cwd=ROOT)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {run} has no evaluation in training")
