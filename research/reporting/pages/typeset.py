"""Tables for a paper: fewer columns than the report's, with captions and notes that make them complete."""

import re
from collections.abc import Sequence

from research.reporting.analysis.analysis import Analysis, Effect, Summary
from research.reporting.analysis.columns import COSTS
from research.reporting.document import Table
from research.reporting.numbers import NONE, count, interval, listed, p_value
from research.reporting.pages.latex import Float
from research.reporting.paper_tables.paper import PaperRow, printed
from research.reporting.sections.cautions import other_starts
from research.reporting.sections.setting import setting
from research.reporting.sections.tables import means_table
from research.statistics import BOOTSTRAP_FROM

Line = tuple[Summary | None, Effect | None]
"""A row of the main table: a cell and one of its comparisons; for the warm start neither."""
Columns = list[tuple[str, list[str]]]
"""Columns of a table: heading and cells."""
SIGNS = {"same direction": "same", "opposite": "opposite", "undecided": "undecided", "no counterpart": NONE}
"""Verdict to its text in the column Direction."""
LEFT_OUT = ("cost/state_bytes",)
"""Costs of the report that a paper's table leaves out."""


def floats(analysis: Analysis) -> dict[str, Float]:
    """A paper's tables by name: the main table, and the effects of factors and the costs where there are any."""
    found = {"main": _main(analysis), "effects": _effects(analysis), "costs": _costs(analysis)}
    return {name: shown for name, shown in found.items() if shown is not None}


def _float(analysis: Analysis, name: str, columns: Columns, caption: str, **parts: tuple) -> Float:
    study = analysis.results.study
    state = f"{study.commit or 'not recorded'}{', with uncommitted changes' if study.dirty else ''}"
    return Float(
        table=Table(head=tuple(head for head, _ in columns), rows=tuple(zip(*(c for _, c in columns), strict=True))),
        caption=caption,
        label=f"{study.name}-{name}",
        origin=(f"Study {study.name}, commit {state}: {study.command or 'command not recorded'}",),
        **parts,
    )


