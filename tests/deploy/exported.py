"""Policies that are exported once, for all tests of what comes out."""

import importlib.util
import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from biped.config.learning import PolicyConfig
from biped.config.run import Config
from biped.config.serial import to_json
from biped.config.settings import robot_settings, with_settings
from biped.deploy.export import ONNX_FILE, TORCHSCRIPT_FILE
from biped.deploy.formats import CONTRACT_FILE
from biped.deploy.parity import parity_config
from biped.env.env import BipedVecEnv, make_env
from biped.ppo.recurrent_ppo import DeviceRecurrentPPO
from biped.runs.checkpoint import save_checkpoint
from biped.train.learner import make_model
from biped_config import smoke_preset
from tests.processes import ROOT

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


def example_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_policy_numpy", EXAMPLE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
