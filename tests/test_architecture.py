"""Who may import whom, and how large a file and a function may grow."""

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

LEARNING = {"torch", "stable_baselines3", "sb3_contrib", "gymnasium", "numpy"}
MAY_IMPORT = {
    "biped_config": set(),
    "biped.base.errors": set(),
    "biped.base.files": {"biped.base.errors"},
    "biped.config_io": {"biped.base.errors", "biped_config"},
    "biped.train.metrics": {"biped.base.command_line", "biped_config"},
    "biped.runs.results": {"biped.base.errors"},
    "biped.eval": {"biped.eval", "biped.robot.state", "biped_config", "numpy", "torch"},
    "biped.eval.episodes": {"biped.eval", "biped.mdp.commands", "biped_config", "biped_env", "torch"},
    "biped.eval.robustness": {"matplotlib"},
    "biped.robustness": {
        "biped.eval.robustness",
        "biped.eval.episodes",
        "biped.mdp",
        "biped_config",
        "biped_env",
        "numpy",
        "torch",
    },
    "biped.view.plots": {"biped.mdp.gait", "biped_config", "matplotlib", "torch"},
    "biped.view.film_process": {
        "biped.config_io",
        "biped.base.errors",
        "biped.eval.record",
        "biped.sim.looks",
        "biped.sim.mujoco_scene",
        "biped.view.film",
        "biped_config",
        "imageio_ffmpeg",
        "mujoco",
        "numpy",
        "PIL",
    },
    "biped.view.film": {"biped.config_io", "biped.base.errors", "biped.eval.record", "biped_config", "numpy"},
    "biped.view.filming": {"biped.base.errors", "biped.eval.record", "biped.view.film", "biped_config", "psutil"},
    "biped.view.page": {
        "biped.base.command_line",
        "biped.config_io",
        "biped.base.errors",
        "biped.runs.directory",
        "biped_config",
        "jinja2",
    },
    "biped.train.gate_watch": {
        "biped.eval",
        "biped.eval.episodes",
        "biped.base.files",
        "biped.runs.directory",
        "biped_config",
        "biped_env",
    },
    "biped.base.background": set(),
    "biped.base.interrupts": set(),
    "biped.runs.directory": {"biped_config", "biped.config_io", "biped.base.errors", "biped.base.files", "numpy"},
    "biped.runs.launches": {"psutil", "torch"},
    "biped.train.reward_doctor": {"biped_config"},
    "biped.view.curves": {
        "biped.base.command_line",
        "biped.base.errors",
        "biped.eval.gate",
        "biped.runs.directory",
        "matplotlib",
        "numpy",
    },
    "biped.base.command_line": {"biped.base.errors", "biped.base.interrupts", "biped_config", "torch"},
    "biped.train.learner": {
        "biped.base.errors",
        "biped.mdp",
        "biped.ppo",
        "biped_config",
        "stable_baselines3",
        "torch",
    },
    "biped.runs.models": {
        "biped.base.command_line",
        "biped.base.errors",
        "biped.base.files",
        "biped.train.learner",
        "biped.ppo",
        "biped.runs.directory",
        "biped_config",
        "stable_baselines3",
    },
    "biped.deploy.contract": {"biped.mdp.observations", "biped_config"},
    "biped.deploy.parity": {
        "biped.deploy.contract",
        "biped.base.errors",
        "biped.ppo.acting",
        "biped_config",
        "biped_env",
        "numpy",
        "sb3_contrib",
        "torch",
    },
    "biped.deploy.export": {
        "biped.deploy.contract",
        "biped.base.errors",
        "biped.deploy.parity",
        "sb3_contrib",
        "torch",
    },
    "biped.runs.loggers": {"biped.base.errors", "stable_baselines3", "tensorboard", "torch", "numpy", "PIL"},
    "biped.sim.check_robot": {
        "biped.base.command_line",
        "biped.config_io",
        "biped.base.errors",
        "biped.mdp",
        "biped.sim.mujoco_scene",
        "biped.sim.scene",
        "biped_config",
        "mujoco",
        "numpy",
        "torch",
    },
    "biped.sim.check_machine": {
        "biped.base.command_line",
        "biped.base.errors",
        "biped.sim.scene",
        "biped_config",
        "torch",
        "psutil",
    },
    "biped.runs.average": {
        "biped.base.command_line",
        "biped.base.errors",
        "biped.runs.models",
        "biped.runs.checkpoint",
        "biped.runs.directory",
        "torch",
    },
    "biped.train.memory": {"biped.base.errors", "biped.mdp.observations", "biped_config", "psutil", "torch"},
    "biped.base.ticker": set(),
    "biped.base.watchdog": set(),
    "biped.train.plan": {
        "biped.base.command_line",
        "biped.config_io",
        "biped.base.errors",
        "biped.train.learner",
        "biped.train.memory",
        "biped.runs.models",
        "biped.runs.checkpoint",
        "biped.runs.directory",
        "biped.train_flags",
        "biped.runs.wandb_names",
        "biped_config",
        "torch",
    },
    "biped.mdp": {"biped.mdp", "biped_config", "torch"},
    "biped.env.randomizer": {"biped.mdp", "biped.sim.scene", "biped.sim.terrain", "biped_config", "torch"},
    "biped.sim": {
        "biped.sim",
        "biped.base.ticker",
        "biped.mdp.randomization",
        "biped.robot.state",
        "biped.config_io",
        "biped.base.errors",
        "biped_config",
        "torch",
        "numpy",
    },
    "biped.sim.genesis_scene": {"genesis"},
    "biped.sim.mujoco_scene": {"mujoco"},
    "biped.view.steering": {"biped_config"},
    "biped.view.controls": {"biped.base.errors", "biped.view.steering"},
    "biped.view.web": {
        "biped.base.errors",
        "biped.robot.state",
        "biped.sim",
        "biped.view.steering",
        "biped_config",
        "numpy",
        "trimesh",
        "viser",
    },
    "biped.view.live": {
        "biped.view.controls",
        "biped.base.errors",
        "biped.eval.episodes",
        "biped.base.interrupts",
        "biped.robot.state",
        "biped.sim.window",
        "biped.view.steering",
        "biped.view.web",
        "biped_config",
        "biped_env",
        "torch",
    },
    "biped.ppo": {"biped.ppo", *LEARNING},
    "biped.env": {"gymnasium", "numpy", "stable_baselines3", "torch"},
    "wandb_callback": {
        "biped.base.background",
        "biped.base.errors",
        "biped.base.interrupts",
        "biped.train.metrics",
        "biped.train.reward_doctor",
        "biped.runs.directory",
        "biped.runs.wandb_names",
        "biped.runs.wandb_service",
        "biped_config",
        "stable_baselines3",
        "numpy",
        "wandb",
    },
    "biped.runs.wandb_names": {"biped.base.errors", "biped_config", "wandb"},
    "biped.runs.wandb_service": {
        "biped.base.errors",
        "biped.runs.directory",
        "biped.runs.wandb_names",
        "biped_config",
        "psutil",
        "wandb",
    },
    "biped.train.state": {"biped.base.errors", "biped.runs.models", "biped.ppo", "biped_env", "torch"},
    "biped.train_flags": {
        "biped.base.command_line",
        "biped.config_io",
        "biped.runs.directory",
        "biped.runs.wandb_names",
        "biped_config",
    },
    "biped_sweep": {
        "biped.base.command_line",
        "biped.config_io",
        "biped.base.errors",
        "biped.base.interrupts",
        "biped.runs.directory",
        "biped_config",
        "optuna",
    },
    "biped_env": {
        "biped.env",
        "biped.mdp",
        "biped.env.randomizer",
        "biped.sim.scene",
        "biped_config",
        "gymnasium",
        "numpy",
        "torch",
    },
    "biped_train": {
        "biped.view.filming",
        "biped.train.plan",
        "biped.train.memory",
        "biped.base.watchdog",
        "biped.base.command_line",
        "biped.base.interrupts",
        "biped.train.learner",
        "biped.mdp.commands",
        "biped.mdp.episode_stats",
        "biped.config_io",
        "biped.base.errors",
        "biped.train.gate_watch",
        "biped.view.curves",
        "biped.ppo",
        "biped.train.reward_doctor",
        "biped.runs.launches",
        "biped.runs.directory",
        "biped.runs.loggers",
        "biped.train_flags",
        "biped.train.state",
        "biped_config",
        "biped_env",
        "wandb_callback",
        "stable_baselines3",
        "torch",
    },
    "biped_export": {
        "biped.base.command_line",
        "biped.config_io",
        "biped.deploy.contract",
        "biped.deploy.export",
        "biped.runs.models",
        "biped.deploy.parity",
        "biped.runs.results",
        "biped.runs.directory",
        "biped_env",
        "torch",
    },
    "biped_eval": {
        "biped.view.page",
        "biped.runs.results",
        "biped.view.film",
        "biped.robustness",
        "biped.base.command_line",
        "biped.train.learner",
        "biped.runs.models",
        "biped.view.live",
        "biped.view.web",
        "biped.config_io",
        "biped.base.errors",
        "biped.eval",
        "biped.eval.episodes",
        "biped.train.gate_watch",
        "biped.ppo",
        "biped.runs.directory",
        "biped_config",
        "biped_env",
        "PIL",
        "numpy",
        "torch",
    },
}
"""Module, or room, to what it may import besides the standard library; a module in a room may both."""

