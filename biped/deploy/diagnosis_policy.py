"""Replays a log's observations through a policy: are the recorded actions its own, with its memory carried over?"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from biped.deploy.contract_file import PolicyContract
from biped.deploy.controller import Memory
from biped.deploy.diagnosis_log import Finding
from biped.deploy.run_log import RunLog

Array = NDArray[np.float64]

SAME = 2e-3
"""Largest difference between actions that count as the same: a log has single precision."""
_MOST = 0.9
_FEWEST, _HASH = 10, 12


class Policy(Protocol):
    """An exported policy; `biped.deploy.controller.OnnxPolicy` is one."""

    contract: PolicyContract

    def empty_memory(self) -> Memory:
        """Return the memory of the first step."""
        ...

    def __call__(self, observation: Array, memory: Memory) -> tuple[Array, Memory, Array | None]:
        """Return action, next memory and estimate."""
        ...


@dataclass(frozen=True)
class Replay:
    """How recorded actions compare with a policy's."""

    steps: int
    """How many there are."""
    carried: float
    """Share that the policy gives with its memory carried over, or begun anew in a single step."""
    empty: float
    """Share that it gives with an empty memory, and not with the one carried over."""
    farthest: float
    """Median over the steps of the largest difference of an action."""


def replay(log: RunLog, policy: Policy) -> Replay:
    """Give a policy the recorded observations again."""
    memory, steps, carried, empty, off = policy.empty_memory(), 0, 0, 0, []
    was_empty = False
    for observation, action in zip(log["observation"], log["action"], strict=True):
        if not np.isfinite(action).all():
            memory = policy.empty_memory()
            continue
        steps += 1
        mine, after, _ = policy(observation.astype(float), memory)
        difference = float(np.abs(mine - action).max())
        fresh, fresh_after, _ = policy(observation.astype(float), policy.empty_memory())
        off.append(difference)
        if difference <= SAME:
            carried, was_empty = carried + 1, False
        elif np.abs(fresh - action).max() <= SAME:
            # Once is a controller that began anew, as between two phases; twice in a row is one that forgets.
            empty += int(was_empty)
            carried += int(not was_empty)
            was_empty, after = True, fresh_after
        memory = after
    total = max(steps, 1)
    return Replay(steps, carried / total, empty / total, float(np.median(off)) if off else 0.0)


def findings_of_policy(log: RunLog, policy: Policy) -> Iterator[Finding]:
    """Say what is wrong between a log and a policy that is said to have driven it."""
    contract, own = log.policy, policy.contract
    text = f"the log's policy has the hash {contract.sha256[:_HASH] or 'unknown'}, this file {own.sha256[:_HASH]}"
    if len(own.motors) == len(contract.motors) and own.joint_names != contract.joint_names:
        mine, its = next(pair for pair in zip(own.joint_names, contract.joint_names, strict=True) if len(set(pair)) > 1)
        place = own.joint_names.index(mine) + 1
        yield Finding("another policy", "", f"its joint {place} is {mine}, the log's {its}; {text}", 1.0)
        return
    if (own.width, own.joint_names) != (contract.width, contract.joint_names):
        shapes = f"it has {own.width} observations and {len(own.motors)} joints, the log {contract.width} and "
        yield Finding("another policy", "", f"{shapes}{len(contract.motors)}; {text}", 1.0)
        return
    found = replay(log, policy)
    if found.steps < _FEWEST:
        return
    if found.empty > 0.5:
        share = f"{100.0 * found.empty:.0f}% of the {found.steps} recorded actions"
        yield Finding("memory", "", f"{share} are those of an empty memory", 1.0)
    elif found.carried < _MOST:
        share = f"{100.0 * found.carried:.0f}% of the {found.steps} recorded actions"
        off = f"only {share} are this policy's (off by {found.farthest:.2f} in the median)"
        yield Finding("another policy", "", f"{off}; {text}", 0.99)
