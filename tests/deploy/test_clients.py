"""What a robot's computer has: older runtimes, readings that are not finite, and files that cannot be used."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest

from biped.config.run import Config
from biped.config.settings import with_settings
from biped.deploy.contract import Provenance, build_contract, scales_of_head
from biped.deploy.contract_file import METADATA_KEY
from biped.deploy.export import ONNX_FILE, TORCHSCRIPT_FILE
from biped.deploy.formats import (
    OPSET,
    Memory,
    Numbers,
    Step,
    open_onnx,
    open_torchscript,
    write_onnx,
    write_torchscript,
)
from biped.deploy.network import PolicyStep
from biped.deploy.parity import MAX_DIFFERENCE, parity_config
from biped.env.env import BipedVecEnv, make_env
from biped.runs.models import find_model
from biped.train.learner import load_model
from tests.conftest import ROOT
from tests.deploy.exported import BIPED, EXAMPLE, SHIPPED, SMALL, example_module, untrained

OLD_RUNTIME, OLD_MUJOCO = "1.17.3", "3.2.4"
"""The oldest that docs/export.md promises."""
OPENERS: dict[str, Callable[[Path], Step]] = {ONNX_FILE: open_onnx, TORCHSCRIPT_FILE: open_torchscript}
BAD = [np.nan, np.inf, -np.inf, np.finfo(np.float32).max]
BATCH, HURT = 3, 1
"""Robots, and which of them has the bad numbers."""


@dataclass(frozen=True)
class Files:
    """A policy as both formats, in one folder."""

    folder: Path
    config: Config
    contract: dict[str, Any]

    @property
    def width(self) -> int:
        return self.contract["observation"]["width"]

    def empty(self) -> Memory:
        policy = self.config.policy
        zeros = np.zeros((policy.lstm_layers, BATCH, policy.lstm_hidden_size), np.float32)
        return zeros, zeros.copy()


def written(folder: Path, config: Config, policy: Any) -> Files:
    contract = build_contract(config, Provenance("model.zip", "0" * 64, 0))
    network = PolicyStep(policy, config.env.control.action_clip, scales_of_head(config))
    write_onnx(network, contract, folder / ONNX_FILE)
    write_torchscript(network, contract, folder / TORCHSCRIPT_FILE)
    return Files(folder, config, contract)


@pytest.fixture(scope="module", params=SMALL, ids=lambda kind: kind.replace(" ", "_"))
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """An untrained policy of several layers."""
    folder = tmp_path_factory.mktemp("files")
    model, config = untrained(request.param, folder)
    return written(folder, config, model.policy)


@pytest.fixture(scope="module")
def walker(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The shipped policy."""
    path, run = find_model(SHIPPED, Path("logs"), "")
    config = with_settings(run.read_config(), [("train.device", "cpu")])
    env = make_env(parity_config(config.env), sim="mujoco")
    policy = load_model(config, BipedVecEnv(env), path).policy
    env.close()
    return written(tmp_path_factory.mktemp("walker"), config, policy)


def readings(files: Files, steps: int) -> Numbers:
    """Return observations, (steps, BATCH, width)."""
    return np.random.default_rng(0).normal(1.0, 1.0, (steps, BATCH, files.width)).astype(np.float32)


def assert_close(mine: Numbers, theirs: Numbers) -> None:
    """Torch rounds otherwise once it has compiled a file, after its first steps."""
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=2e-5)


