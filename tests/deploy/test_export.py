"""Exports: what a robot's computer gets does what PyTorch does, and says all that it must know."""

import importlib.util
import json
import re
import resource
import shutil
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import CompletedProcess
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import biped_export
from biped.base.errors import MachineError
from biped.config.learning import PolicyConfig
from biped.config.robot import ControlConfig
from biped.config.run import Config
from biped.config.serial import to_json
from biped.config.settings import robot_settings, with_settings
from biped.deploy.contract import Provenance, build_contract, scales_of_head
from biped.deploy.contract_file import METADATA_KEY
from biped.deploy.export import (
    ONNX_FILE,
    TORCHSCRIPT_FILE,
    export_policy,
)
from biped.deploy.formats import CONTRACT_FILE, open_onnx, open_torchscript
from biped.deploy.network import PolicyStep
from biped.deploy.parity import (
    MAX_DIFFERENCE,
    Episodes,
    parity_config,
    record_reference,
)
from biped.env.env import BipedVecEnv, make_env
from biped.env.groups import sensed
from biped.mdp.observations import ObservationLayout
from biped.ppo.acting import DeterministicActor
from biped.ppo.recurrent_ppo import DeviceRecurrentPPO
from biped.runs.checkpoint import read_checkpoint, save_checkpoint
from biped.runs.directory import RunDirectory
from biped.sim.scene import ResetPose
from biped.train.learner import make_model
from biped_config import PRESETS, smoke_preset
from tests.processes import ROOT, run

SHIPPED = ROOT / "assets" / "policies" / "biped_walk.zip"
BIPED = ROOT / "assets" / "biped" / "biped.xml"
STRIDER = ROOT / "assets" / "strider"
EXAMPLE = ROOT / "examples" / "run_policy_numpy.py"
FILES = sorted((ONNX_FILE, TORCHSCRIPT_FILE, CONTRACT_FILE))

CLIP = ("env.control.action_clip", 1.0)
SMALL = {
    "normalised strider": (
        [
            ("policy.normalize_observations", True),
            ("env.robot.foot_switches", True),
            CLIP,
            *robot_settings(STRIDER / "robot.json"),
        ],
        PolicyConfig((24, 16), 12, 2),
    ),
    "three layers": ([CLIP], PolicyConfig((16,), 20, 3)),
    "no memory": ([CLIP], PolicyConfig((16,), 20, 2, memory=False)),
}
"""Settings and network of untrained policies."""


@dataclass(frozen=True)
class Exported:
    """What an export gave."""

    folder: Path
    config: Config
    printed: str
    model: DeviceRecurrentPPO

    @property
    def contract(self) -> dict[str, Any]:
        return json.loads((self.folder / CONTRACT_FILE).read_text())


def model_of(config: Config) -> tuple[DeviceRecurrentPPO, Any]:
    env = make_env(parity_config(config.env), sim="mujoco")
    return make_model(config, BipedVecEnv(env), seed=0), env


