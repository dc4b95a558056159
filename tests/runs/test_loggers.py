"""What is written to metrics.jsonl and to TensorBoard's event files is read back as one run."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard import context
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from biped.base.errors import UsageError
from biped.config.serial import flatten, to_dict
from biped.runs.directory import RunDirectory
from biped.runs.loggers import (
    JUDGED_BY,
    LAYOUT,
    TensorBoardWriter,
)
from biped.runs.metrics_log import JsonLinesWriter
from biped.train.metrics import METRICS


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


SETTINGS = {
    "preset": "cpu",
    "env.num_envs": 8,
    "env.gait.shown": True,
    "env.robot.joints": ["knee", "ankle"],
    "policy.nothing": None,
    "ppo.learning_rate": 1e-3,
    "train.seed": 7,
    "train.total_timesteps": 1024,
    "wandb.project": "lab",
}


def trained(folder: Path, scores: dict[int, float], resume_after: int | None = None) -> None:
    writer = TensorBoardWriter(folder, resume_after, SETTINGS)
    for step, score in scores.items():
        writer.write({"gate/score": score, "time/fps": 9.0}, {"gate/score": None, "time/fps": None}, step)
    writer.close()


def shown_by_tensorboard(logs: Path) -> list[Any]:
    """Return the rows of the tab HPARAMS, as TensorBoard itself makes them."""
    runs = EventMultiplexer().AddRunsFromDirectory(str(logs))
    runs.Reload()
    provider = MultiplexerDataProvider(runs, str(logs))
    backend = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    every_status = list(api_pb2.Status.values())
    request = api_pb2.ListSessionGroupsRequest(start_index=0, slice_size=99, allowed_statuses=every_status)
    handler = list_session_groups.Handler(context.RequestContext(), backend, "experiment", request)
    return list(handler.run().session_groups)


def test_tensorboard_shows_a_runs_settings_beside_its_last_scores(tmp_path: Path) -> None:
    trained(tmp_path / "walk" / "RecurrentPPO_1", {100: 0.25, 200: 0.5})
    trained(tmp_path / "turn" / "RecurrentPPO_1", {100: 0.75})
    rows = {row.name: row for row in shown_by_tensorboard(tmp_path)}
    assert set(rows) == {"walk/RecurrentPPO_1", "turn/RecurrentPPO_1"}
    row = rows["walk/RecurrentPPO_1"]
    numbers = {name: value.number_value for name, value in row.hparams.items() if value.HasField("number_value")}
    texts = {name: value.string_value for name, value in row.hparams.items() if value.HasField("string_value")}
    assert numbers == {"env.num_envs": 8, "ppo.learning_rate": 1e-3, "train.seed": 7}
    joints = '["knee", "ankle"]'
    assert texts == {"preset": "cpu", "env.gait.shown": "true", "env.robot.joints": joints, "policy.nothing": "null"}
    assert {metric.name.tag: metric.value for metric in row.metric_values} == {"gate/score": 0.5}


def test_a_run_that_goes_on_is_one_row_and_one_curve_and_an_older_one_becomes_a_row(tmp_path: Path) -> None:
    folder = tmp_path / "walk" / "RecurrentPPO_1"
    old = TensorBoardWriter(folder, None)  # before there were hyperparameters
    old.write({"gate/score": 0.1}, {"gate/score": None}, 50)
    old.close()
    trained(folder, {100: 0.25, 200: 0.5, 300: 0.9}, resume_after=50)
    trained(folder, {300: 0.625}, resume_after=200)
    events = EventAccumulator(str(folder))
    events.Reload()
    assert [(event.step, round(event.value, 3)) for event in events.Scalars("gate/score")] == [
        (50, 0.1),
        (100, 0.25),
        (200, 0.5),
        (300, 0.625),
    ]
    (row,) = shown_by_tensorboard(tmp_path)
    assert row.hparams["train.seed"].number_value == 7
    assert [metric.value for metric in row.metric_values] == [0.625]
    assert {path.name for path in tmp_path.rglob("*") if path.is_dir()} == {"walk", "RecurrentPPO_1"}


def test_the_metrics_beside_hyperparameters_are_of_the_table() -> None:
    assert set(JUDGED_BY) <= set(METRICS)


def test_a_training_shows_its_whole_task_and_learner(logs: Path) -> None:
    (row,) = shown_by_tensorboard(logs)
    config = RunDirectory(logs / "demo").read_config()
    shown = {name for name in flatten(to_dict(config)) if name.startswith(("env.", "policy.", "ppo."))}
    assert set(row.hparams) == shown | {"preset", "train.seed", "train.sim"}
    assert row.hparams["ppo.n_epochs"].number_value == config.ppo.n_epochs
