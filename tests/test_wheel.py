"""What pip installs: the wheel has all that it needs and nothing else, and works outside of the repository."""

import contextlib
import json
import re
import signal
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from biped.base.packages import EXTRAS
from biped.base.shipped import version
from tests import processes
from tests.conftest import ROOT
from tests.hub_server import HubServer
from tests.loopback import free_port
from tests.processes import until_it_says
from tests.shared_policies import hub_account, make_run
from tests.wheels import Installed, build, copy_repository, tracked

WALK = ("--model", "assets/policies/biped_walk.zip", "--sim", "mujoco", "--episodes", "2")
BRIEFLY = ("--set", "env.termination.episode_s=0.5")
CPU_TORCH, CPU_INDEX = "torch==2.13.0+cpu", "https://download.pytorch.org/whl/cpu"
SHIPPED = ("biped", "assets")
"""Folders of the repository that the wheel has."""
NOT_SHIPPED = ("README.md",)
"""Names of files in them that it has not."""


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    if not copy_repository(folder / "repository"):
        pytest.skip("not a repository of git")
    return build("sdist", folder / "repository", folder)


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It is built from the source distribution, which so has all that a build needs."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as packed:
        packed.extractall(folder, filter="data")
    return build("wheel", folder / sdist.name.removesuffix(".tar.gz"), folder)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(wheel, tmp_path_factory.mktemp("installed"))


def test_a_wheel_has_the_sources_and_what_ships_and_nothing_else(wheel: Path) -> None:
    names = [Path(name) for name in tracked()]
    sources = [path for path in names if path.parts[0] == "biped" or (len(path.parts) == 1 and path.suffix == ".py")]
    assets = [Path("biped") / path for path in names if path.parts[0] == "assets" and path.name not in NOT_SHIPPED]
    with zipfile.ZipFile(wheel) as packed:
        found = [Path(name) for name in packed.namelist()]
    about = [path for path in found if path.parts[0].endswith(".dist-info")]
    assert sorted(set(found) - set(about)) == sorted([*sources, *assets])
    assert {str(Path(*path.parts[1:])) for path in about} == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "licenses/LICENSE",
        "top_level.txt",
    }


def test_a_source_distribution_has_what_the_build_reads_and_nothing_else(sdist: Path) -> None:
    with tarfile.open(sdist) as packed:
        tops = {Path(member.name).parts[1] for member in packed.getmembers() if len(Path(member.name).parts) > 1}
    by_the_backend = {"PKG-INFO", "setup.cfg", "biped_walking.egg-info", "MANIFEST.in"}
    doors = {path.name for path in ROOT.glob("*.py")}
    assert tops - by_the_backend == {*SHIPPED, *doors, "LICENSE", "README.md", "pyproject.toml"}


def test_every_door_has_a_console_script(installed: Installed) -> None:
    doors = {path.stem.replace("_", "-") for path in ROOT.glob("biped_*.py")} - {"biped-config", "biped-env"}
    assert {path.name for path in installed.bin.glob("biped*")} == {*doors, "biped"}


