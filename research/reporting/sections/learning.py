"""The report's section on learning curves as numbers."""

from research.reporting.analysis.analysis import Analysis
from research.reporting.analysis.learning import CUT, DROP, ENTROPY_FLOOR, CellCurves, Learning
from research.reporting.document import Linked, Table
from research.reporting.numbers import NONE, interval, listed, number, p_value
from research.reporting.sections.trace import cell_anchor, gain_anchor


def learning_tables(analysis: Analysis) -> tuple[str | Table, ...]:
    """The curves of every cell, the comparisons of their areas, and how to read them; empty without curves."""
    found = analysis.learning
    if found is None:
        return ()
    threshold = number(found.threshold, percent=analysis.percent) + (" %" if analysis.percent else "")
    origin = "the study's" if found.stated else "half the way from the warm start to the median cell"
    note = (
        f"Area is the mean height of the curve over the steps, the warm start included. The threshold is {threshold}, "
        f"{origin}; steps to it are read between evaluations off a straight line, and averaged only where every run "
        f"crosses it, since those that do are the quick ones.{_lengths(found)} A run has collapsed if it ends more "
        f"than {100 * DROP:.0f} % of its best value behind it (*metric*), if the entropy of its last tenth of steps is "
        f"below {100 * ENTROPY_FLOOR:.0f} % of the first step's (*entropy*), or if more than {100 * CUT:.0f} % of the "
        "last tenth's completions were cut, and more than at first (*length*)."
    )
    blocks: tuple[str | Table, ...] = (curves_table(analysis, found), note)
    return (*blocks, areas_table(analysis, found)) if found.pairs else blocks


def _lengths(found: Learning) -> str:
    """Note for studies whose runs differ in their number of steps."""
    fewest, most = (end(run.steps for run in found.runs) for end in (min, max))
    if fewest == most:
        return ""
    return f" Runs have {fewest} to {most} steps, so areas and steps compare unlike ones: the cost section does not."


def curves_table(analysis: Analysis, found: Learning) -> Table:
    """Area, best, last, steps to the threshold and collapses of every cell."""
    percent, unit = analysis.percent, ", %" if analysis.percent else ""
    rows = []
    for cell in found.cells:
        all_cross = cell.reached.n == cell.runs
        reached = (
            interval(cell.reached, percent=False) if all_cross else f"{NONE} ({cell.reached.n} of {cell.runs} runs)"
        )
        shown = (
            *(interval(value, percent=percent) for value in (cell.area, cell.best, cell.last)),
            reached,
            _collapsed(cell),
        )
        label = analysis.summary(cell.cell).cell.label
        rows.append((label, str(cell.runs), *(Linked(text, cell_anchor(cell.cell)) for text in shown)))
    head = ("Row", "Runs", f"Area{unit} [95 %]", f"Best{unit} [95 %]", f"Last{unit} [95 %]", "Steps to the threshold")
    return Table(head=(*head, "Collapsed"), rows=tuple(rows))


def _collapsed(cell: CellCurves) -> str:
    if not cell.collapsed:
        return "none"
    kinds: dict[str, list[str]] = {}
    for run in cell.collapsed:
        kinds.setdefault(" and ".join(run.collapse), []).append(str(run.seed))
    said = [f"{kind} at {'seed' if len(seeds) == 1 else 'seeds'} {listed(seeds)}" for kind, seeds in kinds.items()]
    return f"{len(cell.collapsed)} of {cell.runs}: {'; '.join(said)}"


def areas_table(analysis: Analysis, found: Learning) -> Table:
    """Paired differences of the curves."""
    percent, unit = analysis.percent, ", points" if analysis.percent else ""
    least = {(effect.cell.id, effect.reference.id): effect.least_p for effect in analysis.effects}
    rows = []
    for pair in found.pairs:
        saved = interval(pair.sooner, percent=False, signed=True)
        if pair.sooner.n < pair.area.n:
            saved = f"{NONE} ({pair.sooner.n} of {pair.area.n} pairs)"
        shown = (
            interval(pair.area, percent=percent, signed=True),
            p_value(pair.p, least[pair.cell, pair.reference]),
            interval(pair.best, percent=percent, signed=True),
            saved,
        )
        names = (analysis.summary(pair.cell).cell.label, analysis.summary(pair.reference).cell.label)
        to = gain_anchor(pair.cell, pair.reference)
        rows.append((*names, str(pair.area.n), *(Linked(text, to) for text in shown)))
    head = ("Row", "Against", "Paired seeds", f"Gain in area{unit} [95 %]", "p (Holm)")
    return Table(head=(*head, f"Gain in best{unit} [95 %]", "Steps saved [95 %]"), rows=tuple(rows))
