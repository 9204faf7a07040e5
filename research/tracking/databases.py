"""The databases that a study is kept in: reached once, made whole, named without their passwords."""

import os
import re
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from sqlalchemy import Connection, create_engine, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from research.errors import UserError


def without_password(text: str) -> str:
    """A text with the passwords of its URLs left out.

    Example:
        >>> without_password("--storage postgresql://ada:secret@host/optuna")
        '--storage postgresql://ada:***@host/optuna'
    """
    return re.sub(r"(://[^:/@\s]+):[^@\s]*@", r"\1:***@", text)


def connect(url: str) -> Connection:
    """A connection to a server's database, tried once: MLflow tries for minutes.

    Raises: UserError if there is no driver, or nobody who lets us in.
    """
    try:
        return create_engine(url, poolclass=NullPool).connect()
    except ModuleNotFoundError as error:
        raise UserError(
            f"{make_url(url).get_backend_name()} needs the package {error.name}: pip install 'research-rlvr[postgres]'"
        ) from error
    except DBAPIError as error:
        reason = " ".join(str(error.orig).split())
        raise UserError(f"cannot reach the database {without_password(url)}: {reason}") from error


def lay_tables(path: Path) -> None:
    """MLflow's database in a file, if there is none: whole or not at all, since a half of its tables cannot be mended.

    Raises: MlflowException or OSError if the file cannot be made.
    """
    from mlflow import MlflowClient

    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{token_hex(4)}")  # MLflow keeps an open engine for every name
    try:
        MlflowClient(tracking_uri=f"sqlite:///{unfinished}").search_experiments(max_results=1)
        with suppress(FileExistsError):  # another process was faster
            os.link(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