# ---- numbers that are not finite ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", BAD, ids=str)
@pytest.mark.parametrize("file", OPENERS)
def test_a_reading_that_is_not_finite_is_held_and_leaves_no_trace(files: Files, file: str, bad: float) -> None:
    """Whichever number of one robot it is: the others go on, and afterwards it is as if the step had not been."""
    step, seen, memory, action = OPENERS[file](files.folder / file), readings(files, 6), files.empty(), None
    for observation in seen[:3]:
        action, memory, _ = step(observation, memory)
    whole, whole_memory, _ = step(seen[3], memory)
    for index in range(files.width):
        lost = seen[3].copy()
        lost[HURT, index] = bad
        held, held_memory, _ = step(lost, memory)
        assert_close(held[HURT], action[HURT])
        for part, before, others in zip(held_memory, memory, whole_memory, strict=True):
            np.testing.assert_array_equal(part[:, HURT], before[:, HURT])
            assert_close(np.delete(part, HURT, 1), np.delete(others, HURT, 1))
        assert_close(np.delete(held, HURT, 0), np.delete(whole, HURT, 0))
    assert np.abs(whole[HURT] - action[HURT]).max() > 0.02, "a sound reading does something else"
    for observation in seen[4:]:
        mine, held_memory, _ = step(observation, held_memory)
        theirs, memory, _ = step(observation, memory)
        assert_close(mine[HURT], theirs[HURT])


@pytest.mark.parametrize("part", [0, 1], ids=["h", "c"])
@pytest.mark.parametrize("bad", BAD, ids=str)
@pytest.mark.parametrize("file", OPENERS)
def test_a_memory_that_is_not_finite_counts_as_empty(files: Files, file: str, bad: float, part: int) -> None:
    step, seen, memory = OPENERS[file](files.folder / file), readings(files, 3), files.empty()
    for observation in seen[:2]:
        memory = step(observation, memory).memory
    spoilt, emptied = tuple(map(np.copy, memory)), tuple(map(np.copy, memory))
    spoilt[part][-1, HURT, 0] = bad
    for numbers in emptied:
        numbers[:, HURT] = 0.0
    (mine, my_memory, _), (theirs, their_memory, _) = step(seen[2], spoilt), step(seen[2], emptied)
    for found, wanted in zip((mine, *my_memory), (theirs, *their_memory), strict=True):
        assert_close(found, wanted)


@pytest.mark.parametrize("file", OPENERS)
def test_what_comes_out_is_finite_whatever_comes_in(files: Files, file: str) -> None:
    """Numbers of any bits: infinite ones, none, tiny and huge ones; and huge ones in sound readings."""
    step, random = OPENERS[file](files.folder / file), np.random.default_rng(1)
    clip = files.contract["action"]["clip"]

    def any_numbers(like: Numbers) -> Numbers:
        return random.integers(0, 2**32, like.shape, dtype=np.uint32).view(np.float32)

    for _ in range(100):
        huge = random.choice([-1e9, 1e9], (BATCH, files.width)).astype(np.float32)
        observation = huge if random.random() < 0.5 else any_numbers(huge)
        memory = tuple(any_numbers(part) if random.random() < 0.5 else part for part in files.empty())
        with np.errstate(all="ignore"):
            action, (hidden, cell), estimate = step(observation, memory)
        assert np.abs(action).max() <= clip
        assert np.isfinite(hidden).all()
        assert np.isfinite(cell).all()
        assert np.isfinite(estimate).all()


def test_the_contract_says_how_long_a_robot_may_go_on(files: Files) -> None:
    assert files.contract["version"] == 2
    said = files.contract["policy"]["non_finite"]
    assert said["max_held_steps"] == round(0.1 * files.contract["control"]["rate_hz"])
    assert files.contract["observation"]["clip"] * files.width < said["largest_sum"], "no sound reading is held"
    assert {"h_out", "c_out", "max_held_steps", "largest_sum"} <= set(said["rule"].replace(",", "").split())


# ---- the file -------------------------------------------------------------------------------------------------------

KNOWN_FIELDS = {
    "ModelProto": {"ir_version", "opset_import", "producer_name", "producer_version", "graph", "metadata_props"},
    "GraphProto": {"node", "name", "initializer", "input", "output", "value_info"},
    "NodeProto": {"input", "output", "name", "op_type", "attribute"},
    "AttributeProto": {"name", "type", "f", "i"},
    "TensorProto": {"dims", "data_type", "name", "raw_data"},
    "ValueInfoProto": {"name", "type"},
}
"""What IR version 8 has, of all that our files use."""


