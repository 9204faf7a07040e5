"""A paper's table as data, and which of its rows stand beside which cells of a study.

A row and a cell stand beside each other if they agree on every factor that both know. A factor that only the study has
must be at its first level, the baseline. A factor that only the paper has is the row's *context*: a gain is only ever
taken between two rows of the same context, so that it is the gain of the study's change and of nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from research.ablation.designs import Cell
from research.ablation.folder.study_file import PAPERS
from research.errors import UserError
from research.reporting.numbers import NONE
from research.shipped import experiments
from research.statistics import Direction
from research.yaml_file import read_yaml, required


@dataclass(frozen=True, kw_only=True)
class PaperMetric:
    """One column of a paper's table."""

    name: str
    unit: str
    direction: Direction
    doubt: str
    """Doubt about the column; empty if none is known."""


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """One row of a paper's table."""

    name: str
    value: float | None
    """Of the model and metric that the study chose; None where the source prints no number."""
    levels: Mapping[str, tuple[str, ...]]
    """Factor to the levels that mean this row; empty for a row that is only quoted."""
    start: bool
    """The row is the model before training."""
    values: Mapping[str, tuple[float | None, ...]]
    """Model to one value a metric."""
    source: str
    """Source of the row, if it is not the table's."""
    doubt: str
    """Doubt about the row; empty if none is known."""


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A paper's table: numbers, where they come from, and what is doubtful about them."""

    title: str
    source: str
    models: Mapping[str, str]
    """Key to the model's name."""
    metrics: Mapping[str, PaperMetric]
    """Key to column."""
    model: str
    """The key of the model beside which the study stands."""
    chosen: str
    """The key of the metric beside which the study stands."""
    setting: Mapping[str, str]
    rows: tuple[PaperRow, ...]
    claims: tuple[tuple[PaperRow, PaperRow], ...]
    """Pairs of rows of which the paper says that the first is better."""
    flags: tuple[str, ...]

    @property
    def metric(self) -> str:
        """The chosen metric's name, with its model where the table has several."""
        name = self.metrics[self.chosen].name
        return f"{name}, {self.models[self.model]}" if len(self.models) > 1 else name

    @property
    def unit(self) -> str:
        """The chosen metric's unit."""
        return self.metrics[self.chosen].unit

    @property
    def direction(self) -> Direction:
        """Direction in which the chosen metric is better."""
        return self.metrics[self.chosen].direction

    def gain(self, row: PaperRow, reference: PaperRow) -> float | None:
        """The paper's improvement of one row over another; positive is better; None if a number is not printed."""
        if row.value is None or reference.value is None:
            return None
        return (row.value - reference.value) * (1 if self.direction == "maximize" else -1)


@dataclass(frozen=True, kw_only=True)
class Counterparts:
    """The rows that stand beside the cells and the comparisons of a study."""

    rows: Mapping[str, PaperRow]
    """Cell id to row."""
    pairs: Mapping[tuple[str, str], tuple[PaperRow, PaperRow]]
    """(cell, reference) ids to the two rows, which share their context."""


def printed(value: float | None, *, signed: bool = False) -> str:
    """A paper's number with the digits that the paper gives it.

    Example:
        >>> printed(28.36), printed(34.23 - 28.36, signed=True), printed(-2.0), printed(None)
        ('28.36', '+5.87', '−2', '—')
    """
    if value is None:
        return NONE
    return f"{round(value, 6):{'+' if signed else ''}.10g}".replace("-", "−")


def read_paper(path: Path, choice: str = "") -> Paper:
    """Read a paper's table.

    Args:
        path: the file.
        choice: `model/metric` by their keys; either may be left out, and is then the first of the file.

    Raises: UserError if the file is missing or malformed, or has no such model or metric.
    """
    node = read_yaml(path)
    try:
        return _paper(node, path, choice)
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is malformed: {error}.") from None


def _paper(node: Mapping[str, Any], path: Path, choice: str) -> Paper:
    one = "metric" in node
    metrics = {"": required(node, "metric", path)} if one else required(node, "metrics", path)
    models = {str(key): str(name) for key, name in (node.get("models") or {"": ""}).items()}
    columns = {str(key): _metric(metric, path) for key, metric in metrics.items()}
    wanted = [part for part in choice.split("/") if part]
    unknown = [part for part in wanted if part not in models and part not in columns]
    if unknown:
        known = ", ".join(key for key in (*models, *columns) if key)
        raise UserError(f"{path} has no model or metric '{unknown[0]}'{f': it has {known}' if known else ''}.")
    model = next((part for part in wanted if part in models), next(iter(models)))
    chosen = next((part for part in wanted if part in columns), next(iter(columns)))
    at = list(columns).index(chosen)
    rows = tuple(_row(row, tuple(models), len(columns), (model, at), path) for row in required(node, "rows", path))
    named = {row.name: row for row in rows}
    return Paper(
        title=str(required(node, "title", path)),
        source=str(required(node, "source", path)),
        models=models,
        metrics=columns,
        model=model,
        chosen=chosen,
        setting={str(key): str(value).strip() for key, value in required(node, "setting", path).items()},
        rows=rows,
        claims=tuple(_claim(pair, named, path) for pair in node.get("claims") or []),
        flags=tuple(str(flag).strip() for flag in node.get("flags") or []),
    )


