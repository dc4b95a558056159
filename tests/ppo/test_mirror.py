"""Learning in the mirror: what a minibatch shows, what the memory is, and what a policy makes of it."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from biped.ppo.acting import DeterministicActor
from biped.ppo.buffer import DeviceRolloutBuffer, _random_half
from biped.ppo.mirror import Mirror, Reflection, advance_mirrored
from biped.ppo.recurrent_pass import evaluate_sequences
from biped.ppo.sequences import Block
from tests.ppo.tasks import boxed, cart_poles, learn, learner

CPU = torch.device("cpu")
NEGATE = Mirror(Reflection.build([0], [-1.0], CPU), Reflection.build([0], [-1.0], CPU))
SWAP = Mirror(Reflection.build([1, 0, 2], [1.0, 1.0, -1.0], CPU), Reflection.build([1, 0], [1.0, 1.0], CPU))
N_STEPS, N_ENVS = 6, 8


def filled_buffer() -> DeviceRolloutBuffer:
    """Every number says which step of which environment it belongs to; an episode begins within three of them."""
    spaces = gymnasium.spaces.Box(-1, 1, (3,)), gymnasium.spaces.Box(-1, 1, (2,))
    buffer = DeviceRolloutBuffer(N_STEPS, N_ENVS, *spaces, CPU, keep_means=True, mirror=SWAP)
    states = torch.arange(N_ENVS).float()[None, :, None].expand(1, N_ENVS, 4)
    buffer.begin(RNNStates((states, states), (states, states)), None, RNNStates(*[(states + 100, states + 100)] * 2))
    for step in range(N_STEPS):
        name = 100.0 * step + torch.arange(N_ENVS)
        start = torch.zeros(N_ENVS, dtype=torch.bool)
        start[:3] = step == 2
        vectors = torch.stack((name, name + 0.25, name + 0.5), dim=1)
        buffer.add(vectors, vectors[:, :2], name, start, name, name, vectors[:, :2])
    buffer.compute_returns_and_advantage(torch.zeros(N_ENVS), torch.zeros(N_ENVS, dtype=torch.bool), 0.9, 0.9)
    return buffer


def test_half_of_the_environments_are_seen_in_the_mirror_whole_and_with_everything_that_belongs_to_them() -> None:
    np.random.seed(0)
    mirrored_envs: list[set[int]] = []
    for _ in range(4):
        mirrored: set[int] = set()
        for minibatch in filled_buffer().minibatches(2):
            name = minibatch.old_values
            observations = minibatch.without_padding(minibatch.observations)
            plain = torch.stack((name, name + 0.25, name + 0.5), dim=1)
            in_mirror = observations[:, 0] != name
            torch.testing.assert_close(observations, torch.where(in_mirror[:, None], SWAP.observations(plain), plain))
            actions = torch.where(in_mirror[:, None], plain[:, :2].flip(1), plain[:, :2])
            torch.testing.assert_close(minibatch.without_padding(minibatch.actions), actions)
            assert minibatch.old_means is not None
            assert minibatch.weights is not None
            torch.testing.assert_close(minibatch.old_means, plain[:, :2])
            weights = (~in_mirror).float() if (~in_mirror).any() else torch.ones(len(in_mirror))
            torch.testing.assert_close(minibatch.weights, weights / weights.sum())
            torch.testing.assert_close(minibatch.old_log_prob, name)
            envs, chosen = (name % 100).int().tolist(), in_mirror.tolist()
            assert all(chosen[i] == chosen[envs.index(env)] for i, env in enumerate(envs)), "whole environments"
            mirrored |= {env for env, flag in zip(envs, chosen, strict=True) if flag}
            begun_before = minibatch.states.pi[0][0, :, 0]
            for value in begun_before[begun_before != 0].tolist():
                assert (value >= 100) == (int(value) % 100 in mirrored)
        assert len(mirrored) == N_ENVS // 2
        mirrored_envs.append(mirrored)
    assert len(set(map(frozenset, mirrored_envs))) > 1, "drawn anew"


def test_the_memory_is_that_of_a_policy_that_saw_everything_in_the_mirror() -> None:
    class Task(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (3,))
        action_space = gymnasium.spaces.Box(-1, 1, (2,))

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            super().reset(seed=seed)
            return np.zeros(3, np.float32), {}

        def step(self, action: np.ndarray) -> Any:
            return np.zeros(3, np.float32), 0.0, False, False, {}

    model = learner(make_vec_env(Task, 2))
    lstm = model.policy.lstm_actor
    zeros = torch.zeros(lstm.num_layers, 2, lstm.hidden_size)
    memory = RNNStates((zeros, zeros), (zeros, zeros))
    seen = torch.rand(5, 2, 3)
    starts = torch.zeros(5, 2, dtype=torch.bool)
    starts[2, 1] = True
    for step in range(5):
        memory = advance_mirrored(SWAP, model.policy, seen[step], starts[step], memory)
    # Of the first robot all five steps, of the second those from its episode's start on.
    for robot, first in ((0, 0), (1, 2)):
        mirrored = SWAP.observations(seen[first:, robot])
        one = RNNStates(*[(zeros[:, :1], zeros[:, :1])] * 2)
        *_, states = evaluate_sequences(model.policy, mirrored, (Block(5 - first, 1),), one)
        torch.testing.assert_close(memory.pi[0][:, robot], states.pi[0][:, 0])
        torch.testing.assert_close(memory.vf[1][:, robot], states.vf[1][:, 0])


def test_one_environment_is_sometimes_seen_in_the_mirror_and_sometimes_not() -> None:
    np.random.seed(0)
    assert {tuple(_random_half(1)) for _ in range(30)} == {(True,), (False,)}
    assert {int(_random_half(3).sum()) for _ in range(30)} == {1, 2}


def test_a_policy_that_has_not_changed_has_no_divergence_in_the_mirror_either() -> None:
    model = learn(learner(one_sided(), mirror=NEGATE, n_epochs=1, learning_rate=1e-30))
    assert model.logger.name_to_value["train/kl"] == pytest.approx(0.0, abs=1e-6)
    assert model.logger.name_to_value["train/approx_kl"] == pytest.approx(0.0, abs=1e-6)


class OneSided(gymnasium.Env):
    """Say the number that you see, which is never below zero; an episode has four."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Box(-2, 2, (1,))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.count = 0
        return self._draw(), {}

    def step(self, action: np.ndarray) -> Any:
        reward = -abs(float(action[0] - self.seen[0]))
        self.count += 1
        return self._draw(), reward, self.count == 4, False, {}

    def _draw(self) -> np.ndarray:
        self.seen = self.np_random.uniform(0.2, 1.0, 1).astype(np.float32)
        return self.seen


