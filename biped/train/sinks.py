"""The outputs of a training's metrics: opened and closed with it."""

from stable_baselines3.common.logger import Logger

from biped.base.errors import disk_error
from biped.config.serial import flatten, to_dict
from biped.ppo.recurrent_ppo import DeviceRecurrentPPO
from biped.runs.directory import RunDirectory
from biped.runs.loggers import make_logger
from biped.runs.metrics_log import JsonLinesWriter
from biped.runs.wandb_writer import WandbWriter, start_wandb
from biped.train.metrics import METRICS
from biped.train.plan import Plan

CONSOLE_EVERY_S = 15.0
"""Seconds between two tables on the console."""


def open_sinks(model: DeviceRecurrentPPO, run: RunDirectory, plan: Plan) -> WandbWriter | None:
    """Give the model a logger with every output; W&B's writer, which is returned, comes last, as it never fails here.

    Raises:
        UsageError: W&B would reject a name.
        MachineError: the disk refuses the write.
    """
    config = to_dict(plan.config)
    logger = make_logger(
        run.tensorboard,
        resume_after_step=plan.goes_on_after,
        console_every_s=CONSOLE_EVERY_S,
        more=[JsonLinesWriter(run.metrics, plan.goes_on_after)],
        settings=flatten(config),
    )
    model.set_logger(logger)
    wandb = plan.config.wandb
    writer = start_wandb(run, wandb, config, METRICS) if wandb.enabled else None
    logger.output_formats += [] if writer is None else [writer]
    return writer


def close_sinks(logger: Logger, run: RunDirectory) -> None:
    """Close every output, even if others fail.

    Raises:
        MachineError: the disk refuses a write.
    """
    failures: list[OSError] = []
    for sink in logger.output_formats:
        try:
            sink.close()
        except OSError as error:
            failures.append(error)
    if failures:
        raise disk_error(run.path, failures[0])
