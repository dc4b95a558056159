"""Check that an exported policy matches PyTorch: both see the same episodes, each with its own memory."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from torch import Tensor

from biped.base.errors import MachineError
from biped.config.randomization import RandomizationConfig
from biped.config.task import EnvConfig, TerminationConfig
from biped.deploy.formats import Memory, Numbers, Step, Stepped
from biped.env.env import BipedEnv
from biped.env.groups import sensed
from biped.ppo.acting import DeterministicActor

MAX_DIFFERENCE = 1e-5
"""Largest allowed difference of an action, or of a number of the memory, from PyTorch's."""
ROBOTS, EPISODE_S = 4, 20.0
"""Number of robots, and the length of their episodes (s)."""
EXTRA_SHARE = 0.25
"""Share of another episode that is run after one full episode, and again after a reset of all robots."""

Player = Callable[[Numbers, bool], Stepped]
"""A policy that keeps its memory: from an observation and whether an episode begins to the results of one step."""


@dataclass(frozen=True)
class Difference:
    """A line of the table: a policy's difference from PyTorch, and its speed."""

    name: str
    """Name of the format."""
    steps: int
    """Number of compared steps, over all robots."""
    resets: int
    """Number of memory resets after the first step."""
    max_difference: float
    """Largest absolute difference of actions, memories and estimates."""
    ms_per_step: float
    """Median time per step of one robot (ms)."""


@dataclass(frozen=True)
class Episodes:
    """Observations, actions and memories of a policy in PyTorch."""

    observations: Numbers
    """Observations, (steps, robots, width)."""
    starts: NDArray[np.bool_]
    """Whether an episode begins, (steps, robots)."""
    actions: Numbers
    """Actions clipped to the action space, (steps, robots, num_joints)."""
    hidden: Numbers
    """Hidden state after each step, (steps, layers, robots, lstm_hidden_size)."""
    cell: Numbers
    """Cell state after each step, shaped like `hidden`."""
    estimates: Numbers
    """Predictions of the estimator, in physical units, (steps, robots, n_estimates)."""
    reference: Difference
    """PyTorch itself, robot by robot: the effect of rounding with another batch size."""


def parity_config(cfg: EnvConfig, episode_s: float = EPISODE_S) -> EnvConfig:
    """Return the environment for the comparison: a few robots, full episodes, and only starts and commands random."""
    full: TerminationConfig = replace(cfg.termination, episode_s=episode_s)
    return replace(cfg, num_envs=ROBOTS, termination=full, randomization=RandomizationConfig())


def record_reference(
    policy: RecurrentActorCriticPolicy, env: BipedEnv, estimate_scales: Sequence[float] | None = None
) -> Episodes:
    """Let a policy act in PyTorch, in single precision, for one full episode per robot and parts of two more.

    Args:
        policy: the policy.
        env: an environment made from `parity_config`, on the CPU.
        estimate_scales: as for `biped.deploy.network.PolicyStep`.
    """
    actor, clip = DeterministicActor(policy, env.num_envs, "fp32"), env.cfg.control.action_clip
    episode = round(env.cfg.termination.episode_s / env.cfg.sim.control_dt_s)
    restart = round((1.0 + EXTRA_SHARE) * episode)
    seen: list[tuple[Numbers, ...]] = []
    observations, _ = env.reset(seed=0)
    starts = torch.ones(env.num_envs, dtype=torch.bool)
    for step in range(round((1.0 + 2.0 * EXTRA_SHARE) * episode)):
        if step == restart:
            observations, _ = env.reset(seed=1)
            starts = torch.ones(env.num_envs, dtype=torch.bool)
        actions = actor(observations, starts).clamp(-clip, clip)
        estimates = _in_units(actor.estimates, estimate_scales, actions)
        seen.append(
            tuple(part.numpy().copy() for part in (sensed(observations), starts, actions, *actor.state, estimates))
        )
        observations, _, terminated, truncated, _ = env.step(actions)
        starts = terminated | truncated
    columns = [np.stack(column) for column in zip(*seen, strict=True)]
    unknown = Difference("PyTorch", 0, 0, np.nan, np.nan)
    episodes = Episodes(columns[0], columns[1].astype(np.bool_), *columns[2:], reference=unknown)
    return replace(
        episodes, reference=_compare_players("PyTorch", episodes, lambda: _torch_player(policy, clip, estimate_scales))
    )