SOURCES = sorted([*ROOT.glob("*.py"), *(ROOT / "biped").rglob("*.py")])
LINES = 400
LINES_OF = {"biped_config": 880, "biped_env": 450}
"""The configuration is a list of numbers, each with its docstring; everything else has the common budget."""
FUNCTION_LINES = 60


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module
            found.add(node.module)
    return found


def is_allowed(imported: str, allowed: set[str]) -> bool:
    return any(imported == name or imported.startswith(f"{name}.") for name in allowed)


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_arrows_point_downward(path: Path) -> None:
    import sys

    name = module_name(path)
    allowed = set(sys.stdlib_module_names)
    for room, extra in MAY_IMPORT.items():
        if name == room or name.startswith(f"{room}."):
            allowed |= extra
    forbidden = {found for found in imports(ast.parse(path.read_text())) if not is_allowed(found, allowed)}
    assert not forbidden, f"{name} must not import {', '.join(sorted(forbidden))}"


def test_the_test_of_arrows_would_see_a_broken_one() -> None:
    assert imports(ast.parse("def f():\n    from biped.sim import scene\n    import genesis.utils")) == {
        "biped.sim",
        "genesis.utils",
    }
    assert not is_allowed("biped.sim", MAY_IMPORT["biped.mdp"])
    assert not is_allowed("biped_config", MAY_IMPORT["biped.ppo"])