def untrained(kind: str, folder: Path) -> tuple[DeviceRecurrentPPO, Config]:
    """Write the checkpoint of a policy whose actions are large, so that they are clipped, and its configuration."""
    settings, policy = SMALL[kind]
    config = replace(with_settings(smoke_preset(), settings), policy=policy)
    config = with_settings(config, [s for s in settings if s[0].startswith("policy.")])
    model, env = model_of(config)
    env.close()
    with torch.no_grad():
        model.policy.action_net.weight *= 1000.0
    groups = model.observation_space.spaces
    model.policy.observe({name: 3.0 + 2.0 * torch.randn(64, *space.shape) for name, space in groups.items()})
    save_checkpoint(model, folder / "model_final.zip")
    (folder / "config.json").write_text(to_json(config))
    return model, config


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The shipped policy, exported by the command line in a process of its own."""
    folder = tmp_path_factory.mktemp("shipped") / "export"
    command = [sys.executable, str(ROOT / "biped_export.py"), "--model", str(SHIPPED), "--out", str(folder)]
    ended = run(command)
    assert (ended.returncode, ended.stderr) == (0, "")
    config = with_settings(RunDirectory(SHIPPED.parent).read_config(), [("train.device", "cpu")])
    model, env = model_of(config)
    env.close()
    model.set_parameters(str(SHIPPED), device="cpu")
    return Exported(folder, config, ended.stdout, model)


@pytest.fixture(scope="module")
def untrained_exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    """Untrained policies: one exported to where the command line puts it by itself, one after short episodes."""
    exports = {}
    for kind in SMALL:
        folder = tmp_path_factory.mktemp("run")
        model, config = untrained(kind, folder)
        out = folder / "export"
        if kind == "normalised strider":
            out = folder / "export_model_final"
            command = ["--model", str(folder / "model_final.zip"), "--log_dir", str(folder.parent)]
            assert biped_export.main(command) == 0
        else:
            env = make_env(parity_config(config.env, episode_s=2.0), sim="mujoco")
            contract = build_contract(config, Provenance("model_final.zip", "0" * 64, 0))
            scales = scales_of_head(config)
            network = PolicyStep(model.policy, config.env.control.action_clip, scales)
            export_policy(network, contract, record_reference(model.policy, env, scales), out, say=lambda _: None)
            env.close()
        exports[kind] = Exported(out, config, "", model)
    return exports


@pytest.fixture(params=SMALL, ids=lambda kind: kind.replace(" ", "_"))
def small(request: pytest.FixtureRequest, untrained_exports: dict[str, Exported]) -> Exported:
    """One of them."""
    return untrained_exports[request.param]


@pytest.fixture(scope="module")
def episodes(shipped: Exported) -> Iterator[Episodes]:
    """What the shipped policy sees and does in PyTorch, in short episodes."""
    env = make_env(parity_config(shipped.config.env, episode_s=2.0), sim="mujoco")
    yield record_reference(shipped.model.policy, env)
    env.close()


def test_the_table_shows_both_formats_within_the_bar_over_full_episodes(shipped: Exported) -> None:
    rows = {line.split()[0]: line.split()[1:] for line in shipped.printed.splitlines()[1:4]}
    assert list(rows) == ["PyTorch", "ONNX", "TorchScript"]
    for steps, resets, difference, ms in rows.values():
        assert int(steps) == 4 * 1500
        assert int(resets) >= 8, "each robot's time-out, and the reset of all"
        assert 0.0 < float(difference) <= MAX_DIFFERENCE
        assert float(ms) > 0.0
    assert sorted(file.name for file in shipped.folder.iterdir()) == FILES


def test_each_robot_is_reset_by_its_time_out_and_in_mid_episode(episodes: Episodes) -> None:
    assert np.flatnonzero(episodes.starts.all(axis=1)).tolist() == [0, 100, 125]
    assert episodes.starts.sum() == 3 * 4, "nobody fell"
    assert not np.allclose(episodes.observations[0], episodes.observations[125]), "other starts than at first"


def test_both_formats_and_the_file_hold_one_contract(shipped: Exported) -> None:
    text = (shipped.folder / CONTRACT_FILE).read_text()
    model = onnx.load(str(shipped.folder / ONNX_FILE))
    assert {prop.key: prop.value for prop in model.metadata_props}[METADATA_KEY] == text
    extra = {CONTRACT_FILE: ""}
    torch.jit.load(str(shipped.folder / TORCHSCRIPT_FILE), _extra_files=extra)
    found = extra[CONTRACT_FILE]
    assert (found.decode() if isinstance(found, bytes) else found) == text


def test_no_file_names_a_folder_of_this_machine(shipped: Exported) -> None:
    for file in shipped.folder.iterdir():
        content = file.read_bytes()
        for folder in (ROOT, Path(sys.prefix), Path.home()):
            assert f"{folder}/".encode() not in content, f"{file.name} names {folder}"
        assert b"stack_trace" not in content
        assert b"debug_pkl" not in content


def test_the_contract_says_what_the_configuration_says(small: Exported) -> None:
    contract, env, robot = small.contract, small.config.env, small.config.env.robot
    layout = ObservationLayout.build(env)
    terms = contract["observation"]["terms"]
    assert [(t["name"], t["width"], t["scale"], t["unit"]) for t in terms] == [
        (t.name, t.width, t.scale, t.unit) for t in layout.terms
    ]
    assert [t["start"] for t in terms] == [sum(u["width"] for u in terms[:i]) for i in range(len(terms))]
    assert all(len(t["elements"]) == t["width"] and t["meaning"] for t in terms)
    assert (contract["observation"]["width"], contract["observation"]["clip"]) == (layout.width, env.observation.clip)
    action = contract["action"]
    assert action["joint_names"] == list(robot.joint_names)
    assert action["default_pose_rad"] == list(robot.default_joint_pos_rad)
    assert (action["scale_rad"], action["clip"]) == (env.control.action_scale_rad, env.control.action_clip)
    joints = len(robot.joint_names)
    assert contract["motors"]["kp_nm_per_rad"] == [robot.kp_nm_per_rad] * joints
    assert contract["motors"]["kd_nm_s_per_rad"] == [robot.kd_nm_s_per_rad] * joints
    assert contract["motors"]["torque_limit_nm"] == [robot.servo.stall_torque_nm] * joints
    assert contract["motors"]["stall_torque_nm"] == [robot.servo.stall_torque_nm] * joints
    assert contract["motors"]["velocity_limit_rad_s"] == [robot.servo.no_load_speed_rad_s] * joints
    assert contract["motors"]["servo"] == [""] * joints
    control = contract["control"]
    assert (control["rate_hz"], control["physics_substeps"], control["physics_dt_s"]) == (50.0, 2, 0.01)
    assert contract["gait_clock"]["frequency_hz"] == env.gait.frequency_hz
    if robot.foot_switches:
        assert (contract["foot_contact"]["on_n"], contract["foot_contact"]["off_n"]) == (3.0, 1.0)
    else:
        assert contract["foot_contact"] is None
    assert contract["command"]["moving_threshold_m_s"] == env.command.moving_threshold_m_s
    assert contract["robot"]["base_link"] == robot.base_link
    assert contract["robot"]["default_base_height_m"] == robot.default_base_height_m
    assert contract["policy"]["normalizer_inside"] == small.config.policy.normalize_observations


def test_the_contracts_shapes_and_names_are_the_files(small: Exported) -> None:
    policy = small.contract["policy"]
    session = onnxruntime.InferenceSession(str(small.folder / ONNX_FILE))
    for mine, theirs in ((policy["inputs"], session.get_inputs()), (policy["outputs"], session.get_outputs())):
        assert [part["name"] for part in mine] == [part.name for part in theirs]
        for part, found in zip(mine, theirs, strict=True):
            assert [1 if isinstance(size, str) else size for size in found.shape] == part["shape"]
            assert isinstance(found.shape[part["batch_axis"]], str), "any batch size"


SENSORS = {
    "projected_gravity_b": "imu",
    "base_ang_vel_b": "imu",
    "joint_pos_rad": "joint encoders",
    "joint_vel_rad_s": "joint encoders",
    "foot_contact": "foot switches",
    "command_lin_vel_x_b": "controller",
    "command_lin_vel_y_b": "controller",
    "command_ang_vel_b": "controller",
    "previous_action": "controller",
    "gait_phase": "controller",
}
"""What a robot can measure, or its computer knows by itself, written down by hand. Nothing else may be asked for."""


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("switches", [False, True], ids=["without switches", "with switches"])
def test_no_policy_that_a_preset_trains_asks_for_what_no_sensor_gives(preset: str, switches: bool) -> None:
    config = with_settings(PRESETS[preset](), [("env.robot.foot_switches", switches)])
    contract = build_contract(config, Provenance("model.zip", "0" * 64, 1))
    asked = {term["name"]: term["sensor"] for term in contract["observation"]["terms"]}
    assert asked == {name: sensor for name, sensor in SENSORS.items() if switches or sensor != "foot switches"}
    assert contract["sensors"]["not_measured"] == []
    assert contract["sensors"]["needed"] == sorted(set(asked.values()) - {"controller"})


def test_a_policy_that_needs_a_state_estimator_says_so() -> None:
    config = with_settings(smoke_preset(), [("env.observation.policy", "privileged")])
    contract = build_contract(config, Provenance("model.zip", "0" * 64, 1))
    assert contract["sensors"]["not_measured"] == ["base_lin_vel_xy_b", "base_height_m"]


def test_the_estimate_comes_out_in_physical_units_and_is_never_fed_back(small: Exported) -> None:
    """The environment's critic has the same numbers as they are scaled; the file divides by the scales."""
    policy, step = small.config.policy, open_onnx(small.folder / ONNX_FILE)
    memory = (np.zeros((policy.lstm_layers, 1, policy.lstm_hidden_size), np.float32),) * 2
    observation = np.ones((1, small.contract["observation"]["width"]), np.float32)
    found = step(observation, memory)
    latent = torch.from_numpy(found.memory[0][-1])
    with torch.no_grad():
        scaled = small.model.policy.estimator(latent).numpy()
    scale = small.config.env.observation.lin_vel_scale
    np.testing.assert_allclose(found.estimates, scaled / [[scale, scale, scale, 1.0]], atol=1e-6)
    assert [part["name"] for part in small.contract["policy"]["inputs"]] == ["obs", "h", "c"]
    assert len(small.contract["estimate"]["elements"]) == found.estimates.shape[1] == 4
    with pytest.raises(ValueError, match="predicts 4 numbers, not 1"):
        PolicyStep(small.model.policy, 1.0, (1.0,))


