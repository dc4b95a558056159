"""What has to be known about W&B to start a run, to hand it files, and to get rid of it."""

import contextlib
import os
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from biped.errors import first_line, warn
from biped.runs import RunDirectory
from biped_config import WandbConfig

_SERVICE = "wandb-core"
_MARGIN_S = 4.0


def as_media(file: Path) -> Any:
    """Return what W&B shows a picture as, or a film."""
    import wandb

    return wandb.Video(str(file), format="gif") if file.suffix == ".gif" else wandb.Image(str(file))


def init_run(run: RunDirectory, cfg: WandbConfig, config: Mapping[str, Any], init_s: float, finish_s: float) -> Any:
    """Return the `wandb.Run` of a run directory; an offline one where there is no account, or no answer.

    Args:
        run: keeps the run's id.
        cfg: project, names, mode.
        config: hyperparameters, nested.
        init_s: how long the server may take to answer (s).
        finish_s: how long the end of the run may take (s); wandb is given a little less, to end by itself.

    Raises:
        Exception: whatever wandb raises where it cannot even record offline.
    """
    import wandb

    # Copies of models wait for their upload here, rather than in the user's home.
    os.environ.setdefault("WANDB_DATA_DIR", str((run.path / "wandb").absolute()))
    settings: dict[str, Any] = {
        "project": cfg.project,
        "entity": cfg.entity,
        "name": cfg.run_name or run.path.name,
        "group": cfg.group,
        "tags": cfg.tags or None,
        "notes": cfg.notes,
        "id": run.wandb_id(),
        "resume": "allow",
        "dir": str(run.path),
        "config": dict(config),
        "settings": wandb.Settings(
            init_timeout=init_s,
            finish_timeout=max(1.0, finish_s - _MARGIN_S),
            finish_timeout_raises=True,
            console="off",
        ),
        # Only where it has to be: otherwise WANDB_MODE would have no effect.
        **({} if cfg.mode is None else {"mode": cfg.mode}),
    }
    why = None
    try:
        mode = settings.get("mode") or os.environ.get("WANDB_MODE") or "online"
        if mode == "online" and not wandb.login(prompt=False, verify=False):
            why, settings["mode"] = "has no account on this machine", "offline"
        started = wandb.init(**settings)
    except Exception as error:  # W&B fails in many ways; none of them may end a training run.
        why = f"cannot start ({first_line(error)})"
        _teardown()
        started = wandb.init(**{**settings, "mode": "offline"})
    if why is not None:
        sync = f"wandb sync {run.path / 'wandb' / 'offline-run-*'}"
        warn(f"W&B {why}: recording offline; send it later with: {sync}")
    if "WANDB_SWEEP_ID" in os.environ:  # there W&B gives the run an id of its own
        run.keep_wandb_id(started.id)
    return started


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
