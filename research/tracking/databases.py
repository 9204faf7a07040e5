"""Databases of studies: connection, creation of MLflow's tables, and names without passwords."""

import os
import re
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from research.errors import UserError

if TYPE_CHECKING:
    import sqlalchemy


def without_password(text: str) -> str:
    """Replace the passwords of URLs in a text by asterisks.

    Example:
        >>> without_password("--storage postgresql://ada:secret@host/optuna")
        '--storage postgresql://ada:***@host/optuna'
    """
    return re.sub(r"(://[^:/@\s]+):[^@\s]*@", r"\1:***@", text)


def check_uri(uri: str) -> None:
    """Refuse a folder, in which MLflow no longer keeps anything.

    Raises: UserError if the URI names neither a database nor a server.
    """
    if uri.startswith("file:") or "://" not in uri:
        raise UserError(
            f"MLflow needs a database or a server, not {uri!r}: give sqlite:///FILE.db, postgresql://… or http://…"
        )


def connect(url: str) -> "sqlalchemy.Connection":
    """Connect to a database server. There is a single attempt, where MLflow would keep trying for minutes.

    Raises: UserError if the driver is not installed, or if the server is away or refuses the connection.
    """
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import NullPool

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
    """Create MLflow's SQLite file with all its tables, unless it exists.

    The tables are created in a temporary file that is then linked to the final name, because MLflow cannot repair a
    file with only some of them.

    Raises: MlflowException or OSError if the file cannot be created.
    """
    from mlflow import MlflowClient

    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(
        f".{path.name}.{token_hex(4)}"
    )  # a new name each time, because MLflow keeps an engine open for each
    try:
        MlflowClient(tracking_uri=f"sqlite:///{unfinished}").search_experiments(max_results=1)
        with suppress(FileExistsError):  # another process was faster
            os.link(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
