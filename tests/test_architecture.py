"""Who may import whom, and how large a file and a function may grow."""

import ast
import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture import COMMANDS, ROOMS, Source, arrows, importers_of_doors, loose, sources
from tests.conftest import ROOT

MODULES = sources()
NAMES = [source.name for source in MODULES]
LINES, DOOR_LINES, FUNCTION_LINES = 400, 230, 60
PRESETS_LINES = 300
"""The presets are a list of numbers."""
MOST_ARROWS = 45

THIRD_PARTIES = {
    "genesis": "biped.sim.genesis_scene",
    "mujoco": "biped.sim biped.view.film_process",
    "wandb": "biped.runs.wandb_writer biped.runs.wandb_service biped.runs.wandb_names biped.runs.wandb_artifacts",
    "huggingface_hub": "biped.runs.hub",
    "optuna": "biped.train.sweep biped.train.studies",
    "viser": "biped.view.web",
    "trimesh": "biped.view.web",
    "matplotlib": "biped.view.figures biped.view.plots biped.view.clip_plots biped.view.curves biped.view.lineage",
    "jinja2": "biped.view.page",
    "filelock": "biped.base.files",
    "onnx": "biped.deploy",
    "onnxruntime": "biped.deploy",
    "pydantic": "biped.config",
    "argparse": "biped.base.command_line biped.view.film_process biped.runs.wandb_names biped.train.space",
}
"""Which modules, or rooms, know a package."""
NO_TORCH = ("config",)
WORKSHOP = {
    f"biped.deploy.{name}" for name in ("contract", "export", "formats", "network", "parity", "peers", "trained_robot")
}
"""What of `deploy` runs where policies are trained; all else of it runs on the robot's computer."""
ON_A_ROBOT = [s.name for s in MODULES if (s.room == "deploy" and s.name not in WORKSHOP) or s.name == "biped_run"]
BASE_ON_A_ROBOT = [
    f"biped.base.{name}"
    for name in ("errors", "files", "command_line", "interrupts", "packages", "platforms", "shipped")
]
FETCHING = [f"biped.runs.{name}" for name in ("shared", "hub", "wandb_artifacts", "manifest", "address")]
"""What fetches a shared policy, on a robot's computer too; the services' libraries are imported when asked for."""
PACKAGES_ON_A_ROBOT = {"numpy", "onnxruntime", "dynamixel_sdk", "serial", "imufusion"}
"""By the names that they are imported by; the extra `robot` of pyproject.toml installs them."""
PUBLIC_FACES = ("biped_config", "biped_env", "wandb_callback")


def test_the_rooms_are_those_that_are_drawn() -> None:
    assert {source.room for source in MODULES if source.room} == set(ROOMS)
    assert loose(MODULES) == []


def test_arrows_point_downward() -> None:
    found = arrows(MODULES)
    forbidden = [why for (room, to), whys in found.items() if to not in ROOMS[room] for why in whys]
    assert not forbidden
    assert len(found) <= MOST_ARROWS


def test_no_room_stands_on_one_that_stands_on_it() -> None:
    def below(room: str) -> set[str]:
        return set(ROOMS[room]).union(*(below(lower) for lower in ROOMS[room]))

    assert not [room for room in ROOMS if room in below(room)]


def test_no_module_of_the_package_imports_a_door_and_no_door_another_but_the_faces() -> None:
    assert importers_of_doors(MODULES) == []
    doors = {source.name for source in MODULES if source.is_door} - {*PUBLIC_FACES, COMMANDS}
    for source in MODULES:
        if source.is_door:
            parts = {name for name in doors if name.startswith(COMMANDS) and source.name == "biped.__main__"}
            assert not {item.name for item in source.imports()} & (doors - parts), source.name


def test_the_test_of_arrows_would_see_a_broken_one() -> None:
    code = "def f():\n    from biped.sim import scene\n    import_module('biped.eval.gate')\n    import genesis.utils"
    source = Source("biped.mdp.gait", ast.parse(code), 4)
    assert {item.name for item in source.imports()} == {"biped.sim.scene", "biped.eval.gate", "genesis.utils"}
    assert set(arrows([source])) == {("mdp", "sim"), ("mdp", "eval")}
    door = Source("biped_config", ast.parse(""), 1)
    assert importers_of_doors([door, Source("biped.mdp.gait", ast.parse("import biped_config"), 1)]) == [
        "biped.mdp.gait"
    ]


@pytest.mark.parametrize("package", THIRD_PARTIES)
def test_a_package_is_known_in_few_places(package: str) -> None:
    allowed = THIRD_PARTIES[package].split()
    for source in MODULES:
        if any(item.name.split(".")[0] == package for item in source.imports()):
            is_allowed = any(source.name == name or source.name.startswith(f"{name}.") for name in allowed)
            assert is_allowed or (package == "argparse" and source.is_door), f"{source.name} imports {package}"


def test_the_configuration_knows_no_tensors() -> None:
    for source in MODULES:
        if source.room in NO_TORCH:
            known = {item.name.split(".")[0] for item in source.imports()}
            assert known <= {*sys.stdlib_module_names, "biped", "pydantic", "pydantic_core", "annotated_types"}


BARE = """
import sys

class NothingElse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in {*sys.stdlib_module_names, *PACKAGES, "biped", "biped_run"}:
            raise ImportError(f"{name} is not on a robot's computer")

sys.meta_path.insert(0, NothingElse())
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
print(*(name for name in sys.argv[1:] if name in sys.modules))
"""


