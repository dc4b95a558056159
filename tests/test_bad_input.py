"""What can go wrong with the command lines: one line, the right exit code, nothing lost."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import biped_eval
import biped_train
from biped.runs.checkpoint import read_checkpoint
from biped.runs.directory import RunDirectory
from tests import processes
from tests.conftest import SMALL
from tests.processes import PATIENCE_S, ROOT, UNDRAWN, environment, start, start_held, until_it_says

BAD_USAGE = {
    "unknown flag": ["--nonsense"],
    "abbreviated flag": ["--cont"],
    "unknown preset": ["--preset", "tpu"],
    "no environments": ["--num_envs", "0"],
    "negative environments": ["--num_envs", "-8"],
    "environments not a number": ["--num_envs", "many"],
    "half an environment": ["--num_envs", "2.5"],
    "infinitely many environments": ["--num_envs", "1e400"],
    "one transition a minibatch": ["--set", "ppo.n_minibatches=256"],
    "preset that is none": ["--set", "preset=tpu"],
    "a group as a dictionary": ["--set", "env={'num_envs': 8}"],
    "a dictionary as text": ["--set", "wandb.entity={}"],
    "a number of 400 digits": ["--set", "env.num_envs=" + "9" * 400],
    "a rate of 400 digits": ["--set", "ppo.learning_rate=" + "9" * 400],
    "a step of a nanosecond": ["--set", "env.sim.control_dt_s=1e-9"],
    "an infinite pose": ["--set", "env.robot.default_joint_pos_rad=[1e999,0,0,0,0,0,0,0,0]"],
    "no standard deviation": ["--set", "policy.initial_std=1e-320"],
    "too many threads": ["--set", "train.torch_threads=1000000000000"],
    "negative steps": ["--total_timesteps", "-1"],
    "steps not a number": ["--total_timesteps", "1e"],
    "evaluations at negative steps": ["--eval_freq", "-1"],
    "evaluations now and then": ["--eval_freq", "often"],
    "half a pass": ["--stop_when_walking", "1.5"],
    "negative passes": ["--stop_when_walking", "-3"],
    "evaluations of nothing": ["--set", "train.eval_episodes=0"],
    "negative seed": ["--seed", "-1"],
    "unknown simulator": ["--sim", "bullet"],
    "unknown field": ["--set", "env.gravity=3"],
    "mistyped field": ["--set", "env.gait.frequency_hz=fast"],
    "setting without a value": ["--set", "env.num_envs"],
    "minibatches that do not divide": ["--num_envs", "3", "--set", "ppo.n_steps=3"],
    "missing model": ["--load_model", "nowhere/model.zip"],
    "corrupt model": ["--load_model", __file__],
    "a folder as model": ["--load_model", "."],
    "nothing to continue": ["--continue_training", "-e", "never-started"],
    "name that escapes": ["-e", "../elsewhere"],
    "absolute name": ["-e", "/tmp/elsewhere"],
    "empty name": ["-e", ""],
    "two starts": ["--continue_training", "--load_model", "x.zip"],
    "continue anew": ["--continue_training", "--new_run"],
}


def one_line(text: str) -> bool:
    return len(text.strip().splitlines()) == 1 and "Traceback" not in text


@pytest.mark.parametrize("flags", BAD_USAGE.values(), ids=BAD_USAGE)
def test_bad_usage_is_one_line_and_exit_code_2_and_leaves_nothing(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--preset", "smoke", "--log_dir", str(tmp_path / "logs"), *flags]
    try:
        code = biped_train.main(command)
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2
    assert one_line(captured.err), captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


CONTRADICTIONS = {
    "preset": (["--preset", "cpu"], "preset"),
    "environments": (["--num_envs", "32"], "env.num_envs was 16 and is now 32"),
    "seed": (["--seed", "9"], "train.seed"),
    "rate": (["--set", "ppo.learning_rate=1"], "ppo.learning_rate"),
}


@pytest.mark.parametrize(("flags", "named"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_continuing_with_another_configuration_is_refused_by_name(
    logs: Path, flags: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.stat().st_mtime_ns for p in (logs / "demo").rglob("*")}
    assert biped_train.main(["-e", "demo", "--log_dir", str(logs), "--continue_training", *flags]) == 2
    err = capsys.readouterr().err
    assert one_line(err)
    assert named in err
    assert {p: p.stat().st_mtime_ns for p in (logs / "demo").rglob("*")} == before


def test_an_existing_run_is_refused_and_nothing_of_it_changes(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p: p.stat().st_mtime_ns for p in (logs / "demo").rglob("*")}
    assert biped_train.main(["-e", "demo", "--log_dir", str(logs), *SMALL]) == 2
    err = capsys.readouterr().err
    assert one_line(err)
    assert all(way_out in err for way_out in ("--continue_training", "-e", "--new_run"))
    assert {p: p.stat().st_mtime_ns for p in (logs / "demo").rglob("*")} == before


def test_training_that_breaks_down_says_so_and_leaves_good_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*SMALL, "--total_timesteps", "4096", "--set", "env.reward.weights.alive_bonus=3e38"]
    assert biped_train.main(["-e", "x", "--log_dir", str(tmp_path), *flags]) == 1
    *warnings, last = capsys.readouterr().err.strip().splitlines()
    assert len(warnings) == 9
    assert all("learning rate halved" in warning for warning in warnings)
    assert "training broke down" in last
    newest = next(iter(RunDirectory(tmp_path / "x").checkpoints()))
    assert read_checkpoint(newest).num_timesteps == 2560  # ten updates; reading refuses weights that are not finite


def test_a_model_of_another_shape_is_refused(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(logs / "demo" / "model_final.zip")
    flags = ["--load_model", model, "--set", "policy.lstm_hidden_size=24"]
    assert biped_train.main(["-e", "x", "--log_dir", str(tmp_path), *SMALL, *flags]) == 2
    assert one_line(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize(
    "flags", [["--preset", "gpu"], ["--preset", "gpu-fast"], ["--preset", "smoke", "--device", "cuda"]]
)
def test_cuda_asked_for_and_absent_is_exit_code_1(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert biped_train.main(["--log_dir", str(tmp_path / "logs"), *flags]) == 1
    err = capsys.readouterr().err
    assert one_line(err)
    assert "--preset cpu" in err
    assert list(tmp_path.iterdir()) == []


BAD_ROBOTS = {
    "feet that are not there": ["--set", "env.robot.foot_links=['a', 'b']"],
    "another base": ["--set", "env.robot.base_link=torso"],
    "joints that are not there": ["--set", "env.robot.joint_names=['a','b','c','d','e','f','g','h','i']"],
    "a model that is none": ["--set", "env.robot.model_path=README.md"],
    "a missing model": ["--set", "env.robot.model_path=nothing.xml"],
}


@pytest.mark.parametrize("flags", BAD_ROBOTS.values(), ids=BAD_ROBOTS)
def test_a_robot_that_does_not_fit_is_exit_code_1_and_leaves_nothing(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert biped_train.main(["--log_dir", str(tmp_path / "logs"), *SMALL, *flags]) == 1
    assert one_line(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


BAD_EVALUATION = {
    "no episodes": ["--episodes", "0"],
    "negative seed": ["--agent", "random", "--seed", "-1"],
    "missing model": ["--model", "nowhere/model.zip"],
    "no such run": ["-e", "never-started"],
    "a model without its configuration": ["--model", __file__],
    "a picture nowhere": ["--agent", "zero", "--picture", "nowhere/x.png"],
    "a picture of no kind": ["--agent", "zero", "--picture", "x.xyz"],
    "figures nowhere": ["--agent", "zero", "--out", "nowhere/x.json"],
    "a setting of the learner": ["--agent", "zero", "--set", "ppo.n_epochs=3"],
    "a setting that is none": ["--agent", "zero", "--set", "env.nothing=3"],
    "command that is no number": ["--agent", "zero", "--command", "nan", "0", "0"],
}


@pytest.mark.parametrize("flags", BAD_EVALUATION.values(), ids=BAD_EVALUATION)
def test_bad_usage_of_the_evaluation_is_one_line_and_exit_code_2(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = biped_eval.main(["--device", "cpu", "--log_dir", str(tmp_path), *flags])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert one_line(capsys.readouterr().err)


@pytest.mark.parametrize("kind", ["a file in the way", "a folder that cannot hold files"])
def test_a_place_that_cannot_be_written_is_exit_code_1(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" if kind == "a file in the way" else Path("/proc/1/task")
    assert biped_train.main(["--log_dir", str(place), *SMALL]) == 1
    err = capsys.readouterr().err
    assert one_line(err)
    assert "--log_dir" in err
    assert (tmp_path / "file").read_text() == ""


def run_program(*flags: str, path_first: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "biped_train.py"), *SMALL, *flags]
    return processes.run(command, env=environment(path_first))


@pytest.mark.parametrize(("package", "named"), [("genesis", "Genesis"), ("tensorboard", "TensorBoard")])
def test_a_package_that_cannot_be_imported_is_exit_code_1_and_names_the_remedy(
    package: str, named: str, tmp_path: Path
) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("raise ImportError('it is broken')\n")
    flags = ["--sim", "genesis", "--log_dir", str(tmp_path / "logs")]
    ended = run_program(*flags, path_first=tmp_path)
    assert ended.returncode == 1
    assert one_line(ended.stderr), ended.stderr
    assert named in ended.stderr
    assert "install_genesis.sh" in ended.stderr
    assert run_program(*flags, path_first=tmp_path).stderr == ended.stderr, "a failed start must not block the next one"


FULL_DISK = """
import resource, sys
import biped_train
from biped.runs.directory import RunDirectory

