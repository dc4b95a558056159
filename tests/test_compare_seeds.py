"""Recipes beside each other: `benchmarks/compare_seeds.py`."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import compare_seeds
from tests import processes
from tests.conftest import ROOT


def a_run(folder: Path, passes: list[bool], verdict: bool | None = None, waited_s: float = 0.0) -> Path:
    """Write what the script reads of a run: its evaluations each 250,000 steps, and rounds of 4 s."""
    folder.mkdir()
    rows = [
        {
            "step": 250_000 * (number + 1),
            "time": 0.0,
            "gate/passed": float(passed),
            "gate/score": 0.9,
            "time/fps": 1000.0 * (number + 1),
            "time/collection_time": 3.0,
            "time/learning_time": 1.0,
            **({"time/waiting_time": waited_s} if waited_s else {}),
        }
        for number, passed in enumerate(passes)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if verdict is not None:
        (folder / "eval_mujoco.json").write_text(json.dumps({"passed": verdict}))
    return folder


def test_seeds_of_one_recipe_are_one_row(tmp_path: Path) -> None:
    runs = [
        a_run(tmp_path / "one-1", [False, True, False], verdict=True),
        a_run(tmp_path / "one-2", [False, False, True], verdict=False),
        a_run(tmp_path / "two-1", [True, True, True], waited_s=0.5),
        a_run(tmp_path / "two-2", [False, False, False], waited_s=1.0),
    ]
    picture = tmp_path / "curves.png"
    ended = processes.run(
        [sys.executable, "benchmarks/compare_seeds.py", *map(str, runs), str(picture)], check=True, cwd=ROOT
    )
    assert ended.stdout.splitlines()[2:] == [
        "| one | 2 | 1 of 2 | 0.50 M to 0.75 M | 0.62 M | 2,000 to 2,000 |  |",
        "| two | 2 | not judged | 0.25 M to never | never | 2,000 to 2,000 | 12.5% to 25.0% |",
    ]
    assert picture.stat().st_size > 10_000


def test_a_run_that_was_never_judged_is_named(tmp_path: Path) -> None:
    run = a_run(tmp_path / "one-1", [])
    ended = processes.run([sys.executable, "benchmarks/compare_seeds.py", str(run), str(tmp_path / "x.png")], cwd=ROOT)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"compare_seeds.py: {run} has no evaluation in training")


@pytest.mark.parametrize(
    ("name", "recipe"), [("one-1", "one"), ("one-10", "one"), ("walk_3", "walk"), ("walk", "walk"), ("7", "7")]
)
def test_a_recipe_is_the_name_without_its_number(name: str, recipe: str) -> None:
    assert compare_seeds.recipe_of(name) == recipe
