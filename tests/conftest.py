"""Fixtures: one real Genesis scene a number of robots, built once and shared; a run recorded once."""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import pytest
import torch

import biped_train
from biped.config.observation import ESTIMATED
from biped.config.robot import ControlConfig
from biped.config.task import EnvConfig
from biped.env.env import BipedEnv
from biped.env.groups import Observations
from biped.sim.scene import Scene, make_scene
from biped.train import trial_process
from biped_config import cpu_preset
from tests import prefork, processes

ROOT = processes.ROOT
CPU = torch.device("cpu")
EXPORTS = [
    ROOT / "tests" / "deploy" / f"test_{name}.py" for name in ("export", "example", "clients", "peers", "trained_robot")
]
"""Tests that export policies."""
SMALL = [
    "--preset",
    "smoke",
    "--sim",
    "mujoco",
    "--set",
    "train.checkpoint_every_steps=512",
    "--total_timesteps",
    "1024",
    *processes.UNDRAWN,
]
"""Flags of the smallest training that has two checkpoints."""


processes.prepare()
# How long an example takes is up to the machine.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none; leave slow tests their time; put Genesis first, exports in the middle.

    Both take a process as long as ten small trainings, once: Genesis its start, the exporter its imports. Each of two
    workers of pytest-xdist begins with one half of the list, and does only one of them.
    """
    parts: dict[str, list[pytest.Item]] = {"genesis": [], "exports": [], "": []}
    for item in items:
        parts[_part_of(item)].append(item)
    begin, rest = parts["genesis"], parts[""]
    before = max(0, len(items) // 2 - len(begin))
    items[:] = [*begin, *rest[:before], *parts["exports"], *rest[before:]]
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(12 * 3600))
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu and not has_gpu():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def _part_of(item: pytest.Item) -> str:
    """Return what a test starts: genesis, exports or nothing."""
    # Only texts are compared: arrays among the parameters have no truth value.
    params = {value for value in _params_of(item) if isinstance(value, str)}
    if item.get_closest_marker("genesis") or "scene" in getattr(item, "fixturenames", ()) or "genesis" in params:
        return "genesis"
    return "exports" if item.get_closest_marker("exports") or item.path in EXPORTS else ""


def _params_of(item: pytest.Item) -> list[Any]:
    return list(getattr(item, "callspec", SimpleNamespace(params={})).params.values())


def has_gpu() -> bool:
    """Whether a tensor can be put on a GPU: that there is one is also what the plugin gpu_machine says."""
    try:
        return torch.cuda.is_available() and torch.zeros(1, device="cuda").is_cuda
    except (AssertionError, RuntimeError):
        return False


def one_group(cfg: EnvConfig) -> EnvConfig:
    """Return an environment whose actor and critic see one tensor, which has all that a state estimator could give."""
    observation = replace(cfg.observation, policy=ESTIMATED, critic=())
    return replace(cfg, robot=replace(cfg.robot, foot_switches=True), observation=observation)


def side_by_side(observations: Observations) -> torch.Tensor:
    """Return all groups of observations as one tensor, (num_envs, width)."""
    return torch.cat(list(observations.values()), dim=1) if isinstance(observations, dict) else observations


class Faults:
    """What was done to runs, and what became of them."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[int, str]] = {}

    def add(self, kind: str, became: str, count: int = 1) -> None:
        """Note `count` faults of a kind that a run outlived."""
        self.rows[kind] = (self.rows.get(kind, (0, ""))[0] + count, became)


FAULTS = Faults()


@pytest.fixture(scope="session")
def faults() -> Faults:
    """The table of faults that the terminal shows in the end; a fault that a run did not outlive fails its test."""
    return FAULTS


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist hands its table to the process that has the terminal."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["faults"] = FAULTS.rows


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take a worker's table; one that crashed has none."""
    for kind, (count, became) in getattr(node, "workeroutput", {}).get("faults", {}).items():
        FAULTS.add(kind, became, count)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the table of faults."""
    rows = FAULTS.rows
    if not rows:
        return
    terminalreporter.section("faults")
    for kind, (count, became) in rows.items():
        terminalreporter.write_line(f"{count:6}  {kind:44} {became}")
    # Tests that fail leave their faults out of the table, or a run lost.
    lost = sum("test_faults" in report.nodeid for report in terminalreporter.stats.get("failed", []))
    terminalreporter.write_line(f"{sum(count for count, _ in rows.values()):6}  faults tried, runs lost: {lost}")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small tensors: more threads only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def env_config() -> EnvConfig:
    """Eight robots, one observation for actor and critic; tests/env/test_groups.py has two."""
    return one_group(replace(cpu_preset().env, num_envs=8, control=ControlConfig(latency_share=0.0)))


@pytest.fixture(scope="session")
def scene(env_config: EnvConfig) -> Iterator[Scene]:
    """Eight robots in Genesis."""
    built = make_scene("genesis", env_config, CPU)
    yield built
    built.close()


@pytest.fixture
def make(scene: Scene, env_config: EnvConfig) -> Callable[..., BipedEnv]:
    """Make an environment on the shared scene, with fields of its configuration changed."""

    def build(seed: int = 0, **changes: object) -> BipedEnv:
        return BipedEnv(replace(env_config, **changes), scene, seed=seed)

    return build


@pytest.fixture
def quick_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the trainings of a search begin as what tests start does."""

    def begin(command: list[str], env: dict[str, str], **options: Any) -> "subprocess.Popen[Any]":
        return prefork.begin(command, env=processes.without_what_is_left(env), **options)

    monkeypatch.setattr(trial_process, "subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": begin}))


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run, `demo`."""
    folder = tmp_path_factory.mktemp("logs")
    command = ["-e", "demo", "--log_dir", str(folder), *SMALL, "--set", "train.draw_overview=true"]
    assert biped_train.main(command) == 0
    return folder
