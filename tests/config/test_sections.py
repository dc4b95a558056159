import ast
import inspect
import itertools
import math
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from pathlib import Path

import pytest

import biped_config
from biped.base.errors import ConfigError
from biped.config.actuators import ServoConfig
from biped.config.learning import PPOConfig
from biped.config.robot import RobotConfig
from biped.config.run import Config, TrainConfig
from biped.config.section import Section
from biped.config.task import (
    CommandConfig,
    EnvConfig,
    GaitConfig,
    RewardWeights,
)
from biped.runs.wandb_names import DEFAULT_PROJECT
from biped_config import PRESETS

SECTIONS = [
    value
    for value in vars(biped_config).values()
    if isinstance(value, type) and is_dataclass(value) and value is not Section
]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda s: s.__name__)
def test_every_field_has_a_docstring_and_none_can_be_written(section: type) -> None:
    tree = ast.parse(Path(inspect.getfile(section)).read_text())
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == section.__name__).body
    documented = {
        node.target.id
        for node, after in itertools.pairwise(body)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and _is_docstring(after)
    }
    assert documented == {item.name for item in fields(section)}
    with pytest.raises(FrozenInstanceError):
        setattr(section(), fields(section)[0].name, 1)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@pytest.mark.parametrize(
    ("section", "changes", "named"),
    [
        (EnvConfig, {"num_envs": 0}, "num_envs"),
        (EnvConfig, {"num_envs": -4}, "num_envs"),
        (ServoConfig, {"stall_torque_nm": math.nan}, "stall_torque_nm"),
        (CommandConfig, {"lin_vel_x_m_s": (0.5, -0.5)}, "lin_vel_x_m_s"),
        (CommandConfig, {"standing_fraction": 1.5}, "standing_fraction"),
        (RobotConfig, {"default_joint_pos_rad": (0.0,)}, "default_joint_pos_rad"),
        (GaitConfig, {"contact_off_n": 9.0}, "contact_off_n"),
        (GaitConfig, {"min_swing_s": 0.7}, "min_swing_s"),
        (RewardWeights, {"foot_slip": math.inf}, "foot_slip"),
        (PPOConfig, {"gamma": 1.1}, "gamma"),
        (PPOConfig, {"min_learning_rate": 1.0}, "min_learning_rate"),
        (TrainConfig, {"device": "tpu"}, "device"),
        (TrainConfig, {"seed": -1}, "seed"),
    ],
)
def test_impossible_values_are_refused_by_name(section: type, changes: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        section(**changes)


def test_the_documents_numbers_are_the_gpu_preset() -> None:
    config = PRESETS["gpu"]()
    assert config.env.num_envs == 1024
    assert config.train.total_timesteps == 200_000_000
    assert config.policy.hidden_sizes == (512, 256, 128)
    assert (config.policy.lstm_hidden_size, config.policy.lstm_layers) == (512, 2)
    ppo = config.ppo
    assert (ppo.learning_rate, ppo.n_epochs, ppo.clip_range, ppo.gae_lambda) == (1e-4, 10, 0.2, 0.95)
    assert config.batch_size == 1024 * ppo.n_steps // 4
    assert config.env.termination.min_base_height_m == 0.30
    assert config.env.sim.control_dt_s == 1 / 50
    assert config.env.termination.episode_s == 20.0
    assert (config.wandb.project, DEFAULT_PROJECT) == (None, "biped-rl-sb3")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid_and_says_its_name(name: str) -> None:
    assert PRESETS[name]().preset == name


def test_a_rollout_that_does_not_divide_into_minibatches_is_refused() -> None:
    config = Config()
    with pytest.raises(ConfigError, match="minibatches"):
        replace(config, env=replace(config.env, num_envs=3), ppo=replace(config.ppo, n_steps=3, n_minibatches=4))
