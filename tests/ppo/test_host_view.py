"""What callbacks read of a step: numpy in every way that numpy is used, and nothing copied before it is read."""

import pickle
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

from biped.ppo.host_view import HostArray, HostInfos
from tests.ppo.tasks import learn, learner

READS: list[str] = []
TO_HOST = {"cpu", "numpy", "tolist", "item", "__bool__", "__float__", "__int__", "__array__"}


class Watched(Tensor):
    """A tensor that notes whenever the host reads it."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in TO_HOST:
            READS.append(func.__name__)
        return super().__torch_function__(func, types, args, kwargs or {})


def watched(values: Any) -> Tensor:
    READS.clear()
    return torch.as_tensor(values).as_subclass(Watched)


def test_nothing_is_read_before_a_reader_comes_and_then_once() -> None:
    view = HostArray(watched([1.0, 2.0, 3.0]))
    assert len(view) == 3
    assert READS == []
    assert view.sum() == 6.0
    assert view.mean() == 2.0
    assert READS.count("cpu") == 1


@pytest.mark.parametrize(
    "read",
    [
        lambda a: np.sum(a).item(),
        lambda a: a.sum(),
        lambda a: np.any(a > 1.0),
        lambda a: (2.0 * a + a / a - 1.0) ** 2,
        lambda a: np.ones(3) + a,
        lambda a: np.where(a > 1.5, a, 0.0),
        lambda a: np.concatenate([a, a]),
        lambda a: np.asarray(a, dtype=np.float64),
        lambda a: a[1:],
        lambda a: a[a > 1.5],
        lambda a: a[0] if a[0] else None,
        lambda a: [float(x) for x in a],
        lambda a: (a.shape, a.dtype, a.ndim, a.tolist(), len(a)),
        lambda a: 2.0 in a,
        lambda a: torch.as_tensor(np.asarray(a)).tolist(),
        lambda a: np.add(a, a, out=np.zeros(3, np.float32)),
        lambda a: repr(a),
        lambda a: np.maximum.accumulate(a),
        lambda a: float(a[:1].sum()),
        lambda a: pickle.loads(pickle.dumps(a)).sum(),
    ],
)
def test_it_reads_like_the_array_itself(read: Any) -> None:
    values = np.array([1.0, 2.0, 3.0], dtype=np.float32)
    np.testing.assert_equal(read(HostArray(torch.from_numpy(values.copy()))), read(values))


def test_a_running_sum_and_a_changed_entry() -> None:
    """As in stock, what a callback writes into the rewards is what is learned from, on a CPU."""
    rewards = torch.tensor([1.0, 2.0])
    view: Any = HostArray(rewards)
    total = np.zeros(2)
    total += view
    view[0] = 5.0
    view *= 2.0
    assert total.tolist() == [1.0, 2.0]
    assert rewards.tolist() == [10.0, 4.0]


def test_a_single_flag_is_true_or_false_and_many_are_neither() -> None:
    assert HostArray(torch.tensor([True]))
    assert not HostArray(torch.tensor([False]))
    with pytest.raises(ValueError, match="ambiguous"):
        bool(HostArray(torch.tensor([True, False])))


def infos_of(dones: Tensor, **more: Any) -> HostInfos:
    infos = {"final_obs": torch.arange(6.0).view(3, 2), "_final_obs": dones, **more}
    return HostInfos(dones, torch.tensor([True, False, False]), infos, elapsed_s=1.25)


def test_infos_are_a_sequence_of_dictionaries_full_where_an_episode_ended() -> None:
    infos = infos_of(
        torch.tensor([True, False, True]),
        episode_return=torch.tensor([1.5, 2.5, 3.5]),
        episode_length=torch.tensor([4.0, 5.0, 6.0]),
    )
    first, second, third = infos
    assert first.pop("terminal_observation").tolist() == [0.0, 1.0]
    assert first == {"TimeLimit.truncated": True, "episode": {"r": 1.5, "l": 4, "t": 1.25}}
    assert second == {}
    assert (third["TimeLimit.truncated"], third["episode"]["l"]) == (False, 6)
    assert [len(info) for info in infos[1:]] == [0, 3]
    assert len(infos) == 3
    assert [info.get("episode") for info in infos].count(None) == 1


def test_infos_without_statistics_and_with_dictionaries_of_observations() -> None:
    final = {"a": torch.arange(3.0), "b": torch.zeros(3, 2)}
    infos = infos_of(torch.tensor([True, False, False]), final_obs=final)
    assert infos[0]["terminal_observation"]["a"] == 0.0
    assert infos[0]["terminal_observation"]["b"].shape == (2,)
    assert "episode" not in infos[0]


def test_infos_too_are_read_once_and_not_before() -> None:
    infos = infos_of(watched([True, False, False]))
    assert len(infos) == 3
    assert READS == []
    assert list(infos[0]) == ["TimeLimit.truncated", "terminal_observation"]
    infos[1]
    assert READS.count("cpu") == 1


class OnTensors(DummyVecEnv):
    """Steps on watched tensors; nothing ends."""

    def step_tensor(self, actions: Tensor) -> Any:
        never = torch.zeros(self.num_envs, dtype=torch.bool)
        never = never.as_subclass(Watched)
        observations = torch.zeros(self.num_envs, 3).as_subclass(Watched)
        return observations, torch.ones(self.num_envs).as_subclass(Watched), never, never, {"final_obs": observations}


class Reader(BaseCallback):
    def __init__(self, read: Any) -> None:
        super().__init__()
        self.read, self.reads = read, 0

    def _on_step(self) -> bool:
        READS.clear()
        self.read(self.locals)
        self.reads += READS.count("cpu")
        return True


@pytest.mark.parametrize(("read", "count"), [(lambda _: None, 0), (lambda found: found["dones"].any(), 16)])
def test_a_callback_that_reads_nothing_costs_nothing(read: Any, count: int) -> None:
    model = learner(OnTensors([lambda: gymnasium.make("Pendulum-v1")] * 2))
    reader = Reader(read)
    learn(model, 1, reader)
    assert reader.reads == count
