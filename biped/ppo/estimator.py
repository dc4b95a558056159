"""A head on the actor's memory that predicts what only the critic sees.

What an LSTM must know to act well, such as its own velocity, it works out from what it has seen. A linear head reads it
out, and its error, with a small weight, teaches the memory to keep it: Ji et al. 2022, "Concurrent training of a
control policy and a state estimator for dynamic and robust legged locomotion" (arXiv:2202.05481). There the estimate is
an input of the actor; here nothing goes back, so a wrong one does no harm.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from biped.ppo.groups import CRITIC


class Estimator(nn.Module):
    """A linear map from the actor's memory to some numbers of the critic's observation."""

    columns: Tensor

    def __init__(self, latent_width: int, columns: Sequence[int], coef: float) -> None:
        """Begin with estimates near 0.

        Args:
            latent_width: of the actor's LSTM.
            columns: which numbers of the critic's observation are predicted.
            coef: weight of its loss.
        """
        super().__init__()
        self.coef = coef
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.int64), persistent=False)
        self.head = nn.Linear(latent_width, len(columns))

    def forward(self, latent: Tensor) -> Tensor:
        """Return estimates (n, len(columns)), scaled as the critic's observation is, of memories (n, latent_width)."""
        return self.head(latent)

    def truth(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Return what is to be predicted, (n, len(columns)), from observations in groups, (n, ...) each."""
        return observations[CRITIC].index_select(1, self.columns)
