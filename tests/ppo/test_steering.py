"""What steers and guards an update: the adaptive rate, skipped steps, bounds, the normaliser, mixed precision."""

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnvWrapper
from torch.distributions import Normal, kl_divergence

from biped.ppo.guard import LastGood, StepGuard, make_skippable
from biped.ppo.kl_schedule import KlSchedule
from biped.ppo.normalizer import RunningNormalizer
from biped.ppo.policy import MlpIntoLstmPolicy
from biped.ppo.recurrent_pass import evaluate_actor
from biped.ppo.recurrent_ppo import GIVE_UP_AFTER, DeviceRecurrentPPO
from tests.ppo.tasks import learn, learner, pendulums

ALLOWED = torch.tensor(True)

# ---- the learning rate ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("desired_kl", "factor"), [(1e3, 1.5**2), (1e-30, 1.5**-2)])
def test_the_adaptive_rate_moves_once_an_epoch_and_the_optimizer_uses_it(desired_kl: float, factor: float) -> None:
    schedule = KlSchedule(desired_kl, 1e-9, 1.0)
    model = learn(learner(pendulums(), kl_schedule=schedule, learning_rate=1e-3, n_epochs=2, batch_size=16))
    assert model.policy.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * factor)
    # Logged with the divergence that it acted on: the last epoch's rate, before that divergence moved it.
    assert model.logger.name_to_value["train/learning_rate"] == pytest.approx(1e-3 * factor**0.5)
    learn(model)
    assert model.policy.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * factor**2), "something undid it"


def test_the_rate_stays_while_the_divergence_is_as_desired() -> None:
    model = learn(learner(pendulums(), learning_rate=1e-3, n_epochs=3))
    kl = model.logger.name_to_value["train/kl"]
    steady = learn(learner(pendulums(), learning_rate=1e-3, n_epochs=3, kl_schedule=KlSchedule(kl, 1e-9, 1.0)))
    # The first epoch moves little and raises the rate; of the last, whose divergence is about as desired, nothing.
    assert steady.logger.name_to_value["train/learning_rate"] == steady.policy.optimizer.param_groups[0]["lr"]


def test_a_bigger_step_size_moves_the_policy_further() -> None:
    small, large = (learn(learner(pendulums(), learning_rate=rate)) for rate in (1e-4, 1e-2))
    moved = [model.logger.name_to_value["train/kl"] for model in (small, large)]
    assert 0 < moved[0] < 0.1 * moved[1]


def test_the_divergence_is_that_of_the_old_gaussian_from_the_new_one() -> None:
    """The second epoch finds the policy that the first one left: that of a learner with one epoch."""
    settings = {"learning_rate": 0.03, "batch_size": None}
    one, two = [learn(learner(pendulums(), n_epochs=n, **settings)) for n in (1, 2)]
    buffer = one.rollout_buffer
    with torch.no_grad():
        (minibatch,) = buffer.minibatches(1)
        distribution, *_ = evaluate_actor(one.policy, minibatch.observations, minibatch.blocks, minibatch.states.pi)
        means = minibatch.without_padding(distribution.distribution.mean)
        old = Normal(minibatch.old_means, buffer.log_std.exp().expand_as(means))
        new = Normal(means, one.policy.log_std.exp().expand_as(means))
        there, back = (kl_divergence(*pair).sum(dim=1).mean().item() for pair in ((old, new), (new, old)))
    assert two.logger.name_to_value["train/kl"] == pytest.approx(there, rel=1e-3)
    assert abs(there - back) > 0.02 * there, "too symmetric to tell the two apart"


def test_without_a_schedule_of_the_divergence_the_rate_is_the_scheduled_one() -> None:
    model = learn(learner(pendulums(), learning_rate=lambda progress: 1e-3 * progress), 4)
    assert model.policy.optimizer.param_groups[0]["lr"] == pytest.approx(0.0)
    assert learn(learner(pendulums(), learning_rate=1e-4), 3)._rate == 1e-4


