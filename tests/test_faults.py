"""Whatever happens to a run, it can be gone on with, and nothing of it is lost that was on the disk.

`make faults` runs this file with a hundred kills.
"""

import contextlib
import ctypes
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
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import biped_train
from biped.base.command_line import exit_code, typed
from biped.base.interrupts import GRACE_S
from biped.config.serial import to_dict
from biped.env.env import BipedVecEnv
from biped.runs import checkpoint
from biped.runs.checkpoint import CheckpointError, read_checkpoint
from biped.runs.directory import RunDirectory
from biped.sim.genesis_scene import GenesisScene
from biped.train import session
from biped.train.plan import make_plan
from biped_config import PRESETS, smoke_preset
from biped_train import as_request, make_parser
from tests import processes
from tests.conftest import Faults
from tests.processes import PATIENCE_S, ROOT, UNDRAWN, Process, release, start_held, until, until_it_says

KILLS = int(os.environ.get("FAULTS", "3"))
EXAMPLES = 500
WAYS = ("kill -9 within a write", "SIGTERM", "kill -9")
DAMAGED = "a checkpoint cut, emptied or with flipped bits"
FRESH = [
    "--preset",
    "smoke",
    "--sim",
    "mujoco",
    "--eval_freq",
    "0",
    "--set",
    "train.checkpoint_every_steps=256",
    *UNDRAWN,
]
FOREVER = ["--total_timesteps", "100000000"]
SIZE = smoke_preset().ppo


def start(logs: Path, *flags: str, **kwargs: Any) -> contextlib.AbstractContextManager[Process]:
    command = [sys.executable, str(ROOT / "biped_train.py"), "-e", "demo", "--log_dir", str(logs), *flags]
    return processes.start(command, stdout=subprocess.DEVNULL, **kwargs)


def wait_for_a_checkpoint_after(run: RunDirectory, steps: int, process: Process) -> None:
    until(lambda: run.path.exists() and newest(run) > steps, process)


def newest(run: RunDirectory) -> int:
    return max((int(path.name.split("_")[2]) for path in run.checkpoints()), default=-1)


def kill_somewhere(run: RunDirectory, process: Process, draws: random.Random, kind: str) -> str:
    """Send SIGKILL or SIGTERM at a random moment, or SIGKILL as soon as a file is being written; return which."""
    time.sleep(draws.uniform(0.0, 0.5))
    if kind == "kill -9 within a write":
        end = time.monotonic() + 10
        # Tightly: a part of a checkpoint is there for a few milliseconds.
        while not any(name.endswith(".part") for name in os.listdir(run.path)) and time.monotonic() < end:  # noqa: PTH208
            pass
    process.send_signal(signal.SIGTERM if kind == "SIGTERM" else signal.SIGKILL)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == (143 if kind == "SIGTERM" else -signal.SIGKILL), errors
    was_writing = any(path.name.endswith(".zip.part") for path in run.path.iterdir())
    return "kill -9 within a checkpoint's writing" if was_writing else kind.replace(" within a write", "")


def kept_rows(run: RunDirectory) -> list[int]:
    """Return the steps of the rows that count, as they stand in the file."""
    steps: list[int] = []
    for line in run.metrics.read_text().splitlines():
        with contextlib.suppress(ValueError):  # cut short by a kill
            row = json.loads(line)
            if "step" in row:
                steps.append(row["step"])
            else:
                steps = [step for step in steps if step <= row["resumed_after_step"]]
    return steps