def test_only_one_file_knows_genesis() -> None:
    knowing = [
        module_name(path)
        for path in SOURCES
        if any(name.split(".")[0] == "genesis" for name in imports(ast.parse(path.read_text())))
    ]
    assert knowing == ["biped.sim.genesis_scene"]


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LINES_OF.get(module_name(path), LINES)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES, f"{node.name} has {length} lines"


READERS = {"item", "cpu", "numpy", "tolist", "nonzero"}
HOT_PATH = {
    "biped_env.py": {"step", "_as_actions", "_start", "_draw_start", "_observe", "hold_commands"},
    "biped/sim/genesis_scene.py": {"step", "advance", "_read_state"},
    **{f"biped/mdp/{path.name}": None for path in (ROOT / "biped" / "mdp").glob("*.py")},
    "biped/ppo/recurrent_pass.py": None,
    "biped/ppo/losses.py": None,
    "biped/ppo/gradients.py": None,
    "biped/ppo/guard.py": {"step"},
    "biped/ppo/normalizer.py": None,
    "biped/ppo/mirror.py": None,
    "biped/ppo/acting.py": None,
    "biped/eval/record.py": {"add"},
    "biped/ppo/buffer.py": {"begin", "add", "compute_returns_and_advantage", "_minibatch", "_upload", "_chosen"},
    "biped/ppo/recurrent_ppo.py": {
        "collect_rollouts",
        "_act",
        "_bootstrapped",
        "train",
        "_values",
        "_log_std",
        "_bound_std",
    },
}
"""Files and functions of every control step and minibatch; None: all of them but those that build or drain."""


@pytest.mark.parametrize(("file", "names"), HOT_PATH.items(), ids=HOT_PATH)
def test_a_control_step_and_a_minibatch_read_nothing_back_from_the_device(file: str, names: set[str] | None) -> None:
    """`.item()`, `.cpu()`, `.numpy()`, `.tolist()`, `nonzero`, `float(x)` and `bool(x)` stall a GPU."""
    seen = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if not isinstance(node, ast.FunctionDef) or node.name in {"drain", "build", "step_wait", "_describe_ends"}:
            continue
        if names is not None and node.name not in names:
            continue
        seen.add(node.name)
        inside = list(ast.walk(node))
        read = READERS & {inner.attr for inner in inside if isinstance(inner, ast.Attribute)}
        calls = {inner.func.id for inner in inside if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name)}
        read |= {"float", "bool"} & calls
        assert not read, f"{node.name} uses {read}"
    assert names is None or seen == names


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_observations_and_joints_are_never_cut_by_numbers(path: Path) -> None:
    """Literal bounds, such as [:, 6:15], hide what they cut; x, y | z and w | xyz are the exception."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Slice):
            bounds = [bound.value for bound in (node.lower, node.upper) if isinstance(bound, ast.Constant)]
            assert len(bounds) < 2, f"line {node.lineno}"
            assert all(bound in (1, 2, 3) for bound in bounds if isinstance(bound, int)), f"line {node.lineno}"
