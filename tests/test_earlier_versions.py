"""A checkpoint of version 0.8.0, whose actor and critic saw one observation, velocity and height included."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sb3_contrib import RecurrentPPO

import biped_eval
from biped.config.run import Config
from biped.config.settings import with_settings
from biped.deploy.contract import Provenance, build_contract
from biped.deploy.export import export_policy
from biped.deploy.network import PolicyStep
from biped.deploy.parity import parity_config, record_reference
from biped.env.env import BipedVecEnv, make_env
from biped.runs.models import find_model
from biped.train.learner import load_model
from tests.conftest import ROOT

MODEL = ROOT / "tests" / "data" / "of_0_8" / "biped_walk.zip"


@pytest.fixture(scope="module")
def config() -> Config:
    return with_settings(find_model(MODEL, Path("logs"), "")[1].read_config(), [("train.device", "cpu")])


def test_it_still_walks(tmp_path: Path) -> None:
    out = tmp_path / "eval.json"
    flags = ["--sim", "mujoco", "--episodes", "32", "--device", "cpu", "--out", str(out)]
    assert biped_eval.main(["--model", str(MODEL), *flags]) in (0, biped_eval.GATE_FAILED)
    lines = json.loads(out.read_text())["lines"]
    assert lines["survival"]["value"] == 1.0
    assert lines["error_lin_vel_x_m_s"]["value"] < 0.08
    assert "estimate_error_velocity_m_s" not in lines, "it makes no guess"


@pytest.mark.exports
def test_it_is_still_exported_and_says_what_no_sensor_gives(config: Config, tmp_path: Path) -> None:
    env = make_env(parity_config(config.env, episode_s=2.0), sim="mujoco")
    model = load_model(config, BipedVecEnv(env), MODEL)
    contract = build_contract(config, Provenance.of(MODEL, model.num_timesteps))
    network = PolicyStep(model.policy, config.env.control.action_clip)
    export_policy(network, contract, record_reference(model.policy, env), tmp_path / "export", say=lambda _: None)
    env.close()
    assert contract["sensors"]["not_measured"] == ["base_lin_vel_xy_b", "base_height_m"]
    assert contract["observation"]["width"] == 43
    assert [part["name"] for part in contract["policy"]["outputs"]] == ["action", "h_out", "c_out"]


def test_stock_code_still_opens_it_and_acts_as_ours(config: Config) -> None:
    env = BipedVecEnv(make_env(replace(config.env, num_envs=4), sim="mujoco"))
    model, stock = load_model(config, env, MODEL), RecurrentPPO.load(MODEL, device="cpu")
    observation = env.reset()
    starts, mine, theirs = np.ones(4, dtype=bool), None, None
    for _ in range(5):
        ours, mine = model.predict(observation, mine, starts, deterministic=True)
        its, theirs = stock.predict(observation, theirs, starts, deterministic=True)
        np.testing.assert_allclose(ours, its, atol=1e-6)
        observation, _, starts, _ = env.step(ours)
    assert not torch.isnan(torch.from_numpy(observation)).any()
    env.close()
