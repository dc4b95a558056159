"""Where a search keeps its trials: a SQLite file of this machine, or a database that several machines share.

Optuna does all of it; here its storages get an address of the command line, and their many errors become one line.
"""

import sqlite3
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError

from biped.base.errors import MachineError, UsageError, disk_error, first_line

HEARTBEAT_S = 30
"""Interval of a trial's heartbeat (s); a trial without one for twice as long is taken over."""
TRIES, RETRY_S = 5, 1.0
"""How often a study is opened where another machine creates its tables at the same time, and the time between (s)."""
DRIVERS = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient", "pymysql": "pymysql"}
"""Modules with which SQLAlchemy opens a database, and the packages that have them."""
_KINDS = "postgresql://USER@HOST/DATABASE, mysql://..., sqlite:///FILE, or a journal's FILE.log"


@dataclass(frozen=True)
class Place:
    """The place of a study."""

    file: Path | None = None
    """A SQLite file of this machine, or a journal (.log), to which machines with a common disk append."""
    url: str | None = None
    """The address of a database, as SQLAlchemy takes it."""

    @classmethod
    def parse(cls, text: str) -> "Place":
        """Read a database's address, or the name of a journal's file.

        Raises:
            UsageError: it is neither.
        """
        if "://" not in text:
            if not text.endswith(".log"):
                raise UsageError(f"--storage {text} is none of {_KINDS}")
            return cls(file=Path(text).expanduser())
        try:
            make_url(text).get_dialect()
        except (ArgumentError, ValueError, ImportError) as error:
            raise UsageError(f"--storage is none of {_KINDS} ({first_line(error)})") from error
        return cls(url=text)

    @property
    def name(self) -> str:
        """What to call it, without a password."""
        return str(self.file) if self.url is None else make_url(self.url).render_as_string(hide_password=True)

    @property
    def dashboard(self) -> str:
        """What optuna-dashboard opens: an address, or a journal's file; a password stays out of it."""
        if self.file is not None and self.file.suffix != ".log":
            return f"sqlite:///{self.file.absolute()}"
        return self.name

    def open(self) -> BaseStorage:
        """Open it, or create it.

        Raises:
            MachineError: its folder cannot be written.
            Exception: it cannot be used; see `failure`.
        """
        if self.file is not None:
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise disk_error(self.file.parent, error) from error
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats, since Optuna 2.9
            if self.file is not None and self.file.suffix == ".log":
                return JournalStorage(JournalFileBackend(str(self.file)))
            return self._database()

    def _database(self) -> RDBStorage:
        alive = {
            "heartbeat_interval": HEARTBEAT_S,
            "heartbeat_stale_trial_callback": RetryHeartbeatStaleTrialCallback(),
        }
        if self.url is not None:
            return RDBStorage(self.url, **alive)
        file = self.file
        assert file is not None
        connect = {"creator": lambda: sqlite3.connect(file, timeout=60, check_same_thread=False)}
        # The address only selects the dialect; a path in it would need quoting.
        return RDBStorage("sqlite:///study.db", engine_kwargs=connect, **alive)

    def failure(self, error: Exception) -> MachineError:
        """Return the one line for an error of the storage."""
        missing = _missing_driver(error)
        if missing is not None:
            return MachineError(f"{self.name} needs the package {missing}: pip install '{missing}'")
        why, remedy = first_line(error), "see that it runs, and that its name and password are right"
        if self.url is None:
            remedy = "use another --study, or a --log_dir on a local disk"
        return MachineError(f"{self.name} cannot be used as a study ({why}): {remedy}")


def open_study(place: Place, name: str, seed: int | None) -> optuna.Study:
    """Open a study, or create it.

    Args:
        place: where it is kept.
        name: its name.
        seed: seed of its draws; None: different ones each time.

    Raises:
        MachineError: the place cannot be used.
    """
    try:
        study = _created(place, name)
        # With the same seed again, a resumed sampler would repeat earlier draws.
        seed = None if seed is None else seed + len(study.get_trials(deepcopy=False))
        study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=5)
        return study
    except MachineError:
        raise
    except Exception as error:  # SQLite, SQLAlchemy and drivers raise many types
        raise place.failure(error) from error


def _created(place: Place, name: str) -> optuna.Study:
    """Create a study, or open the one that there is; tried again where another machine creates the same at once."""
    for left in reversed(range(TRIES)):
        try:
            return optuna.create_study(
                study_name=name,
                storage=place.open(),
                load_if_exists=True,
                direction="maximize",
                pruner=optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=0),
            )
        except Exception as error:
            if not left or not _cause_among(error, (IntegrityError, ProgrammingError)):
                raise
            time.sleep(RETRY_S)
    raise AssertionError("the last try raises")


def failure_of_storage(error: BaseException | None) -> Exception | None:
    """Return the storage's error behind an exception, if any: Optuna may raise another one while handling it."""
    while error is not None and not isinstance(error, StorageInternalError):
        error = error.__context__
    if error is None:
        return None
    return error.__cause__ if isinstance(error.__cause__, Exception) else error


def _missing_driver(error: BaseException) -> str | None:
    """Return the package whose absence is behind an error, if it is a database's driver."""
    missing = _cause_among(error, (ModuleNotFoundError,))
    return DRIVERS.get(str(missing.name).partition(".")[0]) if isinstance(missing, ModuleNotFoundError) else None


def _cause_among(error: BaseException | None, kinds: tuple[type[BaseException], ...]) -> BaseException | None:
    """Return an error itself, or the nearest one behind it, of one of these kinds; None if there is none."""
    while error is not None and not isinstance(error, kinds):
        error = error.__cause__ or error.__context__
    return error
