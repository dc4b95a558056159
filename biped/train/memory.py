"""An estimate of a training's memory, the memory available, and how many environments fit.

The estimate grows with the number of environments. Its slope is computed from the configuration, except for the
simulator's share, which was measured (`benchmarks/memory.py` compares the estimate with the actual use).
"""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from biped.base.errors import MachineError, is_out_of_memory
from biped.base.machine import MIB, free_bytes, gib
from biped.config.run import Config
from biped.env.groups import estimate_scales
from biped.mdp.observations import group_widths
from biped.ppo.sampling import AT_ONCE_BYTES
from biped.train.launch import processes_here

PROCESS_BYTES = {"cpu": 750 * MIB, "cuda": 1024 * MIB}
"""Genesis, its kernels and, on a GPU, CUDA's context, without robots; the GPU's value is not measured."""
ROBOT_BYTES = 72 * 2**10
"""Memory of Genesis and the environment per robot."""
SCRATCH_BYTES = 472 * 10**6
"""Genesis's scratch for collisions on a GPU, per scene, unless it is in performance mode: 28 KB for each of some 17,000
threads, whatever the number of robots. From its sources (genesis-world 1.4.5), not measured."""
MOST_USEFUL = {"cpu": 256, "cuda": 8192}
"""Upper bound of `--num_envs auto`: more do not raise steps per second (benchmarks/README.md); a guess for GPUs."""
AUTO_SHARE = 0.8
"""Share of the free memory that `--num_envs auto` uses."""
AFTER_FAILURE = 0.75
"""Share of the environments to try next after the estimate was too low."""

_FLOAT = 4
_COPIES = 10
"""Weights, gradients, Adam's two moments, and two copies of weights and moments for recovery."""
_STATE_COPIES = 8
"""LSTM states: before and after a step, at the rollout's start, and the mirrored ones."""
_UPDATE_FACTOR = 2.8
"""Peak memory of an update divided by its activations, because of their gradients."""
_LSTM_WIDTHS = 8
"""Numbers that one LSTM cell stores for its gradient: four gates, cell, its tanh, output, input."""
_CUT_OFF_COPIES = 4
"""On a GPU, what is kept of cut-off episodes for their values: as it is, in one batch, and that batch's new states and
activations."""
_RECORDED_BYTES = 432
"""Recording of one step of one robot in an evaluation, including the copy made at its end."""
_GRAIN = 64
_MOST_ROBOTS = 10_000_000
"""The upper bound of `env.num_envs`."""


@dataclass(frozen=True)
class Need:
    """Peak memory of a training (bytes)."""

    process: int
    """The process without robots."""
    robots: int
    """The simulator's state of all environments, including the evaluation's, and the evaluation's recording."""
    rollout: int
    """The rollout buffer and the LSTM states."""
    network: int
    """Weights, gradients, optimizer, and the copies for recovery."""
    update: int
    """Activations of one minibatch and their gradients."""

    @property
    def total(self) -> int:
        """The sum of all parts."""
        return self.process + self.robots + self.rollout + self.network + self.update

    def __str__(self) -> str:
        parts = {name: getattr(self, name) for name in ("robots", "rollout", "network", "update")}
        largest = max(parts, key=lambda name: parts[name])
        return f"{gib(self.total)} ({largest}: {gib(parts[largest])})"