def one_sided(n_envs: int = 8) -> VecEnv:
    return make_vec_env(OneSided, n_envs, seed=0)


def answer(model: Any, seen: float) -> float:
    actor = DeterministicActor(model.policy, 1, "fp32")
    return actor(torch.tensor([[seen]]), torch.ones(1, dtype=torch.bool)).item()


def test_what_was_learned_on_one_side_is_known_on_the_other() -> None:
    settings = {"n_steps": 32, "n_epochs": 10, "learning_rate": 3e-3}
    both = learn(learner(one_sided(), mirror=NEGATE, **settings), rollouts=30)
    assert answer(both, 0.8) == pytest.approx(0.8, abs=0.3)
    assert answer(both, -0.8) == pytest.approx(-answer(both, 0.8), abs=0.15)
    one = learn(learner(one_sided(), **settings), rollouts=30)
    assert answer(one, 0.8) == pytest.approx(0.8, abs=0.3)
    assert abs(answer(one, -0.8) + answer(one, 0.8)) > 0.3


def test_a_mirror_of_another_size_and_one_for_choices_are_refused() -> None:
    with pytest.raises(ValueError, match="mirror: observations must be vectors of 3"):
        learner(one_sided(), mirror=SWAP)
    with pytest.raises(ValueError, match="mirror: actions must be boxes"):
        two = Mirror(Reflection.build([1, 0], [1.0, 1.0], CPU), NEGATE.actions)
        learner(cart_poles(), mirror=two)


def test_a_mirror_of_actions_with_two_axes_counts_them_one_after_the_other() -> None:
    actions = Reflection.build([3, 4, 5, 0, 1, 2], [1.0] * 6, CPU)
    mirror = Mirror(Reflection.build([0, 1, 2], [1.0, -1.0, -1.0], CPU), actions)
    model = learn(learner(boxed(), mirror=mirror, n_epochs=1, learning_rate=1e-30))
    drawn = model.rollout_buffer.actions
    (minibatch,) = model.rollout_buffer.minibatches(1)
    seen = minibatch.without_padding(minibatch.actions)
    assert drawn.shape == (16, 4, 6)
    as_they_were = minibatch.weights > 0
    assert 0.0 < as_they_were.float().mean() < 1.0
    rows = {tuple(row) for row in drawn.flatten(0, 1).tolist()}
    for row, as_it_was in zip(seen.tolist(), as_they_were.tolist(), strict=True):
        assert tuple(row if as_it_was else row[3:] + row[:3]) in rows
    assert model.logger.name_to_value["train/kl"] == pytest.approx(0.0, abs=1e-6)


def test_a_checkpoint_leaves_the_mirror_to_who_loads_it(tmp_path: Any) -> None:
    model = learn(learner(one_sided(), mirror=NEGATE))
    model.save(tmp_path / "model.zip")
    again = type(model).load(tmp_path / "model.zip", env=one_sided(), device="cpu")
    assert again.mirror is None
    learn(again)