# ---- skipped steps --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer_class", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_a_step_whose_gradient_or_loss_is_not_finite_is_left_out(optimizer_class: Any) -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    guard = StepGuard([parameter], optimizer_class([parameter], lr=0.1), torch.device("cpu"))
    trail = []
    for loss, gradient in [(1.0, 1.0), (1.0, np.nan), (np.inf, 1.0), (1.0, 1.0), (1.0, np.inf)]:
        parameter.grad = torch.full((3,), gradient)
        guard.step(torch.tensor(loss), 10.0, allowed=ALLOWED)
        trail.append(parameter[0].item())
    assert trail[0] < 1.0
    assert trail[0] == trail[1] == trail[2]
    assert trail[3] < trail[2]
    assert trail[3] == trail[4]
    assert guard.counts().tolist() == [3.0, 2.0]


@pytest.mark.parametrize("gradient", [1.0, np.nan])
@pytest.mark.parametrize("optimizer_class", [torch.optim.Adam, torch.optim.SGD])
def test_a_step_that_is_not_allowed_is_left_out_but_not_counted(gradient: float, optimizer_class: Any) -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    guard = StepGuard([parameter], optimizer_class([parameter], lr=0.1), torch.device("cpu"))
    parameter.grad = torch.full((3,), gradient)
    guard.step(torch.tensor(1.0), 10.0, allowed=~ALLOWED)
    assert parameter.tolist() == [1.0, 1.0, 1.0]
    assert guard.counts().tolist() == [0.0, 0.0]


def test_an_optimizer_whose_step_was_left_out_steps_for_anybody_else() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    parameter.grad = torch.ones(3)
    StepGuard([parameter], optimizer, torch.device("cpu")).step(torch.tensor(np.nan), 10.0, allowed=ALLOWED)
    parameter.grad = torch.ones(3)
    optimizer.step()
    assert parameter[0] < 1.0


def test_gradients_are_clipped_to_the_norm() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    guard = StepGuard([parameter], torch.optim.SGD([parameter], lr=1.0), torch.device("cpu"))
    parameter.grad = torch.tensor([30.0, 40.0])
    guard.step(torch.tensor(1.0), 5.0, allowed=ALLOWED)
    torch.testing.assert_close(parameter.data, torch.tensor([-3.0, -4.0]), atol=1e-4, rtol=1e-4)


def test_the_fused_step_goes_on_from_a_plain_one() -> None:
    trails = []
    for fuse in (False, True):
        parameter = torch.nn.Parameter(torch.ones(3))
        optimizer = torch.optim.Adam([parameter], lr=0.1)
        for step in range(6):
            if step == 3 and fuse:
                assert make_skippable(optimizer)
            parameter.grad = torch.full((3,), 1.0 + step)
            optimizer.step()
        trails.append(parameter.data)
    torch.testing.assert_close(*trails)


def test_what_an_update_began_with_comes_back_and_on_request_what_is_confirmed() -> None:
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 2)).sum().backward()
    kept = LastGood()
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    for update in range(3):
        optimizer.step()
        kept.note(layer, optimizer)
        seen.append((layer.weight.detach().clone(), optimizer.state[layer.weight]["exp_avg"].clone()))
        optimizer.step()
        if update == 1:
            kept.confirm()
    for confirmed, expected in [(False, seen[2]), (True, seen[1]), (False, seen[2])]:
        kept.restore(layer, optimizer, confirmed=confirmed)
        torch.testing.assert_close(layer.weight.detach(), expected[0])
        torch.testing.assert_close(optimizer.state[layer.weight]["exp_avg"], expected[1])
        optimizer.step()  # what comes back is a copy: stepping on must not spoil it


class Broken(VecEnvWrapper):
    """Rewards that are not numbers in some of the rollouts."""

    def __init__(self, rollouts: range) -> None:
        super().__init__(pendulums())
        self.steps, self.rollouts = 0, rollouts

    def reset(self) -> np.ndarray:
        return self.venv.reset()

    def step_wait(self) -> Any:
        observations, rewards, dones, infos = self.venv.step_wait()
        if self.steps // 16 in self.rollouts:
            rewards = rewards + np.nan
        self.steps += 1
        return observations, rewards, dones, infos


