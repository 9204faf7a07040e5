"""The report's section on seeds and items: what the same comparisons show when items are counted too."""

from math import sqrt

from research.reporting.analysis.analysis import Analysis
from research.reporting.analysis.by_item import ByItem
from research.reporting.document import Linked, Section, Table
from research.reporting.numbers import NONE, interval, number, p_value
from research.reporting.sections.trace import cell_anchor, gain_anchor
from research.statistics import POWER, VarianceSplit

PAIRS = (
    "Each gain is paired by seed and by item. *New seeds* is the main table's interval: it speaks of other seeds on "
    "these very items. *New items too* speaks of other seeds on other items like these (crossed random effects, "
    "Student's t with Satterthwaite's degrees of freedom); it can be the narrower one where seeds are few, because "
    "items then lend it degrees of freedom. IQM is the interquartile mean over seeds and items, and P "
    "the probability that on an item a run of the row is better than one of the other, 50 % meaning no difference "
    "(Agarwal et al. 2021, arXiv:2108.13264); both intervals are for new seeds. *p by item* flips signs by item: "
    "whether these very runs differ on new items, whatever other seeds would have given. *Detectable* is the gain "
    f"that a paired t test of as many seeds would find with {100 * POWER:.0f} % power, uncorrected, if gains vary over "
    "seeds as they did."
)
VARIANCE = (
    "Share of the variance of the mean over seeds and items; its root is the standard error for new seeds and new "
    "items. *Both* is what a run learned of single items, *sampling* the luck of the completions drawn. 0* was "
    "estimated below 0, as happens where a part is small and seeds are few."
)


def items_section(analysis: Analysis) -> Section:
    """The section, or a sentence where the items are not recorded."""
    title = "Seeds and items"
    found = analysis.items
    if found is None:
        return Section(title=title, blocks=("The metric's items are not recorded, so nothing is paired by item.",))
    blocks: list[str | Table] = [pairs_table(analysis, found), PAIRS] if found.pairs else []
    if table := variance_table(analysis, found):
        blocks += [table, VARIANCE]
    return Section(title=title, blocks=tuple(blocks))


def pairs_table(analysis: Analysis, found: ByItem) -> Table:
    """Every comparison: both intervals, the gain in IQM, the probability of improvement, the test by item."""
    unit = ", points" if analysis.percent else ""
    head = ("Row", "Against", "Seeds × items", f"Gain{unit} [new seeds]", "[new items too]", f"IQM gain{unit} [95 %]")
    head += ("P(better), % [95 %]", "p by item (Holm)", f"Detectable{unit}")
    detectable = {(effect.cell.id, effect.reference.id): effect.detectable for effect in analysis.effects}
    rows = []
    for pair in found.pairs:
        to = gain_anchor(pair.cell, pair.reference)
        shown = (
            interval(pair.gain, percent=analysis.percent, signed=True),
            interval(pair.anew, percent=analysis.percent, signed=True).partition(" ")[2] or NONE,
            interval(pair.iqm, percent=analysis.percent, signed=True),
            interval(pair.improvement, percent=True),
            p_value(pair.p_items),
            number(detectable[pair.cell, pair.reference], percent=analysis.percent),
        )
        names = (analysis.summary(pair.cell).cell.label, analysis.summary(pair.reference).cell.label)
        rows.append((*names, f"{pair.seeds} × {pair.items}", *(Linked(text, to) for text in shown)))
    return Table(head=head, rows=tuple(rows))


def variance_table(analysis: Analysis, found: ByItem) -> Table | None:
    """Shares of items, seeds and sampling in the variance of every cell's mean and of every gain."""
    parts = ("items", "seeds", "interaction", "sampling")
    scale, unit = (100.0, ", points") if analysis.percent else (1.0, "")
    splits = [(analysis.summary(c.cell).cell.label, c.variance, cell_anchor(c.cell)) for c in found.cells]
    splits += [
        (
            f"{analysis.summary(p.cell).cell.label} vs {analysis.summary(p.reference).cell.label}",
            p.variance,
            gain_anchor(p.cell, p.reference),
        )
        for p in found.pairs
    ]
    rows = []
    for label, split, to in splits:
        if split is not None:
            spread = scale * sqrt(sum(split.of_mean.values()))
            error = f"{spread:.2f}" if analysis.percent else number(spread, percent=False)
            rows.append((label, Linked(error, to), *(Linked(_share(split, part), to) for part in parts)))
    head = ("Row", f"Standard error{unit}", "Items, %", "Seeds, %", "Both, %", "Sampling, %")
    return Table(head=head, rows=tuple(rows)) if rows else None


def _share(split: VarianceSplit, part: str) -> str:
    if part in split.negative:
        return "0*"
    total = sum(split.of_mean.values())
    return number(split.of_mean[part] / total if total else 0.0, percent=True)
