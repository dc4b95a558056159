"""Ten seeds of a task that needs memory, beside stock; minutes."""

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

from tests.ppo.tasks import cart_poles, learn, learner, stock

SEEDS, STEPS = range(10), 40_000
RECURRENT = {"lstm_hidden_size": 32, "net_arch": [32]}
SETTINGS = {"n_steps": 64, "batch_size": 256, "n_epochs": 10, "learning_rate": 1e-3, "gamma": 0.98, "gae_lambda": 0.95}


def final_return(make, seed: int) -> float:
    """Train on CartPole without velocities and return the mean return of the last episodes."""
    model = make(cart_poles(16, 500), policy_kwargs=RECURRENT, seed=seed, **SETTINGS)
    learn(model, STEPS // (16 * 64) + 1)
    return float(np.mean([episode["r"] for episode in model.ep_info_buffer][-50:]))


@pytest.mark.slow
def test_ten_seeds_reach_stocks_return_in_the_same_number_of_steps() -> None:
    torch.set_num_threads(1)
    ours, stocks = (np.array([final_return(make, seed) for seed in SEEDS]) for make in (learner, stock))
    print(f"ours {ours.round()}, mean {ours.mean():.0f}; stock {stocks.round()}, mean {stocks.mean():.0f}")
    standard_error = np.sqrt((ours.var(ddof=1) + stocks.var(ddof=1)) / len(SEEDS))
    assert ours.mean() > stocks.mean() - 2 * standard_error
    # Without memory the same number of steps gets nowhere near: the task is one of memory.
    forgetful = PPO(
        "MlpPolicy", cart_poles(16, 500), policy_kwargs={"net_arch": [32]}, seed=0, device="cpu", **SETTINGS
    )
    forgetful.learn(STEPS)
    assert ours.min() > 1.5 * np.mean([episode["r"] for episode in forgetful.ep_info_buffer][-50:])
