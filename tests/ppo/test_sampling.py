"""Values that time-outs lose: how many are computed at once changes no reward."""

import pytest
import torch
from torch import Tensor

from biped.ppo import sampling
from tests.ppo.tasks import learn, learner, pendulums


def rewards() -> Tensor:
    """Return the rewards of a rollout in which every episode is cut off after ten steps."""
    torch.manual_seed(0)
    return learn(learner(pendulums(), n_steps=24)).rollout_buffer.rewards.clone()


@pytest.mark.parametrize("limit", ["AT_ONCE_BYTES", "AT_ONCE_ROWS"])
def test_values_after_each_step_or_in_small_batches_are_those_of_a_whole_rollout(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = rewards()
    monkeypatch.setattr(sampling, limit, 1)
    torch.testing.assert_close(rewards(), whole)