def compare(name: str, episodes: Episodes, step: Step) -> Difference:
    """Run an exported policy on PyTorch's observations, one robot after the other, and measure the difference.

    Args:
        name: name of the format.
        episodes: PyTorch's observations and results.
        step: the exported policy; it gets the memory that it returned, and zeros where an episode begins.
    """
    empty = np.zeros_like(episodes.hidden[0, :, :1])
    return _compare_players(name, episodes, lambda: _player(step, (empty, empty)))


def require_parity(lines: Sequence[Difference]) -> None:
    """Check that every format matches PyTorch.

    Raises:
        MachineError: a format does not match.
    """
    for line in lines:
        # Written with `not`, so that NaN fails the check.
        if not line.max_difference <= MAX_DIFFERENCE:
            raise MachineError(
                f"{line.name} is off PyTorch by {line.max_difference:.1e}, more than {MAX_DIFFERENCE:.0e}, so nothing "
                "was written: install the versions that were tested together with ./install_genesis.sh"
            )


def as_table(lines: Sequence[Difference]) -> str:
    """Return the lines as a table for the terminal."""
    table = [f"{'format':12} {'steps':>7} {'resets':>7} {'max difference':>15} {'ms/step':>10}"]
    table += [
        f"{line.name:12} {line.steps:7} {line.resets:7} {line.max_difference:15.1e} {line.ms_per_step:10.3f}"
        for line in lines
    ]
    return "\n".join(table)


def _player(step: Step, empty: Memory) -> Player:
    memory = empty

    def play(observation: Numbers, begins: bool) -> Stepped:
        nonlocal memory
        stepped = step(observation, empty if begins else memory)
        memory = stepped.memory
        return stepped

    return play


def _torch_player(policy: RecurrentActorCriticPolicy, clip: float, estimate_scales: Sequence[float] | None) -> Player:
    actor = DeterministicActor(policy, 1, "fp32")

    def play(observation: Numbers, begins: bool) -> Stepped:
        starts = torch.tensor([begins], dtype=torch.bool)
        action = actor(torch.from_numpy(observation), starts).clamp(-clip, clip)
        hidden, cell = actor.state
        estimates = _in_units(actor.estimates, estimate_scales, action)
        return Stepped(action.numpy(), (hidden.numpy(), cell.numpy()), estimates.numpy())

    return play


def _in_units(estimates: Tensor | None, scales: Sequence[float] | None, actions: Tensor) -> Tensor:
    """Return estimates in physical units, (n, n_estimates); (n, 0) without estimates."""
    if estimates is None or scales is None:
        return actions.new_zeros(len(actions), 0)
    return estimates / torch.tensor(scales, dtype=torch.float32)


def _compare_players(name: str, episodes: Episodes, new_player: Callable[[], Player]) -> Difference:
    steps, robots = episodes.starts.shape
    worst, durations_s = [], []
    for robot in range(robots):
        play, one = new_player(), slice(robot, robot + 1)
        for index in range(steps):
            observation, begins = episodes.observations[index, one], bool(episodes.starts[index, robot])
            began_s = time.perf_counter()
            action, (hidden, cell), estimates = play(observation, begins)
            durations_s.append(time.perf_counter() - began_s)
            pairs = (
                (action, episodes.actions[index, one]),
                (hidden, episodes.hidden[index, :, one]),
                (cell, episodes.cell[index, :, one]),
                (estimates, episodes.estimates[index, one]),
            )
            worst.append(max(_largest(mine, theirs) for mine, theirs in pairs))
    return Difference(
        name=name,
        steps=steps * robots,
        resets=int(episodes.starts[1:].sum()),
        max_difference=float(np.max(worst)),
        ms_per_step=1e3 * float(np.median(durations_s)),
    )


def _largest(mine: Numbers, theirs: Numbers) -> float:
    """Return the largest difference; infinite if a number is NaN, which Python's `max` could ignore."""
    difference = float(np.abs(mine - theirs).max(initial=0.0))
    return difference if np.isfinite(difference) else np.inf