@pytest.mark.timeout(1800 + 60 * KILLS)
def test_a_run_that_is_killed_again_and_again_is_the_run_that_never_was(tmp_path: Path, faults: Faults) -> None:
    """kill -9 and SIGTERM at random moments, some of them inside a checkpoint's writing: weights end the same."""
    draws, run, steps = random.Random(1), RunDirectory(tmp_path / "demo"), -1
    flags, kinds = [*FRESH, *FOREVER], []
    for number in range(KILLS):
        with start(tmp_path, *flags) as process:
            wait_for_a_checkpoint_after(run, steps, process)
            kinds.append(kill_somewhere(run, process, draws, WAYS[number % len(WAYS)]))
        steps, flags = newest(run), ["--continue_training"]
        assert steps % 256 == 0
    whole = ["-e", "whole", "--log_dir", str(tmp_path), *FRESH, "--total_timesteps", str(steps)]
    assert biped_train.main(whole) == 0
    wanted = read_checkpoint(RunDirectory(tmp_path / "whole").checkpoint(steps))
    found = read_checkpoint(run.checkpoint(steps))
    assert all(torch.equal(found.policy[name], value) for name, value in wanted.policy.items())
    assert kept_rows(run)[: steps // 256] == list(range(256, steps + 1, 256)), "none is missing, none is there twice"
    for kind in kinds:
        faults.add(kind, "continued; weights and rows of an undisturbed run")


HELD_WAYS = {
    "rollout": (3, SIZE.n_steps, "0"),
    "update": (3, SIZE.n_epochs * SIZE.n_minibatches, "0"),
    "evaluation": (3, 200, "256"),
}
"""Where a training is held: at which call, of how many that come before its end, and the interval of evaluations."""


@pytest.fixture
def held(tmp_path: Path) -> Iterator[dict[str, Process]]:
    """Trainings that stand still in a rollout, an update and an evaluation, all at once."""
    with contextlib.ExitStack() as stack:
        trainings = {}
        for what, (call, _, eval_freq) in HELD_WAYS.items():
            flags = [*FRESH, *FOREVER, "-e", what, "--log_dir", str(tmp_path), "--eval_freq", eval_freq]
            trainings[what] = stack.enter_context(start_held(what, call, *flags))
        for training in trainings.values():
            until_it_says(training, "held:")
        yield trainings


def test_sigterm_ends_a_training_soon_after_its_grace_whatever_it_is_doing(
    tmp_path: Path, held: dict[str, Process], faults: Faults
) -> None:
    """What a training does may take ever so long: once the grace is over, hardly anything more of it is done."""
    assert GRACE_S < session.END_S < 20.0, "with what W&B may take"
    for process in held.values():
        process.terminate()
        until_it_says(process, "noted: SIGTERM")
    time.sleep(GRACE_S)  # at least
    for what, process in held.items():
        call, needed, _ = HELD_WAYS[what]
        release(process)
        calls = int(until_it_says(process, "calls: ").split()[1])
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 143, (what, errors)
        assert calls <= call + 1 < needed, what
        assert newest(RunDirectory(tmp_path / what)) >= 0, what
        faults.add("SIGTERM in a rollout, update, evaluation that hangs", "saved and gone once its grace is over")


def test_an_evaluation_that_a_signal_prevented_is_made_up_for(tmp_path: Path) -> None:
    flags = [*FRESH, "--eval_freq", "512", "--set", "env.termination.episode_s=0.4", "--log_dir", str(tmp_path)]
    second_update = SIZE.n_epochs * SIZE.n_minibatches + 1
    run = RunDirectory(tmp_path / "demo")
    with start_held("update", second_update, "-e", "demo", "--total_timesteps", "1024", *flags) as process:
        until_it_says(process, "held:")
        process.terminate()
        until_it_says(process, "noted: SIGTERM")
        release(process)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, newest(run)) == (143, 512), errors
    go_on(run)
    whole = ["-e", "whole", "--total_timesteps", "768", *flags]
    assert biped_train.main(whole) == 0
    wanted = RunDirectory(tmp_path / "whole").read_metrics()["gate/score"]
    found = run.read_metrics()["gate/score"]
    assert (wanted.steps.tolist(), wanted.values.tolist()) == (found.steps.tolist(), found.values.tolist())
    assert wanted.steps.tolist() == [512, 768]


def test_a_run_that_is_killed_before_its_first_checkpoint_begins_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--preset", "smoke", "--sim", "mujoco", "--eval_freq", "0", *FOREVER]
    flags += ["--set", "train.checkpoint_every_steps=100000000"]
    run = RunDirectory(tmp_path / "demo")
    with start(tmp_path, *flags) as process:
        until(lambda: run.metrics.exists() and len(run.metrics.read_text().splitlines()) >= 3, process)
        process.kill()
        process.communicate()
    assert newest(run) == -1
    head_for(run, 512)
    assert biped_train.main(["-e", "demo", "--log_dir", str(tmp_path), "--continue_training"]) == 0
    assert "holds no checkpoint yet: beginning anew" in capsys.readouterr().out
    assert kept_rows(run) == [256, 512]


def head_for(run: RunDirectory, steps: int) -> None:
    """Have the recorded run head for fewer steps: nobody waits for the end of 100 million."""
    config = run.read_config()
    run.write_config(replace(config, train=replace(config.train, total_timesteps=steps, goal_timesteps=steps)))


