"""Studies that machines share: a real PostgreSQL server, a journal, and what cannot be had in one line."""

import sys
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

import biped_sweep
from biped.base.errors import UsageError
from biped.train.studies import Place, open_study
from tests import postgres, processes
from tests.loopback import free_port
from tests.processes import ROOT, UNDRAWN, until

SMALL = ("--preset", "smoke", "--total_timesteps", "512", "--set", "train.sim=mujoco", *UNDRAWN)


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    pytest.importorskip("psycopg", reason="the package psycopg is not installed")
    if (folder := postgres.programs()) is None:
        pytest.skip("there is no PostgreSQL here")
    with postgres.server(folder) as address:
        yield address


def command(study: str, logs: Path, storage: str, *flags: str) -> list[str]:
    words = ["--study", study, "--log_dir", str(logs), "--storage", storage, "--search", "ppo.desired_kl=0.01:0.1:log"]
    return [sys.executable, str(ROOT / "biped_sweep.py"), *words, *SMALL, *flags]


def trials(study: str, storage: str) -> list[optuna.trial.FrozenTrial]:
    return open_study(Place.parse(storage), study, None).get_trials()


def test_two_machines_share_the_trials_of_a_study(database: str, tmp_path: Path) -> None:
    begin = [command("shared", tmp_path / name, database, "--trials", "4") for name in ("one", "other")]
    with processes.start(begin[0]) as one, processes.start(begin[1]) as other:
        said = [machine.communicate(timeout=processes.PATIENCE_S) for machine in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0), said
    done = [trial for trial in trials("shared", database) if trial.state is optuna.trial.TrialState.COMPLETE]
    assert 4 <= len(done) <= 5, "the last one may have been begun by both"
    assert len({trial.user_attrs["run"] for trial in done}) == len(done)
    assert {Path(trial.user_attrs["run"]).parent.name for trial in done} == {"one", "other"}
    assert all("best of" in out for out, _ in said)


@pytest.mark.slow
def test_a_machine_that_is_lost_has_its_trial_taken_over(database: str, tmp_path: Path) -> None:
    """Optuna looks for trials without a heartbeat when it begins one; two minutes are what that takes."""
    long = command("lost", tmp_path / "one", database, "--trials", "1", "--total_timesteps", "100000000")
    with processes.start(long) as one:
        until((tmp_path / "one" / "lost-0" / "metrics.jsonl").exists, one)
        one.kill()
    storage = Place.parse(database).open()
    until(lambda: storage._get_stale_trial_ids(storage.get_study_id_from_name("lost")))  # pyright: ignore
    ended = processes.run(command("lost", tmp_path / "other", database, "--trials", "1"))
    assert ended.returncode == 0, ended.stderr
    first, second = trials("lost", database)
    assert first.state is optuna.trial.TrialState.FAIL
    assert second.state is optuna.trial.TrialState.COMPLETE
    assert second.params == first.params


@pytest.mark.usefixtures("quick_trials")
def test_a_journal_on_a_common_disk_is_a_study_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = str(tmp_path / "common" / "rates.log")
    words = command("rates", tmp_path / "logs", journal, "--trials", "1")[2:]
    assert biped_sweep.main(words) == 0
    assert "best of 1" in capsys.readouterr().out
    assert biped_sweep.main([*words, "--dashboard"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"optuna-dashboard {journal}"
    assert len(trials("rates", journal)) == 1


def test_a_server_that_is_not_there_is_one_line_without_the_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("psycopg", reason="the package psycopg is not installed")
    nowhere = f"postgresql://me:secret@127.0.0.1:{free_port()}/studies"
    assert biped_sweep.main(command("x", tmp_path, nowhere, "--trials", "1")[2:]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "postgresql://me:***@127.0.0.1" in said
    assert "secret" not in said


def test_a_driver_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert biped_sweep.main(command("x", tmp_path, "postgresql://me@db/studies", "--trials", "1")[2:]) == 1
    assert "needs the package psycopg[binary]: pip install 'psycopg[binary]'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["studies", "studies.db", "ftp://db/studies", "http://x"])
def test_a_place_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="postgresql://USER@HOST/DATABASE"):
        Place.parse(text)
