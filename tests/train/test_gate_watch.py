"""The gate during training, on hand-made trials."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from biped.config.robot import RobotConfig
from biped.eval.bench import Evaluation
from biped.eval.gate import judge
from biped.eval.trials import count_trials
from biped.runs.directory import RunDirectory
from biped.train.gate_watch import GateWatch
from tests.eval.walks import walk


def trial(slip_m_s: float = 0.0) -> Evaluation:
    """A sound walk, or one that slides."""
    record = walk(slip_m_s=slip_m_s)
    return Evaluation(judge(record, RobotConfig()), count_trials(record))


GOOD, BAD, WORSE = trial(), trial(0.1), trial(0.15)


@pytest.fixture
def watching(tmp_path: Path) -> Callable[..., tuple[GateWatch, list[int]]]:
    """Make a watch over a row of trials; the second thing returned grows by one with each best model saved."""

    def make(trials: Sequence[Evaluation], stop_after_passes: int = 2) -> tuple[GateWatch, list[int]]:
        coming, saved = iter(trials), []
        run = RunDirectory(tmp_path)

        def save(path: Path) -> None:
            path.touch()
            saved.append(1)

        watch = GateWatch(
            run,
            SimpleNamespace(evaluate=lambda: next(coming)),
            SimpleNamespace(save_weights=save),
            every_steps=100,
            stop_after_passes=stop_after_passes,
        )
        watch.start(0)
        return watch, saved

    return make


def test_it_evaluates_at_intervals_and_at_the_end(watching) -> None:
    watch, _ = watching([BAD, BAD, BAD])
    looked = [steps for steps in (50, 100, 150, 199, 230) if watch.look(steps)]
    assert looked == [100, 230]
    assert watch.look(240, last=True)
    assert not watch.look(240, last=True)  # these weights were evaluated


def test_a_continued_run_counts_from_where_it_was(watching) -> None:
    watch, _ = watching([BAD])
    watch.start(1000)
    assert not watch.look(1050)
    assert watch.look(1100)


def test_training_may_stop_after_so_many_passes_in_a_row(watching) -> None:
    watch, _ = watching([GOOD, BAD, GOOD, GOOD])
    stops = []
    for steps in (100, 200, 300, 400):
        watch.look(steps)
        stops.append(watch.should_stop)
    assert stops == [False, False, False, True]


def test_without_a_number_of_passes_it_never_stops(watching) -> None:
    watch, _ = watching([GOOD, GOOD], stop_after_passes=0)
    watch.look(100)
    watch.look(200)
    assert not watch.should_stop


def test_the_best_model_is_kept_with_its_figures(watching, tmp_path: Path) -> None:
    watch, saved = watching([WORSE, BAD, WORSE, GOOD])
    counts = []
    for steps in (100, 200, 300, 400):
        figures = watch.look(steps)
        counts.append(len(saved))
    assert counts == [1, 2, 2, 3]
    assert figures["gate/best_score"] == 1.0
    record = json.loads((tmp_path / "best_model.json").read_text())
    assert record["steps"] == 400
    assert record["passed"] is True
    assert record["lines"]["stance_slip_m_s"]["value"] == 0.0


def test_a_resumed_run_does_not_replace_its_best_model_by_a_worse_one(watching) -> None:
    watch, _ = watching([GOOD])
    watch.look(100)
    watch, saved = watching([BAD])
    assert watch.look(100)["gate/best_score"] == 1.0
    assert saved == []


@pytest.mark.parametrize("damage", ["", "[]", '{"score": "high"}', '{"score": null, "success_rate": 1}'])
def test_a_damaged_record_of_the_best_model_is_no_record(watching, tmp_path: Path, damage: str) -> None:
    (tmp_path / "best_model.json").write_text(damage)
    watch, saved = watching([WORSE])
    watch.look(100)
    assert saved == [1]


def test_it_says_what_failed(watching, capsys: pytest.CaptureFixture[str]) -> None:
    watch, _ = watching([BAD, GOOD])
    watch.look(100)
    assert "failed in stance_slip_m_s" in capsys.readouterr().out
    watch.look(250)
    out = capsys.readouterr().out
    assert "after 250 steps" in out
    assert "passed" in out
