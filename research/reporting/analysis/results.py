"""A study's folder, read and checked: what was asked (study.yaml) and what the runs gave (the tables)."""

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from gzip import BadGzipFile
from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd

from research.ablation.folder.study_file import STUDY, Study
from research.errors import UserError

COMPLETE = "complete"
NO_ROW = "no row in runs.csv"


@dataclass(frozen=True, kw_only=True)
class Results:
    """A study and its tables."""

    folder: Path
    study: Study
    runs: pd.DataFrame
    """One row a run, complete or not."""
    curves: pd.DataFrame
    """One row a run and step; empty if there is no curves.csv."""
    items: pd.DataFrame
    """One row a run, evaluation and item; empty if there is no items.csv.gz (items.csv in older folders)."""
    provenance: pd.DataFrame
    """One row a run; empty if there is no provenance.csv."""

    @cached_property
    def complete(self) -> pd.DataFrame:
        """The complete runs."""
        return self.runs.loc[self.runs["status"] == COMPLETE]

    @cached_property
    def _rows(self) -> dict[str, list[dict[Hashable, Any]]]:
        """Cell id to the rows of its complete runs."""
        return {str(cell): rows.to_dict("records") for cell, rows in self.complete.groupby("cell")}

    def by_seed(self, cell_id: str, column: str) -> dict[int, float]:
        """Seed to the column's value over the cell's complete runs; seeds without a value are left out."""
        values = {int(row["seed"]): as_number(row.get(column)) for row in self._rows.get(cell_id, [])}
        return {seed: value for seed, value in values.items() if value is not None}

    def mixed_data(self) -> list[int]:
        """The seeds whose complete runs do not all have the same data hash."""
        if "data_hash" not in self.provenance:
            return []
        hashes = self.complete.merge(self.provenance[["run", "data_hash"]], on="run").groupby("seed")["data_hash"]
        return [int(str(seed)) for seed, n in hashes.nunique().to_dict().items() if n > 1]

    def missing(self) -> list[tuple[str, str]]:
        """Every run of the design that has no metric, by name, and why."""
        named = self.runs.set_index(["cell", "seed"])
        lost = []
        for cell in self.study.cells:
            have = self.by_seed(cell.id, self.study.metric)
            for seed in (s for s in self.study.seeds if s not in have):
                if (cell.id, seed) not in named.index:
                    lost.append((f"{cell.id}-s{seed}", NO_ROW))
                    continue
                row = named.loc[(cell.id, seed)]
                status = str(row["status"])
                why = f"complete, but without {self.study.metric}" if status == COMPLETE else status
                lost.append((str(row["run"]), why))
        return lost


def as_number(value: object) -> float | None:
    """A table's cell as a number; None if it is empty or is none.

    Example:
        >>> as_number(0.5), as_number("3"), as_number(""), as_number(float("nan"))
        (0.5, 3.0, None, None)
    """
    try:
        number = float(str(value))
    except ValueError:
        return None
    return None if isnan(number) else number


def read_results(folder: Path) -> Results:
    """Read a study's folder.

    Args:
        folder: the study's results, as the study runner writes them.

    Returns: the study and its tables; curves.csv and provenance.csv may be missing.

    Raises: UserError if the folder, study.yaml, runs.csv or one of the columns run, cell, seed and status is missing,
        or if no run has the study's metric as a column.
    """
    if not folder.is_dir():
        raise UserError(f"There is no study folder {folder}.")
    study = Study.from_yaml(folder / STUDY)
    runs = _table(folder / "runs.csv", ("run", "cell", "seed", "status"), required=True)
    if len(runs.drop_duplicates(["cell", "seed"])) < len(runs):
        raise UserError(f"{folder / 'runs.csv'} has two rows for one cell and seed.")
    if COMPLETE in set(runs["status"]) and study.metric not in runs:
        raise UserError(f"{folder / 'runs.csv'} lacks the study's metric as a column: {study.metric}.")
    return Results(
        folder=folder,
        study=study,
        runs=runs,
        curves=_table(folder / "curves.csv", ("run", "step"), required=False),
        items=_table(_items_in(folder), ("run", "step", "prompt", "k", "right"), required=False),
        provenance=_table(folder / "provenance.csv", ("run",), required=False),
    )


def _items_in(folder: Path) -> Path:
    """The table of items; a folder that was written before it was compressed has it as plain text."""
    plain, packed = folder / "items.csv", folder / "items.csv.gz"
    return plain if plain.exists() and not packed.exists() else packed


def _table(path: Path, columns: tuple[str, ...], *, required: bool) -> pd.DataFrame:
    if not path.exists() or path.stat().st_size == 0:
        if required:
            raise UserError(f"There is no file {path}, or it is empty.")
        return pd.DataFrame(columns=list(columns))
    try:
        table = pd.read_csv(path, dtype={"run": str, "cell": str, "status": str, **_AS_TEXT})
    except (pd.errors.ParserError, pd.errors.EmptyDataError, BadGzipFile, EOFError) as error:
        raise UserError(f"{path} is not a readable table: {error}") from None
    lost = [column for column in columns if column not in table]
    if lost:
        raise UserError(f"{path} lacks the columns {', '.join(lost)}.")
    return table


_AS_TEXT = dict.fromkeys(("mlflow_run_id", "config_hash", "data_hash", "commit", "versions"), str)
