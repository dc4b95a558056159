"""The mean of checkpoints: by hand, and of a real run."""

from pathlib import Path

import pytest
import torch

import biped_eval
import biped_train
from biped.__main__ import main
from biped.runs.average import mean_weights
from biped.runs.checkpoint import read_checkpoint
from biped.runs.directory import RunDirectory
from tests.conftest import SMALL


def test_the_mean_is_that_of_each_number_and_counters_are_the_newest() -> None:
    older = {"weight": torch.tensor([1.0, 2.0]), "count": torch.tensor(3)}
    newer = {"weight": torch.tensor([2.0, 6.0]), "count": torch.tensor(5)}
    mean = mean_weights([older, newer])
    assert mean["weight"].tolist() == [1.5, 4.0]
    assert mean["weight"].dtype == torch.float32
    assert mean["count"] == 5


def test_numbers_too_large_to_add_up_have_a_mean() -> None:
    assert mean_weights([{"w": torch.tensor([3e38])}] * 3)["w"].isfinite().all()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    logs = tmp_path_factory.mktemp("logs")
    assert biped_train.main(["-e", "walk", "--log_dir", str(logs), *SMALL, "--eval_freq", "0"]) == 0
    return RunDirectory(logs / "walk")


def test_the_mean_of_a_run_is_a_model_that_acts_and_that_a_training_begins_from(
    trained: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["average", str(trained.path), "--last", "2"]) == 0
    assert "the mean of biped_model_512_steps.zip, biped_model_1024_steps.zip" in capsys.readouterr().out
    newest, older = (read_checkpoint(path) for path in trained.checkpoints())
    mean = read_checkpoint(trained.average_model)
    for name, value in mean.policy.items():
        torch.testing.assert_close(value, 0.5 * (newest.policy[name] + older.policy[name]))
    assert any(not torch.equal(value, newest.policy[name]) for name, value in mean.policy.items())
    assert mean.num_timesteps == 1024
    assert newest.live
    assert not mean.live
    assert trained.checkpoints()[0].name == "biped_model_1024_steps.zip", "what a run goes on from is its own"
    out = ["--out", str(tmp_path / "eval.json")]
    flags = ["--model", str(trained.average_model), "--sim", "mujoco", "--episodes", "2"]
    assert biped_eval.main([*flags, "--set", "env.termination.episode_s=0.5", *out]) == 3
    flags = ["--load_model", str(trained.average_model), "-e", "on", "--log_dir", str(tmp_path), "--eval_freq", "0"]
    assert biped_train.main([*flags, *SMALL]) == 0


@pytest.mark.parametrize(
    ("run", "last", "says"),
    [
        ("walk", "3", "holds 2 checkpoints: train on, or use --last 2"),
        ("nobody", "2", "there is no run in"),
        ("", "2", "there is no run in"),
    ],
)
def test_what_has_no_mean_is_one_line(trained: RunDirectory, run: str, last: str, says: str, capsys) -> None:
    assert main(["average", str(trained.path.parent / run), "--last", last]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1


def test_a_damaged_checkpoint_and_one_of_another_network_are_named(
    trained: RunDirectory, tmp_path: Path, capsys
) -> None:
    run = RunDirectory(tmp_path / "walk")
    run.path.mkdir()
    for path in (trained.path / "config.json", *trained.checkpoints()):
        (run.path / path.name).write_bytes(path.read_bytes())
    wide = ["-e", "wide", "--log_dir", str(tmp_path), *SMALL, "--eval_freq", "0", "--set", "policy.lstm_hidden_size=8"]
    assert biped_train.main(wide) == 0
    other = RunDirectory(tmp_path / "wide").checkpoints()[0].read_bytes()
    for content, says in ((other, "are of different networks"), (other[:1000], "damaged")):
        run.checkpoints()[0].write_bytes(content)
        capsys.readouterr()
        assert main(["average", str(run.path), "--last", "2"]) == 2
        assert says in capsys.readouterr().err
        assert not run.average_model.exists()


def test_a_run_is_averaged_from_within_its_folder(
    trained: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    run = tmp_path / "walks of may"  # moved: its name need not be one of ours
    run.mkdir()
    for path in (trained.path / "config.json", *trained.checkpoints()):
        (run / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(run)
    for name in (".", f"{run}/", "../walks of may/"):
        assert main(["average", name, "--last", "2"]) == 0, capsys.readouterr().err
        assert (run / "average_model.zip").is_file()
        (run / "average_model.zip").unlink()
