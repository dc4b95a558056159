"""An actor and a critic that see different things."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from biped.ppo.acting import DeterministicActor
from biped.ppo.groups import ACTOR, CRITIC
from biped.ppo.mirror import Mirror, Reflection
from biped.ppo.policy import MlpIntoLstmPolicy
from biped.ppo.recurrent_pass import evaluate_actor, evaluate_critic, single_steps
from biped.ppo.recurrent_ppo import DeviceRecurrentPPO
from biped.ppo.snapshot import learner_state, restore_learner
from tests.ppo.tasks import learn, learner

KWARGS = {"hidden_sizes": (16,), "lstm_hidden_size": 16, "n_lstm_layers": 1}
ESTIMATES = {"estimates": (2,), "estimate_coef": 1.0}
"""The critic's third number is the velocity, which the actor is not shown."""
CPU = torch.device("cpu")


class Grouped(gymnasium.ObservationWrapper):
    """A pendulum whose actor sees where it is, and whose critic also sees how fast it turns."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        box = gymnasium.spaces.Box
        self.observation_space = gymnasium.spaces.Dict(
            {ACTOR: box(-1, 1, (2,), np.float32), CRITIC: box(-9, 9, (3,), np.float32)}
        )

    def observation(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        return {ACTOR: observation[:2], CRITIC: observation}


def grouped(n_envs: int = 4, max_episode_steps: int = 10) -> VecEnv:
    return make_vec_env(lambda: Grouped(gymnasium.make("Pendulum-v1", max_episode_steps=max_episode_steps)), n_envs)


def asymmetric(env: VecEnv | None = None, policy_kwargs: dict[str, Any] | None = None, **changes: Any) -> Any:
    kwargs = {**KWARGS, **(ESTIMATES if policy_kwargs is None else policy_kwargs)}
    return learner(env or grouped(), MlpIntoLstmPolicy, policy_kwargs=kwargs, **changes)


def test_each_network_takes_its_own_group() -> None:
    policy = asymmetric().policy
    assert [policy.pi_features_extractor.group, policy.vf_features_extractor.group] == [ACTOR, CRITIC]
    assert policy.pi_features_extractor.layers[0].in_features == 2
    assert policy.vf_features_extractor.layers[0].in_features == 3


def test_nothing_that_the_critic_sees_moves_an_action_by_a_bit() -> None:
    model = learn(asymmetric(policy_kwargs={**ESTIMATES, "normalize_observations": True}), 2)
    one = {ACTOR: torch.randn(4, 2), CRITIC: torch.randn(4, 3)}
    other = {**one, CRITIC: torch.full((4, 3), torch.nan)}
    state = tuple(torch.randn(1, 4, 16) for _ in range(2))
    (first, *rest), (second, *same) = (
        evaluate_actor(model.policy, seen, single_steps(4), state) for seen in (one, other)
    )
    assert torch.equal(first.distribution.mean, second.distribution.mean)
    for mine, its in zip((*rest[0], rest[1]), (*same[0], same[1]), strict=True):
        assert torch.equal(mine, its)
    values = [evaluate_critic(model.policy, seen, single_steps(4), state)[0] for seen in (one, other)]
    assert not torch.equal(*values)
    # The actor's group alone is enough to act.
    actor = DeterministicActor(model.policy, 4, "fp32")
    begins = torch.ones(4, dtype=torch.bool)
    assert torch.equal(actor(one[ACTOR], begins), actor(one, begins))


def test_a_snapshot_has_both_groups_and_puts_them_back() -> None:
    """That a run goes on bit by bit from one is shown in tests/train/test_state.py."""
    model = learn(asymmetric(), 2)
    state = learner_state(model)
    assert {"observations.policy", "observations.critic"} <= set(state)
    again = asymmetric()
    restore_learner(again, state)
    for group in (ACTOR, CRITIC):
        assert torch.equal(again._last_obs[group], model._last_obs[group])
    assert torch.equal(again._last_lstm_states.pi[0], model._last_lstm_states.pi[0])


def test_the_memory_learns_to_tell_what_the_actor_is_not_shown() -> None:
    """The velocity of a pendulum has to be worked out from where it was."""
    torch.manual_seed(0)
    env = grouped(16, 50)
    kwargs = {**KWARGS, "lstm_hidden_size": 32, "estimates": (2,), "estimate_coef": 1.0}
    model = learner(env, MlpIntoLstmPolicy, policy_kwargs=kwargs, n_steps=50, learning_rate=3e-3, batch_size=200)
    learn(model, 1)
    first = model.logger.name_to_value["train/estimate_loss"]
    learn(model, 25)
    last = model.logger.name_to_value["train/estimate_loss"]
    assert first > 1.0, "the velocity varies"
    assert last < 0.1 * first


def test_the_heads_loss_is_its_mean_square_error_and_is_part_of_the_total() -> None:
    records = {}
    for coef in (0.0, 2.0):
        model = asymmetric(policy_kwargs={"estimates": (2,), "estimate_coef": coef}, n_epochs=1, batch_size=None)
        learn(model)
        records[coef] = dict(model.logger.name_to_value)
        with torch.no_grad():
            seen = {name: group.flatten(0, 1) for name, group in model.rollout_buffer.observations.items()}
        assert records[coef]["train/estimate_loss"] == pytest.approx(
            seen[CRITIC][:, 2].square().mean().item(), rel=0.3
        ), "a head begins near zero"
    without, with_it = records[0.0], records[2.0]
    assert with_it["train/estimate_loss"] == pytest.approx(without["train/estimate_loss"])
    difference = with_it["train/loss"] - without["train/loss"]
    assert difference == pytest.approx(2.0 * with_it["train/estimate_loss"], rel=1e-4)


def test_without_a_head_nothing_is_estimated_nor_logged() -> None:
    model = learn(asymmetric(policy_kwargs={}))
    assert model.policy.estimator is None
    assert "train/estimate_loss" not in model.logger.name_to_value
    with pytest.raises(ValueError, match="no groups"):
        learner(make_vec_env("Pendulum-v1", 2), MlpIntoLstmPolicy, policy_kwargs={**KWARGS, "estimates": (0,)})


def test_each_group_has_a_normaliser_of_its_own_and_takes_it_along(tmp_path: Any) -> None:
    model = learn(asymmetric(policy_kwargs={**ESTIMATES, "normalize_observations": True}), 3)
    actor, critic = model.policy.pi_features_extractor.normalizer, model.policy.vf_features_extractor.normalizer
    assert [len(actor.mean), len(critic.mean)] == [2, 3]
    assert actor.count == critic.count == model.num_timesteps
    torch.testing.assert_close(actor.mean, critic.mean[:2])
    model.save(tmp_path / "model.zip")
    observation = {ACTOR: np.ones((4, 2), np.float32), CRITIC: np.zeros((4, 3), np.float32)}
    acts = [
        kind.load(tmp_path / "model.zip", device="cpu").predict(observation, deterministic=True)[0]
        for kind in (DeviceRecurrentPPO, RecurrentPPO)
    ]
    for act in acts:
        np.testing.assert_allclose(act, model.predict(observation, deterministic=True)[0], atol=1e-6)


def test_both_groups_are_seen_in_the_mirror_together() -> None:
    negate = Reflection.build([0], [-1.0], CPU)
    mirror = Mirror(
        {
            ACTOR: Reflection.build([0, 1], [1.0, -1.0], CPU),
            CRITIC: Reflection.build([0, 1, 2], [1.0, -1.0, -1.0], CPU),
        },
        negate,
    )
    model = learn(asymmetric(mirror=mirror), 2)
    drawn = {tuple(row) for row in model.rollout_buffer.observations[CRITIC].flatten(0, 1).tolist()}
    kinds = set()
    for minibatch in model.rollout_buffer.minibatches(1):
        seen = {name: minibatch.without_padding(group) for name, group in minibatch.observations.items()}
        torch.testing.assert_close(seen[ACTOR], seen[CRITIC][:, :2])
        for row, plain in zip(seen[CRITIC].tolist(), (minibatch.weights > 0).tolist(), strict=True):
            kinds.add(plain)
            x, y, rate = row
            assert ((x, y, rate) if plain else (x, -y, -rate)) in drawn
    assert kinds == {False, True}
    with pytest.raises(ValueError, match="mirror: observations critic must be vectors of 2"):
        asymmetric(mirror=Mirror({ACTOR: mirror.observations[ACTOR], CRITIC: mirror.observations[ACTOR]}, negate))
    with pytest.raises(ValueError, match="mirror: observations critic must be vectors of 0"):
        asymmetric(mirror=Mirror({ACTOR: mirror.observations[ACTOR]}, negate))


def test_other_groups_are_refused() -> None:
    class Odd(gymnasium.ObservationWrapper):
        def __init__(self, env: gymnasium.Env) -> None:
            super().__init__(env)
            self.observation_space = gymnasium.spaces.Dict({"eyes": env.observation_space})

        def observation(self, observation: np.ndarray) -> dict[str, np.ndarray]:
            return {"eyes": observation}

    with pytest.raises(ValueError, match="observations have eyes, but the groups must be policy and critic"):
        learner(make_vec_env(lambda: Odd(gymnasium.make("Pendulum-v1")), 2), MlpIntoLstmPolicy, policy_kwargs=KWARGS)


def test_without_memory_a_policy_does_the_same_whatever_was_before() -> None:
    model = learn(asymmetric(policy_kwargs={**ESTIMATES, "memory": False}, n_steps=8), 3)
    actor, begins = DeterministicActor(model.policy, 4, "fp32"), torch.zeros(4, dtype=torch.bool)
    seen = torch.randn(4, 2)
    first = actor(seen, begins)
    actor(torch.randn(4, 2), begins)
    assert torch.equal(actor(seen, begins), first)
    with_memory = DeterministicActor(asymmetric().policy, 4, "fp32")
    assert not torch.equal(with_memory(seen, begins), with_memory(seen, begins))


def test_without_memory_stock_code_acts_as_ours(tmp_path: Any) -> None:
    model = learn(asymmetric(policy_kwargs={**ESTIMATES, "memory": False}), 1)
    model.save(tmp_path / "model.zip")
    stock = RecurrentPPO.load(tmp_path / "model.zip", device="cpu")
    actor, starts, state = DeterministicActor(model.policy, 4, "fp32"), np.ones(4, dtype=bool), None
    for _ in range(3):
        seen = {ACTOR: np.random.randn(4, 2).astype(np.float32), CRITIC: np.zeros((4, 3), np.float32)}
        theirs, state = stock.predict(seen, state, starts, deterministic=True)
        mine = actor(torch.from_numpy(seen[ACTOR]), torch.from_numpy(starts))
        np.testing.assert_allclose(theirs, mine.clamp(-2.0, 2.0).numpy(), atol=1e-6)
        starts = np.zeros(4, dtype=bool)