def estimate(config: Config, device: str) -> Need:
    """Estimate the memory of training a configuration on `cpu` or `cuda`."""
    env, policy, ppo, train = config.env, config.policy, config.ppo, config.train
    joints = len(env.robot.joint_names)
    groups = group_widths(env)
    widths = (groups["policy"], groups.get("critic", groups["policy"]))  # the actor's, the critic's
    trials = train.eval_episodes if train.eval_every_steps else 0
    trial_steps = round(env.termination.episode_s / env.sim.control_dt_s)
    estimates = len(estimate_scales(env)) if policy.velocity_head else 0
    weights = _weights(config, widths[0], joints + estimates) + _weights(config, widths[1], 1) + joints
    # Observations, action and its mean; reward, value, log-probability, ...
    transition = sum(groups.values()) + 2 * joints + 6
    state = 4 * policy.lstm_layers * policy.lstm_hidden_size  # hidden and cell, of actor and critic
    scenes = 2 if trials else 1
    scratch = scenes * SCRATCH_BYTES if device == "cuda" and env.sim.performance_mode is False else 0
    kept = _FLOAT * ppo.n_steps * env.num_envs * (sum(groups.values()) + state // 2)
    cut_offs = _CUT_OFF_COPIES * min(AT_ONCE_BYTES, kept) if device == "cuda" else 0
    # An update's copy of the observations and actions, and their mirror image.
    images = 2 * _FLOAT * ppo.n_steps * env.num_envs * (sum(groups.values()) + joints) if ppo.mirror else 0
    activations = 2 * (2 * sum(policy.hidden_sizes) + _LSTM_WIDTHS * policy.lstm_layers * policy.lstm_hidden_size)
    return Need(
        process=PROCESS_BYTES[device],
        robots=scratch + ROBOT_BYTES * (env.num_envs + trials) + _RECORDED_BYTES * trials * trial_steps,
        rollout=_FLOAT * env.num_envs * (ppo.n_steps * transition + _STATE_COPIES * state) + cut_offs,
        network=_FLOAT * _COPIES * weights,
        update=round(_FLOAT * config.batch_size * (activations * _UPDATE_FACTOR + transition)) + images,
    )


def _weights(config: Config, inputs: int, outputs: int) -> int:
    """Count the weights of the actor or of the critic."""
    policy = config.policy
    sizes = (inputs, *policy.hidden_sizes)
    mlp = sum((before + 1) * after for before, after in itertools.pairwise(sizes))
    widths = [sizes[-1], *[policy.lstm_hidden_size] * (policy.lstm_layers - 1)]
    lstm = sum(4 * policy.lstm_hidden_size * (before + policy.lstm_hidden_size + 2) for before in widths)
    return mlp + lstm + (policy.lstm_hidden_size + 1) * outputs


def largest_num_envs(config: Config, device: str, available: float) -> int:
    """Return how many environments fit into `available` bytes; 0 if not even one minibatch fits.

    The number is a multiple of 64 if it is large enough, and always divisible by the number of minibatches.
    """
    batches = config.ppo.n_minibatches

    def fits(count: int) -> bool:
        return estimate(_with_num_envs(config, count * batches), device).total <= available

    few, many = 0, _MOST_ROBOTS // batches + 1
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (middle, many) if fits(middle) else (few, middle)
    return _floor(few * batches, batches)


def _floor(count: int, divisor: int) -> int:
    grain = divisor * -(-_GRAIN // divisor)
    grain = grain if count >= grain else divisor
    return max(0, count // grain * grain)


def _with_num_envs(config: Config, num_envs: int) -> Config:
    return replace(config, env=replace(config.env, num_envs=num_envs))


def available_bytes(device: str) -> float:
    """Return the free memory of a device, or this process's part of it: processes share a machine's, not a GPU's."""
    return free_bytes(device) / (1 if device == "cuda" else processes_here())


def choose_num_envs(config: Config, device: str) -> int:
    """Return the number of environments for `--num_envs auto`: as many as fit with a margin and raise the speed.

    Raises:
        MachineError: none fits.
    """
    available = available_bytes(device)
    most = min(largest_num_envs(config, device, AUTO_SHARE * available), MOST_USEFUL[device])
    fitting = _floor(most, config.ppo.n_minibatches)
    if not fitting:
        raise MachineError(f"{gib(available)} of memory are free, too little for any environment: free some")
    return fitting


def require_memory(config: Config, device: str, *, may_change: bool) -> None:
    """Check that a training fits into free memory; `may_change` allows advice to change the number of environments.

    Raises:
        MachineError: it does not fit.
    """
    need, available = estimate(config, device), available_bytes(device)
    if config.train.check_memory and need.total > available:
        raise MachineError(
            f"{config.env.num_envs} environments take about {need} of memory, and {gib(available)} are free"
            f"{_each(device)}: {_remedy(largest_num_envs(config, device, available), may_change)}"
        )


@contextlib.contextmanager
def naming_what_fits(config: Config, device: str, *, may_change: bool) -> Iterator[None]:
    """Convert out-of-memory errors to a message with the number of environments that fit; see `require_memory`.

    Raises:
        MachineError: memory ran out in the block.
    """
    available = available_bytes(device)
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        fitting = min(largest_num_envs(config, device, available), int(AFTER_FAILURE * config.env.num_envs))
        remedy = _remedy(_floor(fitting, config.ppo.n_minibatches), may_change)
        raise MachineError(
            f"out of memory on {device} with {config.env.num_envs} environments ({gib(available)} were free): {remedy}"
        ) from error


def _each(device: str) -> str:
    return " for each process" if device == "cpu" and processes_here() > 1 else ""


def _remedy(fitting: int, may_change: bool) -> str:
    if not may_change:
        return "free some, or continue it on a larger machine"
    return f"at most --num_envs {fitting} fits" if fitting else "free some, or use a smaller network"
