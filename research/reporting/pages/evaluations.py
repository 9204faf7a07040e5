"""Terminal tables of an evaluation, and of the comparison of two."""

from math import isnan

from rich.table import Table

from research.evaluation.comparison import Change, Comparison
from research.evaluation.record import Record
from research.evaluation.summary import seed_interval, summarize, uncertainty
from research.statistics import Interval
from research.terminal_text import unmarked

SHARES = ("avg@", "pass@", "cons@", "format", "truncated", "reflection", "self-check", "accuracy")
"""Beginnings of the names of measures that are printed as percentages."""


def evaluation_table(record: Record) -> Table:
    """All measures with their intervals over items, and the sources of the accuracy's standard error."""
    right = record.right()
    S, n, k = right.shape
    title = f"{record.settings['target']}: {n} items × {k} completions × {S} seed{'s' * (S > 1)}"
    table = Table(title=unmarked(title, "table.title"))
    table.add_column("measure")
    table.add_column("value", justify="right")
    table.add_column("95 % interval over items", justify="right")
    table.add_column("of what")
    for line in summarize(record):
        table.add_row(line.name, number(line.name, line.interval.mean), limits(line.name, line.interval), line.note)
    parts = uncertainty(right.transpose(1, 0, 2).reshape(n, S * k))
    if not isnan(parts.total):
        error = f"items {parts.items:.2%}, sampling {parts.sampling:.2%}"
        table.add_row("standard error", f"{parts.total:.2%}", "", f"of the accuracy: {error}")
    if S > 1:
        seeds = seed_interval(record)
        table.add_row("over seeds", number("avg@", seeds.mean), limits("avg@", seeds), "Student's t, on these items")
    return table


def comparison_table(comparison: Comparison, before: str, after: str) -> Table:
    """All measures before and after with their paired difference, and the test of equal accuracies."""
    table = Table(title=unmarked(f"{before} → {after}", "table.title"))
    table.add_column("measure")
    for column in ("before", "after", "difference (points)", "95 % interval, paired by item"):
        table.add_column(column, justify="right")
    for change in comparison.changes:
        table.add_row(*change_row(change))
    gained, lost = len(comparison.gained), len(comparison.lost)
    table.caption = f"{gained} items gained, {lost} lost; p = {comparison.p:.2g} ({comparison.test})"
    return table


def change_row(change: Change) -> list[str]:
    """A measure's row: name, before, after, signed difference, interval of the difference."""
    row = [number(change.name, value) for value in (change.before, change.after, change.difference.mean)]
    row[2] = f"{'+' * (change.difference.mean > 0)}{row[2]}"
    return [change.name, *row, limits(change.name, change.difference)]


def number(name: str, value: float) -> str:
    """A measure's value as text: a share as a percentage, any other as a number with one decimal."""
    return f"{value:.1%}" if name.startswith(SHARES) else f"{value:.1f}"


def limits(name: str, interval: Interval) -> str:
    """An interval of a measure as text; empty if there is none."""
    if interval.low is None or interval.high is None:
        return ""
    return f"{number(name, interval.low)} to {number(name, interval.high)}"
