"""Disks as clusters have them: what they lack is done without and said once; what helps is said by the error."""

import ctypes
import errno
import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import biped_train
from biped.base import files
from biped.base.command_line import exit_code
from biped.base.errors import UsageError, disk_error
from biped.runs.checkpoint import read_checkpoint
from biped.runs.directory import RunDirectory
from tests import processes
from tests.conftest import ROOT, SMALL

QUICK = [*SMALL, "--eval_freq", "0"]


@pytest.fixture(autouse=True)
def said_nothing_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that begins."""
    monkeypatch.setattr(files, "_said", set())


def refusing(number: int) -> Any:
    """A system call that the disk does not have."""

    def call(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_disk_that_cannot_flush_is_trained_on_and_that_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    monkeypatch.setattr(os, "fsync", refusing(number))
    assert biped_train.main(["-e", "demo", "--log_dir", str(tmp_path), *QUICK]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "cannot flush" in line]
    assert lines == [
        f"the disk of {tmp_path / 'demo'} cannot flush ({os.strerror(number)}): a power cut may cost the newest files"
    ]
    assert read_checkpoint(RunDirectory(tmp_path / "demo").checkpoint(1024)).live


def test_a_folder_that_nobody_may_open_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def no_folders(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if Path(path).is_dir() and not flags & os.O_DIRECTORY:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", no_folders)
    files.write_whole(tmp_path / "x.json", b"{}")
    assert (tmp_path / "x.json").read_bytes() == b"{}"


def test_a_flush_that_the_disk_could_not_carry_out_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.json").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", refusing(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        files.write_whole(tmp_path / "x.json", b"new")
    assert (tmp_path / "x.json").read_bytes() == b"old"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF])
def test_a_disk_without_locks_is_trained_on_and_that_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing(number))
    command = ["-e", "demo", "--log_dir", str(tmp_path)]
    assert biped_train.main([*command, *QUICK]) == 0
    assert biped_train.main([*command, "--continue_training", "--total_timesteps", "256"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "no locks" in line]
    assert lines == [
        f"the disk of {tmp_path / 'demo'} has no locks ({os.strerror(number)}): start no second training in it"
    ]


def test_a_run_on_a_disk_that_locks_files_alone_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on NFS, of which nobody has a server here."""
    real = fcntl.flock

    def files_alone(handle: int, operation: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        real(handle, operation)

    monkeypatch.setattr(fcntl, "flock", files_alone)
    run = RunDirectory.create(tmp_path, "demo")
    with run.locked(), pytest.raises(UsageError, match="another process"), RunDirectory(run.path).locked():
        pass
    with run.locked():
        assert list(run.path.iterdir()) == []
    assert not capsys.readouterr().err


def test_a_lock_that_another_holds_is_still_a_lock(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "demo")
    with run.locked(), pytest.raises(UsageError, match="another process"), RunDirectory(run.path).locked():
        pass


def test_a_checkpoint_that_cannot_be_deleted_stays_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a network share while somebody copies it."""
    real = os.unlink

    def busy(path: Any, *rest: Any, **more: Any) -> None:
        if str(path).endswith("_steps.zip"):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        real(path, *rest, **more)

    monkeypatch.setattr(os, "unlink", busy)
    assert biped_train.main(["-e", "demo", "--log_dir", str(tmp_path), *QUICK, "--keep_checkpoints", "1"]) == 0
    assert len(RunDirectory(tmp_path / "demo").checkpoints()) == 2
    assert capsys.readouterr().err.count("cannot be deleted") == 1


REMEDIES = {
    errno.ENOSPC: "free the disk, or use another --out",
    errno.EDQUOT: "free the disk, or use another --out",
    errno.EACCES: "change who may write there, or use another --out",
    errno.EPERM: "change who may write there, or use another --out",
    errno.EROFS: "the disk is read-only; use another --out",
    errno.ENAMETOOLONG: "use a shorter name, or another --out",
    errno.EMFILE: "let a process open more files (ulimit -n)",
    errno.ENOENT: "put the folder back, or use another --out",
    errno.ENOTDIR: "move the file that is in the way, or use another --out",
    errno.EIO: "see what the system's log says of the disk, or use another --out",
    errno.EXDEV: "use another --out",
}


@pytest.mark.parametrize(("number", "remedy"), REMEDIES.items())
def test_the_remedy_is_of_the_error(number: int, remedy: str) -> None:
    why = os.strerror(number)
    assert str(disk_error("x", OSError(number, why), "--out")) == f"cannot write x ({why}): {remedy}"


def test_real_errors_have_their_remedies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Asked of the operating system: a name too long, a file in the way, a folder that is not there."""
    (tmp_path / "file").touch()
    for path, remedy in (
        (tmp_path / ("x" * 300), "use a shorter name"),
        (tmp_path / "file" / "x", "move the file that is in the way"),
        (tmp_path / "gone" / "x", "put the folder back"),
    ):
        assert exit_code("test", lambda path=path: path.write_bytes(b"") and None) == 1
        assert remedy in capsys.readouterr().err


# The user's home


def without_privileges() -> None:
    """Make permissions count for root too: drop CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH for what is started next."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (1, 2):
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


CHOOSE = """
import os, sys
from biped.base.errors import MachineError
from biped.sim.kernel_cache import choose_cache
try:
    choose_cache()
except MachineError as error:
    sys.exit(str(error))
print(os.environ["XDG_CACHE_HOME"])
"""
BUILD = """
import torch
from biped.sim.scene import make_scene
from biped_config import smoke_preset
make_scene("genesis", smoke_preset().env, torch.device("cpu"))
print("built")
"""


def in_a_home(home: Path | None, temporary: Path, program: str) -> "subprocess.CompletedProcess[str]":
    """Run Python in a process of its own, for which permissions count, with another home; None: none is named."""
    kept = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**kept, "TMPDIR": str(temporary), **({} if home is None else {"HOME": str(home)})},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        preexec_fn=without_privileges,
        check=False,
    )


def a_home(kind: str, folder: Path) -> Path:
    home = folder / "home"
    if kind == "none of that name":
        return Path("/proc/nonexistent")
    if kind == "read-only":
        home.mkdir(mode=0o555)
    elif kind == "a file":
        home.touch()
    elif kind == "with kernels of another user":
        (home / ".cache" / "quadrants").mkdir(parents=True)
        (home / ".cache" / "quadrants").chmod(0o555)
    return home


@pytest.mark.parametrize("kind", ["none of that name", "read-only", "a file", "with kernels of another user"])
def test_kernels_go_to_the_temporary_folder_where_the_home_cannot_be_written(tmp_path: Path, kind: str) -> None:
    home = a_home(kind, tmp_path)
    ended = in_a_home(home, tmp_path, CHOOSE)
    ours = tmp_path / f"biped-cache-{os.getuid()}"
    said = f"the cache {home / '.cache'} cannot be written: Genesis keeps its kernels in {ours}; "
    assert ended.stderr == said + "to name another folder set XDG_CACHE_HOME=DIR\n"
    assert (ended.returncode, ended.stdout.strip()) == (0, str(ours))
    assert ours.stat().st_mode & 0o077 == 0


def test_without_any_folder_to_write_to_the_line_names_the_variable(tmp_path: Path) -> None:
    nowhere = "import tempfile; tempfile.tempdir = '/proc/nonexistent'\n"
    ended = in_a_home(a_home("read-only", tmp_path), tmp_path, nowhere + CHOOSE)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("Genesis finds no folder for its kernels (")
    assert line.endswith("name one that can be written, XDG_CACHE_HOME=DIR")


@pytest.mark.parametrize("kind", ["none of that name", pytest.param("unset", marks=pytest.mark.slow)])
def test_genesis_builds_robots_without_a_home(tmp_path: Path, kind: str) -> None:
    """With this user's kernels where its own folder would have them: nobody waits for the compiler."""
    ours = tmp_path / f"biped-cache-{os.getuid()}"
    ours.mkdir(mode=0o700)
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for part in ("genesis", "quadrants"):
        (usual / part).mkdir(parents=True, exist_ok=True)
        (ours / part).symlink_to(usual / part)
    ended = in_a_home(None if kind == "unset" else a_home(kind, tmp_path), tmp_path, BUILD)
    assert (ended.returncode, ended.stdout.splitlines()[-1:]) == (0, ["built"]), ended.stderr
    assert "Traceback" not in ended.stderr


def test_kernels_are_not_kept_where_others_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who owns the name in the temporary folder could put programs there that we run."""
    from biped.sim import kernel_cache

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    monkeypatch.setattr(kernel_cache.tempfile, "tempdir", str(tmp_path))
    open_to_all = tmp_path / f"biped-cache-{os.getuid()}"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    kernel_cache.choose_cache()
    chosen = Path(os.environ["XDG_CACHE_HOME"])
    assert chosen != open_to_all
    assert chosen.parent == tmp_path
    assert chosen.stat().st_mode & 0o077 == 0


# Studies


def test_a_study_whose_file_breaks_in_mid_search_ends_in_a_line(tmp_path: Path) -> None:
    words = ["--study", "s", "--trials", "1", "--preset", "smoke", "--log_dir", str(tmp_path)]
    words += [
        *processes.UNDRAWN,
        "--set",
        "train.sim=mujoco",
        "--total_timesteps",
        "256",
        "--search",
        "ppo.desired_kl=0.01:0.1:log",
    ]
    command = [sys.executable, str(ROOT / "biped_sweep.py"), *words]
    with processes.start(command) as process:
        processes.until_it_says(process, "trial 0: ")
        (tmp_path / "sweeps" / "s.db").write_bytes(b"not a database " * 1000)
        _, errors = process.communicate(timeout=processes.PATIENCE_S)
    assert process.returncode == 1, errors
    assert errors.strip().splitlines()[-1].startswith(f"biped_sweep.py: {tmp_path / 'sweeps' / 's.db'} cannot be used")
