"""Films of evaluations: when one is due, and where it is shown."""

import time
from pathlib import Path
from typing import Protocol

from biped.base.errors import first_line, warn
from biped.base.interrupts import Interrupts
from biped.base.watchdog import Watchdog
from biped.eval.bench import EvaluationBench
from biped.eval.recording import Recording
from biped.runs.publishing import Pictures
from biped.train.callback import Part, Row

END_S = 90.0
"""Longest wait for films at the end of a training (s)."""
_LOOK_S = 0.1


class Camera(Protocol):
    """Draws films during training; see `biped.view.filming.Camera`."""

    @property
    def is_busy(self) -> bool:
        """Whether a film is in progress."""
        ...

    def film(self, record: Recording, steps: int) -> None:
        """Start a film of an evaluation after this number of environment steps."""
        ...

    def collect(self) -> tuple[Path, int] | None:
        """Return a finished film and its steps; None without one."""
        ...

    def close(self) -> None:
        """Abort a film in progress."""
        ...


class Films(Part):
    """Films the first evaluation after each interval, and the last one; must come after `Gate`."""

    def __init__(
        self,
        camera: Camera,
        bench: EvaluationBench,
        every_steps: int,
        pictures: Pictures,
        watchdog: Watchdog,
        interrupts: Interrupts,
    ) -> None:
        """Connect the part.

        Args:
            camera: draws the films.
            bench: has the episodes of the last evaluation.
            every_steps: environment steps between two films.
            pictures: shows finished films.
            watchdog: gets signs of life while the end of the training waits for its last film.
            interrupts: a signal ends that wait.
        """
        super().__init__()
        self._camera, self._bench, self._every_steps, self._pictures = camera, bench, every_steps, pictures
        self._watchdog, self._interrupts = watchdog, interrupts
        self._last_steps = 0

    def _on_training_start(self) -> None:
        self._last_steps = self.num_timesteps

    def before_training(self, row: Row) -> None:
        """Film an evaluation that was repeated."""
        self.after_update(row, last=False)

    def after_update(self, row: Row, *, last: bool) -> None:
        """Show finished films, and start one if it is due; at the end wait for them."""
        steps, until_s = self.num_timesteps, time.monotonic() + (END_S if last else 0.0)
        self._collect(until_s)
        is_due = steps // self._every_steps > self._last_steps // self._every_steps
        record = self._bench.last_record
        if "gate/score" in row and (is_due or last) and not self._camera.is_busy and record is not None:
            self._last_steps = steps
            self._camera.film(record, steps)
            if last:
                self._collect(until_s)

    def close(self) -> None:
        """Abort a film in progress."""
        self._camera.close()

    def _collect(self, until_s: float) -> None:
        while self._camera.is_busy:
            if (done := self._camera.collect()) is not None:
                self._show(*done)
            elif self._camera.is_busy:
                if time.monotonic() >= until_s or self._interrupts.received:
                    return
                self._watchdog.sign_of_life()
                time.sleep(_LOOK_S)

    def _show(self, film: Path, steps: int) -> None:
        try:
            self._pictures.show("video/walk", film, steps)
        except OSError as error:
            warn(f"the film {film} is lost ({first_line(error)})")
