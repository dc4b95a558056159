"""The wandb service: starting a run, passing files to it, and ending it."""

import contextlib
import os
import shlex
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from biped.base.errors import warn
from biped.base.packages import how_to_install
from biped.config.run import WandbConfig
from biped.runs.directory import RunDirectory
from biped.runs.wandb_names import Said, cause, folder_said, in_sweep, variables

_SERVICE = "wandb-core"
_MARGIN_S = 4.0
_FOREVER_S = 1e9
_WITHOUT_ACCOUNT = ("offline", "dryrun", "disabled")
"""Modes in which nothing is sent."""


def is_installed() -> bool:
    """Return whether wandb can be imported; if not, print what to do."""
    # wandb's error reporting would delay the end of the process if the server does not answer.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        import wandb  # noqa: F401 - only to test the import
    except ImportError as error:
        warn(f"wandb cannot be imported ({error}): {how_to_install('wandb')}; training goes on without it")
        return False
    return True


def as_media(file: Path) -> Any:
    """Return the W&B object that shows a picture or a video."""
    import wandb

    return wandb.Video(str(file), format="gif") if file.suffix == ".gif" else wandb.Image(str(file))


def init_run(run: RunDirectory, cfg: WandbConfig, config: Mapping[str, Any], init_s: float, finish_s: float) -> Any:
    """Return the `wandb.Run` of a run directory; an offline run without an account or an answer.

    Args:
        run: stores the run's id.
        cfg: project, names and mode, as returned by `biped.runs.wandb_names.with_variables`.
        config: hyperparameters, nested.
        init_s: how long the server may take to answer (s).
        finish_s: how long the end of the run may take (s); wandb gets slightly less, so that it ends by itself.

    Raises:
        UsageError: W&B would reject a variable.
        Exception: wandb's exception if it cannot even record offline.
    """
    import wandb

    # Copies of models wait here for their upload, not in the user's home.
    os.environ.setdefault("WANDB_DATA_DIR", str((run.path / "wandb").absolute()))
    said = variables()
    folder = folder_said(said) or run.path
    settings: dict[str, Any] = {
        "project": cfg.project,
        "entity": cfg.entity,
        "name": cfg.run_name or run.path.name,
        "group": cfg.group,
        "tags": cfg.tags or None,
        "notes": cfg.notes,
        "id": None if in_sweep(said) else _run_id(run, said),
        "resume": "allow",
        "dir": str(folder),
        "config": dict(config),
        "settings": wandb.Settings(**_manners(said, init_s, finish_s)),
        # Only if it is set: otherwise WANDB_MODE would have no effect.
        **({} if cfg.mode is None else {"mode": cfg.mode}),
    }
    why = None
    try:
        mode = cfg.mode or (said["mode"].value if "mode" in said else "online")
        if mode not in _WITHOUT_ACCOUNT and not wandb.login(prompt=False, verify=False):
            why, settings["mode"] = "has no account on this machine", "offline"
        started = wandb.init(**settings)
    except Exception as error:  # no failure of W&B may end a training run
        why = f"cannot start ({cause(error)})"
        _teardown()
        started = wandb.init(**{**settings, "mode": "offline"})
    if why is not None:
        # Runs share the folder in WANDB_DIR; the question marks stand for date and time.
        ours = "offline-run-*" if folder == run.path else f"offline-run-????????_??????-{shlex.quote(started.id)}"
        warn(f"W&B {why}: recording offline; send it later with: wandb sync {_quoted_folder(started)}/{ours}")
    if in_sweep(said):  # a sweep assigns the run's id
        kept = run.wandb_id(started.id)
        if kept != started.id:
            warn(f"the sweep gives the run in {run.path} the id {started.id}; it was {kept} in W&B before")
        run.keep_wandb_id(started.id)
    return started


def finish_time(default_s: float) -> float:
    """Return how long to wait for the end of a run (s): WANDB_FINISH_TIMEOUT, where 0 means without limit.

    Raises:
        UsageError: W&B would reject a variable's value.
    """
    said = variables().get("finish_timeout")
    if said is None:
        return default_s
    return said.value + _MARGIN_S if said.value > 0 else _FOREVER_S


def what_is_left(started: Any) -> str:
    """Return how to send the unsent part of a run; None stands for a run that has not begun."""
    if started is None:
        return "nothing of this run is in it"
    return f"send the rest with: wandb sync {_quoted_folder(started)}/{shlex.quote(Path(started.sync_dir).name)}"


def _quoted_folder(started: Any) -> str:
    # The actual folder, which may differ from the requested one: wandb can fall back to a temporary folder.
    return shlex.quote(str(Path(started.sync_dir).parent))


def _run_id(run: RunDirectory, said: Mapping[str, Said]) -> str:
    """Return the stored id of the run; a run without one takes the id in WANDB_RUN_ID."""
    wished = said["run_id"].value if "run_id" in said else None
    kept = run.wandb_id(wished)
    if wished not in (None, kept):
        warn(f"WANDB_RUN_ID={wished} is ignored: the run in {run.path} continues as {kept}, the id in its wandb_id.txt")
    return kept


def _manners(said: Mapping[str, Said], init_s: float, finish_s: float) -> dict[str, Any]:
    """Return our settings of wandb, without those that a variable sets."""
    ours = {"init_timeout": init_s, "finish_timeout": max(1.0, finish_s - _MARGIN_S), "console": "off"}
    return {name: value for name, value in ours.items() if name not in said} | {"finish_timeout_raises": True}


def end_service() -> None:
    """End W&B's service process, which would keep ours from ending, and reset wandb."""
    for child in psutil.Process().children(recursive=True):
        try:
            if child.name() == _SERVICE:
                child.kill()
        except psutil.Error:
            continue
    # Otherwise wandb would contact it again when Python ends, and print a traceback.
    farewell = threading.Thread(target=_teardown, daemon=True)
    farewell.start()
    farewell.join(_MARGIN_S)


def _teardown() -> None:
    import wandb

    with contextlib.suppress(Exception, SystemExit):
        wandb.teardown()
