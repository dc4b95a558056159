"""When an episode ends, and why."""

import math
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from biped.config.task import TerminationConfig
from biped.robot.state import BipedState


@dataclass(frozen=True)
class Terminations:
    """Causes of an episode's end, each (num_envs,), bool; several may hold at once."""

    height: Tensor
    """The base is below its minimum height."""
    tilt: Tensor
    """The base is tilted too far."""
    error: Tensor
    """The solver failed or the state is not finite."""
    time_out: Tensor
    """The episode has reached its time limit."""
    strayed: Tensor | None = None
    """The joints are too far from a clip that they are to follow; None: there is none."""

    @cached_property
    def fell(self) -> Tensor:
        """Whether the robot fell, (num_envs,), bool."""
        return self.height | self.tilt

    @cached_property
    def terminated(self) -> Tensor:
        """Whether the episode ended in a terminal state, whose value is zero, (num_envs,), bool."""
        lost = self.fell | self.error
        return lost if self.strayed is None else lost | self.strayed

    @cached_property
    def truncated(self) -> Tensor:
        """Whether the episode was cut off in a state that has a value, (num_envs,), bool."""
        return self.time_out > self.terminated

    @cached_property
    def done(self) -> Tensor:
        """Whether the episode ended, (num_envs,), bool."""
        return self.terminated | self.time_out


def check_terminations(
    state: BipedState,
    episode_steps: Tensor,
    max_episode_steps: int,
    cfg: TerminationConfig,
    strayed: Tensor | None = None,
) -> Terminations:
    """Decide which episodes end.

    Args:
        state: the state after the control step.
        episode_steps: control steps since the episode began, including this one, (num_envs,).
        max_episode_steps: control steps until the time-out.
        cfg: limits.
        strayed: where the joints are too far from a clip, (num_envs,), bool; None: there is none to follow.
    """
    # The angle between the base's z axis and vertical has the cosine -g_z.
    minus_cos_tilt = state.projected_gravity_b[:, 2]
    return Terminations(
        height=state.base_height_m < cfg.min_base_height_m,
        tilt=minus_cos_tilt > -math.cos(cfg.max_tilt_rad),
        error=state.error,
        time_out=episode_steps >= max_episode_steps,
        strayed=strayed,
    )
