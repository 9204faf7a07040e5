"""Cautions before numbers are compared: unequal starts, unequal data, collapsed runs."""

from statistics import fmean

from research.reporting.analysis.analysis import START, Analysis
from research.reporting.numbers import count, listed, number


def other_starts(analysis: Analysis) -> str:
    """The cells whose own warm start is not the one that the main table prints; empty if there are none."""
    results = analysis.results
    column = START + results.study.metric
    shared = analysis.starts
    found: dict[str, list[str]] = {}
    for summary in analysis.summaries:
        own = results.by_seed(summary.cell.id, column)
        seeds = own.keys() & shared.keys()
        if any(abs(own[seed] - shared[seed]) > 1e-12 for seed in seeds):
            found.setdefault(number(fmean(own.values()), percent=analysis.percent), []).append(summary.cell.label)
    if not found:
        return ""
    unit = " %" if analysis.percent else ""
    said = [f"of {listed(labels)} {value}{unit}" for value, labels in found.items()]
    return (
        f"The warm start is measured otherwise in some rows, with their own prompts or sampler: {listed(said)}, where "
        "the table has that of the first row. A gain over the warm start is over the row's own."
    )


def unequal_data(analysis: Analysis) -> str:
    """Sentence on the cells that used other data than the first one; empty if all used the same."""
    results = analysis.results
    seeds = results.mixed_data()
    if not seeds:
        return ""
    runs = results.complete.merge(results.provenance[["run", "data_hash"]], on="run")
    hashes = {(str(r["cell"]), int(r["seed"])): r["data_hash"] for r in runs.to_dict("records")}
    first = next(s.cell for s in analysis.summaries if any((s.cell.id, seed) in hashes for seed in seeds))
    other = [
        summary.cell.label
        for summary in analysis.summaries
        if any(hashes.get((summary.cell.id, s), hashes.get((first.id, s))) != hashes.get((first.id, s)) for s in seeds)
    ]
    return (
        f"**Not fully paired.** The prompts of {listed(other)} are not those of {first.label}: the data hashes differ "
        f"at {'seed' if len(seeds) == 1 else 'seeds'} {listed(list(map(str, seeds)))}. Their differences hold that of "
        "the prompts too."
    )


def collapses(analysis: Analysis) -> str:
    """Sentence on the runs that collapsed; empty if none did."""
    found = analysis.learning
    if found is None or not any(cell.collapsed for cell in found.cells):
        return ""
    cells = [cell for cell in found.cells if cell.collapsed]
    total = sum(len(cell.collapsed) for cell in cells)
    said = [f"{analysis.summary(cell.cell).cell.label} ({len(cell.collapsed)} of {cell.runs})" for cell in cells]
    runs = f"{count(total, 'run')} of {sum(cell.runs for cell in found.cells)}"
    return f"{runs} collapsed ([how](#learning-curves)): {listed(said)}."
