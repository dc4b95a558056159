"""Which model a run goes on from and is judged by, whatever of it is left; none of more steps is overwritten."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import biped_eval
import biped_export
import biped_train
from biped.__main__ import main
from biped.base.errors import UsageError
from biped.config.robot import RobotConfig
from biped.eval.bench import Evaluation
from biped.eval.gate import judge
from biped.eval.trials import count_trials
from biped.runs import average
from biped.runs.checkpoint import read_checkpoint, read_steps
from biped.runs.directory import RunDirectory
from biped.runs.models import find_furthest, find_model
from biped.train.gate_watch import GateWatch
from biped.train.state import TrainingState
from tests.conftest import SMALL
from tests.eval.walks import walk


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of 1024 steps: checkpoints of 512 and 1024, the best of 768 and the average of 1024."""
    logs = tmp_path_factory.mktemp("logs")
    flags = ["--set", "env.termination.episode_s=0.4", "--eval_freq", "768"]
    assert biped_train.main(["-e", "demo", "--log_dir", str(logs), *SMALL, *flags]) == 0
    assert main(["average", str(logs / "demo"), "--last", "2"]) == 0
    return logs


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> RunDirectory:
    """A copy of that run, whose best model is as of 768 steps."""
    shutil.copytree(trained / "demo", tmp_path / "demo")
    run = RunDirectory(tmp_path / "demo")
    run.best_model.unlink()
    rewritten(run.final_model, run.best_model, 768)
    return run


