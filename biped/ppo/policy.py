"""A recurrent actor-critic: MLP, LSTM and linear head, one of each for the actor and for the critic.

In sb3-contrib's own recurrent policies `net_arch` comes after the LSTM. Here the MLP is the features extractor before
it, and `net_arch` is empty; a checkpoint of this policy still opens with stock `RecurrentPPO.load`. If observations
have two groups (`biped.ppo.groups`), the actor's extractor takes one and the critic's the other: no value of the
critic's group can influence an action.
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import gymnasium
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from biped.ppo.estimator import Estimator
from biped.ppo.groups import ACTOR, CRITIC, group_space
from biped.ppo.normalizer import Merge, RunningNormalizer
from biped.ppo.recurrent_pass import without_memory


class MlpExtractor(BaseFeaturesExtractor):
    """Linear layers with ELU, from flat observations to the LSTM's input."""

    def __init__(
        self,
        observation_space: gymnasium.Space,
        hidden_sizes: Sequence[int] = (512, 256, 128),
        normalizer: RunningNormalizer | None = None,
        group: str = ACTOR,
    ) -> None:
        """Make one layer per width in `hidden_sizes`, after the `normalizer` if there is one.

        Args:
            observation_space: a flat `Box`, or a `Dict` of two groups.
            hidden_sizes: widths of the layers.
            normalizer: normaliser of the observations.
            group: the observation group to use.

        Raises:
            ValueError: there are no layers, or the observation has other groups.
        """
        if not hidden_sizes:
            raise ValueError("hidden_sizes is empty: the extractor needs at least one layer")
        super().__init__(observation_space, features_dim=hidden_sizes[-1])
        widths = [get_flattened_obs_dim(group_space(observation_space, group)), *hidden_sizes]
        layers = [
            layer
            for fan_in, fan_out in zip(widths, hidden_sizes, strict=False)
            for layer in (nn.Linear(fan_in, fan_out), nn.ELU())
        ]
        self.normalizer, self.group = normalizer, group
        self.layers = nn.Sequential(*layers)

    def forward(self, observations: Tensor | dict[str, Tensor]) -> Tensor:
        """Map observations, (batch, width) or a dictionary of groups, to features (batch, features_dim)."""
        return self.encode(observations[self.group] if isinstance(observations, dict) else observations)

    def encode(self, observations: Tensor) -> Tensor:
        """Map the extractor's own group, (batch, width), to features (batch, features_dim)."""
        flat = observations.flatten(1)
        return self.layers(flat if self.normalizer is None else self.normalizer(flat))

    def observe(self, observations: Tensor | dict[str, Tensor], merge: Merge | None = None) -> None:
        """Update the normaliser, if there is one, with observations (n, ...)."""
        if self.normalizer is not None:
            group = observations[self.group] if isinstance(observations, dict) else observations
            self.normalizer.observe(group.flatten(1), merge)


_SETTLED: Mapping[str, Any] = MappingProxyType(
    {
        "features_extractor_class": MlpExtractor,
        "share_features_extractor": False,
        "net_arch": [],
        "activation_fn": nn.ELU,
        "enable_critic_lstm": True,
        "shared_lstm": False,
    }
)
"""Fixed arguments of sb3-contrib's policy."""


