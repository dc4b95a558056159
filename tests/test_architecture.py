"""Who may import whom, and how large a file and a function may grow."""

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

LEARNING = {"torch", "stable_baselines3", "sb3_contrib", "gymnasium", "numpy"}
MAY_IMPORT = {
    "biped_config": set(),
    "biped.errors": set(),
    "biped.files": {"biped.errors"},
    "biped.config_io": {"biped.errors", "biped_config"},
    "biped.metrics": {"biped.command_line", "biped_config"},
    "biped.results": {"biped.errors"},
    "biped.eval": {"biped.eval", "biped.mdp.state", "biped_config", "numpy", "torch"},
    "biped.evaluation": {"biped.eval", "biped.mdp.commands", "biped_config", "biped_env", "torch"},
    "biped.eval.robustness": {"matplotlib"},
    "biped.robustness": {
        "biped.eval.robustness",
        "biped.evaluation",
        "biped.mdp",
        "biped_config",
        "biped_env",
        "numpy",
        "torch",
    },
    "biped.eval.plots": {"biped.mdp.gait", "biped_config", "matplotlib", "torch"},
    "biped.film": {
        "biped.config_io",
        "biped.errors",
        "biped.eval.record",
        "biped.sim.looks",
        "biped.sim.mujoco_scene",
        "biped.video",
        "biped_config",
        "imageio_ffmpeg",
        "mujoco",
        "numpy",
        "PIL",
    },
    "biped.video": {"biped.config_io", "biped.errors", "biped.eval.record", "biped_config", "numpy"},
    "biped.training_video": {"biped.errors", "biped.eval.record", "biped.video", "biped_config", "psutil"},
    "biped.report": {"biped.command_line", "biped.config_io", "biped.errors", "biped.runs", "biped_config", "jinja2"},
    "biped.gate_watch": {"biped.eval", "biped.evaluation", "biped.files", "biped.runs", "biped_config", "biped_env"},
    "biped.background": set(),
    "biped.interrupts": set(),
    "biped.runs": {"biped_config", "biped.config_io", "biped.errors", "biped.files", "numpy"},
    "biped.run_info": {"psutil", "torch"},
    "biped.reward_doctor": {"biped_config"},
    "biped.overview": {"biped.command_line", "biped.errors", "biped.eval.gate", "biped.runs", "matplotlib", "numpy"},
    "biped.command_line": {"biped.errors", "biped.interrupts", "biped_config", "torch"},
    "biped.learner": {"biped.errors", "biped.mdp", "biped.ppo", "biped_config", "stable_baselines3", "torch"},
    "biped.models": {
        "biped.command_line",
        "biped.errors",
        "biped.files",
        "biped.learner",
        "biped.ppo",
        "biped.runs",
        "biped_config",
        "stable_baselines3",
    },
    "biped.contract": {"biped.mdp.observations", "biped_config"},
    "biped.parity": {
        "biped.contract",
        "biped.errors",
        "biped.ppo.acting",
        "biped_config",
        "biped_env",
        "numpy",
        "sb3_contrib",
        "torch",
    },
    "biped.export": {"biped.contract", "biped.errors", "biped.parity", "sb3_contrib", "torch"},
    "biped.sinks": {"biped.errors", "stable_baselines3", "tensorboard", "torch", "numpy", "PIL"},
    "biped.check_robot": {
        "biped.command_line",
        "biped.config_io",
        "biped.errors",
        "biped.mdp",
        "biped.sim.mujoco_scene",
        "biped.sim.scene",
        "biped_config",
        "mujoco",
        "numpy",
        "torch",
    },
    "biped.check_machine": {"biped.command_line", "biped.errors", "biped.sim.scene", "biped_config", "torch", "psutil"},
    "biped.average": {
        "biped.command_line",
        "biped.errors",
        "biped.models",
        "biped.ppo.checkpoint",
        "biped.runs",
        "torch",
    },
    "biped.memory": {"biped.errors", "biped.mdp.observations", "biped_config", "psutil", "torch"},
    "biped.ticker": set(),
    "biped.watchdog": set(),
    "biped.train_plan": {
        "biped.command_line",
        "biped.config_io",
        "biped.errors",
        "biped.learner",
        "biped.memory",
        "biped.models",
        "biped.ppo.checkpoint",
        "biped.runs",
        "biped.train_flags",
        "biped.wandb_names",
        "biped_config",
        "torch",
    },
    "biped.mdp": {"biped.mdp", "biped_config", "torch"},
    "biped.randomizer": {"biped.mdp", "biped.sim.scene", "biped.sim.terrain", "biped_config", "torch"},
    "biped.sim": {
        "biped.sim",
        "biped.ticker",
        "biped.mdp.randomization",
        "biped.mdp.state",
        "biped.config_io",
        "biped.errors",
        "biped_config",
        "torch",
        "numpy",
    },
    "biped.sim.genesis_scene": {"genesis"},
    "biped.sim.mujoco_scene": {"mujoco"},
    "biped.steering": {"biped_config"},
    "biped.controls": {"biped.errors", "biped.steering"},
    "biped.web_view": {
        "biped.errors",
        "biped.mdp.state",
        "biped.sim",
        "biped.steering",
        "biped_config",
        "numpy",
        "trimesh",
        "viser",
    },
    "biped.live": {
        "biped.controls",
        "biped.errors",
        "biped.evaluation",
        "biped.interrupts",
        "biped.mdp.state",
        "biped.sim.window",
        "biped.steering",
        "biped.web_view",
        "biped_config",
        "biped_env",
        "torch",
    },
    "biped.ppo": {"biped.ppo", *LEARNING},
    "biped.env": {"gymnasium", "numpy", "stable_baselines3", "torch"},
    "wandb_callback": {
        "biped.background",
        "biped.errors",
        "biped.interrupts",
        "biped.metrics",
        "biped.reward_doctor",
        "biped.runs",
        "biped.wandb_names",
        "biped.wandb_service",
        "biped_config",
        "stable_baselines3",
        "numpy",
        "wandb",
    },
    "biped.wandb_names": {"biped.errors", "biped_config", "wandb"},
    "biped.wandb_service": {"biped.errors", "biped.runs", "biped.wandb_names", "biped_config", "psutil", "wandb"},
    "biped.training_state": {"biped.errors", "biped.models", "biped.ppo", "biped_env", "torch"},
    "biped.train_flags": {
        "biped.command_line",
        "biped.config_io",
        "biped.runs",
        "biped.wandb_names",
        "biped_config",
    },
    "biped_sweep": {
        "biped.command_line",
        "biped.config_io",
        "biped.errors",
        "biped.interrupts",
        "biped.runs",
        "biped_config",
        "optuna",
    },
    "biped_env": {
        "biped.env",
        "biped.mdp",
        "biped.randomizer",
        "biped.sim.scene",
        "biped_config",
        "gymnasium",
        "numpy",
        "torch",
    },
    "biped_train": {
        "biped.training_video",
        "biped.train_plan",
        "biped.memory",
        "biped.watchdog",
        "biped.command_line",
        "biped.interrupts",
        "biped.learner",
        "biped.mdp.commands",
        "biped.mdp.episode_stats",
        "biped.config_io",
        "biped.errors",
        "biped.gate_watch",
        "biped.overview",
        "biped.ppo",
        "biped.reward_doctor",
        "biped.run_info",
        "biped.runs",
        "biped.sinks",
        "biped.train_flags",
        "biped.training_state",
        "biped_config",
        "biped_env",
        "wandb_callback",
        "stable_baselines3",
        "torch",
    },
    "biped_export": {
        "biped.command_line",
        "biped.config_io",
        "biped.contract",
        "biped.export",
        "biped.models",
        "biped.parity",
        "biped.results",
        "biped.runs",
        "biped_env",
        "torch",
    },
    "biped_eval": {
        "biped.report",
        "biped.results",
        "biped.video",
        "biped.robustness",
        "biped.command_line",
        "biped.learner",
        "biped.models",
        "biped.live",
        "biped.web_view",
        "biped.config_io",
        "biped.errors",
        "biped.eval",
        "biped.evaluation",
        "biped.gate_watch",
        "biped.ppo",
        "biped.runs",
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