def test_a_model_is_known_by_its_hash(shipped: Exported, tmp_path: Path) -> None:
    found = shipped.contract["provenance"]
    assert found["model_file"] == "biped_walk.zip"
    assert found["trained_steps"] == read_checkpoint(SHIPPED).num_timesteps
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (found["package"], found["package_version"]) == (project["name"], project["version"])
    sha256sum = run(["sha256sum", str(SHIPPED)], check=True).stdout
    assert sha256sum.startswith(found["model_sha256"] + " ")
    (tmp_path / "other.zip").write_bytes(SHIPPED.read_bytes() + b" ")
    assert Provenance.of(tmp_path / "other.zip", 0).model_sha256 != found["model_sha256"]


@pytest.mark.parametrize("file", [ONNX_FILE, TORCHSCRIPT_FILE])
def test_files_agree_with_stock_predict_for_a_batch(small: Exported, file: str) -> None:
    """Stable-Baselines3's own `predict` is a path that the export has nothing in common with."""
    step = {ONNX_FILE: open_onnx, TORCHSCRIPT_FILE: open_torchscript}[file](small.folder / file)
    policy, generator = small.config.policy, np.random.default_rng(0)
    batch, width = 3, small.contract["observation"]["width"]
    critic = small.model.observation_space["critic"].shape[0]
    memory = (np.zeros((policy.lstm_layers, batch, policy.lstm_hidden_size), np.float32),) * 2
    state, at_the_clip = None, 0
    for index in range(20):
        observation = generator.normal(3.0, 2.0, (batch, width)).astype(np.float32)
        seen = {"policy": observation, "critic": np.zeros((batch, critic), np.float32)}
        wanted, state = small.model.predict(
            seen, state=state, episode_start=np.full(batch, index == 0), deterministic=True
        )
        action, memory, _ = step(observation, memory)
        np.testing.assert_allclose(action, wanted, rtol=0, atol=5e-5)
        at_the_clip += int((np.abs(action) == small.config.env.control.action_clip).sum())
    assert at_the_clip > 10, "the clip must have something to do"


