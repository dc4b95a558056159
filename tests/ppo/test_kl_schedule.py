import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biped.ppo.kl_schedule import KlSchedule, next_learning_rate

SCHEDULE = KlSchedule(desired_kl=0.01, minimum=1e-5, maximum=1e-2)


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        (0.03, 1e-3 / 1.5),
        (0.02, 1e-3),
        (0.01, 1e-3),
        (0.005, 1e-3),
        (0.004, 1.5e-3),
        (0.0, 1.5e-3),
        (math.nan, 1e-3 / 1.5),
        (math.inf, 1e-3 / 1.5),
    ],
)
def test_the_rate_goes_down_stays_and_goes_up(kl: float, expected: float) -> None:
    assert next_learning_rate(1e-3, kl, SCHEDULE) == pytest.approx(expected)


@given(st.floats(1e-9, 1.0), st.lists(st.floats(allow_nan=True), max_size=50))
def test_the_rate_stays_within_its_bounds(rate: float, divergences: list[float]) -> None:
    for kl in divergences:
        rate = next_learning_rate(rate, kl, SCHEDULE)
        assert SCHEDULE.minimum <= rate <= SCHEDULE.maximum
