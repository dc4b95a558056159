"""The settings that a search or a population varies, and within which bounds."""

import argparse
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from biped.base.errors import ConfigError, UsageError
from biped.config.run import Config
from biped.config.settings import parse_setting, with_settings

FACTORS = (0.8, 1.2)
"""Factors of a perturbed value (Jaderberg et al. 2017, section 4.1.1)."""
RESAMPLED = 0.25
"""Probability that a perturbed value is drawn anew instead (section 4.1.1)."""


class Trial(Protocol):
    """Suggests values; Optuna's trials do."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Suggest a whole number."""
        ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Suggest a number."""
        ...


@dataclass(frozen=True)
class Range:
    """The range of a searched setting."""

    path: str
    """Field of the configuration, such as ppo.learning_rate."""
    low: float
    """Smallest value."""
    high: float
    """Largest value."""
    is_log: bool = False
    """Whether the logarithm is drawn uniformly."""
    is_whole: bool = False
    """Whether only whole numbers are drawn."""

    @classmethod
    def parse(cls, text: str) -> "Range":
        """Read PATH=LOW:HIGH or PATH=LOW:HIGH:log; only whole numbers are drawn if both bounds are whole.

        Raises:
            argparse.ArgumentTypeError: the text cannot be read.
        """
        path, _, bounds = text.partition("=")
        low, _, rest = bounds.partition(":")
        high, _, kind = rest.partition(":")
        try:
            numbers = float(low), float(high)
        except ValueError:
            numbers = 1.0, 0.0
        if not path or kind not in ("", "log") or not numbers[0] < numbers[1] or (kind == "log" and numbers[0] <= 0):
            raise argparse.ArgumentTypeError(f"{text!r} is not PATH=LOW:HIGH or PATH=LOW:HIGH:log, the smaller first")
        is_whole = all(part.lstrip("+-").isdigit() for part in (low, high))
        return cls(path, *numbers, kind == "log", is_whole)

    def __str__(self) -> str:
        """Write the range as `parse` reads it."""
        low, high = (int(bound) if self.is_whole else bound for bound in (self.low, self.high))
        return f"{self.path}={low}:{high}{':log' if self.is_log else ''}"

    def suggest(self, trial: Trial) -> float:
        """Have a trial suggest a value."""
        if self.is_whole:
            return trial.suggest_int(self.path, int(self.low), int(self.high), log=self.is_log)
        return trial.suggest_float(self.path, self.low, self.high, log=self.is_log)

    def draw(self, dice: random.Random) -> float:
        """Draw a value."""
        if self.is_log:
            return self._within(math.exp(dice.uniform(math.log(self.low), math.log(self.high))))
        return dice.randint(int(self.low), int(self.high)) if self.is_whole else dice.uniform(self.low, self.high)

    def perturbed(self, value: float, dice: random.Random) -> float:
        """Return a value near another one, or once in four times any value of the range.

        Near is a fifth less or more; in a range with values of 0 or less, a fifth of the range's half.
        """
        if dice.random() < RESAMPLED:
            return self.draw(dice)
        factor = dice.choice(FACTORS)
        near = value * factor if self.low > 0 else value + (factor - 1.0) * (self.high - self.low) / 2
        if self.is_whole and round(near) == value:
            near = value + math.copysign(1.0, factor - 1.0)
        return self._within(near)

    def _within(self, value: float) -> float:
        value = min(self.high, max(self.low, value))
        return round(value) if self.is_whole else value


SPACE = (
    Range("ppo.max_learning_rate", 1.5e-3, 4e-3, is_log=True),
    Range("ppo.desired_kl", 0.01, 0.08, is_log=True),
    Range("ppo.n_epochs", 3, 8, is_whole=True),
    Range("ppo.ent_coef", 0.001, 0.02, is_log=True),
    Range("env.reward.weights.tracking_ang_vel", 2.0, 8.0),
    Range("env.reward.weights.tracking_lin_vel_y", 1.0, 4.0),
    Range("env.reward.weights.contact_schedule", 1.0, 4.0),
)
"""Default search space, without `--search`."""


def check_space(config: Config, settings: Sequence[str], space: Sequence[Range]) -> Config:
    """Check that every setting exists and accepts both of its bounds, before anything is started.

    Args:
        config: the preset's configuration.
        settings: fixed settings, as PATH=VALUE.
        space: the settings to vary.

    Returns:
        The configuration with the fixed settings.

    Raises:
        UsageError: a setting is invalid; the message names it.
    """
    try:
        changed = with_settings(config, [parse_setting(text) for text in settings])
    except ConfigError as error:
        raise UsageError(f"--set: {error}") from error
    for bound in ("low", "high"):
        for item in space:
            value: Any = getattr(item, bound)
            try:
                with_settings(changed, [(item.path, int(value) if item.is_whole else value)])
            except ConfigError as error:
                raise UsageError(f"--search: {error}") from error
    return changed
