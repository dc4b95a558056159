"""Everything here is float32 by its own word, whatever `torch.set_default_dtype` says."""

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from biped.config.randomization import BumpsConfig
from biped.config.task import EnvConfig, TerminationConfig
from biped.env.env import (
    BipedEnv,
    BipedVecEnv,
    make_env,
)
from biped.train.learner import make_model
from biped_config import randomization_preset, smoke_preset
from tests.architecture import Source, sources

MAKERS = {"arange", "empty", "full", "linspace", "ones", "rand", "randn", "tensor", "zeros"}
"""Functions of torch that take the default type where none is said."""


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def busy(count: int) -> EnvConfig:
    """Return robots that differ, stumble, are pushed and sense wrongly, in short episodes."""
    random = replace(randomization_preset("full"), bumps=BumpsConfig(heights_m=(0.01,), share=0.5), nominal_share=0.25)
    return replace(
        smoke_preset().env,
        num_envs=count,
        randomization=random,
        termination=TerminationConfig(episode_s=0.2),
    )


def walked(env: BipedEnv) -> list[Tensor]:
    """Return all that thirty steps return."""
    generator = torch.Generator().manual_seed(7)
    found = [*env.reset(seed=3)[0].values()]
    for _ in range(30):
        actions = torch.randn(env.num_envs, 9, generator=generator, dtype=torch.float32)
        observations, *results, infos = env.step(actions)
        last = infos.pop("final_obs")
        found += [*observations.values(), *last.values(), *results, *infos.values()]
    held = env.hold_commands(torch.full((env.num_envs, 3), 0.3, dtype=torch.float32))
    found += [*held.values(), env.reward_shares]
    return [*found, *env.get_state().values()]


@pytest.mark.parametrize("sim", ["mujoco", pytest.param("genesis", marks=pytest.mark.slow)])
def test_an_environment_under_float64_is_the_one_under_float32(sim: str) -> None:
    results = []
    for dtype in (torch.float32, torch.float64):
        with default_dtype(dtype):
            env = make_env(busy(4), sim=sim, seed=1)
            results.append(walked(env))
            env.close()
    wanted, found = results
    assert [value.dtype for value in found] == [value.dtype for value in wanted]
    for mine, its in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, its, rtol=0.0, atol=0.0, equal_nan=True)


@pytest.mark.parametrize("normalize", [False, True])
def test_a_training_under_float64_is_the_one_under_float32(normalize: bool) -> None:
    policies = []
    for dtype in (torch.float32, torch.float64):
        with default_dtype(dtype):
            config = smoke_preset()
            policy = replace(config.policy, normalize_observations=normalize)
            config = replace(config, policy=policy, ppo=replace(config.ppo, mirror=True))
            env = BipedVecEnv(make_env(config.env, sim="mujoco", seed=1))
            model = make_model(config, env, seed=0).learn(2 * config.ppo.n_steps * env.num_envs)
            policies.append(model.policy.state_dict())
            env.close()
    wanted, found = policies
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype, name
        assert torch.equal(found[name], value), name


def untyped(tree: ast.AST) -> list[int]:
    """Return the lines that make a tensor without saying its type."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and (node.func.value.id, node.func.attr in MAKERS) == ("torch", True)
        and all(keyword.arg != "dtype" for keyword in node.keywords)
    ]


@pytest.mark.parametrize("source", sources(), ids=lambda source: source.name)
def test_whoever_makes_a_tensor_says_its_type(source: Source) -> None:
    assert untyped(source.tree) == []


def test_the_test_of_types_would_see_a_tensor_without() -> None:
    assert untyped(ast.parse("torch.zeros(3)\ntorch.zeros(3, dtype=torch.bool)\ntorch.zeros_like(x)")) == [1]
