"""From the configuration to the device and to the model on it."""

import ctypes
import sys
from typing import cast

import torch
from stable_baselines3.common.vec_env import VecEnv

from biped.errors import MachineError
from biped.mdp.observations import ObservationLayout
from biped.mdp.symmetry import mirror_joints, mirror_observation
from biped.ppo.kl_schedule import KlSchedule
from biped.ppo.mirror import Mirror, Reflection
from biped.ppo.policy import MlpIntoLstmPolicy
from biped.ppo.precision import Precision
from biped.ppo.recurrent_ppo import DeviceRecurrentPPO
from biped_config import Config, ConfigError

CPU_ONLY = ("mujoco",)
"""Simulators that `auto` means the CPU for, whatever else the machine has."""


def choose_device(wanted: str, sim: str) -> str:
    """Return `cuda` or `cpu` for `auto`, `cuda` or `cpu`, with a simulator by its name.

    Raises:
        MachineError: CUDA was asked for and is absent, or this simulator does not run on it.
    """
    if wanted == "cuda" and sim in CPU_ONLY:
        raise MachineError(f"--sim {sim} runs on the CPU: use it with --device cpu")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise MachineError(
            "CUDA was asked for but torch finds no CUDA device: use --preset cpu, or see ./install_genesis.sh --check"
        )
    has_use = wanted != "cpu" and sim not in CPU_ONLY
    return "cuda" if has_use and torch.cuda.is_available() else "cpu"


def keep_freed_memory() -> None:
    """Tell glibc to keep the memory that is freed: the next minibatch wants it again.

    By default large blocks go back to the system when they are freed, and each page of the next one costs a fault: up
    to a tenth of an update's time on a CPU (benchmarks/README.md). Does nothing where the C library is another one.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_max, 0)


def make_model(config: Config, env: VecEnv, seed: int) -> DeviceRecurrentPPO:
    """Return the learner, of the configuration's sizes, on a Stable-Baselines3 environment.

    Args:
        config: network, hyperparameters and device.
        env: a `VecEnv`.
        seed: of the initial weights, the exploration noise and the order of minibatches.

    Raises:
        ConfigError: the robot has no mirror image, but the learner is to learn from it.
    """
    ppo, policy = config.ppo, config.policy
    schedule = KlSchedule(ppo.desired_kl, ppo.min_learning_rate, ppo.max_learning_rate)
    return DeviceRecurrentPPO(
        MlpIntoLstmPolicy,
        env,
        learning_rate=ppo.learning_rate,
        kl_schedule=schedule if ppo.adaptive_lr else None,
        precision=cast("Precision", ppo.precision),
        std_range=(policy.min_std, policy.max_std),
        mirror=_mirror(config) if ppo.mirror else None,
        n_steps=ppo.n_steps,
        batch_size=config.batch_size,
        n_epochs=ppo.n_epochs,
        gamma=ppo.gamma,
        gae_lambda=ppo.gae_lambda,
        clip_range=ppo.clip_range,
        ent_coef=ppo.ent_coef,
        vf_coef=ppo.vf_coef,
        max_grad_norm=ppo.max_grad_norm,
        policy_kwargs={
            "hidden_sizes": policy.hidden_sizes,
            "lstm_hidden_size": policy.lstm_hidden_size,
            "n_lstm_layers": policy.lstm_layers,
            "initial_std": policy.initial_std,
            "normalize_observations": policy.normalize_observations,
        },
        seed=seed,
        device=choose_device(config.train.device, config.train.sim),
    )


def _mirror(config: Config) -> Mirror:
    device = torch.device(choose_device(config.train.device, config.train.sim))
    robot = config.env.robot
    try:
        index, sign = mirror_joints(robot)
        observation = mirror_observation(ObservationLayout.build(config.env), robot)
    except ValueError as error:
        raise ConfigError(f"{error}: use --set ppo.mirror=false") from error
    pose = robot.default_joint_pos_rad
    if any(pose[i] != pose[j] * s for i, (j, s) in enumerate(zip(index, sign, strict=True))):
        raise ConfigError("env.robot.default_joint_pos_rad is not its own mirror image: use --set ppo.mirror=false")
    return Mirror(Reflection.build(*observation, device), Reflection.build(index, sign, device))
