"""Agents that act in an evaluation."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from biped.config.run import Config
from biped.env.env import BipedEnv
from biped.env.groups import Observations

Agent = Callable[[Observations, Tensor], Tensor]
"""From observations (one tensor or groups) and episode starts (num_envs,), bool, to actions (num_envs, num_joints).

An agent that predicts velocity and height stores them in its attribute `estimates` at each call."""
LoadAgent = Callable[[Config, BipedEnv, Path], Agent]
"""Returns the deterministic policy of a checkpoint, for an environment with the given configuration."""


def zero_agent(env: BipedEnv) -> Agent:
    """Return an agent that holds the default pose."""
    shape = env.action_space.shape or ()
    return lambda *_: torch.zeros(shape, device=env.device, dtype=torch.float32)


def random_agent(env: BipedEnv, seed: int) -> Agent:
    """Return an agent that draws actions uniformly from the action space."""
    generator = np.random.default_rng(seed)
    space = env.action_space
    assert space.shape is not None
    return lambda *_: torch.as_tensor(
        generator.uniform(-env.cfg.control.action_clip, env.cfg.control.action_clip, space.shape).astype(np.float32)
    )