def test_a_damaged_newest_checkpoint_does_not_crowd_out_the_sound_ones(tmp_path: Path) -> None:
    command = ["-e", "demo", "--log_dir", str(tmp_path)]
    assert biped_train.main([*command, *FRESH, "--total_timesteps", "1024"]) == 0
    run = RunDirectory(tmp_path / "demo")
    run.checkpoint(1024).write_bytes(run.checkpoint(1024).read_bytes()[:1000])
    with start(tmp_path, "--continue_training", "--keep_checkpoints", "1", *FOREVER) as process:
        wait_for_a_checkpoint_after(run, 1024, process)
        process.kill()
        process.communicate()
    head_for(run, newest(run))
    go_on(run)


def test_a_disk_that_fills_ends_a_run_in_a_line_and_the_run_goes_on(tmp_path: Path, faults: Faults) -> None:
    run = RunDirectory(tmp_path / "demo")
    with start(tmp_path, *FRESH, *FOREVER) as process:
        wait_for_a_checkpoint_after(run, 256, process)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (40_000, 40_000))  # as a full disk: no file grows beyond
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, errors
    assert "Traceback" not in errors
    assert errors.strip().splitlines()[-1].startswith("biped_train.py: cannot write")
    go_on(run)
    faults.add("a disk that fills", "one line, exit 1; continued")


def go_on(run: RunDirectory) -> None:
    kept = newest(run)
    name, logs = run.path.name, str(run.path.parent)
    command = ["-e", name, "--log_dir", logs, "--continue_training", "--total_timesteps", str(kept + 256)]
    assert biped_train.main(command) == 0
    assert newest(run) == kept + 256


def test_a_folder_that_goes_away_ends_a_run_in_a_line(tmp_path: Path, faults: Faults) -> None:
    run = RunDirectory(tmp_path / "demo")
    with start(tmp_path, *FRESH, *FOREVER) as process:
        wait_for_a_checkpoint_after(run, 256, process)
        run.path.rename(tmp_path / "elsewhere")
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, errors
    assert "Traceback" not in errors
    go_on(RunDirectory(tmp_path / "elsewhere"))
    faults.add("a folder that is renamed", "one line, exit 1; continued")


