"""A report's tables as files: CSV with plain numbers, LaTeX for a paper, and Markdown."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from research.reporting.analysis.analysis import Analysis
from research.reporting.analysis.columns import COSTS, TIMES
from research.reporting.document import Table
from research.reporting.pages.latex import latex
from research.reporting.pages.typeset import floats
from research.reporting.sections.tables import main_table
from research.spreadsheets import as_texts
from research.statistics import Interval

Row = dict[str, str | float | None]
"""Column to value."""


def write_tables(analysis: Analysis, folder: Path) -> None:
    """Write the main table, the effects and the costs in place of earlier ones.

    Args:
        analysis: the study.
        folder: the folder of main.csv, effects.csv, costs.csv, their .tex files, and main.md; made if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("*.csv"), *folder.glob("*.tex"), *folder.glob("*.md")):
        old.unlink()
    for name, shown in floats(analysis).items():
        (folder / f"{name}.tex").write_text(latex(shown), encoding="utf-8")
    (folder / "main.md").write_text(plain(main_table(analysis)).markdown() + "\n", encoding="utf-8")
    numbers = {"main": _cells(analysis), "effects": _effects(analysis), "costs": _costs(analysis)}
    for name, rows in numbers.items():
        if rows:
            pd.DataFrame(map(as_texts, rows)).to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")


def plain(table: Table) -> Table:
    """The table without links and anchors, for a text that lacks their targets."""
    return Table(head=table.head, rows=tuple(tuple(map(str.__str__, row)) for row in table.rows), words=table.words)


def _spread(name: str, value: Interval) -> Row:
    """Columns of an interval: mean, both ends, and the number of seeds."""
    return {f"{name}_mean": value.mean, f"{name}_low": value.low, f"{name}_high": value.high, f"{name}_seeds": value.n}


def _cells(analysis: Analysis) -> list[Row]:
    """A row for each cell; the metric is in its own unit, not in percent."""
    return [
        {
            "cell": summary.cell.id,
            "label": summary.cell.label,
            **summary.cell.levels,
            "metric": analysis.results.study.metric,
            **_spread("metric", summary.metric),
            **_spread("over_start", summary.over_start),
            "paper": summary.paper.value if summary.paper else None,
        }
        for summary in analysis.summaries
    ]


def _effects(analysis: Analysis) -> list[Row]:
    """A row for each comparison; a positive gain is better."""
    return [
        {
            "cell": effect.cell.id,
            "reference": effect.reference.id,
            **_spread("gain", effect.gain),
            "p_holm": effect.p,
            "paper_gain": effect.paper_gain,
            "verdict": effect.verdict,
        }
        for effect in analysis.effects
    ]


def _costs(analysis: Analysis) -> list[Row]:
    """A row for each cell: the mean of each cost over its complete runs, in the unit of runs.csv."""
    results = analysis.results
    kept = [column.name for column in (*COSTS, *TIMES) if column.name in results.runs]
    rows = []
    for summary in analysis.summaries:
        found: Mapping[str, Mapping[int, float]] = {c: results.by_seed(summary.cell.id, c) for c in kept}
        means = {c: sum(v.values()) / len(v) if v else None for c, v in found.items()}
        rows.append({"cell": summary.cell.id, "label": summary.cell.label, **means})
    return rows if kept else []
