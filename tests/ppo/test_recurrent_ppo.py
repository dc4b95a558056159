"""DeviceRecurrentPPO is stock RecurrentPPO: the same rollouts, losses, gradients, steps and checkpoints."""

import json
import zipfile
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EvalCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnvWrapper, VecMonitor, VecNormalize

from biped.ppo.kl_schedule import KlSchedule
from biped.ppo.policy import MlpIntoLstmPolicy
from biped.ppo.recurrent_pass import evaluate_sequences
from biped.ppo.recurrent_ppo import DeviceRecurrentPPO
from tests.ppo.tasks import boxed, cart_poles, learn, learner, pendulums, silenced, stock


@pytest.fixture(autouse=True)
def stock_cuts_no_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stock's minibatches begin at a random transition, and no gradient flows back over that cut; here at the first."""
    draw = np.random.randint
    monkeypatch.setattr(np.random, "randint", lambda *args, **kw: draw(*args, **kw) if len(args) > 1 or kw else 0)


TASKS = {"cart-pole": cart_poles, "pendulum": pendulums, "actions of two axes": boxed}


def whole(env: Any) -> dict[str, Any]:
    """Return the arguments of one minibatch an epoch: then the two differ in nothing."""
    return {"env": env, "batch_size": 16 * env.num_envs}


def both(task: str, rollouts: int, **changes: Any) -> tuple[DeviceRecurrentPPO, RecurrentPPO]:
    # One after the other: the seed is set when a model is made.
    ours, theirs = [learn(make(**whole(TASKS[task]()), **changes), rollouts) for make in (learner, stock)]
    return ours, theirs


@pytest.mark.parametrize("task", TASKS)
def test_rollouts_are_stocks_time_outs_and_terminations_included(task: str) -> None:
    ours, theirs = both(task, rollouts=2, n_epochs=1, learning_rate=1e-9)
    a, b = ours.rollout_buffer, theirs.rollout_buffer
    for name in ("observations", "actions", "rewards", "values", "log_probs", "advantages", "returns"):
        mine, stocks = getattr(a, name).numpy(), getattr(b, name)
        if name != "rewards":  # its minibatches have turned all others around in place
            stocks = stocks.reshape(b.n_envs, b.buffer_size, -1).swapaxes(0, 1)
        np.testing.assert_allclose(mine.ravel(), stocks.ravel(), atol=1e-4, rtol=1e-4, err_msg=name)
    assert a.episode_starts[1:].any(), "no episode ended within the rollout: this would prove little"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("inner_starts", [False, True])
def test_loss_and_every_gradient_equal_stocks(task: str, inner_starts: bool) -> None:
    n_steps = 16 if inner_starts else 8  # no episode ends within its first 8 steps
    settings = {"n_steps": n_steps, "n_epochs": 1, "max_grad_norm": 1e9, "ent_coef": 0.01, "clip_range_vf": 0.2}
    ours, theirs = [learn(make(TASKS[task](), batch_size=999, **settings)) for make in (learner, stock)]
    assert bool(ours.rollout_buffer.episode_starts[1:].any()) == inner_starts
    gradients = {name: p.grad for name, p in theirs.policy.named_parameters()}
    for name, parameter in ours.policy.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-5, rtol=1e-5)
    mine, stocks = ours.logger.name_to_value, theirs.logger.name_to_value
    assert set(stocks) <= set(mine)
    for name in stocks:
        assert mine[name] == pytest.approx(stocks[name], rel=1e-4, abs=1e-5), name


@pytest.mark.parametrize("task", TASKS)
def test_whole_trainings_take_the_same_course(task: str) -> None:
    ours, theirs = both(task, rollouts=4, n_epochs=3, learning_rate=1e-3)
    for name, parameter in theirs.policy.named_parameters():
        torch.testing.assert_close(ours.policy.state_dict()[name], parameter.data, atol=1e-4, rtol=1e-3)
    assert ours.num_timesteps == theirs.num_timesteps
    assert ours._n_updates == theirs._n_updates == 12
    mine, stocks = ([(e["r"], e["l"]) for e in m.ep_info_buffer] for m in (ours, theirs))
    assert len(mine) > 5
    np.testing.assert_allclose(mine, stocks, rtol=1e-4)


