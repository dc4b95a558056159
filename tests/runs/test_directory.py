import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biped.base.errors import MachineError, UsageError
from biped.config.run import Config
from biped.config.serial import to_dict
from biped.runs.directory import RunDirectory, run_path


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "/etc", "..", ".", "", " ", "-e", ".hidden", "a\nb", "a" * 200, "a\\b", "~", "x\0", "\0/x"]
)
def test_names_that_could_lead_out_of_logs_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="not a name"):
        run_path(Path("logs"), name)


@given(st.text(max_size=20))
def test_every_accepted_name_stays_directly_under_logs(name: str) -> None:
    try:
        path = run_path(Path("/logs"), name)
    except UsageError:
        return
    assert path.resolve().parent == Path("/logs")


def test_a_new_run_gets_its_directory_and_an_empty_one_is_taken_over(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "logs", "demo")
    assert run.path.is_dir()
    assert RunDirectory.create(tmp_path / "logs", "demo").path == run.path


def test_an_existing_run_is_refused_with_all_three_ways_out(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "demo")
    (run.path / "precious.txt").write_text("keep me")
    with pytest.raises(UsageError) as caught:
        RunDirectory.create(tmp_path, "demo")
    for way_out in ("--continue_training", "-e", "--new_run"):
        assert way_out in str(caught.value)
    assert (run.path / "precious.txt").read_text() == "keep me"


def test_new_run_keeps_every_old_run_under_a_number(tmp_path: Path) -> None:
    for generation in range(3):
        run = RunDirectory.create(tmp_path, "demo", keep_old_as_numbered=True)
        (run.path / "which").write_text(str(generation))
    assert {p.name: (p / "which").read_text() for p in tmp_path.iterdir()} == {
        "demo.1": "0",
        "demo.2": "1",
        "demo": "2",
    }


def test_checking_writes_nothing(tmp_path: Path) -> None:
    RunDirectory.check_new(tmp_path / "logs", "demo", may_exist=False)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_a_disk_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("")
    with pytest.raises(MachineError, match="--log_dir"):
        RunDirectory.check_new(tmp_path / "logs", "demo", may_exist=False)


def test_config_is_kept_as_json_and_as_a_pickle_of_builtin_types(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "demo")
    config = Config()
    run.write_config(config)
    assert run.read_config() == config
    assert pickle.loads((run.path / "cfgs.pkl").read_bytes()) == to_dict(config)
    assert RunDirectory.open(tmp_path, "demo").path == run.path


def test_the_pickle_is_never_read(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "demo")
    run.write_config(Config())
    (run.path / "cfgs.pkl").write_bytes(b"rubbish")
    assert run.read_config() == Config()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"env": {"nonsense": 1}}'])
def test_a_damaged_config_is_refused_with_a_remedy(tmp_path: Path, content: bytes) -> None:
    run = RunDirectory.create(tmp_path, "demo")
    (run.path / "config.json").write_bytes(content)
    with pytest.raises(UsageError, match="use another run"):
        run.read_config()


def test_only_a_run_can_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run"):
        RunDirectory.open(tmp_path, "demo")


def test_checkpoints_come_with_the_most_steps_first(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "demo")
    assert run.checkpoints() == []
    for steps in (900, 10_000, 2_000):
        run.checkpoint(steps).touch()
    for other in ("biped_model_x_steps.zip", ".biped_model_99999_steps.zip.part", "biped_model_99999_steps.zip.bak"):
        (run.path / other).touch()
    assert run.checkpoints() == [run.checkpoint(steps) for steps in (10_000, 2_000, 900)]


def test_the_lock_is_held_by_one_and_let_go(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "demo")
    with run.locked(), pytest.raises(UsageError, match="another process"), RunDirectory(run.path).locked():
        pass
    with RunDirectory(run.path).locked():
        pass


def test_what_blocks_inside_the_lock_is_not_taken_for_the_lock(tmp_path: Path) -> None:
    """Such as a console that does not take our output for a while."""
    run = RunDirectory.create(tmp_path, "demo")
    with pytest.raises(BlockingIOError), run.locked():
        raise BlockingIOError("the console is slow")


def test_the_wandb_id_is_made_once(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "demo")
    first = run.wandb_id()
    assert first
    assert RunDirectory(run.path).wandb_id() == first
    assert RunDirectory.create(tmp_path, "other").wandb_id() != first
