"""From the configuration to the device and to the model on it."""

import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.vec_env import VecEnv

from biped.errors import MachineError
from biped.ppo.policy import MlpIntoLstmPolicy
from biped_config import Config


def choose_device(wanted: str) -> str:
    """Return `cuda` or `cpu` for `auto`, `cuda` or `cpu`.

    Raises:
        MachineError: CUDA was asked for and is absent.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise MachineError(
            "CUDA was asked for but torch finds no CUDA device: use --preset cpu, or see ./install_genesis.sh --check"
        )
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def make_model(config: Config, env: VecEnv, rate: float | Schedule, seed: int) -> RecurrentPPO:
    """Return a `RecurrentPPO` of the configuration's sizes on a Stable-Baselines3 environment.

    Args:
        config: network, hyperparameters and device.
        env: a `VecEnv`.
        rate: the learning rate, or a Stable-Baselines3 schedule of it.
        seed: of the initial weights, the exploration noise and the order of minibatches.
    """
    ppo, policy = config.ppo, config.policy
    return RecurrentPPO(
        MlpIntoLstmPolicy,
        env,
        learning_rate=rate,
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
        },
        seed=seed,
        device=choose_device(config.train.device),
    )