@pytest.mark.parametrize("kl_schedule", [None, KlSchedule(desired_kl=1e9, maximum=1.0)])
def test_a_broken_rollout_costs_an_update_and_half_the_rate(kl_schedule: KlSchedule | None, capsys: Any) -> None:
    model: DeviceRecurrentPPO = learner(Broken(range(1, 2)), learning_rate=1e-3, n_epochs=3, kl_schedule=kl_schedule)
    learn(model)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    learn_on: Any = lambda: model.learn(16 * 4, reset_num_timesteps=False, log_interval=None)  # noqa: E731 - pyright: ignore
    learn_on()
    for name, value in model.policy.state_dict().items():
        torch.testing.assert_close(value, before[name])
    assert "3 of 3 optimizer steps" in (said := capsys.readouterr().err)
    assert "learning rate halved" in said
    assert model.logger.name_to_value["train/skipped_steps"] == 3
    # A rollout that moved nothing says nothing of the divergence: a rate that rose thrice before is halved too.
    halved = 0.5 * (1e-3 if kl_schedule is None else 1e-3 * 1.5**3)
    assert model._rate == pytest.approx(halved)
    learn_on()
    assert any((value != before[name]).any() for name, value in model.policy.state_dict().items())
    assert all(value.isfinite().all() for value in model.policy.state_dict().values())
    assert model._rate == pytest.approx(halved if kl_schedule is None else halved * 1.5**3), (
        "something undid the halving"
    )


@pytest.mark.parametrize(("n_epochs", "batch_size"), [(1, None), (2, None), (1, 32)])
def test_an_update_of_which_nothing_is_left_is_undone_however_short(n_epochs: int, batch_size: int | None) -> None:
    model = learn(learner(Broken(range(1, 2)), n_epochs=n_epochs, batch_size=batch_size), 2)
    assert model.rate_scale == 0.5


class SomeBroken(VecEnvWrapper):
    """Rewards of some environments that are not numbers: of `first` at first, of `later` from some step on."""

    def __init__(self, first: int, later: int = 0, later_from: int = 10**9) -> None:
        super().__init__(pendulums())
        self.steps, self.first, self.later, self.later_from = 0, first, later, later_from

    def reset(self) -> np.ndarray:
        return self.venv.reset()

    def step_wait(self) -> Any:
        observations, rewards, dones, infos = self.venv.step_wait()
        rewards[: self.later if self.steps >= self.later_from else self.first] = np.nan
        self.steps += 1
        return observations, rewards, dones, infos


def test_training_goes_on_around_one_broken_environment_and_is_not_lost_when_all_break() -> None:
    settings = {"n_epochs": 2, "batch_size": 16, "learning_rate": 1e-2, "kl_schedule": KlSchedule(1e9, 1e-3, 1e-2)}
    model = learner(SomeBroken(1, later=4, later_from=20 * 16), **settings)
    trail: list[torch.Tensor] = []

    class Trail(BaseCallback):
        def _on_rollout_end(self) -> None:
            trail.append(torch.cat([p.detach().flatten() for p in self.model.policy.parameters()]))

        def _on_step(self) -> bool:
            return True

    learn(model, 24, Trail())
    moved = [(after - trail[0]).norm().item() for after in trail]
    assert moved[20] > 5 * moved[1] > 0
    assert min(moved[21:]) > 0.9 * moved[20]
    assert model.logger.name_to_value["train/skipped_steps"] == 8


def test_an_update_that_is_undone_takes_back_what_it_did_to_the_rate() -> None:
    """Three of four minibatches broken: the fourth raises the rate in each epoch, and then the update is undone."""
    settings = {"n_epochs": 4, "batch_size": 16, "learning_rate": 1e-3, "kl_schedule": KlSchedule(1e9, 1e-9, 1.0)}
    model = learn(learner(SomeBroken(3), **settings))
    assert model._rate == pytest.approx(0.5e-3)
    assert model.rate_scale == 1.0, "that belongs to scheduled rates"


