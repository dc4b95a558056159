"""What a checkpoint of a training holds besides the weights, gathered and put back.

A run that goes on from such a checkpoint is the run that was never interrupted: on the CPU to the last bit.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch

from biped.base.errors import first_line, warn
from biped.env.env import BipedEnv
from biped.ppo.recurrent_ppo import DeviceRecurrentPPO
from biped.ppo.snapshot import learner_state, restore_learner
from biped.runs.checkpoint import Checkpoint, restore, save_checkpoint
from biped.runs.models import make_way

COMMAND_SHARE = "command_share"
"""Name, in a checkpoint's notes, of how far the commands have been widened."""
_ENV, _LEARNER = "env.", "learner."


class Keeper(Protocol):
    """Somebody who counts things that a resumed run must count on."""

    def notes(self) -> dict[str, float]:
        """Return finite numbers of at least 0, by names of its own."""
        ...

    def restore(self, notes: Mapping[str, float]) -> None:
        """Take over what `notes` returned; other names are other keepers'."""
        ...


class TrainingState:
    """Writes checkpoints of a training, and takes it back to one."""

    def __init__(self, model: DeviceRecurrentPPO, env: BipedEnv) -> None:
        """Refer to the learner and to the environment that it steps."""
        self._model, self._env = model, env
        self._has_complained = False
        self.keepers: list[Keeper] = []
        """Whose notes are kept too."""

    def save(self, path: Path) -> None:
        """Write all that it takes to go on exactly.

        Raises:
            OSError: the disk does not let us.
        """
        save_checkpoint(self._model, path, self._notes(), self._live())

    def save_weights(self, path: Path) -> None:
        """Write the model alone, for those who use it; one of more steps that is there is kept under another name.

        Raises:
            OSError: the disk does not let us.
        """
        make_way(path, self._model.num_timesteps)
        save_checkpoint(self._model, path, self._notes())

    def restore(self, start: Checkpoint) -> str | None:
        """Put a checkpoint back; return why episodes and draws begin anew, where they do.

        Raises:
            CheckpointError: the networks have other shapes.
        """
        restore(self._model, start)
        self._env.command_share = min(1.0, start.notes.get(COMMAND_SHARE, self._env.command_share))
        if not start.live:
            return "the checkpoint holds none of them"
        try:
            self._env.set_state(_part(start.live, _ENV))
            restore_learner(self._model, _part(start.live, _LEARNER))
        except Exception as error:  # a simulator of another version fails in ways of its own
            self._model._last_obs = None  # what was put back by half is thrown away
            for tensor in (*self._model._last_lstm_states.pi, *self._model._last_lstm_states.vf):
                tensor.zero_()
            return f"they were of another version or machine: {first_line(error)}"
        return None

    def _live(self) -> dict[str, torch.Tensor]:
        """Return what the training is in the middle of; nothing where the simulator does not say."""
        try:
            live = {f"{_ENV}{name}": value for name, value in self._env.get_state().items()}
        except Exception as error:
            if not self._has_complained:
                warn(f"checkpoints hold weights alone ({first_line(error)}): a continued run begins new episodes")
            self._has_complained = True
            return {}
        return live | {f"{_LEARNER}{name}": value for name, value in learner_state(self._model).items()}

    def restore_notes(self, start: Checkpoint | None) -> None:
        """Put the keepers' notes back; nothing to do for a new run."""
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
