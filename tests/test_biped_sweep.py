"""A real, small sweep: interrupted, gone on with, and judged by the walking gate."""

import json
import os
import signal
import sys
from argparse import ArgumentTypeError
from pathlib import Path

import pytest
import yaml

import biped_sweep
from biped.config.settings import parse_setting, with_settings
from biped.runs.directory import RunDirectory
from biped.train.space import check_space
from biped.train.studies import open_study
from biped_config import cpu_preset
from biped_train import make_parser
from tests.processes import PATIENCE_S, ROOT, UNDRAWN, start, until


@pytest.mark.parametrize("text", ["", "a", "a=1", "a=1:", "a=2:1", "a=1:1", "a=0:1:log", "a=1:2:sin", "=1:2", "a=x:2"])
def test_ranges_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="LOW:HIGH"):
        biped_sweep.Range.parse(text)


def test_ranges_are_read() -> None:
    assert biped_sweep.Range.parse("ppo.n_epochs=3:8") == biped_sweep.Range("ppo.n_epochs", 3, 8, is_whole=True)
    assert biped_sweep.Range.parse("a.b=1e-4:0.1:log") == biped_sweep.Range("a.b", 1e-4, 0.1, is_log=True)


@pytest.mark.parametrize("text", ["ppo.n_epochs=3:8", "a.b=0.0001:0.1:log", "a=-1.5:2.0"])
def test_a_range_is_written_as_it_is_read(text: str) -> None:
    assert str(biped_sweep.Range.parse(text)) == text


def test_the_default_space_is_one_that_the_preset_takes(tmp_path: Path) -> None:
    args = biped_sweep.make_parser().parse_args(["--study", "x", "--trials", "1", "--log_dir", str(tmp_path)])
    request = biped_sweep.as_request(args)
    check_space(request.config, request.settings, request.space)


@pytest.mark.parametrize(
    "flags",
    [
        ["--search", "ppo.no_such=1:2"],
        ["--search", "ppo.n_epochs=0.5:2"],
        ["--search", "ppo.gamma=0.5:2"],
        ["--study", "../out"],
        ["--trials", "0"],
        ["--preset", "tpu"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_is_one_line_and_starts_nothing(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--study", "x", "--trials", "2", "--preset", "smoke", "--log_dir", str(tmp_path), *flags]
    try:
        code = biped_sweep.main(command)
    except SystemExit as left:
        code = left.code
    assert code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick_trials")
def test_an_interrupted_sweep_goes_on_to_the_trials_that_it_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "biped_sweep.py", "--study", "s", "--trials", "2", "--preset", "smoke", *UNDRAWN]
    command += ["--log_dir", str(tmp_path), "--search", "ppo.desired_kl=0.01:0.1:log", "--set", "train.sim=mujoco"]
    with start([*command, "--total_timesteps", "100000000"]) as first:
        until((tmp_path / "s-0" / "metrics.jsonl").exists, first)
        os.killpg(first.pid, signal.SIGINT)  # as Ctrl-C in a terminal does
        first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 130
    command += ["--total_timesteps", "1024"]
    assert biped_sweep.main(command[2:]) == 0
    assert "best of 2" in capsys.readouterr().out
    configs = [json.loads((trial / "config.json").read_text()) for trial in sorted(tmp_path.glob("s-*"))]
    tried = [config["ppo"]["desired_kl"] for config in configs]
    assert tried[0] == pytest.approx(tried[1]), "what was interrupted is tried again"
    assert tried[2] != pytest.approx(tried[1])
    assert RunDirectory(tmp_path / "s-2").read_metrics()["gate/score"].values.size == 1
    assert biped_sweep.main(command[2:]) == 0
    assert len(list(tmp_path.glob("s-*"))) == 3, "a finished study starts nothing"


def test_the_sweep_file_asks_for_settings_that_there_are() -> None:
    sweep = yaml.safe_load((ROOT / "sweeps" / "ppo.yaml").read_text())
    for path, spec in sweep["parameters"].items():
        for bound in ("min", "max"):
            with_settings(cpu_preset(), [(path, spec[bound])])
    words = [word for word in sweep["command"][3:] if word != "${args_no_hyphens}"]
    args = make_parser().parse_args([*words, "ppo.n_epochs=4", "ppo.ent_coef=0.01"])
    assert [parse_setting(text) for text in args.set] == [("ppo.n_epochs", 4), ("ppo.ent_coef", 0.01)]


def test_a_search_that_is_gone_on_with_draws_anew_whatever_its_seed(tmp_path: Path) -> None:
    args = biped_sweep.make_parser().parse_args(
        ["--study", "x", "--trials", "2", "--seed", "1", "--log_dir", str(tmp_path)]
    )

    def draw() -> float:
        request = biped_sweep.as_request(args)
        study = open_study(request.place, request.study, request.seed)
        trial = study.ask()
        value = biped_sweep.SPACE[0].suggest(trial)
        study.tell(trial, 0.5)
        return value

    assert draw() != draw()


@pytest.mark.usefixtures("quick_trials")
def test_a_sweep_without_scores_ends_and_an_older_runs_scores_are_not_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "s-0"
    old.mkdir()
    (old / "metrics.jsonl").write_text('{"step": 256, "gate/score": 0.99}\n')
    (old / "run_info.json").write_text('{"starts": [{"time": "long ago"}]}')
    flags = ["--study", "s", "--trials", "2", "--preset", "smoke", "--log_dir", str(tmp_path), *UNDRAWN]
    flags += ["--total_timesteps", "256", "--set", "train.eval_every_steps=0", "--set", "train.sim=mujoco"]
    assert biped_sweep.main(flags) == 1
    said = capsys.readouterr()
    assert "3 trials in a row gave no score" in said.err
    assert "0.99" not in said.out


def test_a_setting_that_is_none_is_refused_before_anything_is_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--study", "s", "--trials", "2", "--set", "ppo.nonsense=1", "--log_dir", str(tmp_path)]
    assert biped_sweep.main(flags) == 2
    assert "nonsense" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
