"""The report's tables on cost: what a gain costs, and the comparisons at equal tokens."""

from research.reporting.analysis.analysis import Analysis
from research.reporting.analysis.columns import SPENT, Column
from research.reporting.analysis.costs import EqualBudget
from research.reporting.document import Linked, Table
from research.reporting.numbers import NONE, interval, p_value
from research.reporting.sections.trace import cell_anchor, gain_anchor


def cost_tables(analysis: Analysis) -> tuple[str | Table, ...]:
    """Gain per cost, then every budget at which the cells are compared."""
    blocks: list[str | Table] = []
    columns = [one for one in SPENT if any(c.column == one.name and c.per_unit.n for c in analysis.costs.cells)]
    if columns:
        note = (
            "Gain over the warm start per million tokens sampled, per million tokens trained and per minute, seed by "
        )
        note += (
            "seed, then of each comparison how much more it costs and gains per unit." if analysis.effects else "seed."
        )
        blocks += [note, worth_table(analysis, columns)]
        if analysis.effects:
            blocks.append(extra_table(analysis, columns))
    blocks += [block for budget in analysis.costs.budgets for block in budget_tables(analysis, budget)]
    if not analysis.costs.budgets:
        blocks.append("Running totals of tokens are not recorded, so cells are not compared at equal tokens.")
    return tuple(blocks)


def worth_table(analysis: Analysis, columns: list[Column]) -> Table:
    """Gain over the warm start per unit of cost, a row a cell."""
    unit = ", points" if analysis.percent else ""
    found = {(cost.cell, cost.column): cost.per_unit for cost in analysis.costs.cells}
    rows = []
    for summary in analysis.summaries:
        values = [found.get((summary.cell.id, column.name)) for column in columns]
        shown = [interval(v, percent=analysis.percent, signed=True) if v else NONE for v in values]
        rows.append((summary.cell.label, *(Linked(text, cell_anchor(summary.cell.id)) for text in shown)))
    return Table(head=("Row", *(f"Gain{unit} per {column.per} [95 %]" for column in columns)), rows=tuple(rows))


def extra_table(analysis: Analysis, columns: list[Column]) -> Table:
    """Extra cost of every comparison, paired by seed."""
    unit = ", points" if analysis.percent else ""
    found = {(pair.cell, pair.reference, pair.column): pair for pair in analysis.costs.pairs}
    rows = []
    for effect in analysis.effects:
        pairs = [found[effect.cell.id, effect.reference.id, column.name] for column in columns]
        shown = [interval(pair.extra, percent=True, signed=True) for pair in pairs]
        shown += [interval(pair.per_unit, percent=analysis.percent, signed=True) for pair in pairs]
        to = gain_anchor(effect.cell.id, effect.reference.id)
        rows.append((effect.cell.label, effect.reference.label, *(Linked(text, to) for text in shown)))
    head = (
        *(f"More {c.words}, % [95 %]" for c in columns),
        *(f"Gain per {c.per}, less the other's{unit} [95 %]" for c in columns),
    )
    return Table(head=("Row", "Against", *head), rows=tuple(rows))


def budget_tables(analysis: Analysis, budget: EqualBudget) -> tuple[str, Table]:
    """The cells at an equal budget, each with its comparisons."""
    percent = analysis.percent
    steps = analysis.results.study.steps
    left = [s.cell.label for s in analysis.summaries if s.cell.id not in budget.cells and s.metric.n]
    note = (
        f"**At equal {budget.name}**: {budget.budget:,.0f}, the most that every run reached; the metric is read "
        "between evaluations off a straight line."
        + (f" {', '.join(left)} spent none and {'is' if len(left) == 1 else 'are'} left out." if left else "")
        + f" *Step* is the mean step{f', of {steps},' if steps else ''} at which they were spent."
    )
    rows = []
    for summary in (s for s in analysis.summaries if s.cell.id in budget.cells):
        cell = summary.cell.id
        own = [pair for pair in budget.pairs if pair.cell == cell] or [None]
        for position, pair in enumerate(own):
            metric = Linked(interval(budget.cells[cell], percent=percent), cell_anchor(cell))
            row = (summary.cell.label, f"{budget.steps[cell]:.1f}", metric)
            row = row if position == 0 else (f"… {summary.cell.label}", "", "")
            if pair is None:
                rows.append((*row, NONE, NONE, NONE))
                continue
            to = gain_anchor(pair.cell, pair.reference)
            gain = Linked(interval(pair.gain, percent=percent, signed=True), to)
            test = Linked(p_value(pair.p, pair.least_p), to)
            rows.append((*row, analysis.summary(pair.reference).cell.label, gain, test))
    head = ("Row", "Step", f"{analysis.metric_name}{', %' if percent else ''} [95 %]")
    if not analysis.effects:
        return note, Table(head=head, rows=tuple(row[: len(head)] for row in rows))
    head += ("Against", f"Gain{', points' if percent else ''} [95 %]", "p (Holm)")
    return note, Table(head=head, rows=tuple(rows))
