"""Default places of results, of MLflow's database and of its pages."""

import os
import shlex
from argparse import ArgumentParser, Namespace
from pathlib import Path

RESULTS = Path("results")
"""Of studies, with the database of MLflow and Optuna's beside them."""
PORT = 5000
"""Of MLflow's pages."""


def add_tracking(parser: ArgumentParser) -> None:
    """Let the command take `--tracking`."""
    text = "MLflow database or server; default $MLFLOW_TRACKING_URI, or results/mlflow.db"
    parser.add_argument("--tracking", metavar="URI", help=text)


def tracking_uri(known: Namespace, recipe: str | None = None, home: Path = RESULTS) -> str:
    """The first that is named of: the command line's, the recipe's, the environment's; else a database in `home`."""
    return known.tracking or recipe or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"


def compare_page(view: str, known: Namespace) -> str:
    """Where the study's cells stand side by side; a database has pages once `research ui` runs.

    Args:
        view: the page's address on a server, or its path.
        known: the command line, which may name the database.
    """
    if view.startswith("http"):
        return view
    tracking = f" --tracking {shlex.quote(known.tracking)}" if known.tracking else ""
    return f"research ui{tracking}, then http://127.0.0.1:{PORT}{view}"
