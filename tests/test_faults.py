"""Whatever happens to a run, it can be gone on with, and nothing of it is lost that was on the disk.

`make faults` runs this file with a hundred kills.
"""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import biped_train
from biped.command_line import exit_code
from biped.config_io import to_dict
from biped.ppo.checkpoint import CheckpointError, read_checkpoint
from biped.runs import RunDirectory
from biped.train_flags import make_parser
from biped_config import smoke_preset
from tests.conftest import ROOT

KILLS = int(os.environ.get("FAULTS", "3"))
EXAMPLES = 500
FRESH = ["--preset", "smoke", "--eval_freq", "0", "--set", "train.checkpoint_every_steps=256"]
FOREVER = ["--total_timesteps", "100000000"]


def start(logs: Path, *flags: str, **kwargs: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, str(ROOT / "biped_train.py"), "-e", "demo", "--log_dir", str(logs), *flags]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT, **kwargs)


def wait_for_a_checkpoint_after(run: RunDirectory, steps: int, process: "subprocess.Popen[str]") -> None:
    end = time.monotonic() + 120
    while not run.path.exists() or newest(run) <= steps:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < end
        time.sleep(0.01)


def newest(run: RunDirectory) -> int:
    return max((int(path.name.split("_")[2]) for path in run.checkpoints()), default=-1)


def test_a_run_that_is_killed_again_and_again_is_the_run_that_never_was(tmp_path: Path) -> None:
    """kill -9 and SIGTERM at random moments, many of them inside a checkpoint's writing: weights end the same."""
    draws, run, steps = random.Random(1), RunDirectory(tmp_path / "demo"), -1
    told = {signal.SIGKILL: 0, signal.SIGTERM: 0}
    flags = [*FRESH, *FOREVER]
    for _ in range(KILLS):
        with start(tmp_path, *flags) as process:
            wait_for_a_checkpoint_after(run, steps, process)
            time.sleep(draws.uniform(0.0, 0.5))
            number = draws.choice(list(told))
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)
        assert process.returncode == (-signal.SIGKILL if number is signal.SIGKILL else 143), errors
        told[number] += 1
        steps, flags = newest(run), ["--continue_training"]
        assert steps % 256 == 0
    print(f"\nkill -9: {told[signal.SIGKILL]}, SIGTERM: {told[signal.SIGTERM]}, runs lost: 0; {steps:,} steps kept")
    whole = ["-e", "whole", "--log_dir", str(tmp_path), *FRESH, "--total_timesteps", str(steps)]
    assert biped_train.main(whole) == 0
    wanted = read_checkpoint(RunDirectory(tmp_path / "whole").checkpoint(steps))
    found = read_checkpoint(run.checkpoint(steps))
    assert all(torch.equal(found.policy[name], value) for name, value in wanted.policy.items())
    lines = run.read_metrics()["train/loss"].steps.tolist()
    assert lines[: steps // 256] == list(range(256, steps + 1, 256)), "no row is missing, and none is there twice"


def test_a_disk_that_fills_ends_a_run_in_a_line_and_the_run_goes_on_from_what_was_whole(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "demo")
    with start(tmp_path, *FRESH, *FOREVER) as process:
        wait_for_a_checkpoint_after(run, 256, process)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (40_000, 40_000))  # as a full disk: no file grows beyond
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    assert "Traceback" not in errors
    assert errors.strip().splitlines()[-1].startswith("biped_train.py: cannot write")
    kept = newest(run)
    command = ["-e", "demo", "--log_dir", str(tmp_path), "--continue_training", "--total_timesteps", str(kept + 256)]
    assert biped_train.main(command) == 0
    assert newest(run) == kept + 256


def test_a_folder_that_goes_away_ends_a_run_in_a_line(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "demo")
    with start(tmp_path, *FRESH, *FOREVER) as process:
        wait_for_a_checkpoint_after(run, 256, process)
        run.path.rename(tmp_path / "elsewhere")
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1, errors
    assert "Traceback" not in errors
    assert newest(RunDirectory(tmp_path / "elsewhere")) > 0


