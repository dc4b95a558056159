"""A robot's run beside its replays in simulation: pictures, a table and a page."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from biped.base.errors import MachineError, UsageError, disk_error, say, warn
from biped.base.files import whole_folder
from biped.base.packages import how_to_check
from biped.config.task import EnvConfig
from biped.eval.replay import (
    Array,
    Measured,
    Replay,
    as_measured,
    joint_errors,
    joint_motions,
    replay,
    tilt_error,
    turning_errors,
)
from biped.view.page import embedded, rendered
from biped.view.plots import replay_growth, replayed_base, replayed_joints

TEMPLATE = Path(__file__).with_name("replay.html")
"""The template of the page."""
SIMS = ("mujoco", "genesis")
"""The simulators, in the order of the table."""
_AXES = ("x", "y", "z")


@dataclass(frozen=True)
class ReplayRequest:
    """What `python -m biped replay` was asked for."""

    log: Path
    """The log's file, for names and titles."""
    sims: tuple[str, ...]
    """Names of the simulators."""
    window_s: float
    """Length of a window (s)."""
    late_steps: int
    """By how many control steps targets take effect late."""
    out: Path | None
    """The folder; None: beside the log."""

    @property
    def folder(self) -> Path:
        """The folder of the results."""
        return self.out or self.log.with_name(f"{self.log.stem}_replay")


@dataclass(frozen=True)
class Compared:
    """What was measured, beside what came out of each simulator."""

    cfg: EnvConfig
    """The robot."""
    measured: Measured
    """The log."""
    told: Replay
    """The measurements by windows."""
    found: tuple[Replay, ...]
    """One per simulator."""
    missing: tuple[str, ...]
    """Why a simulator is not among them, one line each."""


def check_out(request: ReplayRequest) -> None:
    """Check that the results can be written, before anything is computed.

    Raises:
        UsageError: there is something already, or no folder to write into.
    """
    out = request.folder
    if out.exists():
        raise UsageError(f"{out} is there already: name another folder with --out, or move it away")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"--out: there is no folder {out.parent}")


def replay_all(cfg: EnvConfig, measured: Measured, request: ReplayRequest) -> Compared:
    """Replay a log in each simulator; where there are two, one that this machine lacks is left out, with a warning.

    Raises:
        UsageError: the log has nothing to replay.
        MachineError: no simulator can be used.
    """
    windows = measured.windows(max(1, round(request.window_s / measured.dt_s)))
    if not windows:
        raise UsageError(
            f"{request.log} has no steps in these phases with targets, joint positions and gravity of length 1"
        )
    found, missing = [], []
    for sim in request.sims:
        try:
            found.append(replay(cfg, sim, measured, windows, request.late_steps))
        except MachineError as error:
            if len(request.sims) == 1:
                raise
            missing.append(f"no replay in {sim}: {error}")
            warn(missing[-1])
    if not found:
        raise MachineError(f"no simulator can be used on this machine: {how_to_check()}")
    return Compared(cfg, measured, as_measured(measured, windows), tuple(found), tuple(missing))


def write(compared: Compared, request: ReplayRequest, about: Mapping[str, Any]) -> Path:
    """Write pictures, replay.json and the page; print the table. Return the page's path.

    Raises:
        MachineError: the disk refuses the write.
    """
    measured, told, found = compared.measured, compared.told, compared.found
    drawings = {
        "joints": (
            "joint positions: measured, simulated, and the targets (dotted)",
            replayed_joints(compared.cfg.robot.joint_names, measured, found),
        ),
        "base": ("direction of gravity and angular velocity in the base frame", replayed_base(measured, found)),
        "growth": ("how the error grows after each start", replay_growth(measured, told, found)),
    }
    say("\n".join(table_lines(compared)))
    out = request.folder
    try:
        with whole_folder(out) as folder:
            plots = []
            for name, (title, figure) in drawings.items():
                figure.savefig(folder / f"{name}.png", dpi=90)
                plots.append({"title": title, "data": embedded(folder / f"{name}.png")})
            page = rendered(
                TEMPLATE,
                title=f"Replay of {request.log.name}",
                subtitle=_subtitle(compared, request),
                missing=compared.missing,
                windows=len(compared.told.windows),
                window_s=f"{request.window_s:g}",
                columns=_columns(compared),
                rows=_rows(compared),
                plots=plots,
                unknown=unknown(compared.measured),
                about=[(name, str(value)) for name, value in about.items()],
            )
            (folder / "replay.json").write_text(json.dumps(as_json(compared, request), indent=2) + "\n")
            (folder / "replay.html").write_bytes(page)
    except OSError as error:
        raise disk_error(error.filename or out, error, "--out") from error
    say(f"page: {out / 'replay.html'}")
    return out / "replay.html"