class MlpIntoLstmPolicy(RecurrentActorCriticPolicy):
    """sb3-contrib's recurrent actor-critic with the MLP before the LSTM and a fast pass over whole sequences."""

    estimator: Estimator | None
    """Predicts values of the critic's group from the actor's memory; None without `estimates`."""

    def __init__(
        self,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        lr_schedule: Schedule,
        hidden_sizes: Sequence[int] = (512, 256, 128),
        lstm_hidden_size: int = 512,
        n_lstm_layers: int = 2,
        initial_std: float = 1.0,
        normalize_observations: bool = False,
        estimates: Sequence[int] = (),
        estimate_coef: float = 0.1,
        memory: bool = True,
        **kwargs: Any,
    ) -> None:
        """Build the networks.

        Args:
            observation_space: a flat `Box`, or a `Dict` of two groups; see `biped.ppo.groups`.
            action_space: a flat `Box`.
            lr_schedule: Stable-Baselines3's schedule of the learning rate.
            hidden_sizes: widths of the MLP's layers.
            lstm_hidden_size: width of each LSTM.
            n_lstm_layers: layers of each LSTM.
            initial_std: initial standard deviation of the actions.
            normalize_observations: normalise observations by their running mean and variance.
            estimates: indices in the critic's group of the values to predict from the actor's memory; empty: no head.
                See `biped.ppo.estimator`.
            estimate_coef: weight of the prediction's loss.
            memory: whether the LSTMs keep their state; if not, they act as feed-forward layers.
            **kwargs: further arguments of Stable-Baselines3's policies.

        Raises:
            ValueError: observations have other groups, or `estimates` is given without a group for the critic.
        """
        if estimates and not isinstance(observation_space, gymnasium.spaces.Dict):
            raise ValueError("estimates need a critic group, but the observations have no groups")
        settings = {
            **_SETTLED,
            "features_extractor_kwargs": {"hidden_sizes": tuple(hidden_sizes)},
            "log_std_init": math.log(initial_std),
        }
        self._normalizes = normalize_observations
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            lstm_hidden_size=lstm_hidden_size,
            n_lstm_layers=n_lstm_layers,
            **{**kwargs, **settings},
        )
        self.remembers = memory
        if not memory:
            self._process_sequence = _forgetting
        self.estimates, self.estimator = tuple(estimates), None
        if estimates:
            self.estimator = Estimator(lstm_hidden_size, estimates, estimate_coef)
            make_optimizer: Any = self.optimizer_class  # the parent's optimizer lacks this head
            self.optimizer = make_optimizer(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        """Make the actor's extractor at the first call, the critic's at the second.

        Each group has its own normaliser; if both extractors use the same observations, they share one.
        """
        is_critic = self.features_extractor is not None
        group = CRITIC if is_critic else ACTOR
        normalizer = self._new_normalizer(group)
        if not isinstance(self.observation_space, gymnasium.spaces.Dict):
            self.normalizer = normalizer = self.normalizer if is_critic else normalizer
        return MlpExtractor(
            self.observation_space, normalizer=normalizer, group=group, **self.features_extractor_kwargs
        )

    def _new_normalizer(self, group: str) -> RunningNormalizer | None:
        width = get_flattened_obs_dim(group_space(self.observation_space, group))
        return RunningNormalizer(width) if self._normalizes else None

    def observe(self, observations: Tensor | dict[str, Tensor], merge: Merge | None = None) -> None:
        """Update the normalisers, if there are any, with observations (n, ...)."""
        extractors = [self.pi_features_extractor, self.vf_features_extractor]
        for extractor in extractors if isinstance(observations, dict) else extractors[:1]:
            cast("MlpExtractor", extractor).observe(observations, merge)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        """Return the constructor's arguments, from which `load` recreates a saved policy."""
        settled = {"net_arch", "activation_fn", "log_std_init", "features_extractor_class", "features_extractor_kwargs"}
        parents = super()._get_constructor_parameters()
        return {name: value for name, value in parents.items() if name not in settled} | {
            "hidden_sizes": self.features_extractor_kwargs["hidden_sizes"],
            "lstm_hidden_size": self.lstm_actor.hidden_size,
            "n_lstm_layers": self.lstm_actor.num_layers,
            "lstm_kwargs": self.lstm_kwargs,
            "initial_std": math.exp(self.log_std_init),
            "normalize_observations": self._normalizes,
            "memory": self.remembers,
            "estimates": self.estimates,
            "estimate_coef": 0.0 if self.estimator is None else self.estimator.coef,
        }

    @staticmethod
    def _process_sequence(  # pyright: ignore[reportIncompatibleMethodOverride] - the parent's annotation misses the tuple
        features: Tensor,
        lstm_states: tuple[Tensor, Tensor],
        episode_starts: Tensor,
        lstm: nn.LSTM,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run an LSTM over sequences and clear its state where an episode starts.

        The parent class runs step by step as soon as any episode starts anywhere. But its own buffer cuts sequences at
        episode starts, so a start is nearly always a sequence's first step. There it is enough to clear the initial
        state, and one call runs the whole batch. Checking this reads one flag from the device, among the dozen values
        that stock training reads for every minibatch.

        Args:
            features: (n_seq × length, lstm.input_size), sequence by sequence.
            lstm_states: hidden and cell state, (layers, n_seq, lstm.hidden_size) each.
            episode_starts: 1 where an episode starts, (n_seq × length,).
            lstm: the LSTM.

        Returns:
            Outputs (n_seq × length, lstm.hidden_size), and the states after the last step.
        """
        n_seq = lstm_states[0].shape[1]
        keep = 1.0 - episode_starts.reshape(n_seq, -1).swapaxes(0, 1)
        length = keep.shape[0]
        if length > 1 and not bool(keep[1:].all()):
            return _step_by_step(features, lstm_states, episode_starts, lstm)
        sequence = features.reshape(n_seq, length, lstm.input_size).swapaxes(0, 1)
        begins = (keep[0] == 0.0).view(1, n_seq, 1)
        output, states = lstm(
            sequence, (lstm_states[0].masked_fill(begins, 0.0), lstm_states[1].masked_fill(begins, 0.0))
        )
        return output.swapaxes(0, 1).reshape(n_seq * length, -1), states


def _forgetting(features: Tensor, lstm_states: Any, episode_starts: Tensor, lstm: nn.LSTM) -> Any:
    """Run an LSTM without memory, with the arguments of `_process_sequence`."""
    del episode_starts
    return without_memory(features, lstm, lstm_states)


def _step_by_step(*arguments: Any) -> Any:
    return RecurrentActorCriticPolicy._process_sequence(*arguments)
