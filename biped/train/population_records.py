"""What a population writes besides its ledger: metrics on disk, in TensorBoard and in W&B, and its picture."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from stable_baselines3.common.logger import Logger

from biped.base.errors import disk_error
from biped.config.run import WandbConfig
from biped.runs.directory import RunDirectory
from biped.runs.loggers import TensorBoardWriter
from biped.runs.metrics_log import JsonLinesWriter, read_curves
from biped.runs.publishing import Pictures
from biped.runs.wandb_writer import start_wandb
from biped.train.evolution import Ledger, row
from biped.train.metrics import POPULATION_METRICS
from biped.train.sinks import close_sinks


class Records:
    """A population's metrics and its picture: on disk, in TensorBoard and, if asked for, in W&B."""

    def __init__(
        self, folder: Path, ledger: Path, wandb: WandbConfig, draw: Callable[[Path], Path], held: ExitStack
    ) -> None:
        """Prepare; the outputs are opened when there is something to write.

        Args:
            folder: the population's folder.
            ledger: its ledger.
            wandb: whether and how it is shown in W&B.
            draw: draws the ledger in a file, and returns the picture.
            held: closes the outputs at its end.
        """
        self._run, self._ledger, self._wandb, self._draw, self._held = RunDirectory(folder), ledger, wandb, draw, held
        self._logger: Logger | None = None
        self._pictures: Pictures | None = None

    def write(self, of: int) -> None:
        """Write each generation that has ended and is not written yet; only one process may do so.

        Args:
            of: total number of generations.

        Raises:
            MachineError: the disk refuses the write.
        """
        ledger = Ledger.read(self._ledger)
        each = int(ledger.asked["steps_each"]) * int(ledger.asked["size"])
        written = self._written()
        logger = self._logger or self._open(ledger, written)
        ended = [generation for generation in ledger.generations if generation.ended is not None]
        for count in range(written // each + 1, len(ended) + 1):
            found = row(ended[:count])
            for name, value in found.items():
                logger.record(name, value)
            logger.dump(count * each)
            shown = ", ".join(f"{name} {found[f'fitness/{name}']:.3f}" for name in ("max", "mean", "best_ever"))
            print(f"generation {count} of {of}: fitness {shown}", flush=True)
        try:
            picture = self._draw(self._ledger)
            if self._pictures is not None:
                self._pictures.show("population/lineage", picture, len(ended) * each)
        except OSError as error:
            raise disk_error(self._run.path, error) from error

    def _written(self) -> int:
        """Return the environment steps, of all members, of the last row that was written."""
        curve = read_curves(self._run.metrics).get("training/generation") if self._run.metrics.is_file() else None
        return 0 if curve is None else int(curve.steps[-1])

    def _open(self, ledger: Ledger, written: int) -> Logger:
        run = self._run
        # 0 steps where nothing is written, not None: the diagrams of a new training are of no use here.
        sinks = [TensorBoardWriter(run.tensorboard, written), JsonLinesWriter(run.metrics, written or None)]
        logger = Logger(str(run.tensorboard), list(sinks))
        writer = start_wandb(run, self._wandb, ledger.asked, POPULATION_METRICS) if self._wandb.enabled else None
        logger.output_formats += [] if writer is None else [writer]
        self._held.callback(close_sinks, logger, run)
        self._logger, self._pictures = logger, Pictures(logger, writer)
        return logger