@pytest.mark.parametrize(
    ("spoil", "difference"),
    [
        (lambda network: network.head.bias.add_(2e-5), "2."),
        (lambda network: network.lstm.bias_ih_l0.add_(1e-3), ""),
        (lambda network: network.extractor.layers[0].weight.mul_(1.001), ""),
        (lambda network: network.head.bias.fill_(float("nan")), "inf"),
    ],
    ids=["head", "lstm", "extractor", "not a number"],
)
def test_what_is_off_is_not_exported(
    shipped: Exported, episodes: Episodes, tmp_path: Path, spoil: Any, difference: str
) -> None:
    network = PolicyStep(shipped.model.policy, 4.0)
    with torch.no_grad():
        spoil(network)
    with pytest.raises(MachineError, match=f"^ONNX is off PyTorch by {difference}.*nothing was written"):
        export_policy(network, shipped.contract, episodes, tmp_path / "new", say=lambda _: None)
    assert not (tmp_path / "new").exists()


def test_files_of_an_earlier_export_outlive_one_that_fails(
    shipped: Exported, episodes: Episodes, tmp_path: Path
) -> None:
    network = PolicyStep(shipped.model.policy, 4.0)
    network.head.bias.data += 2e-5
    before = shutil.copytree(shipped.folder, tmp_path / "before")
    with pytest.raises(MachineError):
        export_policy(network, {**shipped.contract, "format": "another"}, episodes, before, say=lambda _: None)
    assert sorted(file.name for file in before.iterdir()) == FILES
    for name in FILES:
        assert (before / name).read_bytes() == (shipped.folder / name).read_bytes()


