"""A study's folder, read and checked: what was asked (study.yaml) and what the runs gave (the tables)."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isnan
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import yaml

from research.ablation.designs import Cell
from research.errors import UserError
from research.statistics import Direction

COMPLETE = "complete"
NO_ROW = "no row in runs.csv"


@dataclass(frozen=True, kw_only=True)
class Study:
    """What study.yaml says."""

    name: str
    question: str
    command: str
    commit: str
    dirty: bool
    created: str
    design: str
    base: str
    seeds: tuple[int, ...]
    metric: str
    direction: Direction
    threshold: float | None
    """The metric that a run should reach, where the study states one."""
    papers: tuple[str, ...]
    """Files under experiments/papers, each with `#model/metric` behind it where it has several."""
    scale: str
    budget: str
    """What every run may spend, in words, where that is not a number of steps."""
    hold: Mapping[str, Any]
    """Config path to the node that stands there in every cell."""
    factors: Mapping[str, Any]
    """Factor to level to nodes or recipe."""
    design_notes: Mapping[str, Any]
    """What is recorded of the design beyond its cells: aliases, guarantees, search; each empty if it is not there."""
    steps: int | None
    baseline: Mapping[str, str]
    """Factor to its first level; the first cell's levels if study.yaml has no factors."""
    cells: tuple[Cell, ...]
    comparisons: tuple[tuple[str, str], ...]
    """(cell, reference) ids."""
    environment: Mapping[str, Any]
    protocol: Mapping[str, Any]

    def cell(self, cell_id: str) -> Cell:
        """The cell with this id."""
        return next(cell for cell in self.cells if cell.id == cell_id)


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
    """One row a run, evaluation and item; empty if there is no items.csv."""
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


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises: UserError if the file is missing, is not YAML or is not a mapping.
    """
    try:
        node = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(node, dict):
        raise UserError(f"{path} must be a mapping of keys to values.")
    return node


def get(node: Mapping[str, Any], key: str, path: Path) -> Any:
    """The value of a key that must be there.

    Raises: UserError if it is not.
    """
    if not isinstance(node, Mapping) or key not in node:
        raise UserError(f"{path} lacks the key '{key}'.")
    return node[key]


def read_study(path: Path) -> Study:
    """Read study.yaml.

    Raises: UserError if the file is missing or malformed, or if a comparison names an unknown cell.
    """
    node = read_yaml(path)
    try:
        study = _study(node, path)
    except (TypeError, ValueError, AttributeError, LookupError, StopIteration) as error:
        raise UserError(f"{path} is malformed: {error}.") from None
    known = {cell.id for cell in study.cells}
    if len(known) != len(study.cells):
        raise UserError(f"{path} names a cell twice.")
    unknown = sorted({cell for pair in study.comparisons for cell in pair} - known)
    if unknown:
        raise UserError(f"{path} compares unknown cells: {', '.join(unknown)}.")
    return study


def _study(node: Mapping[str, Any], path: Path) -> Study:
    metric = get(node, "metric", path)
    cells = get(node, "cells", path)
    if not cells:
        raise UserError(f"{path} has no cells.")
    factors = node.get("factors") or cells[0].get("levels") or {}
    steps = node.get("steps")
    direction = metric.get("direction", "maximize")
    if direction not in get_args(Direction):
        raise UserError(f"{path}: the metric's direction is maximize or minimize, not '{direction}'.")
    return Study(
        **{
            key: _text(node, key)
            for key in ("question", "command", "commit", "created", "design", "base", "scale", "budget")
        },
        name=_text(node, "name") or path.resolve().parent.name,
        dirty=bool(node.get("dirty", False)),
        seeds=tuple(int(seed) for seed in get(node, "seeds", path)),
        metric=str(get(metric, "name", path)),
        direction=direction,
        threshold=None if metric.get("threshold") is None else float(metric["threshold"]),
        papers=_papers(node.get("paper")),
        hold=dict(node.get("hold") or {}),
        factors=dict(node.get("factors") or {}),
        design_notes={key: node.get(key) for key in ("aliases", "guarantees", "search")},
        steps=int(steps) if steps is not None else None,
        baseline={
            str(factor): levels if isinstance(levels, str) else str(next(iter(levels)))
            for factor, levels in factors.items()
        },
        cells=tuple(_cell(cell, path) for cell in cells),
        comparisons=tuple(
            (str(get(pair, "cell", path)), str(get(pair, "reference", path))) for pair in node.get("comparisons") or []
        ),
        environment=dict(node.get("environment") or {}),
        protocol=dict(node.get("protocol") or {}),
    )


def _cell(node: Mapping[str, Any], path: Path) -> Cell:
    cell_id = str(get(node, "id", path))
    levels = {str(factor): str(level) for factor, level in (node.get("levels") or {}).items()}
    return Cell(id=cell_id, label=str(node.get("label") or cell_id), levels=levels)


def _papers(node: Any) -> tuple[str, ...]:
    if not node:
        return ()
    return tuple(str(one) for one in node) if isinstance(node, list) else (str(node),)


def _text(node: Mapping[str, Any], key: str) -> str:
    return str(node[key]).strip() if node.get(key) is not None else ""


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
    study = read_study(folder / "study.yaml")
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
        items=_table(folder / "items.csv", ("run", "step", "prompt", "k", "right"), required=False),
        provenance=_table(folder / "provenance.csv", ("run",), required=False),
    )


def _table(path: Path, columns: tuple[str, ...], *, required: bool) -> pd.DataFrame:
    if not path.exists() or path.stat().st_size == 0:
        if required:
            raise UserError(f"There is no file {path}, or it is empty.")
        return pd.DataFrame(columns=list(columns))
    try:
        table = pd.read_csv(path, dtype={"run": str, "cell": str, "status": str, **_AS_TEXT})
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise UserError(f"{path} is not a readable table: {error}") from None
    lost = [column for column in columns if column not in table]
    if lost:
        raise UserError(f"{path} lacks the columns {', '.join(lost)}.")
    return table


_AS_TEXT = dict.fromkeys(("mlflow_run_id", "config_hash", "data_hash", "commit", "versions"), str)
