"""The running episodes as a value: what a control step changes, taken out of the environment and put back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from biped.env.snapshot import attributes, set_attributes
from biped.sim.scene import Graph

_RUNNING = ("_phase", "_episode_steps", "_previous_action", "_state", "_steps", "_events", "_command")
SNAPSHOT: Mapping[str, str] = MappingProxyType(
    {**{key: key for key in _RUNNING}, "episode_return": "_episode_return", "episode_length": "_episode_steps"}
)
"""Names in a checkpoint, which must not change, and the attributes with the running episodes."""
_CONSTANT = ("_episode_steps", "_episode_return", "_previous_action", "_steps", "_command")
CONSTANT_AT_BEGIN: Mapping[str, str] = MappingProxyType({key: key for key in _CONSTANT})
"""Attributes that begin with the same values in each episode: those of the environment's construction."""
BEGUN = MappingProxyType({**CONSTANT_AT_BEGIN, "_state": "_state", "_phase": "_phase"})
"""All of the environment's own attributes that begin anew with an episode."""
_CHANGED = MappingProxyType({key: key for key in (*_RUNNING, "_episode_return", "_moving", "_shares")})
"""All of the environment's own attributes that a step sets."""


@dataclass(frozen=True)
class Drive:
    """What the simulator is told before a control step."""

    actions: Tensor
    """Clipped actions, (num_envs, num_joints)."""
    accepted: Tensor
    """Where action and command are finite, and their squares too, (num_envs,), bool."""
    joint_targets_rad: Tensor
    """(num_envs, num_joints), rad."""
    force_w: Tensor | None
    """Force on each base, (num_envs, 3), N in the world; None: there are no such pushes."""
    jump: tuple[Tensor, Tensor] | None
    """Where the base's velocity jumps, (num_envs,), bool, and to what, (num_envs, 3), m/s in the world, or None."""


def running(env: Any) -> dict[str, Any]:
    """Return all that a step of a `BipedEnv` changes, but for the simulator's state and the draws."""
    return {"env": attributes(env, _CHANGED), "randomizer": env.randomizer.running()}


def set_running(env: Any, values: Mapping[str, Any]) -> None:
    """Set what `running` returned."""
    set_attributes(env, _CHANGED, values["env"])
    env.randomizer.set_running(values["randomizer"])


def graphed(env: Any, method: Callable[..., Any], graph: Graph, generator: torch.Generator) -> Callable[..., Any]:
    """Return a method of a `BipedEnv` that runs as a graph: the running episodes go in, and come out."""

    def function(before: Mapping[str, Any], *inputs: Any) -> Any:
        set_running(env, before)
        return method(*inputs), running(env)

    function.__qualname__ = method.__qualname__
    run = graph(function, [generator])

    def call(*inputs: Any) -> Any:
        results, after = run(running(env), *inputs)
        set_running(env, after)
        return results

    return call
