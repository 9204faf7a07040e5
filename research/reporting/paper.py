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
from research.errors import UserError
from research.reporting.folder import get, read_yaml
from research.reporting.statistics import Direction


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """One row of a paper's table."""

    name: str
    value: float
    levels: Mapping[str, str]
    """Factor to level; empty for a row that is only quoted."""


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A paper's table: numbers, where they come from, and what is doubtful about them."""

    title: str
    source: str
    metric: str
    unit: str
    direction: Direction
    setting: Mapping[str, str]
    rows: tuple[PaperRow, ...]
    flags: tuple[str, ...]

    def gain(self, row: PaperRow, reference: PaperRow) -> float:
        """The paper's improvement of one row over another; positive is better."""
        return (row.value - reference.value) * (1 if self.direction == "maximize" else -1)


@dataclass(frozen=True, kw_only=True)
class Counterparts:
    """The rows that stand beside the cells and the comparisons of a study."""

    rows: Mapping[str, PaperRow]
    """Cell id to row."""
    pairs: Mapping[tuple[str, str], tuple[PaperRow, PaperRow]]
    """(cell, reference) ids to the two rows, which share their context."""


def read_paper(path: Path) -> Paper:
    """Read a paper's table.

    Raises: UserError if the file is missing or malformed.
    """
    node = read_yaml(path)
    try:
        return _paper(node, path)
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is malformed: {error}.") from None


def _paper(node: Mapping[str, Any], path: Path) -> Paper:
    metric = get(node, "metric", path)
    direction = metric.get("direction", "maximize")
    if direction not in get_args(Direction):
        raise UserError(f"{path}: the metric's direction is maximize or minimize, not '{direction}'.")
    return Paper(
        title=str(get(node, "title", path)),
        source=str(get(node, "source", path)),
        metric=str(get(metric, "name", path)),
        unit=str(metric.get("unit", "")),
        direction=direction,
        setting={str(key): str(value).strip() for key, value in get(node, "setting", path).items()},
        rows=tuple(_row(row, path) for row in get(node, "rows", path)),
        flags=tuple(str(flag).strip() for flag in node.get("flags") or []),
    )


def _row(node: Mapping[str, Any], path: Path) -> PaperRow:
    levels = {str(factor): str(level) for factor, level in (node.get("levels") or {}).items()}
    return PaperRow(name=str(get(node, "name", path)), value=float(get(node, "value", path)), levels=levels)


def find_paper(name: str, folder: Path) -> Path:
    """Where a study's paper file lies: its path is relative to the root above the results, the package or here.

    Raises: UserError if it is in none of these.
    """
    roots = [*folder.resolve().parents, Path(__file__).resolve().parents[2], Path.cwd()]
    for root in roots:
        if (root / name).is_file():
            return root / name
    raise UserError(f"There is no paper file {name} above {folder}, nor in the current folder.")


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
    contexts: dict[tuple[tuple[str, str], ...], dict[str, PaperRow]] = {}
    for row in paper.rows:
        context = tuple(sorted((f, level) for f, level in row.levels.items() if f not in baseline))
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


def _fits(row: PaperRow, cell: Cell, baseline: Mapping[str, str]) -> bool:
    """Whether a row stands beside a cell; a study that shares no factor with the paper has no counterpart in it."""
    shared = row.levels.keys() & cell.levels.keys()
    agree = all(row.levels[factor] == cell.levels[factor] for factor in shared)
    ours = all(cell.levels[factor] == baseline.get(factor) for factor in cell.levels.keys() - shared)
    return bool(shared) and agree and ours