def rewritten(source: Path, path: Path, steps: int) -> None:
    """Write a copy of a model that says it was trained for so many steps."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            if name == "data":
                new.writestr(name, json.dumps({**json.loads(old.read(name)), "num_timesteps": steps}))
            elif name != "manifest.json":
                new.writestr(name, old.read(name))


def lose_checkpoints(run: RunDirectory) -> None:
    for path in run.checkpoints():
        path.unlink()


def go_on(run: RunDirectory, steps: int) -> int:
    flags = ["--continue_training", "--total_timesteps", str(steps), "--eval_freq", "0"]
    return biped_train.main(["-e", run.path.name, "--log_dir", str(run.path.parent), *flags])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def test_a_run_whose_checkpoints_are_gone_goes_on_from_its_final_model(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_checkpoint(run.final_model)
    lose_checkpoints(run)
    assert go_on(run, 1280) == 0
    out = capsys.readouterr().out
    assert f"going on from {run.final_model}, trained for 1,024 steps" in out
    assert "going on with new episodes" in out
    after = read_checkpoint(run.final_model)
    assert after.num_timesteps == 1280
    assert after.counters["_n_updates"] > before.counters["_n_updates"]
    assert run.read_metrics()["train/loss"].steps.tolist() == [256, 512, 768, 1024, 1280]
    assert run.read_launches()[-1]["resumed_after_step"] == 1024


LEFT: dict[str, tuple[Callable[[RunDirectory], object], str, int]] = {
    "all": (RunDirectory.checkpoints, "biped_model_1024_steps.zip", 1024),
    "no newest checkpoint": (lambda run: run.checkpoint(1024).unlink(), "model_final.zip", 1024),
    "a damaged newest checkpoint": (lambda run: cut(run.checkpoint(1024)), "model_final.zip", 1024),
    "a damaged final model": (lambda run: (lose_checkpoints(run), cut(run.final_model)), "average_model.zip", 1024),
    "the best between two checkpoints": (
        lambda run: [path.unlink() for path in (run.checkpoint(1024), run.final_model, run.average_model)],
        "biped_model_512_steps.zip",
        512,
    ),
    "the best far ahead of a checkpoint": (
        lambda run: (
            [path.unlink() for path in (run.checkpoint(1024), run.final_model, run.average_model)],
            rewritten(run.checkpoint(512), run.best_model, 512 + 512 + 256 + 1),
        ),
        "best_model.zip",
        1281,
    ),
    "the best alone": (
        lambda run: (lose_checkpoints(run), run.final_model.unlink(), run.average_model.unlink()),
        "best_model.zip",
        768,
    ),
}


@pytest.mark.parametrize("what", LEFT)
def test_the_furthest_sound_model_is_taken_and_said(
    run: RunDirectory, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    lose, wanted, steps = LEFT[what]
    lose(run)
    path, of = find_model(None, run.path.parent, run.path.name)
    assert (path.name, of.path) == (wanted, run.path)
    *passed_over, said = capsys.readouterr().out.strip().splitlines()
    assert said == f"the model is {path}, trained for {steps:,} steps"
    assert len(passed_over) == what.count("damaged")
    assert all("is damaged or not a checkpoint" in line and line.endswith(": skipped") for line in passed_over)
    found = find_furthest(run, run.read_config(), "")
    assert found is not None
    assert found[0] == path, "training and evaluation take the same"


def test_a_run_none_of_whose_models_is_sound_is_refused_and_stays_as_it_is(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    lose_checkpoints(run)
    for path in run.models():
        cut(path)
    before = {path.name: path.read_bytes() for path in run.models()}
    assert go_on(run, 1280) == 2
    assert "holds no sound model: restore one, start anew with --new_run, or use -e NAME" in capsys.readouterr().err
    with pytest.raises(UsageError, match="holds no sound model"):
        find_model(None, run.path.parent, run.path.name)
    assert {path.name: path.read_bytes() for path in run.models()} == before


@pytest.mark.exports
def test_evaluation_and_export_take_the_final_model_of_a_run_without_checkpoints(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    lose_checkpoints(run)
    named = ["-e", "demo", "--log_dir", str(run.path.parent)]
    assert biped_eval.main([*named, "--sim", "mujoco", "--device", "cpu", "--episodes", "2"]) in (0, 3)
    assert f"the model is {run.final_model}" in capsys.readouterr().out
    assert json.loads((run.path / "eval_mujoco_2_episodes.json").read_text())["model"] == str(run.final_model)
    assert biped_export.main([*named, "--out", str(run.path / "export")]) == 0
    assert f"the model is {run.final_model}" in capsys.readouterr().out


def test_a_final_model_of_more_steps_is_kept_under_another_name(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    """Put there while the run is trained, by a person or by a copy that comes late."""
    save = TrainingState.save_weights
    foreign = run.path / "foreign.zip"
    rewritten(run.final_model, foreign, 10_000)
    content = foreign.read_bytes()

    def arriving(state: TrainingState, path: Path) -> None:
        path.write_bytes(content)
        save(state, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingState, "save_weights", arriving)
        assert go_on(run, 1280) == 0
    assert read_steps(run.final_model) == 1280
    assert (run.path / "model_final.1.zip").read_bytes() == content
    assert "has 10,000 steps, more than the 1,280 of its replacement" in capsys.readouterr().err


def test_a_damaged_final_model_is_passed_over_and_kept(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    cut(run.final_model)
    damaged = run.final_model.read_bytes()
    assert go_on(run, 1280) == 0
    assert read_checkpoint(run.final_model).num_timesteps == 1280
    assert (run.path / "model_final.1.zip").read_bytes() == damaged
    said = capsys.readouterr()
    assert f"{run.final_model} is damaged" in said.out
    assert f"{run.final_model} is damaged: it is kept as model_final.1.zip" in said.err


def test_an_average_of_more_steps_is_kept_under_another_name(run: RunDirectory) -> None:
    rewritten(run.final_model, run.average_model, 10_000)
    average.average_run(run, 2)
    assert (read_steps(run.average_model), read_steps(run.path / "average_model.1.zip")) == (1024, 10_000)


def test_a_killed_continuation_leaves_the_final_model_that_it_began_from(run: RunDirectory) -> None:
    """Until the first checkpoint of the process that goes on, the final model is all that there is."""
    lose_checkpoints(run)
    before = run.final_model.read_bytes()

    class Killed(Exception):  # noqa: N818 - as good as SIGKILL: nothing of ours catches it
        pass

    def kill(*_: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", kill)
        with pytest.raises(Killed):
            go_on(run, 2048)
    assert run.final_model.read_bytes() == before
    assert find_model(None, run.path.parent, run.path.name)[0] == run.final_model


def watch_of(run: RunDirectory, trial: Evaluation, content: bytes) -> GateWatch:
    watch = GateWatch(
        run,
        SimpleNamespace(evaluate=lambda: trial),
        SimpleNamespace(save_weights=lambda path: path.write_bytes(content)),
        every_steps=100,
        stop_after_passes=0,
    )
    watch.start(0)
    return watch


def trial_of(slip_m_s: float) -> Evaluation:
    record = walk(slip_m_s=slip_m_s)
    return Evaluation(judge(record, RobotConfig()), count_trials(record))


def test_a_best_model_whose_figures_are_lost_is_kept_under_another_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDirectory(tmp_path)
    run.best_model.write_bytes(b"of an unknown score")
    watch_of(run, trial_of(0.15), b"new").look(100)
    assert (tmp_path / "best_model.1.zip").read_bytes() == b"of an unknown score"
    assert run.best_model.read_bytes() == b"new"
    assert "has no figures: it is kept as best_model.1.zip" in capsys.readouterr().out


def test_figures_of_a_best_model_that_is_gone_do_not_keep_out_the_next(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    watch_of(run, trial_of(0.0), b"good").look(100)
    run.best_model.unlink()
    watch_of(run, trial_of(0.15), b"worse, but there").look(100)
    assert run.best_model.read_bytes() == b"worse, but there"
