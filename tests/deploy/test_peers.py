"""Exported policies in programs that were made for other projects' policies."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

import biped_export
from biped.config.run import Config
from biped.config.settings import with_settings
from biped.deploy.contract import RSL_RL, Provenance, build_contract
from biped.deploy.controller import Controller, OnnxPolicy
from biped.deploy.export import ONNX_FILE, TORCHSCRIPT_FILE
from biped.deploy.formats import open_torchscript, write_onnx
from biped.deploy.hardware import ImuReading, JointReading
from biped.deploy.network import PolicyStep
from biped.deploy.peers import plain_metadata
from biped.runs.directory import RunDirectory
from biped_config import smoke_preset
from tests.deploy.exported import BIPED, CLIP, SHIPPED, example_module, model_of


class Peer:
    """A robot's program as those who deploy rsl_rl's recurrent policies write it; it knows nothing of this project."""

    def __init__(self, file: Path) -> None:
        self.session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        inputs = {part.name: part.shape for part in self.session.get_inputs()}
        # Sizes from the file: an open one would be a string here, and -1 in C++.
        self.memory = {name: np.zeros(int(np.prod(inputs[name]))) for name in ("h_in", "c_in")}
        self.shapes = inputs
        meta = self.session.get_modelmeta().custom_metadata_map
        self.joints = meta["joint_names"].split(",")
        self.observations = meta["observation_names"].split(",")
        self.commands = meta["command_names"].split(",")
        numbers = ("joint_stiffness", "joint_damping", "default_joint_pos", "action_scale")
        self.kp, self.kd, self.default, self.scale = (
            np.array([float(text) for text in meta[key].split(",")]) for key in numbers
        )
        self.run_path = meta["run_path"]

    def targets(self, observation: NDArray[Any]) -> NDArray[Any]:
        """Return joint targets (num_joints,), rad, for an observation (width,)."""
        feed = {"obs": observation, **self.memory}
        feed = {name: np.reshape(value, self.shapes[name]).astype(np.float32) for name, value in feed.items()}
        actions, h_out, c_out = self.session.run(["actions", "h_out", "c_out"], feed)
        assert len(self.session.run(None, feed)) == 3, "those who unpack three get three"
        self.memory = {"h_in": h_out, "c_in": c_out}
        return self.default + self.scale * actions[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped policy under rsl_rl's names, by the command line, parity included."""
    folder = tmp_path_factory.mktemp("peers") / "export"
    assert biped_export.main(["--model", str(SHIPPED), "--out", str(folder), "--names", "rsl_rl"]) == 0
    return folder


@pytest.fixture(scope="module")
def config() -> Config:
    """What the shipped policy was trained with."""
    return with_settings(RunDirectory(SHIPPED.parent).read_config(), [("train.device", "cpu")])


def observations(folder: Path, count: int = 30) -> NDArray[np.float32]:
    """Return random observations, (count, width)."""
    width = OnnxPolicy(folder / ONNX_FILE).contract.width
    return np.random.default_rng(0).normal(0.0, 0.7, (count, width)).astype(np.float32)


def test_a_peers_program_runs_the_policy_as_torch_does(folder: Path) -> None:
    peer, step = Peer(folder / ONNX_FILE), open_torchscript(folder / TORCHSCRIPT_FILE)
    contract = OnnxPolicy(folder / ONNX_FILE).contract
    memory: Any = tuple(np.zeros(shape, np.float32) for shape in contract.memory_shapes)
    for observation in observations(folder):
        action, memory, _ = step(observation[None], memory)
        wanted = contract.default_pose_rad + contract.action_scale_rad * action[0]
        np.testing.assert_allclose(peer.targets(observation), wanted, atol=1e-5)


def test_the_plain_keys_say_what_the_configuration_says(folder: Path, config: Config) -> None:
    peer, robot = Peer(folder / ONNX_FILE), config.env.robot
    assert peer.joints == list(robot.joint_names)
    assert peer.kp.tolist() == [20.0] * 9
    assert peer.kd.tolist() == [0.5] * 9
    assert peer.default.tolist() == [0.0, -0.35, 0.7, -0.35, 0.0, -0.35, 0.7, -0.35, 0.0]
    assert peer.scale.tolist() == [config.env.control.action_scale_rad] * 9
    assert (peer.commands, peer.run_path) == (["twist"], "biped_walk.zip")
    assert peer.observations == [
        "projected_gravity_b",
        "base_ang_vel_b",
        "command_lin_vel_x_b",
        "command_lin_vel_y_b",
        "command_ang_vel_b",
        "joint_pos_rad",
        "joint_vel_rad_s",
        "previous_action",
        "gait_phase",
    ]