def test_one_minibatch_that_is_not_finite_does_not_steer_the_rate() -> None:
    settings = {"n_epochs": 4, "batch_size": 16, "learning_rate": 1e-3}
    model = learn(learner(SomeBroken(1), kl_schedule=KlSchedule(1e9, 1e-9, 1.0), **settings))
    assert model._rate == pytest.approx(1e-3 * 1.5**4), "the epochs' other minibatches moved less than desired"
    assert np.isfinite(model.logger.name_to_value["train/kl"])
    assert np.isfinite(model.logger.name_to_value["train/value_loss"])
    assert model.logger.name_to_value["train/skipped_steps"] == 4


def test_weights_that_a_step_makes_infinite_come_back(capsys: Any) -> None:
    kwargs = {"optimizer_class": torch.optim.SGD, "lstm_hidden_size": 8}
    settings = {"learning_rate": 3e38, "max_grad_norm": 1e9, "n_epochs": 1, "batch_size": None}
    model = learn(learner(pendulums(), policy_kwargs=kwargs, **settings))
    assert "weights are not finite" in capsys.readouterr().err
    assert all(value.isfinite().all() for value in model.policy.state_dict().values())


def test_weights_that_were_loaded_are_not_traded_for_those_from_before() -> None:
    model = learn(learner(Broken(range(2, 4)), n_epochs=3), 2)
    loaded = {name: value + 0.1 for name, value in model.policy.state_dict().items()}
    model.set_parameters({"policy": loaded, "policy.optimizer": model.policy.optimizer.state_dict()})
    model.learn(2 * 16 * 4, reset_num_timesteps=False, log_interval=None)  # pyright: ignore[reportArgumentType]
    assert model.logger.name_to_value["train/skipped_steps"] == 3
    for name, value in model.policy.state_dict().items():
        torch.testing.assert_close(value, loaded[name])


def test_one_step_an_update_cannot_steer_a_rate() -> None:
    with pytest.raises(ValueError, match="no divergence"):
        learner(pendulums(), n_epochs=1, batch_size=None, kl_schedule=KlSchedule())


def test_after_many_good_updates_the_halved_rate_doubles_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biped.ppo.recurrent_ppo.RECOVER_AFTER", 3)
    model = learner(Broken(range(2)), learning_rate=1e-3, n_epochs=3)
    rates: list[float] = []

    class Rates(BaseCallback):
        def _on_rollout_end(self) -> None:
            rates.append(self.model.rate_scale)

        def _on_step(self) -> bool:
            return True

    learn(model, 12, Rates())
    assert rates == [1, 0.5, 0.25, 0.25, 0.25, 0.5, 0.5, 0.5, 1, 1, 1, 1]


def test_training_that_stays_broken_ends_with_an_error() -> None:
    model = learner(Broken(range(100)), n_epochs=3)
    with pytest.raises(FloatingPointError, match="rewards or observations"):
        learn(model, GIVE_UP_AFTER + 5)
    assert all(value.isfinite().all() for value in model.policy.state_dict().values())
    assert model.num_timesteps == GIVE_UP_AFTER * 16 * 4


@pytest.mark.parametrize("rollouts_before", [1, 3])
def test_weights_that_went_bad_come_back_and_so_do_the_memories(rollouts_before: int) -> None:
    model = learn(learner(pendulums(), n_epochs=3), rollouts_before)
    with torch.no_grad():
        model.policy.action_net.weight.fill_(torch.nan)
        for parameter in model.policy.lstm_actor.parameters():
            parameter.fill_(torch.nan)
    # The first update begins with them and goes back to them; the second goes back to those that worked.
    model.learn(2 * 16 * 4, reset_num_timesteps=False, log_interval=None)  # pyright: ignore[reportArgumentType]
    assert all(value.isfinite().all() for value in model.policy.state_dict().values())
    states = model._last_lstm_states
    assert states is not None
    assert all(s.isfinite().all() for s in (*states.pi, *states.vf))


# ---- the standard deviation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ent_coef", "bound"), [(10.0, 1.05), (-10.0, 0.95)])
def test_the_standard_deviation_stays_within_its_range(ent_coef: float, bound: float) -> None:
    model = learn(learner(pendulums(), ent_coef=ent_coef, learning_rate=0.05, std_range=(0.95, 1.05)), 4)
    torch.testing.assert_close(model.policy.log_std.exp(), torch.full((1,), bound))


