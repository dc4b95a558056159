"""The discriminator of a style: its losses by hand, what it learns, and that it goes on to the last bit."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from biped.ppo.mirror import Reflection
from biped.ppo.style import (
    METRICS,
    Discriminator,
    Replay,
    Style,
    StyleSettings,
    as_changes,
    least_squares,
    losses,
    style_reward,
)

WIDTH, STEPS, ENVS = 6, 8, 16
SETTINGS = StyleSettings(
    weight=0.5,
    hidden_sizes=(16, 8),
    learning_rate=1e-3,
    updates=4,
    batch_size=32,
    replay_size=400,
    gradient_penalty=10.0,
    noise=0.1,
    weight_decay=1e-4,
)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def style(demos: Tensor, settings: StyleSettings = SETTINGS, mirror: Reflection | None = None) -> Style:
    return Style(demos, settings, STEPS, ENVS, mirror=mirror, seed=3)


def roll(part: Style, centre: float = 0.0, *, bad: float | None = None) -> dict[str, float]:
    """One rollout of agents around `centre`, and an update; return what was logged."""
    for step in range(STEPS):
        features = centre + torch.randn(ENVS, WIDTH)
        if bad is not None:
            features[0, 0] = bad
        part.note(step, {"features": features})
    part.pay(torch.zeros(STEPS, ENVS))
    row: dict[str, float] = {}
    part.learn(row.__setitem__)
    return row


def told_right(row: dict[str, float]) -> float:
    """Return the share of all steps that are told right: a discriminator may also take all for the same."""
    return (row["info/disc_agent_acc"] + row["info/disc_demo_acc"]) / 2.0


def test_the_loss_is_that_of_the_paper() -> None:
    agents, demos = torch.tensor([-1.0, 1.0]), torch.tensor([1.0, 0.0])
    # agents: (0 + 4) / 2 / 2, demonstrations: (0 + 1) / 2 / 2
    assert least_squares(agents, demos).item() == pytest.approx(1.0 + 0.25)


def test_the_penalty_is_the_squared_slope_at_demonstrations() -> None:
    demos = torch.tensor([[1.0, 2.0], [0.0, -1.0]], requires_grad=True)
    # logit = x² + 3 y: slopes (2 x, 3) are (2, 3) and (0, 3), of squared lengths 13 and 9
    logits = demos[:, 0].square() + 3.0 * demos[:, 1]
    loss, penalty = losses(torch.tensor([-1.0]), logits, demos, 10.0)
    assert penalty.item() == pytest.approx(11.0)
    # the logits are 7 and -3: (36 + 16) / 2 / 2 = 13
    assert loss.item() == pytest.approx(13.0 + 0.5 * 10.0 * 11.0)


def test_the_penalty_moves_the_weights() -> None:
    net = Discriminator(WIDTH, (8,))
    demos = net.see(torch.randn(5, WIDTH)).requires_grad_()
    losses(torch.zeros(1), net(demos), demos, 10.0).penalty.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in list(net.net.parameters())[:1])


@pytest.mark.parametrize(
    ("logit", "reward"), [(1.0, 1.0), (-1.0, 0.0), (0.0, 0.75), (3.0, 0.0), (2.0, 0.75), (-50.0, 0.0)]
)
def test_the_reward_is_that_of_the_paper(logit: float, reward: float) -> None:
    assert style_reward(torch.tensor([logit])).item() == pytest.approx(reward)


def test_a_step_is_seen_as_a_pose_and_its_change() -> None:
    assert as_changes(torch.tensor([[1.0, 2.0, 1.5, 0.0]])).tolist() == [[1.0, 2.0, 0.5, -2.0]]


def test_the_rollout_is_paid_by_the_weight() -> None:
    part, rewards = style(torch.randn(50, WIDTH)), torch.full((STEPS, ENVS), 2.0)
    for step in range(STEPS):
        part.note(step, {"features": torch.randn(ENVS, WIDTH)})
    part.pay(rewards)
    net = part.discriminator
    with torch.no_grad():
        wanted = style_reward(net(net.see(part._rollout.flatten(0, 1)))).view(STEPS, ENVS)
    torch.testing.assert_close(rewards, 2.0 + 0.5 * wanted)
    assert rewards.std() > 0


@pytest.mark.parametrize("infos", [{}, [{}, {}]])
def test_an_environment_that_hands_nothing_over_is_refused(infos: object) -> None:
    with pytest.raises(ValueError, match="whose infos have `features`"):
        style(torch.randn(50, WIDTH)).note(0, infos)


def test_it_learns_to_tell_agents_from_demonstrations_and_pays_for_being_alike() -> None:
    part = style(2.0 + torch.randn(500, WIDTH))
    first = roll(part)
    for _ in range(60):
        last = roll(part)
    assert set(last) == set(METRICS)
    assert last["info/disc_agent_acc"] > 0.8 > first["info/disc_agent_acc"]
    assert last["info/disc_demo_acc"] > 0.8
    assert last["losses/disc_loss"] < first["losses/disc_loss"]
    assert roll(part, 2.0)["info/disc_reward_mean"] > last["info/disc_reward_mean"] + 0.2


def test_noise_keeps_it_from_telling_apart_what_differs_by_less() -> None:
    """Demonstrations that are at 1 or -1 exactly, and agents that are a tenth of that distance beside it."""
    moves = torch.randn(400, WIDTH).sign()

    def accuracy(noise: float) -> float:
        part = style(moves, replace(SETTINGS, noise=noise, learning_rate=3e-3, updates=20, gradient_penalty=0.0))
        row: dict[str, float] = {}
        for _ in range(30):
            for step in range(STEPS):
                part.note(step, {"features": moves[torch.randint(len(moves), (ENVS,))] + 0.2})
            part.pay(torch.zeros(STEPS, ENVS))
            part.learn(row.__setitem__)
        return told_right(row)

    assert accuracy(1.0) < 0.6 < accuracy(0.0)


def test_who_cannot_be_told_apart_is_not() -> None:
    part = style(torch.randn(500, WIDTH))
    for _ in range(30):
        last = roll(part)
    assert told_right(last) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("far", [1e3, 1e8, 1e30])
def test_a_discriminator_that_is_always_right_breaks_nothing(far: float) -> None:
    part = style(far + torch.randn(100, WIDTH))
    for _ in range(30):
        last = roll(part)
    assert all(torch.tensor(value).isfinite() for value in last.values()), last
    assert 0.0 <= last["info/disc_reward_mean"] <= 1.0
    assert all(parameter.isfinite().all() for parameter in part.discriminator.parameters())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_is_not_learned(bad: float) -> None:
    part, rewards = style(torch.randn(100, WIDTH)), torch.zeros(STEPS, ENVS)
    roll(part, bad=bad)
    part.pay(rewards)
    assert rewards.isfinite().all()
    assert all(value.isfinite().all() for value in part.discriminator.state_dict().values())


@given(st.lists(st.integers(1, 7), min_size=1, max_size=12))
def test_the_replay_keeps_the_last_steps(sizes: list[int]) -> None:
    replay, everything = Replay(10, 1, torch.device("cpu")), list(range(sum(sizes)))
    rest = torch.tensor(everything, dtype=torch.float32)[:, None]
    for size in sizes:
        replay.add(rest[:size])
        rest = rest[size:]
    assert sorted(replay.steps[: replay.count, 0].tolist()) == everything[-10:]


def test_the_replay_remembers_twenty_rollouts() -> None:
    part = style(torch.randn(100, WIDTH))
    for rollout in range(25):
        roll(part, 1000.0 * rollout)
    rollouts = (part.replay.steps[:, 0] / 1000.0).round().unique().tolist()
    assert rollouts == list(range(5, 25))


def test_agents_are_mirrored_as_often_as_not() -> None:
    mirror = Reflection.build(list(range(WIDTH)), [-1.0] * WIDTH, torch.device("cpu"))
    part = style(torch.randn(100, WIDTH), mirror=mirror)
    agents = part._agents(torch.full((64, WIDTH), 5.0))
    assert set(agents.unique().tolist()) == {-5.0, 5.0}
    assert 0.2 < (agents[:, 0] > 0).float().mean() < 0.8


def test_it_goes_on_to_the_last_bit() -> None:
    demos = torch.randn(100, WIDTH)
    one = style(demos)
    for _ in range(3):
        roll(one)
    state = one.get_state()
    drawn = torch.random.get_rng_state()
    wanted = [roll(one) for _ in range(3)]
    other = style(demos)
    roll(other, 7.0)
    other.set_state(state)
    torch.random.set_rng_state(drawn)
    assert [roll(other) for _ in range(3)] == wanted
    found = other.get_state()
    assert all(torch.equal(value, found[name]) for name, value in one.get_state().items())


def test_the_state_of_another_discriminator_is_refused() -> None:
    other = Style(torch.randn(10, 2 * WIDTH), SETTINGS, STEPS, ENVS, mirror=None, seed=0).get_state()
    with pytest.raises(RuntimeError):
        style(torch.randn(10, WIDTH)).set_state(other)
    with pytest.raises(KeyError):
        style(torch.randn(10, WIDTH)).set_state({})


def test_it_leaves_everybody_elses_draws_alone() -> None:
    before = torch.random.get_rng_state()
    part = style(torch.ones(10, WIDTH))
    for step in range(STEPS):
        part.note(step, {"features": torch.ones(ENVS, WIDTH)})
    part.pay(torch.zeros(STEPS, ENVS))
    part.learn(lambda *_: None)
    assert torch.equal(torch.random.get_rng_state(), before)
