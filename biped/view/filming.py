"""Films of evaluations during training, drawn by a separate process of low priority."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil

from biped.base.errors import first_line, warn
from biped.config.run import Config
from biped.eval.recording import Recording
from biped.view.film import (
    NO_RENDERER,
    choose_episodes,
    command_of,
    cut,
    remedy,
    save_job,
    ways_to_draw,
    with_repository,
)

ROBOTS, SECONDS, TILE = 4, 6.0, (320, 240)
"""Number of robots in a film, its length (s), and pixels of each robot's picture."""
_POLITE: int = getattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", 10)
"""Windows has classes instead of numbers."""


@dataclass
class _Film:
    """A film in progress."""

    process: subprocess.Popen[bytes]
    steps: int
    job: Path


class Camera:
    """Draws recorded episodes as films in another process, one at a time, while training continues."""

    def __init__(self, config: Config, folder: Path) -> None:
        """Set up the camera.

        Args:
            config: configuration of the episodes' robot.
            folder: folder of the films, walk_<steps>_steps.gif.
        """
        self._config, self._folder = config, folder
        self._film: _Film | None = None
        self._ways = ways_to_draw()

    @property
    def is_busy(self) -> bool:
        """Whether a film is in progress."""
        return self._film is not None

    @property
    def is_broken(self) -> bool:
        """Whether no renderer works; this has been reported."""
        return not self._ways

    def film(self, record: Recording, steps: int) -> None:
        """Start a film of an evaluation after this number of environment steps; call it only when not busy."""
        if not self.is_broken:
            self._begin(record, steps)

    def collect(self) -> tuple[Path, int] | None:
        """Return a finished film and its steps; if the renderer failed, try the next one."""
        film = self._film
        if film is None or (code := film.process.poll()) is None:
            return None
        if code == NO_RENDERER or code < 0:
            self._ways = self._ways[1:]
            if self._ways:
                self._draw(film.steps, film.job)
                return None
            warn(f"no film is drawn: {remedy()}; training goes on without")
        elif code:
            reason = (film.job / "errors.txt").read_text(errors="replace").strip().splitlines()
            warn(f"no film is drawn ({reason[-1] if reason else 'no reason given'}); training goes on without")
            self._ways = []
        kept = None if code else self._keep(film)
        self._forget()
        return kept

    def close(self) -> None:
        """Abort a film in progress."""
        if self._film is not None:
            self._film.process.kill()
            self._film.process.wait()
            self._forget()

    def _begin(self, record: Recording, steps: int) -> None:
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
                    start_new_session=os.name == "posix",  # Ctrl-C goes to the training, which aborts the film
                )
        except OSError as error:
            warn(f"no film is drawn ({first_line(error)}); training goes on without")
            self._ways, self._film = [], None
            shutil.rmtree(job, ignore_errors=True)
            return
        with contextlib.suppress(psutil.Error):
            psutil.Process(process.pid).nice(_POLITE)
        self._film = _Film(process, steps, job)

    def _keep(self, film: _Film) -> tuple[Path, int] | None:
        out = self._folder / f"walk_{film.steps}_steps.gif"
        try:
            (film.job / "film.gif").replace(out)
        except OSError as error:
            warn(f"the film {out} is lost ({first_line(error)})")
            return None
        return out, film.steps

    def _forget(self) -> None:
        if self._film is not None:
            shutil.rmtree(self._film.job, ignore_errors=True)
        self._film = None