def test_a_clock_that_jumps_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, jumps = time.time, random.Random(2)
    monkeypatch.setattr(time, "time", lambda: real() + jumps.choice([-86_400.0, 0.0, 86_400.0]))
    monkeypatch.setattr(time, "time_ns", lambda: int(1e9 * time.time()))
    command = ["-e", "demo", "--log_dir", str(tmp_path), *FRESH, "--total_timesteps", "1024"]
    assert biped_train.main(command) == 0
    assert RunDirectory(tmp_path / "demo").read_metrics()["train/loss"].steps.tolist() == [256, 512, 768, 1024]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_checkpoint_is_read_as_it_was_written_or_refused(logs: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Cut short, emptied, bits flipped, or something else altogether."""
    sound = logs / "demo" / "biped_model_1024_steps.zip"
    content = bytearray(sound.read_bytes())
    if data.draw(st.booleans(), "cut"):
        content = content[: data.draw(st.integers(0, len(content) - 1), "length")]
    else:
        for _ in range(data.draw(st.integers(1, 4), "flips")):
            content[data.draw(st.integers(0, len(content) - 1), "where")] ^= 1 << data.draw(st.integers(0, 7), "bit")
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(content)
    try:
        found = read_checkpoint(damaged)
    except CheckpointError as error:
        assert "\n" not in str(error)
        return
    wanted = read_checkpoint(sound)
    assert all(torch.equal(found.policy[name], value) for name, value in wanted.policy.items())
    assert found.counters == wanted.counters
    assert found.live.keys() == wanted.live.keys()


def test_a_zip_cannot_lead_out_of_its_folder_or_fill_the_memory(logs: Path, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    shutil.copy(logs / "demo" / "model_final.zip", bomb)
    with zipfile.ZipFile(bomb, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../escaped.txt", b"out")
    before = sorted(tmp_path.parent.rglob("escaped.txt"))
    read_checkpoint(bomb)
    assert sorted(tmp_path.parent.rglob("escaped.txt")) == before == []


def leaves(tree: dict[str, Any], path: str = "") -> list[str]:
    return [
        leaf
        for name, value in tree.items()
        for leaf in (leaves(value, f"{path}{name}.") if isinstance(value, dict) else [f"{path}{name}"])
    ]


PATHS = leaves(to_dict(smoke_preset()))
FLAGS = sorted(option for action in make_parser()._actions for option in action.option_strings)
WORDS = st.one_of(
    st.sampled_from(["", "0", "-1", "1", "8", "1e3", "nan", "inf", "-inf", "1e400", "true", "None", "[]", "{}", "cpu"]),
    st.sampled_from(["../x", "/", "demo", ".", "gpu", "smoke", "auto", "genesis", "bf16", "offline", "\0", "ä" * 200]),
    st.integers().map(str),
    st.floats().map(str),
    st.text(max_size=20),
)
SETTINGS = st.tuples(st.sampled_from(PATHS), WORDS).map("=".join)
ARGUMENTS = st.lists(st.one_of(st.sampled_from(FLAGS), WORDS, SETTINGS, st.just("--set")), max_size=8)


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def plan(argv: list[str]) -> int:
    """Go as far as a command line does before it builds robots; return the exit code."""

    def command() -> None:
        biped_train.make_plan(make_parser().parse_args(argv))

    try:
        return exit_code("biped_train.py", command)
    except SystemExit as ended:
        return int(ended.code or 0)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(argv=ARGUMENTS)
def test_any_command_line_is_a_plan_or_one_line(
    logs: Path, capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    before = listing(logs)
    code = plan([*argv, "--log_dir", str(logs)])
    said = capsys.readouterr()
    assert code in (0, 1, 2)
    if code:
        assert len(said.err.strip().splitlines()) == 1, said.err
    assert listing(logs) == before


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_config_file_is_a_plan_or_one_line(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    run = tmp_path / "demo"
    if not run.exists():
        run.mkdir()
        shutil.copy(logs / "demo" / "biped_model_1024_steps.zip", run)
    text = (logs / "demo" / "config.json").read_text()
    match data.draw(st.sampled_from(["leaf", "cut", "text", "json", "extra"]), "damage"):
        case "leaf":
            config = json.loads(text)
            *parents, name = data.draw(st.sampled_from(PATHS), "path").split(".")
            section = config
            for parent in parents:
                section = section[parent]
            section[name] = data.draw(JSON, "value")
            text = json.dumps(config)
        case "cut":
            text = text[: data.draw(st.integers(0, len(text)), "length")]
        case "text":
            text = data.draw(st.text(max_size=50), "text")
        case "json":
            text = json.dumps(data.draw(JSON, "value"))
        case "extra":
            text = json.dumps({**json.loads(text), **data.draw(st.dictionaries(st.text(max_size=5), JSON, max_size=2))})
    (run / "config.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    code = plan(["-e", "demo", "--continue_training", "--log_dir", str(tmp_path)])
    said = capsys.readouterr()
    assert code in (0, 1, 2)
    if code:
        assert len(said.err.strip().splitlines()) == 1, said.err