def messages(message: Any) -> Iterator[Any]:
    yield message
    for field, value in message.ListFields():
        if field.message_type:
            for part in value if field.is_repeated else (value,):
                yield from messages(part)


def test_the_onnx_file_is_of_versions_that_older_runtimes_read(files: Files) -> None:
    """And honestly so: nothing in it is of a later version, nor is any operation."""
    model = onnx.load(str(files.folder / ONNX_FILE))
    assert (model.ir_version, OPSET) == (8, 18)
    assert [(part.domain, part.version) for part in model.opset_import] == [("", OPSET)]
    onnx.checker.check_model(model, full_check=True)
    for message in messages(model):
        kind = type(message).__name__
        if kind in KNOWN_FIELDS:
            assert {field.name for field, _ in message.ListFields()} <= KNOWN_FIELDS[kind], kind
    for node in model.graph.node:
        schema = onnx.defs.get_schema(node.op_type, OPSET, node.domain)
        assert not schema.deprecated
        assert {attribute.name for attribute in node.attribute} <= set(schema.attributes), node.op_type
    tensor = onnx.TensorProto
    kinds = {part.data_type for part in model.graph.initializer}
    assert kinds <= {tensor.FLOAT, tensor.INT64}


# ---- the example ----------------------------------------------------------------------------------------------------


def faulty_robot(example: ModuleType, contract: dict[str, Any], what: str, bad: float, steps: range) -> Any:
    """Return the example's robot, one of whose sensors says something that is not finite for some steps."""

    class Faulty(example.Robot):
        now = 0

        def step(self, action: Any) -> None:
            super().step(action)
            self.now += 1

        def measure(self) -> dict[str, Any]:
            measured = super().measure()
            if what in measured and self.now in steps:
                measured[what][-1] = bad
            return measured

    return Faulty(BIPED, contract)


SENSORS = ["projected_gravity_b", "base_ang_vel_b", "joint_pos_rad"]


@pytest.mark.parametrize("bad", BAD[:3], ids=str)
@pytest.mark.parametrize("what", SENSORS)
def test_the_example_goes_on_while_a_sensor_fails_for_a_tenth_of_a_second(
    walker: Files, capsys: pytest.CaptureFixture[str], what: str, bad: float
) -> None:
    example = example_module()
    policy = example.Policy(walker.folder / ONNX_FILE)
    robot = faulty_robot(example, policy.contract, what, bad, range(60, 65))
    assert example.walk(policy, robot, (0.4, 0.0, 0.0), 3.0)
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["on its feet after 3.00 s", "held      5 observations that were not finite"]
    assert not any("nan" in line for line in said)