# ---- the normaliser -------------------------------------------------------------------------------------------------


def test_the_normaliser_has_the_mean_and_variance_of_all_it_was_shown() -> None:
    torch.manual_seed(0)
    shown = 3.0 + 2.0 * torch.randn(1000, 4)
    normalizer = RunningNormalizer(4)
    for part in shown.split([10, 490, 1, 499]):
        normalizer.observe(part)
    torch.testing.assert_close(normalizer.mean, shown.mean(dim=0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(normalizer.variance, shown.var(dim=0, correction=0), rtol=1e-4, atol=1e-4)
    normalised = normalizer(shown)
    torch.testing.assert_close(normalised.std(dim=0, correction=0), torch.ones(4), rtol=1e-3, atol=1e-3)


def test_an_observation_that_is_not_a_number_does_not_spoil_the_normaliser() -> None:
    normalizer = RunningNormalizer(2)
    normalizer.observe(torch.randn(50, 2))
    mean = normalizer.mean.clone()
    normalizer.observe(torch.tensor([[1.0, torch.nan]]))
    torch.testing.assert_close(normalizer.mean, mean)
    assert normalizer(torch.tensor([[1e9, -1e9]])).tolist() == [[10.0, -10.0]]


def test_the_policy_keeps_one_normaliser_and_takes_it_along(tmp_path: Any) -> None:
    kwargs = {"hidden_sizes": (8,), "lstm_hidden_size": 8, "n_lstm_layers": 1, "normalize_observations": True}
    model = learn(learner(pendulums(), MlpIntoLstmPolicy, policy_kwargs=kwargs), 3)
    normalizer = model.policy.normalizer
    assert normalizer is model.policy.pi_features_extractor.normalizer is model.policy.vf_features_extractor.normalizer
    assert normalizer.count == model.num_timesteps
    assert normalizer.mean.any()
    model.save(tmp_path / "model.zip")
    loaded = DeviceRecurrentPPO.load(tmp_path / "model.zip", device="cpu")
    torch.testing.assert_close(loaded.policy.normalizer.mean, normalizer.mean)
    observation = np.ones((4, 3), np.float32)
    np.testing.assert_allclose(*(m.predict(observation, deterministic=True)[0] for m in (model, loaded)), atol=1e-6)


def test_the_first_update_sees_the_observations_as_the_rollout_saw_them() -> None:
    """Otherwise the first ratios would not be one."""
    kwargs = {"hidden_sizes": (8,), "lstm_hidden_size": 8, "n_lstm_layers": 1, "normalize_observations": True}
    model = learn(learner(pendulums(), MlpIntoLstmPolicy, policy_kwargs=kwargs, n_epochs=1, batch_size=None), 4)
    assert model.logger.name_to_value["train/approx_kl"] == pytest.approx(0.0, abs=1e-5)


# ---- mixed precision ------------------------------------------------------------------------------------------------


def test_bfloat16_runs_the_networks_and_leaves_the_losses_in_float32() -> None:
    exact, mixed = (learn(learner(pendulums(), precision=p, learning_rate=1e-9)) for p in ("fp32", "bf16"))
    if mixed.runs_in != "bf16":
        pytest.skip("this machine has no bfloat16 LSTM")
    a, b = exact.rollout_buffer.values, mixed.rollout_buffer.values
    assert (a != b).any(), "bf16 changed nothing: the networks ran in fp32"
    torch.testing.assert_close(a, b, atol=0.05, rtol=0.05)
    assert all(parameter.dtype == torch.float32 for parameter in mixed.policy.parameters())
    assert mixed.rollout_buffer.means is not None
    for name in ("values", "log_probs", "advantages", "means"):
        tensor = getattr(mixed.rollout_buffer, name)
        assert (tensor.bfloat16().float() != tensor).any(), f"{name} was rounded to bfloat16"
    assert mixed.logger.name_to_value["train/approx_kl"] < 1e-3
