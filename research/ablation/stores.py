"""A study's databases: a file for one process, or PostgreSQL for several machines that share the study."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from filelock import FileLock, Timeout
from sqlalchemy import text

from research.errors import UserError
from research.tracking import connect, replace_text, without_password

SHARED = re.compile(r"postgres(ql)?(\+\w+)?://")


@dataclass(frozen=True, kw_only=True)
class Stores:
    """The places of the study's databases.

    Raises: UserError if machines could share only one of them, or both are the same database.
    """

    mlflow: str
    optuna: str
    artifacts: Path
    grace: float = 60.0
    """Seconds without a heartbeat after which another worker takes over a cell, on a shared database."""

    def __post_init__(self) -> None:
        if self.shared and self.mlflow.startswith("sqlite:"):
            raise UserError(
                "several machines can join a study on PostgreSQL, so MLflow needs a server too: give "
                "--tracking postgresql://… or http://…"
            )
        if self.shared and self.mlflow == self.optuna:
            raise UserError("Optuna and MLflow need a database each: give --storage and --tracking different names")

    @property
    def shared(self) -> bool:
        """True if other processes may work on the same study."""
        return SHARED.match(self.optuna) is not None

    @contextmanager
    def folder(self, folder: Path) -> Iterator[None]:
        """Within the block, hold the results folder; on a shared database, together with the other workers.

        Raises: UserError if another process holds it, or it cannot be written.
        """
        lock = FileLock(folder / ".lock", timeout=0)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not self.shared:
                lock.acquire()
        except Timeout as error:
            raise UserError(
                f"another process is running the study in {folder}; wait for it or stop it, or let several join it "
                "with --storage postgresql://…"
            ) from error
        except OSError as error:
            raise UserError(
                f"cannot write to {folder}: {error.strerror}. Give another folder with --output."
            ) from error
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def asking_optuna(self) -> Iterator[None]:
        """Within the block, turn errors of Optuna's storage into a sentence.

        Raises: UserError if the storage cannot be used.
        """
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"cannot use the Optuna storage at {without_password(self.optuna)}: {str(error).splitlines()[0]}"
            ) from error

    @contextmanager
    def alone(self, study: str) -> Iterator[None]:
        """Within the block, keep the other workers of this study out of such blocks.

        Raises: UserError if the database cannot be reached.
        """
        if not self.shared:
            yield
            return
        connection = connect(self.optuna)
        with connection, connection.begin():
            connection.execute(text("select pg_advisory_xact_lock(hashtext(:study))"), {"study": study})
            yield


def forget_identity(folder: Path) -> None:
    """Let the study in a folder be another one in the databases, with the runs that are still there."""
    (folder / "cells" / "identity").unlink(missing_ok=True)


def identity(folder: Path) -> str:
    """Eight hexadecimal digits drawn for a new results folder, so that a folder that is made again is another study."""
    path = folder / "cells" / "identity"
    if not path.exists():
        replace_text(path, token_hex(4))
    return path.read_text()