def test_a_policy_is_judged_in_an_empty_folder_with_the_extra_sim_alone(installed: Installed, tmp_path: Path) -> None:
    before = sorted(installed.site.rglob("*"))
    ended = installed.run("biped-eval", *WALK, *BRIEFLY, extras=("sim",), cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (3, ""), "half a second is too short to step"
    assert "survival                          1.0000" in ended.stdout
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    result = "logs/evaluations/policies-biped_walk/eval_mujoco_2_episodes_episode_s_0.5.json"
    assert left == {result, "logs/evaluations/policies-biped_walk/config.json"}
    assert f"figures: {result}\n" in ended.stdout
    assert sorted(installed.site.rglob("*")) == before


def test_the_demo_walks_in_an_empty_folder_with_the_extra_sim_alone(installed: Installed, tmp_path: Path) -> None:
    env = installed.environment(("sim",))
    command = [str(installed.bin / "biped"), "demo", "--robot", "strider", "--port", str(free_port()), "--no_browser"]
    with processes.start(command, env=env, cwd=tmp_path, afresh=True) as demo:
        until_it_says(demo, "open http")
        assert "command +" in until_it_says(demo, "falls 0")
        demo.send_signal(signal.SIGINT)
    assert demo.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_a_policy_is_shared_and_judged_from_wheels(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "mine" / "logs")
    (tmp_path / "theirs").mkdir()
    with contextlib.closing(HubServer()) as server:
        hub_account(monkeypatch, tmp_path, server)
        push = ("biped", "push", "walk", "--to", "hf://me/walk")
        pushed = installed.run(*push, extras=("train",), cwd=tmp_path / "mine")
        assert (pushed.returncode, pushed.stderr) == (0, "")
        judge = ("biped-eval", "--model", "hf://me/walk", *WALK[2:], *BRIEFLY)
        ended = installed.run(*judge, extras=("train",), cwd=tmp_path / "theirs")
    assert (ended.returncode, ended.stderr) == (3, ""), "half a second is too short to step"
    assert "survival                          1.0000" in ended.stdout
    assert [path.name for path in (tmp_path / "theirs").iterdir()] == ["logs"]


IMPORTED = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        print(name, error.name)
print("imported", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_with_the_extra_sim_all_can_be_imported_but_searches(installed: Installed, tmp_path: Path) -> None:
    modules = [
        ".".join(Path(name).with_suffix("").parts)
        for name in tracked()
        if name.startswith("biped/") and name.endswith(".py") and not name.endswith("__.py")
    ]
    faces = ["biped_config", "biped_env", "biped_eval", "biped_export", "biped_run", "biped_train", "wandb_callback"]
    ended = installed.run("python", "-c", IMPORTED, *modules, *faces, extras=("sim",), cwd=tmp_path)
    assert ended.stderr == ""
    *missing, imported = ended.stdout.splitlines()
    assert missing == ["biped.train.studies optuna", "biped.train.sweep optuna"]
    others = set(EXTRAS["train"].split()) | set(EXTRAS["report"].split()) | set(EXTRAS["robot"].split())
    assert not others & set(imported.split())
    assert len(modules) > 100


POLICY = "assets/policies/robust/policy.onnx"
LACKING = {
    "train": (("biped-train",), (), "sim"),
    "eval": (("biped-eval", *WALK), (), "sim"),
    "export": (("biped-export", *WALK[:2]), (), "sim"),
    "sweep": (("biped-sweep", "--help"), ("sim",), "train"),
    "biped": (("biped", "check-robot", "assets/strider/robot.json"), (), "sim"),
    "run": (("biped-run", POLICY, "--simulate"), (), "robot"),
    "run in simulation": (("biped-run", POLICY, "--simulate"), ("robot",), "sim"),
}
"""Commands, extras that are installed, and the one that each names."""


@pytest.mark.parametrize(("command", "extras", "names"), LACKING.values(), ids=LACKING)
def test_where_a_package_is_missing_one_line_names_the_extra(
    installed: Installed, tmp_path: Path, command: tuple[str, ...], extras: tuple[str, ...], names: str
) -> None:
    ended = installed.run(*command, extras=extras, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    line = rf"{command[0]}: \w+ is not installed: pip install 'biped-walking\[{names}\]'\n"
    assert re.fullmatch(line, ended.stderr), ended.stderr


@pytest.mark.slow
def test_a_fresh_environment_with_the_extra_sim_is_small_and_enough(wheel: Path, tmp_path: Path) -> None:
    """As docs/install.md types it, in the versions of constraints.txt; it needs the network, or pip's cache."""
    venv.create(tmp_path / "venv", with_pip=True)
    pip = [str(tmp_path / "venv" / "bin" / "pip"), "install", "-q", "--no-compile"]
    torch = [*pip, "--no-deps", CPU_TORCH]
    if processes.run(torch).returncode and processes.run([*torch, "--index-url", CPU_INDEX]).returncode:
        pytest.skip("there is no CPU build of torch here")
    processes.run([*pip, "-c", str(ROOT / "constraints.txt"), f"{wheel}[sim]"], check=True)
    sizes = [path.lstat().st_blocks * 512 for path in (tmp_path / "venv").rglob("*")]
    assert sum(sizes) <= 1.2e9
    work = tmp_path / "work"
    work.mkdir()
    env = {name: value for name, value in processes.environment().items() if not name.startswith("PYTHON")}
    ended = processes.run([str(tmp_path / "venv" / "bin" / "biped-eval"), *WALK], cwd=work, env=env)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "walking gate: passed" in ended.stdout
    assert [path.name for path in work.iterdir()] == ["logs"]


@pytest.mark.slow
def test_a_wheel_trains_reports_exports_and_searches(installed: Installed, tmp_path: Path) -> None:
    small = ("--preset", "smoke", "--sim", "mujoco", "--num_envs", "16", "--total_timesteps", "1280")
    extras, logs = ("train",), tmp_path / "logs"
    assert installed.run("biped-train", "-e", "walk", *small, extras=extras, cwd=tmp_path).returncode == 0
    start = json.loads((logs / "walk" / "run_info.json").read_text())["starts"][0]
    assert start["code"] == {"commit": None, "is_dirty": None}
    assert start["versions"]["biped-walking"] == version()
    report = ("-e", "walk", "--sim", "mujoco", "--episodes", "2", "--report", *BRIEFLY)
    assert installed.run("biped-eval", *report, extras=extras, cwd=tmp_path).returncode == 3
    assert len(list((logs / "walk").glob("report*.html"))) == 1
    assert installed.run("biped-export", "-e", "walk", extras=extras, cwd=tmp_path).returncode == 0
    assert json.loads((logs / "walk" / "export" / "contract.json").read_text())["provenance"]["package_version"]
    search = ("--study", "rates", "--trials", "1", "--preset", "smoke", "--total_timesteps", "512")
    ended = installed.run("biped-sweep", *search, "--set", "train.sim=mujoco", extras=extras, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]
