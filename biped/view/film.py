"""Films of recorded episodes without a display, rendered by hardware if possible, else by software."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from biped.base.errors import MachineError, disk_error
from biped.base.files import REPOSITORY
from biped.base.packages import require
from biped.base.shipped import IS_INSTALLED
from biped.config.run import Config
from biped.config.serial import to_json
from biped.eval.recording import Recording

NO_RENDERER = 4
"""Exit code of `biped.view.film_process` if no renderer works."""
_TRIES: tuple[Mapping[str, str], ...] = (
    {"MUJOCO_GL": "egl"},
    {"MUJOCO_GL": "egl", "LIBGL_ALWAYS_SOFTWARE": "1"},
    {"MUJOCO_GL": "osmesa", "PYOPENGL_PLATFORM": "osmesa"},
)
REMEDY = (
    "nothing here can draw: install software rendering (Debian, Ubuntu: sudo apt-get install libegl1 libgl1-mesa-dri)"
)
"""Advice if no renderer works."""


def ways_to_draw(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> list[dict[str, str]]:
    """Return environments to try in order: the user's own choice, or EGL, EGL in software, OSMesa."""
    if "MUJOCO_GL" in environ or not platform.startswith("linux"):
        return [dict(environ)]
    return [{**environ, **change} for change in _TRIES]


def remedy(environ: Mapping[str, str] = os.environ) -> str:
    """Return advice for the case that no renderer works."""
    chosen = environ.get("MUJOCO_GL")
    return f"MUJOCO_GL={chosen} cannot draw here: unset it, and all ways are tried" if chosen else REMEDY


def choose_episodes(record: Recording, count: int) -> np.ndarray:
    """Return a mask of `count` episodes that show the policy's range, (num_envs,), bool.

    First the fastest forward, turning, sideways and backward commands, then the others in order.
    """
    vx, vy, wz = record.command.T
    wanted = [
        int(np.argmax(vx)),
        int(np.argmax(np.abs(wz) - np.abs(vx))),
        int(np.argmax(np.abs(vy))),
        int(np.argmin(vx)),
    ]
    order = list(dict.fromkeys([*wanted, *range(len(vx))]))
    mask = np.zeros(len(vx), dtype=bool)
    mask[order[:count]] = True
    return mask


def cut(record: Recording, seconds: float) -> Recording:
    """Return a recording with the first `seconds` of every episode."""
    steps = max(1, round(seconds / record.dt_s))
    parts = {
        name: value[:steps]
        for name, value in vars(record).items()
        if isinstance(value, np.ndarray) and name not in ("command", "fell", "reward_names")
    }
    return replace(record, **parts)


def save_job(record: Recording, config: Config, folder: Path) -> None:
    """Write the input files of `biped.view.film_process`.

    Raises:
        OSError: the disk refuses the write.
    """
    record.save(folder / "record.npz")
    (folder / "config.json").write_text(to_json(config))


def command_of(job: Path, out: Path, tile: tuple[int, int] | None = None) -> list[str]:
    """Return the command that draws the film of a job folder."""
    size = [] if tile is None else ["--tile", *map(str, tile)]
    # Absolute, because ffmpeg may read a relative path as a protocol.
    return [sys.executable, "-m", "biped.view.film_process", str(job.absolute()), str(out.absolute()), *size]


def film(
    record: Recording, config: Config, out: Path, *, tile: tuple[int, int] | None = None, flag: str = "--video"
) -> None:
    """Draw episodes in tiles as .mp4 or .gif; the file appears only when it is complete.

    Args:
        record: the episodes to show.
        config: configuration of their robot.
        out: path of the film.
        tile: width and height of each robot's picture, pixels.
        flag: the option that asked for the file, for error messages.

    Raises:
        MachineError: no renderer works, ffmpeg is not installed, or the disk refuses the write.
    """
    require("imageio_ffmpeg", "a film")
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".film-") as folder:
            job, whole = Path(folder), Path(folder) / f"film{out.suffix}"
            save_job(record, config, job)
            run_first_that_draws(command_of(job, whole, tile), ways_to_draw())
            whole.replace(out)
    except OSError as error:
        raise disk_error(error.filename or out, error, flag) from error


def run_first_that_draws(command: Sequence[str], ways: Sequence[Mapping[str, str]]) -> None:
    """Run a command of `biped.view.film_process` in one environment after another, until one can render.

    Raises:
        MachineError: no renderer works, or the command fails for another reason.
    """
    for way in ways:
        done = subprocess.run(
            list(command),
            env=with_repository(way),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode == 0:
            return
        if done.returncode > 0 and done.returncode != NO_RENDERER:  # a signal means that a driver crashed
            reason = (done.stderr.strip().splitlines() or ["it gives no reason"])[-1]
            raise MachineError(f"the film cannot be drawn ({reason})")
    raise MachineError(remedy())


def with_repository(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which Python finds this project from any folder."""
    if IS_INSTALLED:
        return dict(environ)  # it finds it already; first on the path, installed packages would hide Python's own
    here = str(REPOSITORY)
    return {**environ, "PYTHONPATH": os.pathsep.join(filter(None, (here, environ.get("PYTHONPATH"))))}