@pytest.mark.parametrize("what", SENSORS)
def test_the_example_stops_when_a_sensor_fails_for_longer(
    walker: Files, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    example = example_module()
    policy = example.Policy(walker.folder / ONNX_FILE)
    robot = faulty_robot(example, policy.contract, what, np.nan, range(60, 10**9))
    assert not example.walk(policy, robot, (0.4, 0.0, 0.0), 3.0)
    assert robot.now == 65, "the action of the sixth observation does not go to the motors"
    assert capsys.readouterr().out.startswith("stopped after 1.30 s\nheld      6 observations")
    robot = faulty_robot(example, policy.contract, what, np.nan, range(0))
    assert example.walk(policy, robot, (0.4, 0.0, 0.0), 0.5), "another episode begins anew"


def test_the_example_stops_at_once_where_the_file_holds_nothing(
    walker: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files of an older export have no such rule."""
    contract = json.loads(json.dumps(walker.contract))
    del contract["policy"]["non_finite"]
    example, policy_file = example_module(), with_metadata(walker, tmp_path / "older.onnx", json.dumps(contract))
    policy = example.Policy(policy_file)
    robot = faulty_robot(example, policy.contract, "joint_pos_rad", np.nan, range(10**9))
    assert not example.walk(policy, robot, (0.4, 0.0, 0.0), 1.0)
    assert robot.now == 0
    assert capsys.readouterr().out.startswith("stopped after 0.00 s\n")


def with_metadata(walker: Files, path: Path, contract: str) -> Path:
    model = onnx.load(str(walker.folder / ONNX_FILE))
    onnx.helper.set_model_props(model, {METADATA_KEY: contract})
    onnx.save(model, str(path))
    return path


def stamped(walker: Files, path: Path, ir_version: int, opset: int) -> Path:
    model = onnx.load(str(walker.folder / ONNX_FILE))
    model.ir_version, model.opset_import[0].version = ir_version, opset
    onnx.save(model, str(path))
    return path


def unusable(walker: Files, folder: Path) -> dict[str, tuple[bytes, str]]:
    """Return contents of files that are no policy, and what is to be said of each."""
    content, contract = (walker.folder / ONNX_FILE).read_bytes(), walker.contract
    other = folder / "other.onnx"

    def metadata(text: str) -> bytes:
        return with_metadata(walker, other, text).read_bytes()

    foreign = onnx.load_from_string(content)
    foreign.graph.node[0].op_type = "Nonsense"
    newer = "is of a newer ONNX than ONNX Runtime .* knows: install a newer onnxruntime, or export it anew"
    return {
        "empty": (b"", "is not an ONNX file"),
        "text": (b"hello\n", "is not an ONNX file"),
        "MJCF": (BIPED.read_bytes(), "is not an ONNX file"),
        "half": (content[: len(content) // 2], "is not an ONNX file, or a damaged one: copy or export it anew"),
        "newer IR": (stamped(walker, other, 99, OPSET).read_bytes(), newer),
        "newer opset": (stamped(walker, other, 8, 99).read_bytes(), newer),
        "unknown operation": (foreign.SerializeToString(), "cannot be run by ONNX Runtime .*Nonsense"),
        "no contract": (metadata(""), "has no contract in its metadata: export it with biped_export.py"),
        "no JSON": (metadata("{"), "is not JSON .*: export it anew"),
        "no object": (metadata("[1]"), "is no biped-policy-contract"),
        "another format": (metadata('{"format": "other", "version": 1}'), "is no biped-policy-contract"),
        "newer contract": (metadata(json.dumps({**contract, "version": 3})), "of version 3, .*understands version 2"),
    }


def test_the_example_says_in_one_line_why_a_file_is_no_policy(walker: Files, tmp_path: Path) -> None:
    example = example_module()
    for kind, (content, said) in unusable(walker, tmp_path).items():
        file = tmp_path / "file.onnx"
        file.write_bytes(content)
        with pytest.raises(example.RefusedError, match=said) as refused:
            example.Policy(file)
        assert str(refused.value).count("file.onnx") == 1, kind
        assert "\n" not in str(refused.value), kind


# ---- the oldest that is promised ------------------------------------------------------------------------------------


def installed(folder: Path, *packages: str) -> Path:
    """Install packages where only this test sees them, or skip."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--target", str(folder), "--only-binary", ":all:"]
    ended = subprocess.run([*command, *packages], capture_output=True, text=True, check=False, timeout=600)
    if ended.returncode:
        pytest.skip(f"pip cannot fetch {' '.join(packages)}: {ended.stderr.strip().splitlines()[-1]}")
    return folder


@pytest.fixture(scope="module")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the oldest runtime and MuJoCo."""
    packages = (f"onnxruntime=={OLD_RUNTIME}", f"mujoco=={OLD_MUJOCO}", "numpy<2")
    return installed(tmp_path_factory.mktemp("oldest"), *packages)


def run_with(packages: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with these packages alone: -S hides those of this environment."""
    command = [sys.executable, "-S", *arguments]
    env = {**os.environ, "PYTHONPATH": packages}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=300)


