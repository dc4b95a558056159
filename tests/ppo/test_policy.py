"""The policy against sb3-contrib's own, which it must equal wherever both can run."""

from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from torch import nn

from biped.ppo.policy import MlpExtractor, MlpIntoLstmPolicy

OBSERVATIONS = gymnasium.spaces.Box(-1.0, 1.0, (43,), np.float32)
ACTIONS = gymnasium.spaces.Box(-1.0, 1.0, (9,), np.float32)


def make_policy(**changes) -> MlpIntoLstmPolicy:
    sizes = {"hidden_sizes": (16, 8), "lstm_hidden_size": 12, "n_lstm_layers": 2} | changes
    return MlpIntoLstmPolicy(OBSERVATIONS, ACTIONS, lambda _: 1e-4, **sizes)


def test_the_documents_sizes() -> None:
    policy = MlpIntoLstmPolicy(OBSERVATIONS, ACTIONS, lambda _: 1e-4)
    extractor = [m for m in policy.pi_features_extractor.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in extractor] == [(43, 512), (512, 256), (256, 128)]
    assert any(isinstance(m, nn.ELU) for m in policy.pi_features_extractor.modules())
    lstm = policy.lstm_actor
    assert (lstm.input_size, lstm.hidden_size, lstm.num_layers) == (128, 512, 2)
    assert policy.action_net.in_features == policy.value_net.in_features == 512
    assert sum(p.numel() for p in policy.parameters()) == pytest.approx(7.2e6, rel=0.01)


def test_actor_and_critic_share_nothing() -> None:
    policy = make_policy()
    observation = torch.randn(4, 43)
    states = SimpleNamespace(pi=(torch.zeros(2, 4, 12),) * 2, vf=(torch.zeros(2, 4, 12),) * 2)
    _, values, _, _ = policy(observation, states, torch.zeros(4))
    values.sum().backward()
    touched = {name for name, p in policy.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert touched
    assert not any(name.startswith(("pi_", "features_extractor", "lstm_actor", "action_net")) for name in touched)


def test_the_initial_standard_deviation_is_what_is_asked_for() -> None:
    torch.testing.assert_close(make_policy(initial_std=0.5).log_std.exp(), torch.full((9,), 0.5))


@pytest.mark.parametrize("normalize", [False, True])
def test_a_policy_alone_goes_to_a_file_and_back(normalize: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    policy = make_policy(normalize_observations=normalize, initial_std=0.5)
    policy.observe(3.0 + torch.randn(100, 43))
    with torch.no_grad():
        policy.log_std += 0.1
    policy.save(str(tmp_path / "policy.pt"))
    again = MlpIntoLstmPolicy.load(str(tmp_path / "policy.pt"), device="cpu")
    observation = np.random.default_rng(0).normal(size=(5, 43)).astype(np.float32)
    mine, its = policy.predict(observation, deterministic=True), again.predict(observation, deterministic=True)
    for wanted, found in zip((mine[0], *mine[1]), (its[0], *its[1]), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert (again.normalizer is not None) == normalize
    assert again.state_dict().keys() == policy.state_dict().keys()
    assert again.log_std_init == policy.log_std_init


def test_an_extractor_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one layer"):
        MlpExtractor(OBSERVATIONS, ())


@pytest.mark.parametrize("starts", ["never", "first", "inside"])
@pytest.mark.parametrize("length", [1, 7])
def test_sequences_equal_the_stock_policy_in_outputs_states_and_gradients(starts: str, length: int) -> None:
    torch.manual_seed(0)
    n_seq, lstm = 5, nn.LSTM(6, 4, num_layers=2)
    episode_starts = torch.zeros(n_seq, length)
    if starts != "never":
        episode_starts[::2, 0] = 1.0
    if starts == "inside":
        episode_starts[1, length // 2] = 1.0
    features = torch.randn(n_seq * length, 6)
    initial = (torch.randn(2, n_seq, 4), torch.randn(2, n_seq, 4))
    results = []
    for process in (MlpIntoLstmPolicy._process_sequence, RecurrentActorCriticPolicy._process_sequence):
        leaf = features.clone().requires_grad_()
        output, states = process(leaf, initial, episode_starts.flatten(), lstm)
        lstm.zero_grad()
        (output.square().sum() + states[1].sum()).backward()
        results.append([output, *states, leaf.grad, *(p.grad.clone() for p in lstm.parameters())])
    for ours, stock in zip(*results, strict=True):
        torch.testing.assert_close(ours, stock, atol=1e-5, rtol=1e-5)


def test_a_start_at_the_first_step_does_not_fall_back_to_the_slow_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object) -> None:
        raise AssertionError("the step-by-step pass ran")

    monkeypatch.setattr(RecurrentActorCriticPolicy, "_process_sequence", staticmethod(slow))
    starts = torch.zeros(3, 4)
    starts[1, 0] = 1.0
    zeros = torch.zeros(1, 3, 4)
    MlpIntoLstmPolicy._process_sequence(torch.randn(12, 6), (zeros, zeros), starts.flatten(), nn.LSTM(6, 4))
