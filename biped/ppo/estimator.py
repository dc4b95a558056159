"""A head on the actor's memory that predicts values that only the critic observes.

To act well, an LSTM has to infer quantities such as its own velocity from past observations. A linear head reads them
out, and its error, with a small weight, trains the memory to keep them: Ji et al. 2022, "Concurrent training of a
control policy and a state estimator for dynamic and robust legged locomotion" (arXiv:2202.05481). There the estimate
is an input of the actor; here it is not fed back, so a wrong estimate does no harm.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from biped.ppo.groups import CRITIC


class Estimator(nn.Module):
    """A linear map from the actor's memory to selected numbers of the critic's observation."""

    columns: Tensor

    def __init__(self, latent_width: int, columns: Sequence[int], coef: float) -> None:
        """Make the head.

        Args:
            latent_width: width of the actor's LSTM.
            columns: indices in the critic's observation of the numbers to predict.
            coef: weight of the head's loss.
        """
        super().__init__()
        self.coef = coef
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.int64), persistent=False)
        self.head = nn.Linear(latent_width, len(columns))

    def forward(self, latent: Tensor) -> Tensor:
        """Return estimates (n, len(columns)), scaled like the critic's observation, from memories (n, latent_width)."""
        return self.head(latent)

    def truth(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Return the values to predict, (n, len(columns)), from grouped observations, (n, ...) each."""
        return observations[CRITIC].index_select(1, self.columns)
