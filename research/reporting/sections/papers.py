"""Section on a paper's table: its setting, its numbers beside ours, its claims, and doubts about the source."""

import re

from research.ablation.designs import Cell
from research.reporting.analysis.analysis import Analysis
from research.reporting.document import Linked, Section, Table
from research.reporting.numbers import NONE, interval
from research.reporting.paper_tables.paper import Paper, PaperRow, fitting, match, printed
from research.reporting.sections.tables import counterparts_table
from research.reporting.sections.trace import cell_anchor
from research.statistics import Interval, mean_interval, paired_gains, verdict

DOUBT = "†"
SCALES = (
    "**Model, data and budget of this study are not the paper's**, so the two columns of numbers answer the same "
    "question at different scales, and neither confirms nor refutes the other's size. Its setting stands at the top."
)


def linked_sources(text: str) -> str:
    """Text whose arXiv numbers lead to their pages.

    Example:
        >>> linked_sources("Table 1 (arXiv:2503.14476)")
        'Table 1 ([arXiv:2503.14476](https://arxiv.org/abs/2503.14476))'
    """
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def beside(analysis: Analysis, paper: Paper) -> Section:
    """The section on one of the study's papers."""
    metrics = [metric.name for metric in paper.metrics.values()]
    shown = f"Metric: {paper.metric}" if len(metrics) == 1 else f"Metrics: {', '.join(metrics)}"
    blocks = [
        linked_sources(f"{paper.title}. {paper.source}. {shown}; ours: {analysis.metric_name}."),
        *([SCALES] if paper is analysis.papers[0] else []),
        "The paper:\n\n" + "\n".join(f"- {key}: {value}" for key, value in paper.setting.items()),
    ]
    cells = _cells(analysis, paper)
    for model, name in paper.models.items():
        if any(model in row.values for row in paper.rows):
            blocks += [f"{name}:"] * bool(name) + [_numbers(analysis, paper, model)]
    if any(None in values for row in paper.rows for values in row.values.values()):
        blocks.append("— is a number that the table does not have.")
    claims = _claims(analysis, paper, cells)
    if claims:
        blocks += [
            "Where the paper puts the first row of a pair above the second, our paired gain of the same pair. The "
            "intervals stand outside the correction of the main table.",
            claims,
        ]
    if paper is analysis.paper and (pairs := counterparts_table(analysis)):
        blocks += ["The paper's two rows beside each comparison, equal in all but the change:", pairs]
    doubts = [f"{DOUBT} {one.name}: {one.doubt}" for one in (*paper.metrics.values(), *paper.rows) if one.doubt]
    quoted = [f"{row.name}: {row.source}" for row in paper.rows if row.source]
    notes = [*doubts, *quoted, *paper.flags]
    if notes:
        blocks.append("Limits of the source:\n\n" + "\n".join(f"- {linked_sources(note)}" for note in notes))
    return Section(title=beside_title(paper), blocks=tuple(blocks))


def beside_title(paper: Paper) -> str:
    """The heading of a paper's section."""
    return f"Beside {paper.source}"


def _cells(analysis: Analysis, paper: Paper) -> dict[str, Cell]:
    """Row name to the cell that it stands beside."""
    study = analysis.results.study
    rows = match(paper, study.cells, (), study.baseline).rows
    found: dict[str, Cell] = {}
    for cell_id, row in rows.items():
        found.setdefault(row.name, study.cell(cell_id))
    return found


def _numbers(analysis: Analysis, paper: Paper, model: str) -> Table:
    """The paper's table of one model, our metric before its columns."""
    ours = f"Ours: {analysis.metric_name}{', %' if analysis.percent else ''} [95 %]"
    metrics = [
        f"{m.name}{', ' + m.unit if m.unit else ''}{' ' + DOUBT if m.doubt else ''}" for m in paper.metrics.values()
    ]
    beside = fitting(paper, analysis.results.study.cells, analysis.results.study.baseline)
    rows = tuple(
        (
            f"{row.name}{' ' + DOUBT if row.doubt else ''}",
            *_own(analysis, row, beside.get(row.name)),
            *(printed(value) for value in row.values[model]),
        )
        for row in paper.rows
        if model in row.values
    )
    return Table(head=("The paper's row", "Our row", ours, *metrics), rows=rows)


def _own(analysis: Analysis, row: PaperRow, cell: Cell | None) -> tuple[str, str]:
    """Our row beside the paper's, and its metric."""
    if row.start:
        return "Warm start", Linked(interval(analysis.start, percent=analysis.percent), "runs")
    if cell is None:
        return NONE, NONE
    metric = analysis.summary(cell.id).metric
    return cell.label, Linked(interval(metric, percent=analysis.percent), cell_anchor(cell.id))


def _claims(analysis: Analysis, paper: Paper, cells: dict[str, Cell]) -> Table | None:
    """Each pair of which the paper says which is better, and our paired gain; None if we have no such pair."""
    rows = []
    for better, worse in paper.claims:
        gain = _gain(analysis, better, worse, cells)
        if gain is None:
            continue
        theirs = paper.gain(better, worse)
        rows.append(
            (
                f"{better.name} over {worse.name}",
                "no number" if theirs is None else printed(theirs, signed=True),
                Linked(interval(gain, percent=analysis.percent, signed=True), cell_anchor(cells[better.name].id)),
                str(gain.n),
                verdict(gain, 1.0 if theirs is None else theirs),
            )
        )
    unit = ", points" if analysis.percent else ""
    head = ("The paper's order", "Paper's gain", f"Our gain{unit} [95 %]", "Paired seeds", "Verdict")
    return Table(head=head, rows=tuple(rows)) if rows else None


def _gain(analysis: Analysis, better: PaperRow, worse: PaperRow, cells: dict[str, Cell]) -> Interval | None:
    if better.name not in cells:
        return None
    summary = analysis.summary(cells[better.name].id)
    if worse.start:
        return summary.over_start
    if worse.name not in cells:
        return None
    reference = analysis.summary(cells[worse.name].id).values
    return mean_interval(paired_gains(summary.values, reference, direction=analysis.results.study.direction))
