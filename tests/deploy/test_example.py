"""The example of a runtime: it walks from the exported file alone, and does what the environment does."""

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import onnx
import pytest
import torch

from biped.config.robot import ControlConfig
from biped.deploy.contract_file import METADATA_KEY
from biped.deploy.export import ONNX_FILE
from biped.deploy.parity import parity_config
from biped.env.env import make_env
from biped.env.groups import sensed
from biped.ppo.acting import DeterministicActor
from biped.sim.scene import ResetPose
from tests.deploy.exported import BIPED, EXAMPLE, STRIDER, Exported, example_module
from tests.processes import run

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
