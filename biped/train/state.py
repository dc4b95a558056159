"""The state in a training's checkpoint besides the weights: collected and restored.

A run resumed from such a checkpoint continues exactly like an uninterrupted one: on the CPU bit by bit.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch

from biped.base.errors import first_line, warn
from biped.env.env import BipedEnv
from biped.ppo.distributed import joined_states, split_states
from biped.ppo.recurrent_ppo import DeviceRecurrentPPO
from biped.ppo.snapshot import learner_state, restore_learner
from biped.ppo.style import Style
from biped.runs.checkpoint import Checkpoint, restore, save_checkpoint
from biped.runs.models import make_way

COMMAND_SHARE = "command_share"
"""Name in a checkpoint's notes of the share of the command ranges."""
RANKS = "ranks"
"""Name in a checkpoint's notes of the number of processes that trained, if there was more than one."""
_ENV, _LEARNER, _STYLE = "env.", "learner.", "style."


class Keeper(Protocol):
    """An object with counters that a resumed run must continue."""

    def notes(self) -> dict[str, float]:
        """Return finite numbers of at least 0, under its own names."""
        ...

    def restore(self, notes: Mapping[str, float]) -> None:
        """Restore the counters from `notes`; other names belong to other keepers."""
        ...


class TrainingState:
    """Writes checkpoints of a training, and restores them."""

    def __init__(self, model: DeviceRecurrentPPO, env: BipedEnv) -> None:
        """Connect the learner and the environment that it steps."""
        self._model, self._env = model, env
        self._has_complained = False
        self.keepers: list[Keeper] = []
        """Objects whose notes are stored too."""

    def save(self, path: Path) -> None:
        """Write a checkpoint for an exact continuation.

        Raises:
            OSError: the disk refuses the write.
        """
        team, live, notes = self._model.team, self._live(), self._notes()
        if team is not None:
            states = team.gather(live)
            # Of no use if one process is missing, or if its simulator cannot give its state.
            live = joined_states(states) if states and all(states) else {}
            notes[RANKS] = team.size
        save_checkpoint(self._model, path, notes, live)

    def hand_in(self) -> None:
        """Hand this process's part of a checkpoint to the one that saves it."""
        if self._model.team is not None:
            self._model.team.gather(self._live())

    def save_weights(self, path: Path) -> None:
        """Write only the model, for use; an existing one with more steps is kept under another name.

        Raises:
            OSError: the disk refuses the write.
        """
        make_way(path, self._model.num_timesteps)
        save_checkpoint(self._model, path, self._notes())

    def restore(self, start: Checkpoint) -> str | None:
        """Restore a checkpoint; return the reason if episodes and random draws start anew, else None.

        Raises:
            CheckpointError: the networks have different shapes.
        """
        restore(self._model, start)
        self._env.command_share = min(1.0, start.notes.get(COMMAND_SHARE, self._env.command_share))
        team, ranks = self._model.team, int(start.notes.get(RANKS, 1))
        count, rank = (1, 0) if team is None else (team.size, team.rank)
        if self._model.style is not None:
            self._restore_style(self._model.style, split_states(start.live, ranks)[rank if ranks == count else 0])
        if not start.live:
            return "the checkpoint holds none of them"
        if ranks != count:
            return f"they were those of {ranks} processes, and now there {'is' if count == 1 else 'are'} {count}"
        why = self._restore_live(split_states(start.live, ranks)[rank])
        if team is not None and team.agree(int(why is not None)):
            why = why or "another process cannot go on with its own"
        if why is not None:
            self._model._last_obs = None  # discard a partly restored state
            for tensor in (*self._model._last_lstm_states.pi, *self._model._last_lstm_states.vf):
                tensor.zero_()
        return why

    @staticmethod
    def _restore_style(style: Style, live: Mapping[str, torch.Tensor]) -> None:
        """Restore the discriminator, whatever becomes of the episodes."""
        state = _part(live, _STYLE)
        try:
            style.set_state(state)
        except (KeyError, RuntimeError, ValueError) as error:
            why = first_line(error) if state else "the checkpoint holds none"
            warn(f"the style's discriminator begins anew ({why})")

    def _restore_live(self, live: Mapping[str, torch.Tensor]) -> str | None:
        """Restore the state of this process's running training; return why that failed, None if it did not."""
        try:
            self._env.set_state(_part(live, _ENV))
            restore_learner(self._model, _part(live, _LEARNER))
        except Exception as error:  # another simulator version may raise anything
            return f"they were of another version or machine: {first_line(error)}"
        return None

    def _live(self) -> dict[str, torch.Tensor]:
        """Return the state of the running training; empty if the simulator cannot give it."""
        try:
            live = {f"{_ENV}{name}": value for name, value in self._env.get_state().items()}
        except Exception as error:
            if not self._has_complained:
                warn(f"checkpoints hold weights alone ({first_line(error)}): a continued run begins new episodes")
            self._has_complained = True
            return {}
        live |= {f"{_LEARNER}{name}": value for name, value in learner_state(self._model).items()}
        style = {} if self._model.style is None else self._model.style.get_state()
        return live | {f"{_STYLE}{name}": value for name, value in style.items()}

    def restore_notes(self, start: Checkpoint | None) -> None:
        """Restore the keepers' notes; does nothing for a new run."""
        if start is not None:
            for keeper in self.keepers:
                keeper.restore(start.notes)

    def _notes(self) -> dict[str, float]:
        notes = {COMMAND_SHARE: self._env.command_share}
        for keeper in self.keepers:
            notes |= keeper.notes()
        return notes


def _part(live: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in live.items() if name.startswith(prefix)}