def test_target_kl_stops_within_an_epoch_too() -> None:
    """Of eight minibatches the one that exceeds it is the last to be looked at, and no step is taken any more."""
    model = learner(cart_poles(), n_epochs=1, learning_rate=1e-2, target_kl=1e-7, batch_size=16)
    steps: list[bool] = []
    step = torch.optim.Adam.step

    def counted(self: Any, *args: Any) -> Any:
        steps.append(not bool(self.found_inf))
        return step(self, *args)

    torch.optim.Adam.step = counted
    try:
        learn(model)
    finally:
        torch.optim.Adam.step = step
    # The first minibatch finds the policy that acted; its step is the only one.
    assert steps == [True] + [False] * 7
    assert model.logger.name_to_value["train/skipped_steps"] == 0


@pytest.mark.parametrize("stop_at", [0.5, 1e-7, 1e-5])
def test_target_kl_ends_the_update_where_stock_ends_it(stop_at: float) -> None:
    ours, theirs = both("cart-pole", rollouts=2, n_epochs=6, learning_rate=1e-3, target_kl=stop_at)
    assert ours._n_updates == theirs._n_updates
    for name, parameter in theirs.policy.named_parameters():
        torch.testing.assert_close(ours.policy.state_dict()[name], parameter.data, atol=1e-4, rtol=1e-3)
    assert theirs._n_updates < 12 or stop_at == 0.5


