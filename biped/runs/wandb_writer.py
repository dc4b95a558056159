"""The writer that streams a run's metrics to Weights & Biases."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import KVWriter

from biped.base.background import Background
from biped.base.errors import warn
from biped.base.files import link_or_copy
from biped.config.run import WandbConfig
from biped.runs.directory import RunDirectory
from biped.runs.names import RUN_NAME, STEP_METRIC, Metric
from biped.runs.wandb_names import alert_title, artifact_name, cause, with_variables
from biped.runs.wandb_service import (
    as_media,
    end_service,
    finish_time,
    init_run,
    is_installed,
    what_is_left,
)

INIT_S = 30.0
"""How long W&B's server may take to start a run (s). Training does not wait for it."""
FINISH_S = 20.0
"""How long the end of a training waits for W&B (s)."""
_CAPACITY = 10_000


class WandbWriter(KVWriter):
    """Writes a logger's metrics to a W&B run under their W&B names, on its own thread.

    The first failure is reported in one line and ends the writing.
    """

    def __init__(
        self, start: Callable[[], Any], exp_name: str, metrics: Mapping[str, Metric], finish_s: float = FINISH_S
    ) -> None:
        """Start the run in the background.

        Args:
            start: returns the `wandb.Run`; called on the writer's thread.
            exp_name: the run's name, used in the names of evaluation metrics and models.
            metrics: the table of names, by canonical name; a metric that is not in it keeps its name.
            finish_s: how long `close` waits (s).
        """
        self._names = {name: metric.wandb_name.replace(RUN_NAME, exp_name) for name, metric in metrics.items()}
        self._metrics = metrics
        self._exp_name, self.finish_s = exp_name, finish_s
        self._run: Any = None
        self._copies: list[Path] = []
        self._is_closed = self._has_complained = self._has_given_up = self._has_failed = False
        self._work = Background(self._failed, _CAPACITY)
        self._work.do(lambda: self._start(start))

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Log one row; `step` is the number of environment steps so far."""
        del key_excluded
        row: dict[str, Any] = {}
        for name, value in key_values.items():
            if isinstance(value, int | float | np.number):
                metric = self._metrics.get(name)
                row[self._names.get(name, name)] = value * metric.wandb_factor if metric else value
        row[STEP_METRIC] = step
        # Never log(step=...): W&B drops rows with a smaller step than its own.
        self._work.do(lambda: self._run.log(row))

    def publish_model(self, file: Path, kind: str, metadata: Mapping[str, Any]) -> None:
        """Log a model as an artifact, <exp_name>-checkpoint, -best or -final, with its metadata."""
        # Use a second name, because the file may be replaced or deleted before it is sent.
        copy = file.with_name(f".{file.name}.{metadata['steps']}.upload")
        try:
            link_or_copy(file, copy)
        except OSError as error:
            copy.unlink(missing_ok=True)
            warn(f"{file} is not sent to W&B ({cause(error)})")
            return
        self._copies.append(copy)

        def log() -> None:
            self._log_artifact(copy, file.name, kind, dict(metadata))
            copy.unlink(missing_ok=True)

        if not self._work.do(lambda: self._extra(log)):
            copy.unlink(missing_ok=True)

    def publish_picture(self, name: str, file: Path, step: int) -> None:
        """Log a picture or a video."""
        self._work.do(lambda: self._extra(lambda: self._run.log({name: as_media(file), STEP_METRIC: step})))

    def alert(self, title: str, text: str) -> None:
        """Send an alert."""
        self._work.do(lambda: self._extra(lambda: self._run.alert(title=alert_title(title), text=text)))

    def close(self) -> None:
        """Finish the run, waiting for the upload for a bounded time."""
        if self._is_closed:
            return
        self._is_closed = True
        self._work.do(lambda: self._run.finish())
        if not self._work.finish(self.finish_s):
            self._has_given_up = True
            if not self._has_complained:
                warn(f"W&B did not finish within {self.finish_s:.0f} s; {what_is_left(self._run)}")
        if self._has_given_up or self._has_failed:
            end_service()
        for copy in self._copies:
            copy.unlink(missing_ok=True)

    def _start(self, start: Callable[[], Any]) -> None:
        self._run = start()
        self._run.define_metric(STEP_METRIC)
        self._run.define_metric("*", step_metric=STEP_METRIC)

    def _extra(self, call: Callable[[], object]) -> None:
        """Make an optional call: a failure is reported once, and rows are still written."""
        try:
            call()
        except Exception as error:  # W&B fails in many ways
            if not self._has_complained and not self._has_given_up:
                warn(f"W&B did not take a model, a picture or an alert ({cause(error)}); training goes on")
            self._has_complained = True

    def _log_artifact(self, file: Path, name: str, kind: str, metadata: dict[str, Any]) -> None:
        import wandb

        artifact = wandb.Artifact(artifact_name(self._exp_name, kind), type="model", metadata=metadata)
        artifact.add_file(str(file), name=name)  # wandb makes its own copy
        self._run.log_artifact(artifact, aliases=[kind, f"steps-{metadata['steps']}"])

    def _failed(self, error: BaseException) -> None:
        self._has_failed = True
        if not self._has_given_up:
            warn(f"W&B stopped ({cause(error)}); training goes on without it")


def start_wandb(
    run: RunDirectory,
    cfg: WandbConfig,
    config: Mapping[str, Any],
    metrics: Mapping[str, Metric],
    init_s: float = INIT_S,
    finish_s: float = FINISH_S,
) -> WandbWriter | None:
    """Start or resume the W&B run of a run directory; returns at once.

    Fields left open in `cfg` come from W&B's variables. Without an account, or if the server does not answer, the run
    is recorded offline.

    Args:
        run: stores the run's id, so that a resumed run is the same run in W&B.
        cfg: project, names and mode.
        config: hyperparameters, nested.
        metrics: the table of names, by canonical name.
        init_s: how long the server may take to start the run, in the background (s).
        finish_s: how long the writer's `close` waits (s).

    Returns:
        The writer, or None if wandb cannot be imported.

    Raises:
        UsageError: W&B would reject a name or a variable.
    """
    if not is_installed():
        return None
    named, wait_s = with_variables(cfg), finish_time(finish_s)
    return WandbWriter(lambda: init_run(run, named, config, init_s, wait_s), run.path.name, metrics, wait_s)
