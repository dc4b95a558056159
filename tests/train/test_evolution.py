"""Who follows whom in a population, and what is remembered of it."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biped.base.errors import MachineError, UsageError
from biped.train.evolution import Generation, Ledger, Member, first_members, row, successors
from biped.train.space import Range

SPACE = (
    Range("ppo.learning_rate", 1e-4, 1e-2, is_log=True),
    Range("ppo.n_epochs", 2, 9, is_whole=True),
    Range("env.reward.weights.a", -1.0, 3.0),
)


def judged(*fitness: float | None) -> tuple[Member, ...]:
    members = first_members("pop", len(fitness), SPACE, 1)
    return tuple(
        replace(member, fitness=value, failure=None if value is not None else "it broke down")
        for member, value in zip(members, fitness, strict=True)
    )


def test_the_worst_quarter_takes_over_from_the_best_and_the_others_go_on() -> None:
    before = judged(0.1, 0.5, 0.9, 0.6, 0.2, 0.7, 0.8, 0.3)
    after = successors(before, "pop", 2, SPACE, 7)
    parents = [member.parent for member in after]
    assert [parents[place] for place in (1, 2, 3, 5, 6, 7)] == [1, 2, 3, 5, 6, 7]
    assert {parents[0], parents[4]} <= {2, 6}
    for place, member in enumerate(after):
        is_new = place in (0, 4)
        assert member.run == (f"pop-{place}-g2" if is_new else before[place].run)
        assert (member.settings == before[place].settings) != is_new
        assert member.is_open


def test_the_same_draws_come_whoever_draws_and_others_in_the_next_generation() -> None:
    before = judged(0.1, 0.5, 0.9, 0.6)
    assert successors(before, "pop", 2, SPACE, 7) == successors(before, "pop", 2, SPACE, 7)
    assert successors(before, "pop", 2, SPACE, 7)[0].settings != successors(before, "pop", 3, SPACE, 7)[0].settings
    assert first_members("pop", 4, SPACE, 7) != first_members("pop", 4, SPACE, 8)


def test_where_all_are_equal_nobody_takes_over() -> None:
    assert [member.parent for member in successors(judged(0.5, 0.5, 0.5), "pop", 2, SPACE, 1)] == [0, 1, 2]


def test_what_failed_is_replaced_even_where_it_is_not_among_the_worst_quarter() -> None:
    after = successors(judged(None, 0.5, None, 0.6), "pop", 2, SPACE, 1)
    assert [member.parent for member in after] == [3, 1, 3, 3]
    assert all(member.failure is None for member in after)


@given(
    fitness=st.lists(st.none() | st.floats(0, 1), min_size=2, max_size=12).filter(
        lambda f: any(v is not None for v in f)
    ),
    seed=st.integers(0, 1000),
)
def test_parents_have_a_fitness_and_are_no_worse_and_settings_stay_in_their_ranges(
    fitness: list[float | None], seed: int
) -> None:
    before = judged(*fitness)
    for place, member in enumerate(successors(before, "pop", 3, SPACE, seed)):
        assert member.parent is not None
        assert before[member.parent].fitness is not None
        assert before[member.parent].rank >= before[place].rank
        for item in SPACE:
            value = member.settings[item.path]
            assert item.low <= value <= item.high
            assert not item.is_whole or value == int(value)


@given(st.floats(1e-4, 1e-2), st.integers(2, 9), st.floats(-1, 3), st.integers(0, 10_000))
def test_a_perturbed_value_is_a_fifth_away_or_drawn_anew(rate: float, epochs: int, weight: float, seed: int) -> None:
    values = {"ppo.learning_rate": rate, "ppo.n_epochs": epochs, "env.reward.weights.a": weight}
    near = {item.path: item.perturbed(values[item.path], random.Random(seed)) for item in SPACE}
    if random.Random(seed).random() < 0.25:
        return
    assert near["ppo.learning_rate"] in (pytest.approx(max(1e-4, rate * 0.8)), pytest.approx(min(1e-2, rate * 1.2)))
    assert near["ppo.n_epochs"] != epochs or epochs in (2, 9)
    assert near["env.reward.weights.a"] in (pytest.approx(max(-1, weight - 0.4)), pytest.approx(min(3, weight + 0.4)))


def test_values_are_drawn_over_the_whole_range_on_its_scale() -> None:
    dice = random.Random(0)
    rates = sorted(SPACE[0].draw(dice) for _ in range(1001))
    assert rates[500] == pytest.approx(1e-3, rel=0.2), "half of them are under the middle of the logarithms"
    assert {SPACE[1].draw(dice) for _ in range(200)} == set(range(2, 10))


def test_a_row_has_the_documents_names_and_hand_computed_figures() -> None:
    first = Generation(judged(0.2, 0.6), 100.0, 130.0, 0.5)
    second = Generation(judged(0.4, None), 130.0, 140.0, 0.3)
    assert row([first, second]) == {
        "fitness/mean": pytest.approx(0.4),
        "fitness/max": 0.4,
        "fitness/min": 0.4,
        "fitness/std": 0.0,
        "fitness/best_ever": 0.6,
        "training/generation": 2.0,
        "training/generation_time": 10.0,
        "training/avg_generation_time": 20.0,
        "validation/fitness": 0.3,
    }
    assert row([first])["fitness/std"] == pytest.approx(0.2)


def test_a_ledger_is_read_as_it_was_written(tmp_path: Path) -> None:
    ledger = Ledger({"size": 2}, (Generation(judged(0.2, None), 1.0, 2.0, 0.1), Generation(judged(0.3, 0.1), 2.0)))
    ledger.write(tmp_path / "population.json")
    assert Ledger.read(tmp_path / "population.json") == ledger
    assert ledger.best_ever() == (1, ledger.generations[1].members[0])


def test_of_equal_members_the_first_is_the_best_ever() -> None:
    ledger = Ledger({}, (Generation(judged(0.3, 0.3), 1.0, 2.0), Generation(judged(0.3, 0.1), 2.0)))
    assert ledger.best_ever()[0] == 0
    with pytest.raises(MachineError, match="no member has a fitness"):
        Ledger({}, (Generation(judged(None, None), 1.0),)).best_ever()


@pytest.mark.parametrize("text", ["", "{}", '{"asked": {}}', '{"asked": {}, "generations": [{"members": [{"x": 1}]}]}'])
def test_a_damaged_ledger_is_one_line(text: str, tmp_path: Path) -> None:
    file = tmp_path / "population.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"population\.json is no population's ledger"):
        Ledger.read(file)
    assert file.read_text() == text