def test_exporting_leaves_the_policy_as_it_was_and_replaces_older_files(
    shipped: Exported, episodes: Episodes, tmp_path: Path
) -> None:
    weights = {name: value.clone() for name, value in shipped.model.policy.state_dict().items()}
    (tmp_path / CONTRACT_FILE).write_text("old")
    (tmp_path / "mine.txt").write_text("kept")
    export_policy(PolicyStep(shipped.model.policy, 4.0), shipped.contract, episodes, tmp_path, say=lambda _: None)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*FILES, "mine.txt"])
    assert json.loads((tmp_path / CONTRACT_FILE).read_text()) == shipped.contract
    assert all(torch.equal(weights[name], value) for name, value in shipped.model.policy.state_dict().items())
    assert all(parameter.requires_grad for parameter in shipped.model.policy.parameters())


def test_a_disk_that_takes_no_more_is_said_and_nothing_is_left(
    shipped: Exported, episodes: Episodes, tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))  # less than either format takes
    try:
        with pytest.raises(MachineError, match=r"^cannot write .* use another --out$"):
            export_policy(
                PolicyStep(shipped.model.policy, 4.0), shipped.contract, episodes, tmp_path / "new", say=lambda _: None
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("package", ["onnxscript", "onnxruntime"])
def test_a_package_that_is_missing_is_named(
    shipped: Exported, episodes: Episodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MachineError, match=rf"^{package} cannot be imported .*install_genesis\.sh"):
        export_policy(
            PolicyStep(shipped.model.policy, 4.0), shipped.contract, episodes, tmp_path / "new", say=lambda _: None
        )
    assert not (tmp_path / "new").exists()


def bad_inputs(folder: Path) -> dict[str, tuple[list[str], str]]:
    (folder / "alone").mkdir()
    (folder / "damaged").mkdir()
    shutil.copy(SHIPPED, folder / "alone" / "model.zip")
    shutil.copy(SHIPPED.parent / "config.json", folder / "damaged")
    (folder / "damaged" / "model.zip").write_bytes(SHIPPED.read_bytes()[:5000])
    (folder / "other").mkdir()
    shutil.copy(SHIPPED, folder / "other" / "model.zip")
    (folder / "other" / "config.json").write_text(to_json(smoke_preset()))
    shipped = ["--model", str(SHIPPED)]
    return {
        "no such model": (["--model", str(folder / "none.zip")], "there is no file"),
        "no such run": (["-e", "none", "--log_dir", str(folder)], "there is no run in"),
        "no configuration": (["--model", str(folder / "alone" / "model.zip")], "there is no config.json beside"),
        "damaged": (["--model", str(folder / "damaged" / "model.zip")], "damaged or not a checkpoint"),
        "another network": (["--model", str(folder / "other" / "model.zip")], "of a network of another shape"),
        "out is a file": ([*shipped, "--out", str(folder / "alone" / "model.zip")], "is a file: name a folder"),
        "out is nowhere": ([*shipped, "--out", str(folder / "a" / "b")], "there is no folder"),
        "unknown flag": ([*shipped, "--onnx"], "unrecognized arguments"),
    }


def test_wrong_usage_is_one_line_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, (arguments, said) in bad_inputs(tmp_path).items():
        before = sorted(tmp_path.rglob("*"))
        try:
            code = biped_export.main(arguments)
        except SystemExit as ended:
            code = ended.code
        out, line = capsys.readouterr()
        assert (code, out) == (2, ""), kind
        assert said in line, kind
        assert line.startswith("biped_export.py: "), kind
        assert line.count("\n") == 1, kind
        assert sorted(tmp_path.rglob("*")) == before, kind


def test_the_contract_names_the_robots_model_without_its_folder(tmp_path: Path) -> None:
    config = with_settings(smoke_preset(), [("env.robot.model_path", str(tmp_path / "mine.xml"))])
    contract = json.dumps(build_contract(config, Provenance("model.zip", "0" * 64, 1)))
    assert '"model_file": "mine.xml"' in contract
    assert str(tmp_path) not in contract


# ---- the example ----------------------------------------------------------------------------------------------------

FOREIGN = ("biped", "biped_config", "biped_env", "torch", "stable_baselines3", "sb3_contrib", "genesis", "gymnasium")
WATCHED = f"""
import runpy, sys
try:
    runpy.run_path("run_policy_numpy.py", run_name="__main__")
finally:
    print("imported:", *sorted(name for name in sys.modules if name.split(".")[0] in {FOREIGN}))
"""


def run_example(folder: Path, *arguments: str) -> CompletedProcess[str]:
    """Run the example where there is nothing but itself, the policy and the robot; -I ignores PYTHONPATH."""
    shutil.copy(EXAMPLE, folder)
    return run([sys.executable, "-I", "-c", WATCHED, *arguments], cwd=folder)


def example_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_policy_numpy", EXAMPLE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_walks_from_the_onnx_file_alone(shipped: Exported, tmp_path: Path) -> None:
    shutil.copy(shipped.folder / ONNX_FILE, tmp_path)
    shutil.copy(BIPED, tmp_path)
    ended = run_example(tmp_path, ONNX_FILE, "biped.xml", "--command", "0.4", "0", "0", "--seconds", "4")
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert lines[0] == "on its feet after 4.00 s"
    figures = {line.split()[0]: float(line.split()[1]) for line in lines[1:5]}
    assert abs(figures["forward"] - 0.4) < 0.06
    assert 1.2 < figures["distance"] < 2.0
    off_m_s, off_mm = (float(number) for number in re.findall(r"([\d.]+) m", lines[5]))
    assert lines[5].startswith("estimate")
    assert 0.0 < off_m_s < 0.1
    assert 0.0 < off_mm < 10.0
    assert lines[6].split() == ["imported:"], "nothing of this project, nor what it is made of"


def test_the_example_stands_when_a_command_is_too_small(shipped: Exported, tmp_path: Path) -> None:
    shutil.copy(shipped.folder / ONNX_FILE, tmp_path)
    shutil.copy(BIPED, tmp_path)
    ended = run_example(tmp_path, ONNX_FILE, "biped.xml", "--command", "0.05", "0", "0.1", "--seconds", "3")
    assert ended.returncode == 0
    for line in ended.stdout.splitlines()[2:5]:
        assert line.endswith("asked for +0.000")
        assert abs(float(line.split()[1])) < 0.02


@pytest.mark.parametrize("command", [(0.4, 0.0, 0.0), (0.1, -0.1, 0.3), (0.0, 0.0, 0.0)])
def test_the_example_sees_and_does_what_the_environment_does(shipped: Exported, command: tuple[float, ...]) -> None:
    """From the same start, step by step: scales, order, clock, contacts, gains and memory are all in it."""
    example = example_module()
    cfg = replace(parity_config(shipped.config.env), num_envs=1, control=ControlConfig(latency_share=0.0))
    env = make_env(cfg, sim="mujoco")
    env.reset(seed=0)
    pose = torch.tensor([[0.0, 0.0, cfg.robot.default_base_height_m]])
    start = ResetPose(pose, torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.tensor([cfg.robot.default_joint_pos_rad]))
    env.scene.reset(torch.ones(1, dtype=torch.bool), start)
    env.hold_commands(torch.tensor([command]))

    policy = example.Policy(shipped.folder / ONNX_FILE)
    robot, observer = example.Robot(BIPED, policy.contract), example.Observer(policy.contract, command)
    # The environment draws where its clock starts, and sees its own start: one step without motion begins the memory.
    observer._phase = float(env._phase)
    actor = DeterministicActor(shipped.model.policy, 1, "fp32")
    starts, action = torch.ones(1, dtype=torch.bool), None
    for index in range(100):
        mine = observer.observe(robot.measure())
        if index == 0:
            theirs = torch.from_numpy(mine[None]).float()
        np.testing.assert_allclose(mine, sensed(theirs)[0], rtol=0, atol=1e-3, err_msg=f"step {index}")
        action = policy.act(mine)
        robot.step(action)
        observer.advance(action, robot.foot_force_n())
        theirs, _, ended, _, _ = env.step(actor(theirs, starts))
        starts = ended
        np.testing.assert_allclose(policy.estimate[3], float(env.state.base_height_m), atol=0.02)
    env.close()
    assert not ended.any()


def test_the_example_feels_with_switches_what_the_environment_feels(untrained_exports: dict[str, Exported]) -> None:
    """A robot that stands, and is lifted off its feet: contacts with hysteresis, as the contract has them."""
    contract = untrained_exports["normalised strider"].contract
    observer = example_module().Observer(contract, (0.0, 0.0, 0.0))
    (place,) = (term["start"] for term in contract["observation"]["terms"] if term["name"] == "foot_contact")
    measured = {name: np.zeros(term["width"]) for term in contract["observation"]["terms"] for name in [term["name"]]}
    action, felt = np.zeros(len(contract["action"]["joint_names"])), []
    for force_n in ((0.0, 2.0), (2.9, 3.0), (3.0, 2.0), (1.0, 0.9), (np.nan, 5.0), (0.5, 5.0)):
        observer.advance(action, np.array(force_n))
        felt.append(observer.observe(measured)[place : place + 2].tolist())
    assert felt[:4] == [[0, 0], [0, 1], [1, 1], [1, 0]]
    assert np.isnan(felt[4][0])
    assert felt[4][1] == 1.0
    assert felt[5] == [0, 1]


def test_the_example_says_in_one_line_what_it_cannot_use(shipped: Exported, tmp_path: Path) -> None:
    for file in (shipped.folder / ONNX_FILE, BIPED, STRIDER / "strider.xml"):
        shutil.copy(file, tmp_path)
    bare = onnx.load(str(tmp_path / ONNX_FILE))
    del bare.metadata_props[:]
    onnx.save(bare, str(tmp_path / "bare.onnx"))
    cases = {
        ("none.onnx", "biped.xml"): "cannot read .*none.onnx",
        ("biped.xml", "biped.xml"): "is not an ONNX file",
        ("bare.onnx", "biped.xml"): "has no contract in its metadata",
        (ONNX_FILE, "none.xml"): "MuJoCo cannot use .*none.xml",
        (ONNX_FILE, "strider.xml"): "has no joint left_hip_roll",
    }
    example = example_module()
    for arguments, said in cases.items():
        with pytest.raises(example.RefusedError, match=said):
            policy = example.Policy(tmp_path / arguments[0])
            example.Robot(tmp_path / arguments[1], policy.contract)
    ended = run_example(tmp_path, "bare.onnx", "biped.xml")
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1


def test_the_example_obeys_the_contract_and_says_when_the_robot_falls(shipped: Exported, tmp_path: Path) -> None:
    """Actions that move the joints six times as far as the policy means them to throw the robot."""
    model, contract = onnx.load(str(shipped.folder / ONNX_FILE)), shipped.contract
    contract["action"]["scale_rad"] *= 6.0
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(contract)})
    onnx.save(model, str(tmp_path / ONNX_FILE))
    shutil.copy(BIPED, tmp_path)
    ended = run_example(tmp_path, ONNX_FILE, "biped.xml", "--seconds", "5")
    assert ended.returncode == 1
    assert ended.stdout.startswith("fell after")
