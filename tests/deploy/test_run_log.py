"""The log of a run: what is written is read again, damage is said in one line, and no number is made up."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biped.__main__ import main
from biped.base.errors import UsageError
from biped.deploy.run_log import COLUMNS, PHASES, LogWriter, RunLog, new_file
from tests.deploy.still_robot import StillRobot

CONTRACT = StillRobot().controller.contract


def a_log(steps: int = 4) -> RunLog:
    writer = LogWriter(CONTRACT)
    for step in range(steps):
        writer.add(time_s=0.02 * step, phase=step % len(PHASES), pos_rad=np.full(9, 0.1 * step), late_s=0.001 * step)
    return writer.finish({"ended": "ended by the person"})


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    log = a_log()
    log.save(tmp_path / "a.npz")
    again = RunLog.load(tmp_path / "a.npz")
    assert again.contract == log.contract
    assert again.about == {"ended": "ended by the person", "policy_sha256": CONTRACT.sha256}
    assert again.policy.joint_names == CONTRACT.joint_names
    for name in COLUMNS:
        np.testing.assert_array_equal(again[name], log[name], err_msg=name)
        assert again[name].dtype == log[name].dtype


def test_a_log_opens_with_numpy_alone_and_says_what_its_columns_are(tmp_path: Path) -> None:
    a_log().save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        text = str(file["READ_ME"])
        assert all(f"{name}: " in text for name in COLUMNS)
        assert file["pos_rad"].shape == (4, 9)
        assert file["observation"].shape == (4, CONTRACT.width)


def test_what_was_not_given_is_nan_and_never_zero() -> None:
    log = a_log()
    assert np.isnan(log["action"]).all()
    assert np.isnan(log["target_rad"]).all()
    assert (log["faults"] == 0).all(), "whole numbers have no NaN"


def test_an_unknown_column_is_refused() -> None:
    with pytest.raises(KeyError, match="no column positions"):
        LogWriter(CONTRACT).add(positions=np.zeros(9))


def test_an_empty_run_is_a_log_too(tmp_path: Path) -> None:
    log = LogWriter(CONTRACT).finish({})
    assert len(log) == 0
    assert log.timing() == ""
    log.save(tmp_path / "a.npz")
    assert len(RunLog.load(tmp_path / "a.npz")) == 0


@given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_a_damaged_file_is_one_line_or_reads_as_it_was(where: int, noise: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npz"
        a_log().save(path)
        content = bytearray(path.read_bytes())
        start = where * (len(content) - len(noise)) // 400
        content[start : start + len(noise)] = noise
        path.write_bytes(bytes(content))
        try:
            RunLog.load(path)
        except UsageError as error:
            assert len(str(error).splitlines()) == 1


def test_nothing_in_a_log_is_unpickled(tmp_path: Path) -> None:
    path, trace = tmp_path / "a.npz", tmp_path / "trace"

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (trace,)

    a_log().save(path)
    with np.load(path) as file:
        columns = dict(file)
    np.savez(path, **{**columns, "pos_rad": np.array([Trap()], object)})
    with pytest.raises(UsageError, match="or a damaged one"):
        RunLog.load(path)
    assert not trace.exists()


def test_what_is_no_log_is_said(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("not a log")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    for name in ("none.npz", "text.npz", "other.npz"):
        with pytest.raises(UsageError, match=name):
            RunLog.load(tmp_path / name)


def test_the_timing_is_that_of_steps_under_torque() -> None:
    # Phases 0 and 5.. are in turn; step 0 is limp and does not count.
    log = a_log(4)
    assert (
        log.timing()
        == "3 steps, late by 2.00 ms in the median, 2.98 ms in one of a hundred, 3.0 ms at most; 0 readings lost"
    )


def test_a_log_never_takes_the_place_of_another(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    assert new_file(path, tmp_path / "logs") == path
    path.write_text("mine")
    with pytest.raises(UsageError, match=r"^--log: .*a\.npz exists$"):
        new_file(path, tmp_path / "logs")
    with pytest.raises(UsageError, match=r"^--log: there is no folder "):
        new_file(tmp_path / "none" / "a.npz", tmp_path / "logs")
    first = new_file(None, tmp_path / "logs")
    assert first.parent.is_dir()
    assert first.suffix == ".npz"


def damage(change: Callable[[dict[str, Any], dict[str, Any]], object]) -> Callable[[Path], None]:
    """Return what changes the description and the columns of a log's file."""

    def spoil(path: Path) -> None:
        with np.load(path) as file:
            columns: dict[str, Any] = dict(file)
        meta = json.loads(str(columns.pop("meta")))
        changed = change(meta, columns)
        text = json.dumps(meta if changed is None else changed)
        np.savez(path, meta=np.array(text), **columns)

    return spoil


@pytest.mark.parametrize(
    "change",
    [
        lambda _, __: [1, 2],
        lambda meta, _: meta.update(contract=None),
        lambda meta, _: meta.update(contract={}),
        lambda meta, _: meta.update(contract=[1]),
        lambda meta, _: meta.pop("contract") and None,
        lambda meta, _: meta["contract"].pop("robot") and None,
        lambda meta, _: meta["contract"].update(robot={}),
        lambda meta, _: meta["contract"].pop("sensors") and None,
        lambda meta, _: meta["contract"].pop("control") and None,
        lambda meta, _: meta["contract"]["control"].update(dt_s=0.0),
        lambda meta, _: meta["contract"]["gait_clock"].update(frequency_hz=0.0),
        lambda meta, _: meta["contract"]["motors"].update(kp_nm_per_rad=[1.0, 2.0, 3.0]),
        lambda meta, _: meta["contract"]["motors"].update(stall_torque_nm=[1.0, 2.0, 3.0]),
        lambda meta, _: meta["contract"]["observation"]["terms"][0].update(width=1000),
        lambda meta, _: meta.update(about=None),
        lambda meta, _: meta["about"].update(policy_sha256=7),
        lambda _, columns: columns.update(vel_rad_s=np.zeros((20, 8), np.float32)),
        lambda _, columns: columns.update(pos_rad=np.zeros(20, np.float32)),
        lambda _, columns: columns.update(late_s=np.float32(1.0)),
        lambda _, columns: columns.update(gravity_b=np.full((20, 3), "down")),
        lambda _, columns: columns.update(phase=np.zeros(19, np.int32)),
    ],
)
def test_damage_is_one_line_in_every_command(
    change: Callable[[dict[str, Any], dict[str, Any]], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_log(20).save(tmp_path / "a.npz")
    damage(change)(tmp_path / "a.npz")
    for command, more in (("diagnose", []), ("replay", []), ("identify", ["--out", str(tmp_path / "new.json")])):
        assert main([command, str(tmp_path / "a.npz"), *more]) == 2
        out, line = capsys.readouterr()
        assert (out, len(line.splitlines())) == ("", 1)
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]