create, unlimited = RunDirectory.create, resource.getrlimit(resource.RLIMIT_FSIZE)

def create_on_a_small_disk(*args, **kwargs):
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, unlimited[1]))
    return create(*args, **kwargs)

RunDirectory.create = create_on_a_small_disk
code = biped_train.main(sys.argv[1:])
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)  # Genesis keeps its kernels when it ends
sys.exit(code)
"""


def test_a_disk_that_fills_up_is_exit_code_1_and_one_line(tmp_path: Path) -> None:
    """A limit on the size of files, from the start of the run on, stands in for a disk that fills."""
    (tmp_path / "program.py").write_text(FULL_DISK)
    command = [sys.executable, str(tmp_path / "program.py"), *SMALL, "--log_dir", str(tmp_path)]
    ended = processes.run(command, env=environment(ROOT))
    assert ended.returncode == 1, ended.stderr
    assert one_line(ended.stderr), ended.stderr
    assert "--log_dir" in ended.stderr
    run = RunDirectory(tmp_path / "biped-walking-sb3-recurrentppo")
    assert (run.path / "config.json").is_file()
    assert not list(run.path.glob("*.zip"))


FOREVER = ["--preset", "smoke", "--sim", "mujoco", "--total_timesteps", "100000000", *UNDRAWN]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_a_checkpoint_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals, code: int) -> None:
    command = [sys.executable, str(ROOT / "biped_train.py"), *FOREVER, "--log_dir", str(tmp_path)]
    with start(command) as process:
        until_it_says(process, "total_timesteps")
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code
    assert "--continue_training" in err
    assert "Traceback" not in out + err
    run = RunDirectory(tmp_path / "biped-walking-sb3-recurrentppo")
    assert run.checkpoints()
    kept = read_checkpoint(run.checkpoints()[0]).num_timesteps
    assert kept > 0
    assert kept % 256 == 0, "the update that was under way was finished"


def test_a_second_signal_ends_a_training_at_once(tmp_path: Path) -> None:
    """It stands still in an update, which nothing but that would ever end."""
    with start_held("update", 1, *FOREVER, "--log_dir", str(tmp_path)) as process:
        until_it_says(process, "held:")
        process.send_signal(signal.SIGINT)
        until_it_says(process, "noted: SIGINT")
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130


def test_an_interrupt_while_building_ends_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    """Where a `KeyboardInterrupt` would be swallowed, and building would never end."""
    flags = [*SMALL, "--sim", "genesis", "--log_dir", str(tmp_path / "logs")]
    with start_held("build", 1, *flags) as process:
        until_it_says(process, "held:")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flags", [["--continue_training"], ["--new_run"]], ids=" ".join)
def test_a_run_that_is_being_trained_is_left_alone(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["-e", "demo", "--log_dir", str(tmp_path), *SMALL]
    assert biped_train.main(command) == 0
    capsys.readouterr()
    with RunDirectory(tmp_path / "demo").locked():
        assert biped_train.main([*command, *flags]) == 2
    err = capsys.readouterr().err
    assert one_line(err)
    assert "another process is training" in err
    assert [p.name for p in tmp_path.iterdir()] == ["demo"]
    assert biped_train.main([*command, *flags]) == 0


def test_a_reader_that_goes_away_costs_no_checkpoint(tmp_path: Path) -> None:
    """As in `python biped_train.py | head -1`."""
    command = [sys.executable, str(ROOT / "biped_train.py"), *SMALL, "--log_dir", str(tmp_path)]
    with start(command) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
    assert "Traceback" not in err
    run = RunDirectory(tmp_path / "biped-walking-sb3-recurrentppo")
    assert process.returncode == 1
    assert not run.path.exists() or run.checkpoints()
