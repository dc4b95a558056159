"""Parts of a training's callback, composed on a real learner: order, rows, ends."""

import signal

import pytest
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger

from biped.base.interrupts import Interrupts
from biped.ppo.recurrent_ppo import DeviceRecurrentPPO
from biped.train.callback import BipedCallback, Part, Row

STEPS = 16


def learner() -> DeviceRecurrentPPO:
    return DeviceRecurrentPPO(
        "MlpLstmPolicy", "CartPole-v1", n_steps=STEPS, batch_size=STEPS, n_epochs=1, seed=1, device="cpu"
    )


class Told(Part):
    """Writes down what it is told, and adds its name to the row."""

    def __init__(self, name: str, diary: list[tuple[str, str, int]], stops_after: int = 10**9) -> None:
        super().__init__()
        self.name, self.diary, self.stops_after, self.rows = name, diary, stops_after, list[Row]()

    @property
    def should_stop(self) -> bool:
        return len(self.rows) >= self.stops_after

    def before_training(self, row: Row) -> None:
        self.diary.append((self.name, "before", self.num_timesteps))

    def after_update(self, row: Row, *, last: bool) -> None:
        self.diary.append((self.name, "last" if last else "after", self.num_timesteps))
        row[self.name] = float(len(row))
        self.rows.append(dict(row))

    def keep(self) -> None:
        self.diary.append((self.name, "keep", self.model.num_timesteps))


class Counting(BaseCallback):
    """A stock callback between the parts."""

    def _on_step(self) -> bool:
        return True


def test_parts_act_after_each_update_in_their_order_and_add_to_one_row() -> None:
    diary: list[tuple[str, str, int]] = []
    first, second, stock = Told("first", diary), Told("second", diary), Counting()
    learner().learn(3 * STEPS, BipedCallback([first, stock, second]))
    assert diary == [
        (name, what, steps)
        for what, steps in (("before", 0), ("after", STEPS), ("after", 2 * STEPS), ("last", 3 * STEPS))
        for name in ("first", "second")
    ]
    assert second.rows == [{"first": 0.0, "second": 1.0}] * 3
    assert stock.n_calls == 3 * STEPS


def test_a_part_may_end_the_training_and_the_step_that_only_asks_does_not_count() -> None:
    diary: list[tuple[str, str, int]] = []
    model = learner()
    callback = BipedCallback([Told("gate", diary, stops_after=2)])
    model.learn(100 * STEPS, callback)
    assert model.num_timesteps == 2 * STEPS
    assert ("gate", "keep", 2 * STEPS) in diary
    assert not callback.was_interrupted


def test_a_stock_callback_may_end_it_too() -> None:
    class Enough(BaseCallback):
        def _on_step(self) -> bool:
            return self.n_calls < 5

    model = learner()
    model.learn(100 * STEPS, BipedCallback([Enough()]))
    assert model.num_timesteps == 5


def test_what_a_part_raises_comes_out_once_all_have_kept_what_they_have() -> None:
    class Broken(Part):
        def after_update(self, row: Row, *, last: bool) -> None:
            raise FloatingPointError("the physics failed")

    diary: list[tuple[str, str, int]] = []
    with pytest.raises(FloatingPointError, match="the physics failed"):
        learner().learn(3 * STEPS, BipedCallback([Broken(), Told("checkpoints", diary)]))
    assert diary == [("checkpoints", "before", 0), ("checkpoints", "keep", STEPS)]


def test_a_signal_ends_it_after_the_update() -> None:
    interrupts, diary = Interrupts(), list[tuple[str, str, int]]()

    class Signal(Part):
        def after_update(self, row: Row, *, last: bool) -> None:
            interrupts.received = signal.SIGTERM

    model = learner()
    callback = BipedCallback([Signal(), Told("checkpoints", diary)], interrupts)
    model.set_logger(Logger(None, list[KVWriter]()))
    model.learn(100 * STEPS, callback)
    assert callback.was_interrupted
    assert model.num_timesteps == STEPS
    assert diary[-2:] == [("checkpoints", "after", STEPS), ("checkpoints", "keep", STEPS)]