def unknown(measured: Measured) -> list[str]:
    """Return what the robot's sensors do not measure, and what stands for it, one sentence each."""
    speed = "is the policy's estimate in the log" if measured.has_velocity else "is unknown, and starts at zero"
    return [
        f"The base's velocity {speed}.",
        "The base's height: each window starts with the lowest point of the soles on a level plane, in contact or not.",
        "The base's heading and place: of no account on a plane.",
        "What else touches the robot: a stand, a cable or a hand is not simulated.",
    ]


def table_lines(compared: Compared) -> list[str]:
    """Return the table for the terminal."""
    names = _columns(compared)
    lines = [f"{'':24s}" + "".join(f"{name:>16s}" for name in names)]
    return lines + [f"{name:24s}" + "".join(f"{cell:>16s}" for cell in cells) for name, cells in _rows(compared)]


def as_json(compared: Compared, request: ReplayRequest) -> dict[str, Any]:
    """Return the figures, ready for JSON; null where nothing was measured."""
    told, names = compared.told, compared.cfg.robot.joint_names

    def by_joint(values: Array) -> dict[str, float | None]:
        return {name: _or_none(value) for name, value in zip(names, values, strict=True)}

    return {
        "log": request.log.name,
        "window_s": request.window_s,
        "late_steps": request.late_steps,
        "windows": len(told.windows),
        "moved_rad": by_joint(joint_motions(told)),
        "sims": {
            found.sim: {
                "joints_rad": by_joint(joint_errors(found, told)),
                "gravity_rad": _or_none(tilt_error(found, told)),
                "ang_vel_rad_s": [_or_none(value) for value in turning_errors(found, told)],
                "windows_in_which_the_physics_failed": found.failed,
            }
            for found in compared.found
        },
        "missing": list(compared.missing),
    }


def _columns(compared: Compared) -> list[str]:
    return ["moved", *(found.sim for found in compared.found)]


def _rows(compared: Compared) -> list[tuple[str, list[str]]]:
    """Return the table's rows: a name, and a cell per column."""
    told, found = compared.told, compared.found
    errors = [joint_motions(told), *(joint_errors(each, told) for each in found)]
    rows = [
        (name, [_cell(1e3 * error[joint]) for error in errors])
        for joint, name in enumerate(compared.cfg.robot.joint_names)
    ]
    rows.append(("gravity (mrad)", ["", *(_cell(1e3 * tilt_error(each, told)) for each in found)]))
    turning = [turning_errors(each, told) for each in found]
    rows += [
        (f"turning about {axis} (rad/s)", ["", *(_cell(e[i], 3) for e in turning)]) for i, axis in enumerate(_AXES)
    ]
    if any(each.failed for each in found):
        rows.append(("windows that failed", ["", *(str(each.failed) for each in found)]))
    return rows


def _subtitle(compared: Compared, request: ReplayRequest) -> str:
    seconds = sum(window.steps for window in compared.told.windows) * compared.measured.dt_s
    late = f", targets {request.late_steps} steps late" if request.late_steps else ""
    return f"{seconds:.1f} s of the log in {' and '.join(found.sim for found in compared.found)}, open loop{late}"


def _cell(value: float, digits: int = 1) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "–"


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