def import_on_a_robot(*names: str, folder: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """Import modules where nothing but a robot's packages can be imported."""
    code = f"PACKAGES = {PACKAGES_ON_A_ROBOT}\n{BARE}"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
    command = [sys.executable, "-c", code, *names]
    return subprocess.run(
        command, cwd=folder, env={**inherited, "PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False
    )


def test_what_runs_on_a_robot_needs_no_more_than_its_packages() -> None:
    assert {f"biped.deploy.{name}" for name in ("contract_file", "controller", "hardware", "run_log")} <= set(
        ON_A_ROBOT
    )
    ended = import_on_a_robot(*ON_A_ROBOT, *BASE_ON_A_ROBOT, *FETCHING)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.split() == [*ON_A_ROBOT, *BASE_ON_A_ROBOT, *FETCHING]


@pytest.mark.parametrize("package", ["torch", "pydantic", "psutil", "mujoco"])
def test_the_test_of_a_robots_packages_would_see_another(package: str, tmp_path: Path) -> None:
    (tmp_path / "biped_run.py").write_text(f"import numpy\nimport {package}\n")
    ended = import_on_a_robot("biped_run", folder=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.strip().endswith(f"ImportError: {package} is not on a robot's computer")


def test_what_runs_on_a_robot_imports_late_only_what_a_person_is_told_to_install() -> None:
    """`importlib` hides a package from the test above; ROS is there where the robot has an IMU that speaks it."""
    others = PACKAGES_ON_A_ROBOT | {"rclpy", "sensor_msgs", *sys.stdlib_module_names}
    known = {*ON_A_ROBOT, *BASE_ON_A_ROBOT}
    for source in MODULES:
        if source.name in ON_A_ROBOT and source.name != "biped_run":
            names = {item.name for item in source.imports()}
            assert {name.split(".")[0] for name in names} - {"biped"} <= others, source.name
            assert {name for name in names if name.startswith("biped.")} <= known, source.name


def test_the_extra_of_a_robot_is_its_packages_and_no_more() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = {*project["dependencies"], *project["optional-dependencies"]["robot"]}
    imported_by = {"dynamixel-sdk": "dynamixel_sdk", "pyserial": "serial"}
    assert {imported_by.get(name, name) for name in listed} == PACKAGES_ON_A_ROBOT
    assert project["dependencies"] == ["numpy"]


@pytest.mark.parametrize("face", PUBLIC_FACES)
def test_a_public_face_says_what_is_public_in_order(face: str) -> None:
    module = importlib.import_module(face)
    constants, classes, functions = ([], [], [])
    for name in module.__all__:
        assert hasattr(module, name), name
        (constants if name.isupper() else classes if name[0].isupper() else functions).append(name)
    assert module.__all__ == [*sorted(constants), *sorted(classes), *sorted(functions)]


@pytest.mark.parametrize("source", MODULES, ids=NAMES)
def test_files_and_functions_stay_small(source: Source) -> None:
    assert source.lines <= (PRESETS_LINES if source.name == "biped_config" else DOOR_LINES if source.is_door else LINES)
    assert not [(name, lines) for name, lines in source.functions() if lines > FUNCTION_LINES]
    if source.is_door:
        assert not [node.name for node in source.tree.body if isinstance(node, ast.ClassDef)]


READERS = {"item", "cpu", "numpy", "tolist", "nonzero"}
HOT_PATH = {
    "biped/env/env.py": {
        "step",
        "_drive",
        "_judge",
        "_begin",
        "_begin_with",
        "_place",
        "_observe",
        "hold_commands",
    },
    "biped/env/starts.py": {"draw", "place"},
    "biped/env/running.py": None,
    "biped/base/cuda_graph.py": None,
    **{f"biped/robot/{name}.py": None for name in ("state", "rotations", "actuators", "dynamics")},
    "biped/sim/genesis_scene.py": {"step", "advance", "_read_state"},
    "biped/sim/genesis_state.py": None,
    **{f"biped/mdp/{path.name}": None for path in (ROOT / "biped" / "mdp").glob("*.py")},
    "biped/ppo/recurrent_pass.py": None,
    "biped/ppo/losses.py": None,
    "biped/ppo/gradients.py": None,
    "biped/ppo/guard.py": {"step"},
    "biped/ppo/normalizer.py": None,
    "biped/ppo/mirror.py": None,
    "biped/ppo/acting.py": None,
    "biped/ppo/sampling.py": {"__call__", "_evaluate", "values", "pay"},
    "biped/eval/recorder.py": {"add"},
    "biped/eval/clip.py": {"add", "_parts"},
    "biped/train/watched.py": {"_on_step"},
    "biped/ppo/buffer.py": {
        "begin",
        "add",
        "compute_returns_and_advantage",
        "_both_sides",
        "_minibatch",
        "_upload",
        "_joined",
    },
    "biped/ppo/recurrent_ppo.py": {
        "collect_rollouts",
        "_act",
        "train",
        "_log_std",
        "_bound_std",
    },
    "biped/env/groups.py": {"in_groups"},
    "biped/env/vec_env.py": {"as_actions"},
    "biped/ppo/style.py": {"note", "pay", "_step", "_agents", "_draw", "_observe", "losses", "style_reward", "add"},
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


@pytest.mark.parametrize("source", MODULES, ids=NAMES)
def test_observations_and_joints_are_never_cut_by_numbers(source: Source) -> None:
    """Literal bounds, such as [:, 6:15], hide what they cut; x, y | z and w | xyz are the exception."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Slice):
            bounds = [bound.value for bound in (node.lower, node.upper) if isinstance(bound, ast.Constant)]
            assert len(bounds) < 2, f"line {node.lineno}"
            assert all(bound in (1, 2, 3) for bound in bounds if isinstance(bound, int)), f"line {node.lineno}"