def test_each_joint_has_its_own_numbers_and_none_is_rounded() -> None:
    contract = build_contract(smoke_preset(), Provenance("model.zip", "0" * 64, 1))
    joints = ["a", "b"]
    contract["action"] = {"joint_names": joints, "default_pose_rad": [0.12345678, -1.0], "scale_rad": 1 / 3}
    contract["motors"] = {"kp_nm_per_rad": [20.0, 5.25], "kd_nm_s_per_rad": [0.0001, 2]}
    found = plain_metadata(contract)
    assert found["joint_names"] == "a,b"
    assert found["default_joint_pos"] == "0.12345678,-1.0"
    assert found["joint_stiffness"] == "20.0,5.25"
    assert [float(text) for text in found["joint_damping"].split(",")] == [0.0001, 2.0]
    assert [float(text) for text in found["action_scale"].split(",")] == [1 / 3, 1 / 3]


def test_the_contract_has_the_files_names_and_no_estimate(folder: Path) -> None:
    contract = OnnxPolicy(folder / ONNX_FILE).contract.raw
    policy, session = contract["policy"], Peer(folder / ONNX_FILE).session
    for mine, theirs in ((policy["inputs"], session.get_inputs()), (policy["outputs"], session.get_outputs())):
        assert [(part["name"], part["shape"]) for part in mine] == [(part.name, part.shape) for part in theirs]
        assert all(part["batch_axis"] is None for part in mine)
    assert [part["name"] for part in policy["inputs"]] == ["obs", "h_in", "c_in"]
    assert [part["name"] for part in policy["outputs"]] == ["actions", "h_out", "c_out"]
    assert contract["estimate"] is None
    assert policy["recurrence"].startswith("h_in and c_in are zeros")


def test_several_layers_keep_their_order(tmp_path: Path) -> None:
    config = with_settings(smoke_preset(), [CLIP])
    config = replace(config, policy=replace(config.policy, hidden_sizes=(16,), lstm_hidden_size=20, lstm_layers=3))
    model, env = model_of(config)
    env.close()
    network = PolicyStep(model.policy, 1.0)
    write_onnx(network, build_contract(config, Provenance("m.zip", "", 0), RSL_RL), tmp_path / ONNX_FILE)
    peer, memory = Peer(tmp_path / ONNX_FILE), network.example(1)[1:]
    for observation in observations(tmp_path, 5):
        with torch.no_grad():
            action, *memory = network(torch.from_numpy(observation)[None], *memory)
        wanted = peer.default + peer.scale * action[0].numpy()
        np.testing.assert_allclose(peer.targets(observation), wanted, atol=1e-5)


def test_our_controller_runs_such_a_file(folder: Path) -> None:
    policy = OnnxPolicy(folder / ONNX_FILE)
    controller, pose = Controller(policy), policy.contract.default_pose_rad
    still = np.zeros_like(pose)
    joints = JointReading(pose, still, still, still, still, still.astype(np.int64))
    imu, wanted = ImuReading(np.array((0.0, 0.0, -1.0)), np.zeros(3), 0.0), np.array((0.4, 0.0, 0.0))
    peer = Peer(folder / ONNX_FILE)
    for _ in range(20):
        decision = controller.step(imu, joints, wanted)
        assert decision.estimate is None
        np.testing.assert_allclose(decision.targets_rad, peer.targets(decision.observation), atol=1e-6)


def test_our_example_walks_with_such_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = example_module()
    policy = example.Policy(folder / ONNX_FILE)
    assert example.walk(policy, example.Robot(BIPED, policy.contract), (0.4, 0.0, 0.0), 4.0)
    assert policy.estimate is None
    lines = capsys.readouterr().out.splitlines()
    forward_m_s = next(float(line.split()[1]) for line in lines if line.startswith("forward"))
    assert abs(forward_m_s - 0.4) < 0.06


def test_other_names_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        biped_export.main(["--model", str(SHIPPED), "--names", "mjlab"])
    assert ended.value.code == 2
    assert "--names" in capsys.readouterr().err