def _metric(node: Mapping[str, Any], path: Path) -> PaperMetric:
    direction = node.get("direction", "maximize")
    if direction not in get_args(Direction):
        raise UserError(f"{path}: the metric's direction is maximize or minimize, not '{direction}'.")
    name, unit, doubt = str(required(node, "name", path)), str(node.get("unit", "")), str(node.get("doubt", ""))
    return PaperMetric(name=name, unit=unit, direction=direction, doubt=doubt.strip())


def _row(node: Mapping[str, Any], models: Sequence[str], width: int, at: tuple[str, int], path: Path) -> PaperRow:
    name = str(required(node, "name", path))
    values = node.get("values") or {}
    if "value" in node:
        values = {models[0]: [node["value"]]}
    if set(values) - set(models) or any(len(numbers) != width for numbers in values.values()):
        raise UserError(f"{path}: the values of '{name}' are one for each metric, by model.")
    table = {model: tuple(None if v is None else float(v) for v in numbers) for model, numbers in values.items()}
    return PaperRow(
        name=name,
        value=table[at[0]][at[1]] if at[0] in table else None,
        levels={str(factor): _levels(level) for factor, level in (node.get("levels") or {}).items()},
        start=bool(node.get("start", False)),
        values=table,
        source=str(node.get("source", "")).strip(),
        doubt=str(node.get("doubt", "")).strip(),
    )


def _levels(node: object) -> tuple[str, ...]:
    return tuple(str(level) for level in node) if isinstance(node, list) else (str(node),)


def _claim(pair: object, rows: Mapping[str, PaperRow], path: Path) -> tuple[PaperRow, PaperRow]:
    if not isinstance(pair, list) or len(pair) != 2 or any(name not in rows for name in pair):
        raise UserError(f"{path}: a claim is two of the rows' names, the better one first, not {pair}.")
    return rows[pair[0]], rows[pair[1]]


def open_paper(name: str, folder: Path) -> Paper:
    """A study's paper, as study.yaml names it: `path` or `path#model/metric`.

    Raises: UserError if there is no such file, model or metric.
    """
    path, _, choice = name.partition("#")
    return read_paper(find_file(path, folder), choice)


def find_file(name: str, folder: Path) -> Path:
    """Path of a paper's table: the copy in the study's folder, else a file above it, beside the package or here.

    Args:
        name: a path relative to the root of the checkout.
        folder: the study's results.

    Raises: UserError if it is in none of these, or if the name leads elsewhere: a study may be anybody's.
    """
    copy = folder / PAPERS / Path(name).name
    if copy.is_file() and copy.resolve().is_relative_to(folder.resolve()):
        return copy
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"there is no table {copy}, and {name} leads out of the checkout: copy the paper's table there")
    for root in (*folder.resolve().parents, experiments().parent, Path.cwd()):
        if (root / name).is_file():
            return root / name
    raise UserError(f"there is no table {copy}, nor {name} above the study's folder: copy the paper's table there")


def match(
    paper: Paper, cells: Sequence[Cell], comparisons: Sequence[tuple[str, str]], baseline: Mapping[str, str]
) -> Counterparts:
    """Find the rows that stand beside cells and comparisons.

    Where several contexts fit, the one that fits most cells is taken, then the paper's order decides.

    Args:
        paper: the table.
        cells: the study's cells.
        comparisons: (cell, reference) ids.
        baseline: the study's factors and their first levels.

    Returns: the counterparts; cells and comparisons without one are left out.
    """
    contexts: dict[tuple[tuple[str, tuple[str, ...]], ...], dict[str, PaperRow]] = {}
    for row in paper.rows:
        context = tuple(sorted((f, levels) for f, levels in row.levels.items() if f not in baseline))
        found = contexts.setdefault(context, {})
        for cell in cells:
            if _fits(row, cell, baseline):
                found.setdefault(cell.id, row)
    ordered = sorted(contexts.values(), key=len, reverse=True)
    rows: dict[str, PaperRow] = {}
    for found in ordered:
        rows = found | rows
    pairs = {}
    for cell_id, reference in comparisons:
        both = next((found for found in ordered if cell_id in found and reference in found), None)
        if both:
            pairs[cell_id, reference] = (both[cell_id], both[reference])
    return Counterparts(rows=rows, pairs=pairs)


def fitting(paper: Paper, cells: Sequence[Cell], baseline: Mapping[str, str]) -> dict[str, Cell]:
    """The first cell that stands beside each row, by the row's name; several rows may stand beside one cell."""
    found = {row.name: next((cell for cell in cells if _fits(row, cell, baseline)), None) for row in paper.rows}
    return {name: cell for name, cell in found.items() if cell is not None}


def _fits(row: PaperRow, cell: Cell, baseline: Mapping[str, str]) -> bool:
    """True if a row and a cell agree on the factors that both know; a study that shares none has no counterpart."""
    shared = row.levels.keys() & cell.levels.keys()
    agree = all(cell.levels[factor] in row.levels[factor] for factor in shared)
    ours = all(cell.levels[factor] == baseline.get(factor) for factor in cell.levels.keys() - shared)
    return bool(shared) and agree and ours
