"""One step of a policy as a network for export."""

import copy
from collections.abc import Sequence
from typing import cast

import torch
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from torch import Tensor, nn

from biped.deploy.contract import LARGEST_SUM
from biped.ppo.estimator import Estimator
from biped.ppo.policy import MlpExtractor, MlpIntoLstmPolicy


class PolicyStep(nn.Module):
    """One step of the deterministic policy as a pure function of its memory: a copy of the actor alone.

    It has no part of the critic, so it needs no input that only a simulator knows.

    The LSTM is written out in elementary operations: on a CPU, single steps of `torch.lstm` take ten times as long
    (benchmarks/README.md).
    """

    estimate_scales: Tensor
    estimator: Estimator | None

    def __init__(
        self, policy: RecurrentActorCriticPolicy, action_clip: float, estimate_scales: Sequence[float] | None = None
    ) -> None:
        """Copy the actor.

        Args:
            policy: a `MlpIntoLstmPolicy`.
            action_clip: actions are clipped to ± this value.
            estimate_scales: training scale of each number that the memory predicts; None: the prediction is left
                out.

        Raises:
            ValueError: the policy predicts a different count of numbers.
        """
        super().__init__()
        assert isinstance(policy, MlpIntoLstmPolicy)
        parts = (policy.pi_features_extractor, policy.lstm_actor, policy.mlp_extractor.policy_net, policy.action_net)
        self.extractor, self.lstm, self.tail, self.head = copy.deepcopy(parts)
        self._action_clip, self._remembers = action_clip, policy.remembers
        self.estimator = None
        if estimate_scales is not None:
            if len(estimate_scales) != len(policy.estimates):
                raise ValueError(f"the policy predicts {len(policy.estimates)} numbers, not {len(estimate_scales)}")
            self.estimator = copy.deepcopy(policy.estimator)
            self.register_buffer("estimate_scales", torch.tensor(estimate_scales, dtype=torch.float32))
        self.to("cpu", torch.float32).eval().requires_grad_(False)

    def forward(self, obs: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        """Compute one step.

        Args:
            obs: (batch, width).
            h: hidden state, (layers, batch, lstm_hidden_size); zeros at an episode's start.
            c: cell state, shaped like `h`.

        Returns:
            The clipped action (batch, num_joints); the states for the next step, which are always finite; and, unless
            left out, the predictions (batch, n_estimates) in physical units.
            If a number of `obs` is not finite, the states are returned unchanged, and the action is the one that they
            gave in the previous step. Non-finite states count as zeros.
        """
        encode = cast("MlpExtractor", self.extractor).encode
        is_sound = _is_finite(obs, (1,))
        is_whole = _is_finite(torch.cat((h, c)), (0, 2))
        h, c = torch.where(is_whole, h, 0.0), torch.where(is_whole, c, 0.0)
        output, hidden, cell = encode(obs), [], []
        for layer, (w_input, w_hidden, b_input, b_hidden) in enumerate(self.lstm.all_weights):
            before, cell_before = (h[layer], c[layer]) if self._remembers else (0.0 * h[layer], 0.0 * c[layer])
            gates = nn.functional.linear(output, w_input, b_input) + nn.functional.linear(before, w_hidden, b_hidden)
            enter, keep, candidate, leave = gates.chunk(4, dim=1)
            memory = keep.sigmoid() * cell_before + enter.sigmoid() * candidate.tanh()
            output = torch.where(is_sound, leave.sigmoid() * memory.tanh(), h[layer])
            hidden.append(output)
            cell.append(torch.where(is_sound, memory, c[layer]))
        action = self.head(self.tail(output)).clamp(-self._action_clip, self._action_clip)
        states = (torch.stack(hidden), torch.stack(cell))
        if self.estimator is None:
            return action, *states
        return action, *states, self.estimator(output) / self.estimate_scales

    @property
    def num_outputs(self) -> int:
        """Number of tensors that `forward` returns."""
        return 3 if self.estimator is None else 4

    def example(self, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
        """Return example inputs for exporters: a batch of two, because they treat a batch of one as fixed."""
        width = next(self.extractor.parameters()).shape[1]
        state = torch.zeros(self.lstm.num_layers, batch, self.lstm.hidden_size, dtype=torch.float32)
        return torch.zeros(batch, width, dtype=torch.float32), state, state.clone()


def _is_finite(numbers: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Return for each robot whether its numbers, and all sums of them, are finite, (batch, 1)."""
    # Sums and comparisons treat NaN alike in every runtime; maxima do not.
    return (numbers.abs().sum(dims) <= LARGEST_SUM).unsqueeze(1)
