"""Films of a training's evaluations, drawn beside it by a process of low priority."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from biped.errors import first_line, warn
from biped.eval.record import Recording
from biped.video import NO_RENDERER, choose_episodes, command_of, cut, remedy, save_job, ways_to_draw, with_repository
from biped_config import Config

ROBOTS, SECONDS, TILE = 4, 6.0, (320, 240)
"""Robots in a film, its length (s), and pixels of each robot's picture."""
END_S = 90.0
"""How long the end of a training waits for its films (s)."""
_POLITE = 10
_LOOK_S = 0.1


class Watch(Protocol):
    """What evaluates the policy; see `biped.gate_watch.GateWatch`."""

    @property
    def should_stop(self) -> bool:
        """Training may end."""
        ...

    def start(self, steps: int) -> None:
        """Training begins after so many environment steps."""
        ...

    def look(self, steps: int, *, last: bool = False) -> Mapping[str, float]:
        """Return metrics, or none where it is not time to look."""
        ...


@dataclass
class _Film:
    """A film that is being drawn."""

    process: subprocess.Popen[bytes]
    steps: int
    job: Path


class FilmingWatch:
    """Evaluates as the watch in it does, and has evaluations filmed now and then."""

    def __init__(
        self,
        watch: Watch,
        record: Callable[[], Recording | None],
        config: Config,
        folder: Path,
        every_steps: int,
        publish: Callable[[Path, int], None],
        may_wait: Callable[[], bool] = lambda: True,
    ) -> None:
        """Connect the watch.

        Args:
            watch: evaluates.
            record: returns the episodes of the last evaluation.
            config: their robot.
            folder: where films are kept, walk_<steps>_steps.gif.
            every_steps: environment steps between two films: the first evaluation after each multiple is filmed, and
                the last one.
            publish: takes a film, and the environment steps that it shows.
            may_wait: asked again and again while the end of a training waits for its last film.
        """
        self._watch, self._record, self._config, self._folder = watch, record, config, folder
        self._every_steps, self._publish, self._may_wait = every_steps, publish, may_wait
        self._last_steps = 0
        self._film: _Film | None = None
        self._ways = ways_to_draw()

    @property
    def should_stop(self) -> bool:
        """Training may end."""
        return self._watch.should_stop

    def start(self, steps: int) -> None:
        """Training begins after so many environment steps."""
        self._last_steps = steps
        self._watch.start(steps)

    def look(self, steps: int, *, last: bool = False) -> Mapping[str, float]:
        """Return the metrics of an evaluation, none where it is not time; film it where that is due."""
        figures = self._watch.look(steps, last=last)
        until_s = time.monotonic() + (END_S if last else 0.0)
        self._collect(until_s)
        is_due = steps // self._every_steps > self._last_steps // self._every_steps
        if figures and (is_due or last) and self._film is None and self._ways:
            self._last_steps = steps
            self._begin(steps)
            if last:
                self._collect(until_s)
        return figures

    def close(self) -> None:
        """Give up a film that is still being drawn."""
        if self._film is not None:
            self._film.process.kill()
            self._film.process.wait()
            self._forget()

    def _begin(self, steps: int) -> None:
        record = self._record()
        if record is None:
            return
        shown = cut(record.episodes(choose_episodes(record, ROBOTS)), SECONDS)
        try:
            self._folder.mkdir(exist_ok=True)
            job = Path(tempfile.mkdtemp(prefix=".film-", dir=self._folder))
            save_job(shown, self._config, job)
        except OSError as error:
            warn(f"no film is drawn ({first_line(error)}); training goes on without")
            self._ways = []
            return
        self._draw(steps, job)

    def _draw(self, steps: int, job: Path) -> None:
        try:
            with (job / "errors.txt").open("wb") as errors:
                process = subprocess.Popen(
                    command_of(job, job / "film.gif", TILE),
                    env=with_repository(self._ways[0]),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    start_new_session=os.name == "posix",  # Ctrl-C is for the training, which ends the film
                )
        except OSError as error:
            warn(f"no film is drawn ({first_line(error)}); training goes on without")
            self._ways, self._film = [], None
            shutil.rmtree(job, ignore_errors=True)
            return
        with contextlib.suppress(psutil.Error):
            psutil.Process(process.pid).nice(_POLITE)
        self._film = _Film(process, steps, job)

    def _collect(self, until_s: float) -> None:
        """Publish a film that is done by a time; try the next way to draw where this one cannot."""
        while self._film is not None:
            film = self._film
            code = film.process.poll()
            while code is None and time.monotonic() < until_s and self._may_wait():
                time.sleep(_LOOK_S)
                code = film.process.poll()
            if code is None:
                return
            if code == NO_RENDERER or code < 0:
                self._ways = self._ways[1:]
                if self._ways:
                    self._draw(film.steps, film.job)
                    continue
                warn(f"no film is drawn: {remedy()}; training goes on without")
            elif code:
                reason = (film.job / "errors.txt").read_text(errors="replace").strip().splitlines()
                warn(f"no film is drawn ({reason[-1] if reason else 'no reason given'}); training goes on without")
                self._ways = []
            else:
                self._keep(film)
            self._forget()

    def _keep(self, film: _Film) -> None:
        out = self._folder / f"walk_{film.steps}_steps.gif"
        try:
            (film.job / "film.gif").replace(out)
            self._publish(out, film.steps)
        except OSError as error:
            warn(f"the film {out} is lost ({first_line(error)})")

    def _forget(self) -> None:
        if self._film is not None:
            shutil.rmtree(self._film.job, ignore_errors=True)
        self._film = None
