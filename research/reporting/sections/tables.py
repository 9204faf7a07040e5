"""The tables of a report; every number leads to the runs it is made from."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from rich.table import Table as RichTable

from research.reporting.analysis.analysis import Analysis, Effect, Summary, analyse
from research.reporting.analysis.columns import Column
from research.reporting.document import Linked, Table
from research.reporting.numbers import NONE, count, interval, p_value
from research.reporting.paper_tables.paper import printed
from research.reporting.sections.findings import caption
from research.reporting.sections.trace import cell_anchor, gain_anchor
from research.statistics import Interval
from research.terminal_text import unmarked


def main_table(analysis: Analysis) -> Table:
    """The warm start, then a row per cell with its first comparison; a cell's further comparisons come last."""
    percent = analysis.percent
    head = ("Row", "Seeds", f"{analysis.metric_name}{', %' if percent else ''} [95 %]")
    if analysis.effects:
        head += ("Against", f"Gain{', points' if percent else ''} [95 %]", "p (Holm)")
    if analysis.paper:
        head += (f"Paper{', ' + analysis.paper.unit if analysis.paper.unit else ''}",)
        head += ("Paper's gain", "Verdict") if analysis.effects else ()
    start = Linked(interval(analysis.start, percent=percent), "runs")
    rows: list[tuple[str, ...]] = [("Warm start", str(analysis.start.n), start)]
    later: list[tuple[str, ...]] = []
    for summary in analysis.summaries:
        effects = [effect for effect in analysis.effects if effect.cell.id == summary.cell.id]
        rows.append(_main_row(analysis, summary, effects[0] if effects else None))
        later += [
            ("… " + row[0], row[1], "", *row[3:]) for row in (_main_row(analysis, summary, e) for e in effects[1:])
        ]
    padded = [row + (NONE,) * (len(head) - len(row)) for row in (*rows, *later)]
    return Table(head=head, rows=tuple(padded))


def _main_row(analysis: Analysis, summary: Summary, effect: Effect | None) -> tuple[str, ...]:
    percent, paper = analysis.percent, analysis.paper
    runs = cell_anchor(summary.cell.id)
    row = (summary.cell.label, str(summary.metric.n), Linked(interval(summary.metric, percent=percent), runs))
    if effect:
        gains = gain_anchor(effect.cell.id, effect.reference.id)
        gain = _gain(effect.gain, summary.metric.n, percent=percent)
        row += (effect.reference.label, Linked(gain, gains), Linked(p_value(effect.p, effect.least_p), gains))
    elif analysis.effects:
        row += (NONE, NONE, NONE)
    if not paper:
        return row
    pair = effect.paper_rows if effect else None
    beside = pair[0] if pair else summary.paper
    row += (printed(beside.value if beside else None),)
    if not analysis.effects:
        return row
    row += (printed(effect.paper_gain if effect else None, signed=True),)
    return (*row, effect.verdict if effect else NONE)


def _gain(gain: Interval, seeds: int, *, percent: bool) -> str:
    """A gain and its interval, with its number of seeds where that is not the row's."""
    text = interval(gain, percent=percent, signed=True)
    return text if gain.n == seeds else f"{text} ({count(gain.n, 'paired seed')})"


def factors_table(analysis: Analysis) -> Table | None:
    """Main effects and interactions; None unless the design is a factorial or a fraction, complete for some seed."""
    rows = tuple(
        (
            effect.name,
            str(effect.gain.n),
            Linked(interval(effect.gain, percent=analysis.percent, signed=True), "runs"),
            Linked(p_value(effect.p, effect.least_p), "runs"),
            Linked(interval(effect.pooled, percent=analysis.percent, signed=True), "runs"),
            Linked(p_value(effect.pooled_p), "runs"),
        )
        for effect in analysis.factors
    )
    unit = ", points" if analysis.percent else ""
    head = ("Effect", "Paired seeds", f"Gain{unit} [95 %]", "p (Holm)", f"Pooled error{unit} [95 %]", "t test p (Holm)")
    return Table(head=head, rows=rows) if rows else None


def counterparts_table(analysis: Analysis) -> Table | None:
    """The paper's pair of rows beside each comparison; None if there is none."""
    rows = [
        (
            f"{effect.cell.label} vs {effect.reference.label}",
            f"{effect.paper_rows[0].name} vs {effect.paper_rows[1].name}",
            " vs ".join(printed(row.value) for row in effect.paper_rows),
        )
        for effect in analysis.effects
        if effect.paper_rows
    ]
    return Table(head=("Comparison", "The paper's rows", "The paper's numbers"), rows=tuple(rows)) if rows else None


def start_table(analysis: Analysis) -> Table:
    """Every cell's gain over the warm start."""
    head = ("Row", "Paired seeds", f"Gain over the warm start{', points' if analysis.percent else ''} [95 %]")
    rows = tuple(
        (
            summary.cell.label,
            str(summary.over_start.n),
            Linked(interval(summary.over_start, percent=analysis.percent, signed=True), cell_anchor(summary.cell.id)),
            "yes" if summary.over_start.above_zero else "no",
        )
        for summary in analysis.summaries
    )
    return Table(head=(*head, "Clearly above the warm start"), rows=rows)


def means_table(analysis: Analysis, columns: Sequence[Column]) -> Table | None:
    """The mean over complete runs of each column per cell; None if runs.csv has none of the columns."""
    results = analysis.results
    values = {
        (summary.cell.id, column.name): results.by_seed(summary.cell.id, column.name)
        for summary in analysis.summaries
        for column in columns
    }
    kept = [column for column in columns if any(values[s.cell.id, column.name] for s in analysis.summaries)]
    if not kept:
        return None
    runs = results.complete["cell"].tolist()
    rows = []
    for summary in analysis.summaries:
        cell = summary.cell.id
        means = [
            column.text(fmean(found)) if (found := values[cell, column.name].values()) else NONE for column in kept
        ]
        rows.append((summary.cell.label, str(runs.count(cell)), *(Linked(mean, cell_anchor(cell)) for mean in means)))
    return Table(head=("Row", "Runs", *(column.heading for column in kept)), rows=tuple(rows))


def rich_table(table: Table, *, title: str, note: str) -> RichTable:
    """The table for the terminal."""
    shown = RichTable(
        title=unmarked(title, "table.title"),
        caption=unmarked(note, "table.caption"),
        caption_justify="left",
        title_justify="left",
    )
    for name, left in zip(table.head, table.left, strict=True):
        shown.add_column(unmarked(name), justify="left" if left else "right")
    for row in table.rows:
        shown.add_row(*map(unmarked, row))
    return shown


def terminal_table(folder: Path) -> RichTable:
    """The main table of a study for the terminal.

    Args:
        folder: the study's results.

    Returns: the table, with its caption.

    Raises: UserError if the folder, the study or its paper cannot be read.
    """
    analysis = analyse(folder)
    missing: Sequence[tuple[str, str]] = analysis.results.missing()
    note = caption(analysis)
    if missing:
        note += f"\nWithout these runs: {', '.join(f'{run} ({why})' for run, why in missing)}."
    return rich_table(main_table(analysis), title=analysis.results.study.name, note=note)