def test_outputs_equal_a_step_by_step_reference_across_inner_starts() -> None:
    model = learn(learner(cart_poles(), learning_rate=1e-9), 3)
    buffer = model.rollout_buffer
    states = RNNStates(*(tuple(s.clone() for s in pair) for pair in buffer.initial_states))
    values, log_probs = [], []
    with torch.no_grad():
        for step in range(buffer.buffer_size):
            starts = buffer.episode_starts[step].float()
            value, _, _ = model.policy.evaluate_actions(buffer.observations[step], buffer.actions[step], states, starts)
            distribution, _ = model.policy.get_distribution(buffer.observations[step], states.pi, starts)
            _, _, _, states = model.policy(buffer.observations[step], states, starts)
            values.append(value.flatten())
            log_probs.append(distribution.log_prob(buffer.actions[step]))
    reference = torch.stack(values).flatten(), torch.stack(log_probs).flatten()
    assert buffer.episode_starts[1:].any()
    torch.testing.assert_close(buffer.values.flatten(), reference[0], atol=1e-5, rtol=1e-4)
    for minibatch in buffer.minibatches(3):
        with torch.no_grad():
            distribution, outputs, _ = evaluate_sequences(
                model.policy, minibatch.observations, minibatch.blocks, minibatch.states
            )
            log_prob = minibatch.without_padding(distribution.log_prob(minibatch.actions))
        torch.testing.assert_close(minibatch.without_padding(outputs), minibatch.old_values, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(log_prob, minibatch.old_log_prob, atol=1e-5, rtol=1e-4)


def test_hidden_states_line_up_at_the_rollouts_edge() -> None:
    """One rollout of 16 steps leaves what two of 8 leave, and the second begins with what the first ended with."""
    long = learn(learner(cart_poles(), n_steps=16, learning_rate=1e-9))
    short = learner(cart_poles(), n_steps=8, learning_rate=1e-9)
    edges: list[RNNStates] = []

    class Edges(BaseCallback):
        def _on_rollout_start(self) -> None:
            edges.append(self.model.rollout_buffer.initial_states)

        def _on_step(self) -> bool:
            return True

    learn(short, 2, Edges())
    assert not any(s.any() for s in (*edges[0].pi, *edges[0].vf))
    assert all(s.any() for s in (*edges[1].pi, *edges[1].vf))
    for mine, whole_ in zip(short._last_lstm_states, long._last_lstm_states, strict=True):
        torch.testing.assert_close(mine, whole_)


class Counter(gymnasium.Env):
    """Dictionary observations and several discrete actions."""

    observation_space = spaces.Dict({"b": spaces.Box(0, 9, (2,)), "a": spaces.Discrete(3)})
    action_space = spaces.MultiDiscrete([2, 3])

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        self.steps = 0
        return {"a": 0, "b": np.zeros(2, np.float32)}, {}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        self.steps += 1
        observation = {"a": self.steps % 3, "b": np.full(2, self.steps, np.float32)}
        return observation, float(action[0]), self.steps == 7, self.steps == 5 and action[1] == 0, {}


VARIANTS = {
    "dictionaries": ("MultiInputLstmPolicy", lambda: make_vec_env(Counter, 4), {}),
    "one LSTM for both": ("MlpLstmPolicy", cart_poles, {"shared_lstm": True, "enable_critic_lstm": False}),
    "critic without LSTM": ("MlpLstmPolicy", cart_poles, {"enable_critic_lstm": False}),
    "extractors apart": ("MlpLstmPolicy", cart_poles, {"share_features_extractor": False}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_recurrent_policy_takes_stocks_course(variant: str) -> None:
    policy, make_env, kwargs = VARIANTS[variant]
    kwargs = {"lstm_hidden_size": 8, **kwargs}
    ours, theirs = [
        learn(make(policy=policy, **whole(make_env()), policy_kwargs=kwargs), 3) for make in (learner, stock)
    ]
    for name, parameter in theirs.policy.named_parameters():
        torch.testing.assert_close(ours.policy.state_dict()[name], parameter.data, atol=1e-4, rtol=1e-3)


def test_state_dependent_exploration_runs() -> None:
    model = learn(learner(pendulums(), use_sde=True, sde_sample_freq=4), 2)
    assert all(parameter.isfinite().all() for parameter in model.policy.parameters())
    assert np.isfinite(model.logger.name_to_value["train/loss"])


def test_an_environment_on_tensors_and_the_same_one_on_numpy_give_the_same_rollout(make) -> None:
    from dataclasses import replace

    from biped.env.env import BipedVecEnv

    rollouts = []
    for wrap in (BipedVecEnv, lambda env: VecMonitor(BipedVecEnv(env))):
        env = make(seed=5)
        short = type(env)(replace(env.cfg, termination=replace(env.cfg.termination, episode_s=0.2)), env.scene, seed=5)
        model = learner(wrap(short), MlpIntoLstmPolicy, n_steps=24, policy_kwargs={"hidden_sizes": (8,)})
        rollouts.append((learn(model).rollout_buffer, [(e["r"], e["l"]) for e in model.ep_info_buffer]))
    (tensors, on_tensors), (arrays, on_arrays) = rollouts
    assert tensors.episode_starts[1:].any()
    for name in ("observations", "actions", "rewards", "values", "advantages"):
        torch.testing.assert_close(getattr(tensors, name), getattr(arrays, name), atol=1e-4, rtol=1e-4)
    assert len(on_tensors) == len(on_arrays) == 16
    np.testing.assert_allclose(sorted(on_tensors), sorted(on_arrays), atol=1e-3)


def test_the_environment_gets_actions_within_its_bounds_and_the_buffer_those_that_were_drawn() -> None:
    taken: list[np.ndarray] = []

    class Recorded(VecEnvWrapper):
        def reset(self) -> Any:
            return self.venv.reset()

        def step_async(self, actions: np.ndarray) -> None:
            taken.append(actions)
            self.venv.step_async(actions)

        def step_wait(self) -> Any:
            return self.venv.step_wait()

    model = learn(learner(Recorded(pendulums()), policy_kwargs={"log_std_init": 2.0}))
    drawn = model.rollout_buffer.actions.numpy()
    assert np.abs(drawn).max() > 4.0
    np.testing.assert_allclose(np.stack(taken), drawn.clip(-2.0, 2.0))


# ---- checkpoints ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["MlpLstmPolicy", MlpIntoLstmPolicy])
def test_stock_opens_a_checkpoint_acts_alike_and_learns_on(policy: Any, tmp_path: Path) -> None:
    kwargs = {"lstm_hidden_size": 8}
    ours = learn(learner(pendulums(), policy, policy_kwargs=kwargs, kl_schedule=KlSchedule()), 2)
    ours.save(tmp_path / "model.zip")
    theirs = RecurrentPPO.load(tmp_path / "model.zip", env=pendulums(), device="cpu")
    observations = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
    mine = stocks = None
    for observation in observations:
        a, mine = ours.predict(observation, mine, deterministic=True)
        b, stocks = theirs.predict(observation, stocks, deterministic=True)
        np.testing.assert_allclose(a, b, atol=1e-6)
        np.testing.assert_allclose(mine, stocks, atol=1e-6)
    theirs.learn(4 * 16, reset_num_timesteps=False)
    assert theirs.num_timesteps == ours.num_timesteps + 64


def test_a_loaded_learner_is_the_saved_one(tmp_path: Path) -> None:
    settings = {"kl_schedule": KlSchedule(0.02, 1e-6, 1e-1), "precision": "bf16", "std_range": (0.1, 0.9)}
    ours = learn(learner(pendulums(), **settings), 3)
    ours.save(tmp_path / "model.zip")
    loaded = DeviceRecurrentPPO.load(tmp_path / "model.zip", env=pendulums(), device="cpu")
    assert {name: getattr(loaded, name) for name in settings} == settings
    assert loaded._rate == ours._rate != 3e-4
    for name, value in ours.policy.state_dict().items():
        torch.testing.assert_close(loaded.policy.state_dict()[name], value)
    learn(silenced(loaded))


def test_a_checkpoint_holds_nothing_that_lies_on_a_device(tmp_path: Path) -> None:
    """A machine without that device has to open it; and rollouts do not belong into it."""
    learn(learner(pendulums())).save(tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        data = json.loads(archive.read("data"))
    assert "policy_class" in data
    kinds = {name: value[":type:"] for name, value in data.items() if isinstance(value, dict) and ":type:" in value}
    assert not [name for name, kind in kinds.items() if "ensor" in kind or "RNNStates" in kind or "biped" in kind]
    assert {"_last_obs", "_last_lstm_states", "_bounds", "_last_good", "rollout_buffer"}.isdisjoint(data)


# ---- callbacks and wrappers -----------------------------------------------------------------------------------------


def test_stable_baselines_callbacks_and_wrappers_work() -> None:
    env = VecNormalize(cart_poles())
    callbacks = CallbackList(
        [StopTrainingOnMaxEpisodes(20), EvalCallback(VecNormalize(cart_poles(1)), n_eval_episodes=1, eval_freq=8)]
    )
    model = learner(env)
    learn(model, 50, callbacks)
    assert 20 * 9 <= model.num_timesteps < 50 * 16 * 8
    assert model.ep_info_buffer


def test_a_callback_that_acts_itself_does_not_disturb_the_rollout() -> None:
    """Stable-Baselines3's policies keep their last distribution; an evaluation in between replaces it."""
    plain = learn(learner(pendulums()))
    watched = learner(pendulums())
    learn(watched, 1, EvalCallback(pendulums(3), n_eval_episodes=3, eval_freq=5, deterministic=True))
    torch.testing.assert_close(watched.rollout_buffer.means, plain.rollout_buffer.means)
    assert watched.logger.name_to_value["train/kl"] == pytest.approx(plain.logger.name_to_value["train/kl"])


def test_a_callback_may_train_something_of_its_own() -> None:
    class Auxiliary(BaseCallback):
        def _on_step(self) -> bool:
            weight = torch.nn.Parameter(torch.ones(1))
            (weight * 2).backward()
            assert torch.distributions.Distribution._validate_args
            return weight.grad is not None

    assert learn(learner(pendulums()), 1, Auxiliary()).num_timesteps == 64


def test_callbacks_see_what_stock_shows_them() -> None:
    seen: list[set[str]] = []

    class Locals(BaseCallback):
        def _on_step(self) -> bool:
            seen.append(set(self.locals))
            return True

    for make in (learner, stock):
        learn(make(cart_poles()), 1, Locals())
    assert seen[0] >= seen[-1] - {"self", "idx", "done_", "terminal_obs", "terminal_value", "terminal_lstm_state"}


def test_a_callback_ends_the_training_within_a_rollout() -> None:
    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            return self.n_calls < 5

    model = learn(learner(cart_poles()), 3, Stop())
    assert model.num_timesteps == 5 * 8
    assert model._n_updates == 0


def test_after_a_rollout_that_was_ended_early_the_next_goes_on_from_there() -> None:
    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            return self.n_calls < 4

    env = make_vec_env(Counter, 2)
    model = learn(learner(env, "MultiInputLstmPolicy", policy_kwargs={"lstm_hidden_size": 8}), 1, Stop())
    state = [tensor.clone() for tensor in model._last_lstm_states.pi]
    model.learn(32, reset_num_timesteps=False, log_interval=None)
    first, buffer = model.rollout_buffer.observations["b"][0, 0, 0], model.rollout_buffer
    assert first == 4.0
    assert not buffer.episode_starts[0].any()
    torch.testing.assert_close(list(buffer.initial_states.pi), state)


def test_a_batch_smaller_than_one_environments_steps_is_one_environment() -> None:
    model = learner(cart_poles(), batch_size=4)
    assert model.n_minibatches == 8
    assert learner(cart_poles(), batch_size=48).n_minibatches == 3
    assert learner(cart_poles(), batch_size=None).n_minibatches == 1
    learn(model)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"precision": "fp16"}, "precision"),
        ({"std_range": (0.0, 1.0)}, "std_range"),
        ({"std_range": (2, 1)}, "std_range"),
        ({"clip_range_vf": -1.0}, "clip_range_vf"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        learner(pendulums(), **settings)
