"""Figures that leave their ranges are named, one line each: `benchmarks/nightly.py`."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import biped_eval
from benchmarks import nightly
from tests import processes
from tests.conftest import ROOT, SMALL
from tests.test_docs import table

Compare = Callable[[Path], tuple[int, list[str], list[str]]]
SHIPPED = ROOT / "assets" / "policies"
COLUMNS = {
    "first pass": nightly.FIRST_PASS,
    "end": nightly.END,
    "vx": "error_lin_vel_x_m_s",
    "vy": "error_lin_vel_y_m_s",
    "yaw": "error_ang_vel_rad_s",
    "turning": "turning_error_ang_vel_rad_s",
    "duty difference": "duty_factor_difference",
    "velocity known to": "estimate_error_velocity_m_s",
}
"""Columns of the table of ten seeds, and the figures that they have."""


@pytest.fixture
def compare(capsys: pytest.CaptureFixture[str]) -> Compare:
    """Compares a run; returns the exit code, the rows of the table and the complaints."""

    def call(run: Path) -> tuple[int, list[str], list[str]]:
        capsys.readouterr()
        code = nightly.main(["--run", str(run)])
        said = capsys.readouterr()
        return code, said.out.splitlines()[2:], said.err.splitlines()

    return call


def trained(folder: Path, first_pass: int | None, end: int) -> Path:
    """Write what is read of a training: an evaluation each 250,000 steps, and which of them passed."""
    folder.mkdir(exist_ok=True)
    rows = [
        {"step": step, "time": 0.0, "gate/passed": float(first_pass is not None and step >= first_pass)}
        for step in range(250_000, end + 1, 250_000)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """A run with the figures of the shipped policy, which is seed 1 of the ten."""
    run = trained(tmp_path / "shipped", 2_500_000, 3_250_000)
    shutil.copy(SHIPPED / "eval.json", run / nightly.JUDGED)
    return run


def test_the_shipped_policys_figures_are_within(shipped: Path, compare: Compare) -> None:
    code, rows, complaints = compare(shipped)
    assert (code, complaints) == (0, [])
    assert "| first_pass_steps | 2.50 M | 2.00 M to 3.00 M | ten seeds |" in rows
    assert "| error_lin_vel_x_m_s | 0.047 | 0.025 to 0.053 | ten seeds |" in rows
    assert "| error_lin_vel_x_m_s | 0.047 | at most 0.080 | the gate |" in rows


def test_a_policy_that_does_not_walk_is_out_of_range(tmp_path: Path, compare: Compare) -> None:
    """An agent that does nothing, in MuJoCo."""
    run = trained(tmp_path / "zero", None, 5_000_000)
    words = ["--agent", "zero", "--sim", "mujoco", "--episodes", "16", "--set", "env.termination.episode_s=2"]
    assert biped_eval.main([*words, "--out", str(run / nightly.JUDGED)]) == biped_eval.GATE_FAILED
    code, rows, complaints = compare(run)
    assert code == nightly.OUTSIDE
    assert "out of range: first_pass_steps is never, not 2.00 M to 3.00 M (ten seeds)" in complaints
    assert any(re.match(r"out of range: stepping_episodes is 0\.000, not at least 0\.97", line) for line in complaints)
    assert "out of range: estimate_error_velocity_m_s is missing, not 0.019 to 0.025 (ten seeds)" in complaints
    assert len(complaints) == sum("**" in row for row in rows)


@pytest.mark.parametrize(
    ("line", "value", "said"),
    [
        ("error_lin_vel_x_m_s", 0.07, "out of range: error_lin_vel_x_m_s is 0.070, not 0.025 to 0.053 (ten seeds)"),
        ("error_lin_vel_x_m_s", 0.001, "out of range: error_lin_vel_x_m_s is 0.001, not 0.025 to 0.053 (ten seeds)"),
        ("survival", 0.5, "out of range: survival is 0.500, not at least 0.970 (the gate)"),
        ("duty_factor_left", None, "out of range: duty_factor_left is missing, not 0.500 to 0.800 (the gate)"),
    ],
)
def test_one_figure_outside_is_one_line(
    shipped: Path, compare: Compare, line: str, value: float | None, said: str
) -> None:
    """Also one that passes the gate, or is better than it can be."""
    record = json.loads((shipped / nightly.JUDGED).read_text())
    record["lines"][line]["value"] = value
    (shipped / nightly.JUDGED).write_text(json.dumps(record))
    assert compare(shipped)[::2] == (nightly.OUTSIDE, [said])


def test_a_training_that_took_longer_is_one_line(shipped: Path, compare: Compare) -> None:
    trained(shipped, 3_500_000, 3_750_000)
    said = "out of range: first_pass_steps is 3.50 M, not 2.00 M to 3.00 M (ten seeds)"
    assert compare(shipped)[::2] == (nightly.OUTSIDE, [said])


def test_ranges_are_those_of_the_page_on_training() -> None:
    rows = table(ROOT / "docs" / "training.md", "seed", "first pass", "end")
    assert len(rows) == 10
    for column, name in COLUMNS.items():
        cells = [row[column] for row in rows]
        if column in ("first pass", "end"):
            values = [1e6 * float(cell.removesuffix(" M")) for cell in cells]
        else:
            values = [float(cell.split(" / ")[1]) for cell in cells]  # Genesis / MuJoCo
        assert nightly.TEN_SEEDS[name] == (min(values), max(values)), name
    assert set(nightly.TEN_SEEDS) == set(COLUMNS.values())


def test_a_run_that_was_not_evaluated_is_wrong_usage(tmp_path: Path, compare: Compare) -> None:
    code, _, complaints = compare(trained(tmp_path / "run", None, 250_000))
    assert code == 2
    assert complaints == [
        f"nightly.py: {tmp_path / 'run'} has no eval_mujoco.json: python biped_eval.py -e run --sim mujoco"
    ]


@pytest.mark.slow
def test_it_trains_and_evaluates_and_a_training_that_fails_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/nightly.py", "--log_dir", str(tmp_path), "--episodes", "4", "--"]
    ended = processes.run([*command, *SMALL], cwd=ROOT)
    assert ended.returncode == nightly.OUTSIDE, ended.stderr
    assert "out of range: first_pass_steps is never, not 2.00 M to 3.00 M (ten seeds)" in ended.stderr
    assert json.loads((tmp_path / "nightly" / "config.json").read_text())["train"]["seed"] == nightly.SEED
    ended = processes.run([*command, "--set", "ppo.n_epochs=none"], cwd=ROOT)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("nightly.py: biped_train.py ended with exit code 2: ")
