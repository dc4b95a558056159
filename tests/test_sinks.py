"""What is written to metrics.jsonl is read back as one run."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biped.errors import UsageError
from biped.metrics import METRICS
from biped.runs import RunDirectory
from biped.sinks import LAYOUT, JsonLinesWriter


def written(run: RunDirectory, rows: list[tuple[int, dict]], resume_after: int | None = None) -> None:
    writer = JsonLinesWriter(run.metrics, resume_after)
    for step, row in rows:
        writer.write(row, {}, step)
    writer.close()


def test_curves_are_read_back_as_arrays(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "demo")
    written(run, [(256, {"a": 1, "b": np.float32(0.5)}), (512, {"a": 2.0, "text": "x", "b": math.inf})])
    curves = run.read_metrics()
    assert set(curves) == {"a", "b"}
    assert curves["a"].steps.tolist() == [256, 512]
    assert curves["a"].values.tolist() == [1.0, 2.0]
    assert curves["b"].values[0] == 0.5
    assert math.isnan(curves["b"].values[1])


def test_every_line_is_json_that_any_reader_takes(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "demo")
    written(run, [(1, {"a": math.nan})])

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    for line in run.metrics.read_text().splitlines():
        json.loads(line, parse_constant=refuse)


def test_what_came_after_the_checkpoint_that_a_run_goes_on_from_is_not_read_and_is_kept(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "demo")
    written(run, [(10, {"a": 1}), (20, {"a": 2}), (30, {"a": 3, "only_there": 1})])
    before = run.metrics.read_text()
    written(run, [(30, {"a": 33}), (40, {"a": 44})], resume_after=20)
    curves = run.read_metrics()
    assert curves["a"].steps.tolist() == [10, 20, 30, 40]
    assert curves["a"].values.tolist() == [1.0, 2.0, 33.0, 44.0]
    assert "only_there" not in curves
    assert run.metrics.read_text().startswith(before)


@given(st.integers(0, 200))
def test_a_file_cut_anywhere_reads_up_to_the_cut_and_can_be_gone_on_with(tmp_path_factory, cut: int) -> None:
    run = RunDirectory(tmp_path_factory.mktemp("run"))
    written(run, [(10, {"a": 1}), (20, {"a": 2}), (30, {"a": 3})])
    content = run.metrics.read_bytes()
    run.metrics.write_bytes(content[: min(cut, len(content))])
    whole = content[: min(cut, len(content))].count(b"}")
    written(run, [(40, {"a": 4})], resume_after=30)
    assert run.read_metrics()["a"].steps.tolist() == [*[10, 20, 30][:whole], 40]


def test_a_run_without_the_file_is_said_to_have_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"metrics\.jsonl"):
        RunDirectory(tmp_path).read_metrics()


def test_the_layout_names_metrics_of_the_table_only() -> None:
    import re

    for category in LAYOUT.values():
        for _, patterns in category.values():
            for pattern in patterns:
                assert any(re.fullmatch(pattern, name) for name in METRICS), pattern