PLAY = """
import sys
import numpy as np
import onnxruntime
given = np.load("given.npz")
assert onnxruntime.__version__ == sys.argv[1]
session = onnxruntime.InferenceSession("policy.onnx", providers=["CPUExecutionProvider"])
h, c = given["h"], given["c"]
rows = []
for obs in given["obs"]:
    action, h, c = session.run(None, {"obs": obs, "h": h, "c": c})
    rows.append((action, h, c))
np.savez("got.npz", **{name: np.stack(rows) for name, rows in zip(("action", "h", "c"), zip(*rows))})
"""


@pytest.mark.slow
def test_the_oldest_runtime_does_what_ours_does_and_holds_what_ours_holds(
    files: Files, oldest: Path, tmp_path: Path
) -> None:
    seen, (h, c) = readings(files, 40), files.empty()
    for index, bad in enumerate(BAD):
        seen[10 + 3 * index : 12 + 3 * index, HURT, index] = bad
    c[0, HURT, 0] = np.nan
    np.savez(tmp_path / "given.npz", obs=seen, h=h, c=c)
    shutil.copy(files.folder / ONNX_FILE, tmp_path)
    ended = run_with(str(oldest), "-c", PLAY, OLD_RUNTIME, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    theirs, step, memory = np.load(tmp_path / "got.npz"), open_onnx(files.folder / ONNX_FILE), (h, c)
    for index, observation in enumerate(seen):
        action, memory, _ = step(observation, memory)
        for name, mine in zip(("action", "h", "c"), (action, *memory), strict=True):
            np.testing.assert_allclose(theirs[name][index], mine, rtol=0, atol=MAX_DIFFERENCE, err_msg=f"{index}")


@pytest.mark.slow
def test_the_example_walks_with_the_oldest_runtime_and_mujoco(walker: Files, oldest: Path, tmp_path: Path) -> None:
    for file in (EXAMPLE, BIPED, walker.folder / ONNX_FILE):
        shutil.copy(file, tmp_path)
    arguments = (EXAMPLE.name, ONNX_FILE, BIPED.name, "--seconds", "20")
    ended = run_with(str(oldest), *arguments, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert lines[0] == "on its feet after 20.00 s"
    assert abs(float(lines[2].split()[1]) - 0.4) < 0.03
    stamped(walker, tmp_path / ONNX_FILE, 10, 20)
    ended = run_with(str(oldest), *arguments, cwd=tmp_path)
    assert ended.returncode == 2
    assert f"is of a newer ONNX than ONNX Runtime {OLD_RUNTIME} knows" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.1.6", "3.2.3"])
def test_the_example_says_that_a_mujoco_is_too_old(walker: Files, oldest: Path, tmp_path: Path, version: str) -> None:
    older = installed(tmp_path / "older", "--no-deps", f"mujoco=={version}")
    for file in (EXAMPLE, BIPED, walker.folder / ONNX_FILE):
        shutil.copy(file, tmp_path)
    ended = run_with(f"{older}{os.pathsep}{oldest}", EXAMPLE.name, ONNX_FILE, BIPED.name, cwd=tmp_path)
    said = f"run_policy_numpy.py: MuJoCo {version} is older than {OLD_MUJOCO}: install a newer mujoco\n"
    assert (ended.returncode, ended.stderr) == (2, said)


def test_the_page_names_the_oldest_that_the_tests_try() -> None:
    page = (ROOT / "docs" / "export.md").read_text()
    assert f'"onnxruntime=={OLD_RUNTIME}" "mujoco=={OLD_MUJOCO}"' in page
    assert f'OLDEST_MUJOCO = "{OLD_MUJOCO}"' in EXAMPLE.read_text()
