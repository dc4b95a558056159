"""What has to be known about W&B to start a run, to hand it files, and to get rid of it."""

import contextlib
import os
import shlex
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from biped.base.errors import warn
from biped.config.run import WandbConfig
from biped.runs.directory import RunDirectory
from biped.runs.wandb_names import Said, cause, folder_said, in_sweep, variables

_SERVICE = "wandb-core"
_MARGIN_S = 4.0
_FOREVER_S = 1e9
_WITHOUT_ACCOUNT = ("offline", "dryrun", "disabled")
"""Modes that send nothing."""


def is_installed() -> bool:
    """Say whether wandb can be imported, and in one line what to do where it cannot."""
    # wandb's reports of its own errors would hold up the end of the process where the server is silent.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        import wandb  # noqa: F401 - only to see whether it is there
    except ImportError as error:
        warn(f"wandb cannot be imported ({error}): run ./install_genesis.sh; training goes on without it")
        return False
    return True


def as_media(file: Path) -> Any:
    """Return what W&B shows a picture as, or a film."""
    import wandb

    return wandb.Video(str(file), format="gif") if file.suffix == ".gif" else wandb.Image(str(file))


def init_run(run: RunDirectory, cfg: WandbConfig, config: Mapping[str, Any], init_s: float, finish_s: float) -> Any:
    """Return the `wandb.Run` of a run directory; an offline one where there is no account, or no answer.

    Args:
        run: keeps the run's id.
        cfg: project, names, mode, as `biped.runs.wandb_names.with_variables` returns them.
        config: hyperparameters, nested.
        init_s: how long the server may take to answer (s).
        finish_s: how long the end of the run may take (s); wandb is given a little less, to end by itself.

    Raises:
        UsageError: W&B would refuse a variable.
        Exception: whatever wandb raises where it cannot even record offline.
    """
    import wandb

    # Copies of models wait for their upload here, rather than in the user's home.
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
        # Only where it has to be: otherwise WANDB_MODE would have no effect.
        **({} if cfg.mode is None else {"mode": cfg.mode}),
    }
    why = None
    try:
        mode = cfg.mode or (said["mode"].value if "mode" in said else "online")
        if mode not in _WITHOUT_ACCOUNT and not wandb.login(prompt=False, verify=False):
            why, settings["mode"] = "has no account on this machine", "offline"
        started = wandb.init(**settings)
    except Exception as error:  # W&B fails in many ways; none of them may end a training run.
        why = f"cannot start ({cause(error)})"
        _teardown()
        started = wandb.init(**{**settings, "mode": "offline"})
    if why is not None:
        # Runs share the folder that WANDB_DIR names; the marks stand for a time.
        ours = "offline-run-*" if folder == run.path else f"offline-run-????????_??????-{shlex.quote(started.id)}"
        warn(f"W&B {why}: recording offline; send it later with: wandb sync {_quoted_folder(started)}/{ours}")
    if in_sweep(said):  # there W&B gives the run an id of its own
        kept = run.wandb_id(started.id)
        if kept != started.id:
            warn(f"the sweep gives the run in {run.path} the id {started.id}; it was {kept} in W&B before")
        run.keep_wandb_id(started.id)
    return started


def finish_time(default_s: float) -> float:
    """Return how long the end of a run is waited for (s): what WANDB_FINISH_TIMEOUT says, 0 for as long as it takes.

    Raises:
        UsageError: W&B would refuse what a variable says.
    """
    said = variables().get("finish_timeout")
    if said is None:
        return default_s
    return said.value + _MARGIN_S if said.value > 0 else _FOREVER_S


def what_is_left(started: Any) -> str:
    """Say how to send what a run has recorded and not sent; None is a run that has not begun."""
    if started is None:
        return "nothing of this run is in it"
    return f"send the rest with: wandb sync {_quoted_folder(started)}/{shlex.quote(Path(started.sync_dir).name)}"


def _quoted_folder(started: Any) -> str:
    # Where it is, rather than where it was asked for: wandb goes to the system's folder for temporary files at need.
    return shlex.quote(str(Path(started.sync_dir).parent))


def _run_id(run: RunDirectory, said: Mapping[str, Said]) -> str:
    """Return the id that the run has kept; a run without one takes the one that WANDB_RUN_ID says."""
    wished = said["run_id"].value if "run_id" in said else None
    kept = run.wandb_id(wished)
    if wished not in (None, kept):
        warn(f"WANDB_RUN_ID={wished} is passed over: the run in {run.path} goes on as {kept}, as its wandb_id.txt says")
    return kept


def _manners(said: Mapping[str, Said], init_s: float, finish_s: float) -> dict[str, Any]:
    """Return the settings of wandb that are ours as long as no variable says another value."""
    ours = {"init_timeout": init_s, "finish_timeout": max(1.0, finish_s - _MARGIN_S), "console": "off"}
    return {name: value for name, value in ours.items() if name not in said} | {"finish_timeout_raises": True}


def link_or_copy(file: Path, copy: Path) -> None:
    """Give a file a second name that stays as it is when the first is written anew.

    Raises:
        OSError: the disk does not let us.
    """
    copy.unlink(missing_ok=True)
    try:
        os.link(file, copy)
    except OSError:  # a file system without hard links
        shutil.copyfile(file, copy)


def end_service() -> None:
    """End W&B's own process, which would keep ours from ending, and let wandb forget it."""
    for child in psutil.Process().children(recursive=True):
        try:
            if child.name() == _SERVICE:
                child.kill()
        except psutil.Error:
            continue
    # wandb would speak to it once more when Python ends, and print a traceback.
    farewell = threading.Thread(target=_teardown, daemon=True)
    farewell.start()
    farewell.join(_MARGIN_S)


def _teardown() -> None:
    import wandb

    with contextlib.suppress(Exception, SystemExit):
        wandb.teardown()