def _main(analysis: Analysis) -> Float:
    lines = _lines(analysis)
    numbered = len({effect.reference.id for effect in analysis.effects}) > 1
    ours = [*_own(analysis, lines, numbered=numbered), *_gains(analysis, lines, numbered=numbered)]
    theirs = _theirs(analysis, lines)
    spans = (("", 1), ("This study", len(ours) - 1), ("Paper", len(theirs) - (len(theirs) > 1))) if theirs else ()
    seeds = sorted({summary.metric.n for summary in analysis.summaries})
    over = count(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    caption = f"{analysis.metric_name} at the last step, mean over {over} with its 95 % interval"
    caption += f", beside {analysis.paper.source}." if analysis.paper else "."
    return _float(
        analysis,
        "main",
        [*ours, *theirs],
        f"{analysis.results.study.question} {caption}".strip(),
        notes=tuple(_notes(analysis, lines, numbered=numbered)),
        spans=(*spans, ("", 1)) if len(theirs) > 1 else spans,
    )


def _lines(analysis: Analysis) -> list[Line]:
    """The main table's rows in order: the warm start, each cell with its first comparison, then all further ones."""
    first: list[Line] = [(None, None)] if analysis.start.n else []
    later: list[Line] = []
    for summary in analysis.summaries:
        own = [effect for effect in analysis.effects if effect.cell.id == summary.cell.id]
        first.append((summary, own[0] if own else None))
        later += [(summary, effect) for effect in own[1:]]
    return [*first, *later]


def _number(analysis: Analysis, cell_id: str) -> str:
    return f"({[summary.cell.id for summary in analysis.summaries].index(cell_id) + 1})"


def _own(analysis: Analysis, lines: Sequence[Line], *, numbered: bool) -> Columns:
    """Columns of names, of numbers of seeds where they differ, and of the metric."""
    names, seeds, values = [], [], []
    shown: set[str] = set()
    for summary, _ in lines:
        again = summary is not None and summary.cell.id in shown
        metric = summary.metric if summary else analysis.start
        number = f"{_number(analysis, summary.cell.id)} " if summary and numbered else ""
        names.append(f"{'… ' if again else ''}{number}{_name(summary.cell.label) if summary else 'Warm start'}")
        seeds.append("" if again else str(metric.n))
        values.append("" if again else interval(metric, percent=analysis.percent))
        shown |= {summary.cell.id} if summary else set()
    unit = ", %" if analysis.percent else ""
    different = len(set(seeds) - {""}) > 1
    return [("Row", names), *([("n", seeds)] if different else []), (f"{analysis.metric_name}{unit}\n[95 %]", values)]


def _gains(analysis: Analysis, lines: Sequence[Line], *, numbered: bool) -> Columns:
    """Columns of references where they differ, of gains, and of p where some p can reach 0.05."""
    if not analysis.effects:
        return []
    against, gains, tests = [], [], []
    for summary, effect in lines:
        if summary is None or effect is None:
            for column in (against, gains, tests):
                column.append(NONE)
            continue
        text = interval(effect.gain, percent=analysis.percent, signed=True)
        against.append(_number(analysis, effect.reference.id))
        gains.append(text if effect.gain.n in (0, summary.metric.n) else f"{text} (n={effect.gain.n})")
        tests.append(p_value(effect.p) + ("†" if effect.least_p is not None and effect.least_p > 0.05 else ""))
    found = [("vs", against)] if numbered else []
    found.append((f"Gain{', points' if analysis.percent else ''}\n[95 %]", gains))
    return [*found, ("p\n(Holm)", tests)] if _testable(analysis) else found


def _testable(analysis: Analysis) -> bool:
    return any(effect.least_p is not None and effect.least_p <= 0.05 for effect in analysis.effects)


def _theirs(analysis: Analysis, lines: Sequence[Line]) -> Columns:
    """Columns of the paper's values and gains, and of the verdict on the directions."""
    if analysis.paper is None:
        return []
    rows = [_paper_row(summary, effect) for summary, effect in lines]
    unit = f", {analysis.paper.unit}" if analysis.paper.unit else ""
    values = (f"value{unit}", [printed(row.value if row else None) for row in rows])
    if not analysis.effects:
        return [values]
    gains = [printed(effect.paper_gain if effect else None, signed=True) for _, effect in lines]
    signs = [SIGNS[effect.verdict] if effect else NONE for _, effect in lines]
    return [values, ("gain", gains), ("Direction", signs)]


def _paper_row(summary: Summary | None, effect: Effect | None) -> PaperRow | None:
    if effect and effect.paper_rows:
        return effect.paper_rows[0]
    return summary.paper if summary else None


def _notes(analysis: Analysis, lines: Sequence[Line], *, numbered: bool) -> list[str]:
    """Sentences that explain the numbers of the main table."""
    most = max(summary.metric.n for summary in analysis.summaries)
    notes = [f"Intervals: Student's t{', of a mean the studentised bootstrap' if most >= BOOTSTRAP_FROM else ''}."]
    if analysis.effects:
        against = "the row named under vs" if numbered else _name(analysis.effects[0].reference.label)
        notes.append(f"Gain: over {against}, mean of the differences at equal seeds; positive is better.")
        tests = f"sign-flip test over seeds, Holm-corrected over {count(len(analysis.effects), 'comparison')}"
        few = f"No p is given: too few seeds for any to reach 0.05 ({tests})."
        some = " †: too few seeds for it to reach 0.05." if any(_too_few(effect) for effect in analysis.effects) else ""
        notes.append(f"p: {tests}.{some}" if _testable(analysis) else few)
    notes += _paper_notes(analysis, lines) if analysis.paper else []
    missing = analysis.results.missing()
    notes += [f"Without result, and in no number: {listed([run for run, _ in missing])}."] if missing else []
    return [*notes, *filter(None, (other_starts(analysis), f"This study: {setting(analysis)}"))]


def _too_few(effect: Effect) -> bool:
    return effect.least_p is not None and effect.least_p > 0.05


def _paper_notes(analysis: Analysis, lines: Sequence[Line]) -> list[str]:
    paper = analysis.paper
    assert paper is not None
    said = [paper.metric, *(paper.setting[key] for key in ("model", "seeds") if key in paper.setting)]
    notes = [f"Paper: {'; '.join(said)}. Its model, data and budget are not this study's: only signs compare."]
    if any(effect.paper_gain is not None for effect in analysis.effects):
        notes.append(
            "Direction: whether our gain has the sign of the paper's; undecided if our interval includes 0 or is none."
        )
    named = dict.fromkeys((s.cell.label, row.name) for s, e in lines if s and (row := _paper_row(s, e)))
    other = [f"{_name(ours)} beside the paper's {theirs}" for ours, theirs in named if not _alike(ours, theirs)]
    return [*notes, f"Rows with another name: {'; '.join(other)}."] if other else notes


def _alike(ours: str, theirs: str) -> bool:
    """True if two names are equal but for capitals, punctuation and text in brackets."""
    one, other = (re.sub(r"\(.*?\)|\W", "", name.casefold()) for name in (ours, theirs))
    return one == other


def _effects(analysis: Analysis) -> Float | None:
    """Main effects and interactions; with the test over seeds only where some p can reach 0.05."""
    effects = analysis.factors
    if not effects:
        return None
    unit, percent = ", points" if analysis.percent else "", analysis.percent
    tested = any(effect.least_p <= 0.05 for effect in effects)
    columns: Columns = [
        ("Effect", [_name(effect.name) for effect in effects]),
        (f"By seed{unit}\n[95 %]", [interval(effect.gain, percent=percent, signed=True) for effect in effects]),
        *([("sign-flip p\n(Holm)", [p_value(effect.p) for effect in effects])] if tested else []),
        (f"Pooled{unit}\n[95 %]", [interval(effect.pooled, percent=percent, signed=True) for effect in effects]),
        ("t test p\n(Holm)", [p_value(effect.pooled_p) for effect in effects]),
    ]
    seeds = count(min(effect.gain.n for effect in effects), "seed")
    crossed = any(" × " in effect.name for effect in effects)
    half = "; × is half of how much one change alters the gain of the other" * crossed
    none = " The fraction cannot tell two-way interactions from one another, so none is given." * (not crossed)
    note = (
        f"Effect: a factor's level against its first, averaged over the other factors{half}. By seed: Student's t over "
        "the seeds' own effects. Pooled: the error of a regression on cells with seeds as blocks, which assumes equal "
        f"scatter in all cells.{none}"
    )
    few = "No sign-flip p is given: too few seeds for any to reach 0.05."
    caption = f"Effects on {analysis.metric_name} over all cells, {seeds}, with 95 % intervals; positive is better."
    notes = (note, *([] if tested else [few]), f"This study: {setting(analysis)}")
    return _float(analysis, "effects", columns, caption, notes=notes)


def _costs(analysis: Analysis) -> Float | None:
    table = means_table(analysis, [column for column in COSTS if column.name not in LEFT_OUT])
    if table is None:
        return None
    columns = [(head, [*map(str, column)]) for head, *column in zip(table.head, *table.rows, strict=True)]
    names, runs, *costs = columns
    same = len(set(runs[1])) == 1
    shown = [(head.replace(" ", "\n"), cells) for head, cells in costs if set(cells) - {"0", NONE}]
    caption = f"What a run cost: means over {f'{runs[1][0]} runs a row' if same else 'complete runs'}."
    machine = analysis.results.study.environment.get("cpu")
    notes = (*([f"Seconds on {machine}."] if machine else []), f"This study: {setting(analysis)}")
    return _float(
        analysis,
        "costs",
        [(names[0], [*map(_name, names[1])]), *([] if same else [runs]), *shown],
        caption,
        notes=notes,
    )


def _name(label: str) -> str:
    """A label with spaces for underscores, so that LaTeX can break its line."""
    return label.replace("_", " ")