def without_privileges() -> None:
    """Make permissions count for root too: drop CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH for what is started next."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (1, 2):
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def permissions_count(folder: Path) -> bool:
    command = [sys.executable, "-c", "import os, sys; sys.exit(os.access(sys.argv[1], os.W_OK))", str(folder)]
    folder.chmod(0o555)
    ended = processes.run(command, preexec_fn=without_privileges)
    folder.chmod(0o755)
    return ended.returncode == 0


def test_a_folder_that_turns_read_only_ends_a_run_in_a_line(tmp_path: Path, faults: Faults) -> None:
    if not permissions_count(tmp_path):
        pytest.skip("this user may write anywhere")
    run = RunDirectory(tmp_path / "demo")
    with start(tmp_path, *FRESH, *FOREVER, preexec_fn=without_privileges) as process:
        wait_for_a_checkpoint_after(run, 256, process)
        run.path.chmod(0o555)
        _, errors = process.communicate(timeout=PATIENCE_S)
    before = listing(run.path)
    assert process.returncode == 1, errors
    assert "Traceback" not in errors
    assert errors.strip().splitlines()[-1].startswith("biped_train.py: cannot write")
    argv = ["-e", "demo", "--log_dir", str(tmp_path), "--continue_training"]
    command = [sys.executable, str(ROOT / "biped_train.py"), *argv]
    ended = processes.run(command, preexec_fn=without_privileges)
    assert (ended.returncode, ended.stdout) == (1, ""), "it is refused before anything is built"
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr
    assert listing(run.path) == before
    run.path.chmod(0o755)
    go_on(run)
    faults.add("a log directory that turns read-only", "one line, exit 1; continued")


def test_memory_that_runs_out_ends_a_run_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], faults: Faults
) -> None:
    step, calls = BipedVecEnv.step_tensor, []

    def greedy(env: BipedVecEnv, actions: Tensor) -> Any:
        calls.append(1)
        if len(calls) == 80:
            torch.empty(2**60)
        return step(env, actions)

    with monkeypatch.context() as patch:
        patch.setattr(BipedVecEnv, "step_tensor", greedy)
        assert biped_train.main(["-e", "demo", "--log_dir", str(tmp_path), *FRESH, *FOREVER]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    go_on_flags = ["--continue_training", "-e", "demo", "--log_dir", str(tmp_path)]
    assert lines[-2:] == [
        f"stopped after 1,264 steps; go on with: {typed('biped_train.py', *go_on_flags)}",
        "biped_train.py: no memory is left on cpu: free some first",
    ]
    run = RunDirectory(tmp_path / "demo")
    assert newest(run) == 1024
    go_on(run)
    faults.add("memory that runs out", "one line, exit 1; continued")


def test_a_clock_that_jumps_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: Faults) -> None:
    real, jumps = time.time, random.Random(2)
    monkeypatch.setattr(time, "time", lambda: real() + jumps.choice([-86_400.0, 0.0, 86_400.0]))
    monkeypatch.setattr(time, "time_ns", lambda: int(1e9 * time.time()))
    command = ["-e", "demo", "--log_dir", str(tmp_path), *FRESH, "--total_timesteps", "1024"]
    assert biped_train.main(command) == 0
    assert RunDirectory(tmp_path / "demo").read_metrics()["train/loss"].steps.tolist() == [256, 512, 768, 1024]
    faults.add("a clock that jumps by a day", "trained to its end, every row in order")


@pytest.mark.genesis
def test_nan_in_one_percent_of_the_environments_costs_these_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: Faults
) -> None:
    advance, calls = GenesisScene.advance, []

    def poisoned(scene: GenesisScene, targets: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) % 10 == 0:
            qpos = scene._robot.get_qpos()
            qpos[len(calls) // 10 % 100] = torch.nan
            scene._robot.set_qpos(qpos, envs_idx=qpos[:, 0].isnan(), skip_forward=True)
        return advance(scene, targets)

    monkeypatch.setattr(GenesisScene, "advance", poisoned)
    size = ["--sim", "genesis", "-B", "100", "--total_timesteps", "9600"]
    command = ["-e", "demo", "--log_dir", str(tmp_path), *FRESH, *size]
    assert biped_train.main(command) == 0
    run = RunDirectory(tmp_path / "demo")
    errors = run.read_metrics()["env/error_resets"].values
    assert errors.sum() == len(calls) // 10 == 9
    weights = read_checkpoint(run.final_model).policy
    assert all(value.isfinite().all() for value in weights.values())
    faults.add("NaN in 1% of the environments", "these reset alone; trained to its end", count=int(errors.sum()))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_a_checkpoint_is_read_as_it_was_written_or_refused(
    logs: Path, tmp_path: Path, faults: Faults, data: st.DataObject
) -> None:
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
        faults.add(DAMAGED, "refused in a line, or read as it was")
        return
    wanted = read_checkpoint(sound)
    assert all(torch.equal(found.policy[name], value) for name, value in wanted.policy.items())
    assert found.counters == wanted.counters
    assert found.live.keys() == wanted.live.keys()
    faults.add(DAMAGED, "refused in a line, or read as it was")


def test_a_member_larger_than_any_of_ours_is_not_unpacked(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = logs / "demo" / "model_final.zip"
    with zipfile.ZipFile(sound) as archive:
        largest = max(member.file_size for member in archive.infolist())
    monkeypatch.setattr(checkpoint, "_MAX_MEMBER_BYTES", largest)
    read_checkpoint(sound)
    monkeypatch.setattr(checkpoint, "_MAX_MEMBER_BYTES", largest - 1)
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        read_checkpoint(sound)


def test_a_zip_cannot_lead_out_of_its_folder(logs: Path, tmp_path: Path) -> None:
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
        make_plan(as_request(make_parser().parse_args(argv)), PRESETS)

    try:
        return exit_code("biped_train.py", command)
    except SystemExit as ended:
        return int(ended.code or 0)


@settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(argv=ARGUMENTS)
def test_any_command_line_is_a_plan_or_one_line(
    logs: Path, capsys: pytest.CaptureFixture[str], faults: Faults, argv: list[str]
) -> None:
    before = listing(logs)
    code = plan([*argv, "--log_dir", str(logs)])
    said = capsys.readouterr()
    assert code in (0, 1, 2)
    if code:
        assert len(said.err.strip().splitlines()) == 1, said.err
    assert listing(logs) == before
    faults.add("command lines", "a plan or one line; no file changed")


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


@settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_config_file_is_a_plan_or_one_line(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], faults: Faults, data: st.DataObject
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
    faults.add("config files", "a plan or one line")
