"""The sentences of a report: what was found, and what its numbers can and cannot show."""

from collections import Counter

from research.reporting.analysis.analysis import Analysis, Effect
from research.reporting.analysis.factorial import FactorEffect
from research.reporting.numbers import count, interval, listed
from research.reporting.sections.cautions import collapses
from research.statistics import BOOTSTRAP_FROM, EXACT_UP_TO, Interval, smallest_p

SPENT = "tokens sampled"
"""The budget at which the findings look again at what the steps showed."""


def findings(analysis: Analysis) -> str:
    """Say what the intervals show and what they leave open, in words that claim no more than they do.

    Args:
        analysis: the study.

    Returns: one paragraph.
    """
    if not any(summary.metric.n for summary in analysis.summaries):
        return "No run is complete, so nothing can be said yet."
    sentences = [
        _effects(analysis),
        _equal_budget(analysis),
        _factors(analysis),
        _paper(analysis),
        collapses(analysis),
        _start(analysis),
        _caution(analysis),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _effects(analysis: Analysis) -> str:
    effects = [effect for effect in analysis.effects if effect.gain.n]
    if not analysis.effects:
        return ""
    if not effects:
        return "No comparison has a seed that both of its cells completed."
    if all(effect.gain.low is None for effect in effects):
        return (
            f"No comparison on {analysis.metric_name} has an interval, since each rests on one seed: none is decided."
        )
    clear = [effect for effect in effects if effect.gain.excludes_zero]
    better = [_named(effect, analysis) for effect in clear if effect.gain.mean > 0]
    worse = [_named(effect, analysis) for effect in clear if effect.gain.mean < 0]
    scope = f"On {analysis.metric_name}, of {count(len(effects), 'comparison')}"
    if not clear:
        none = f"On {analysis.metric_name}, the one comparison has no" if len(effects) == 1 else f"{scope} none has a"
        return f"{none} 95 % interval that excludes 0: at this number of seeds no effect is established."
    text = f"{scope} {len(clear)} {'has' if len(clear) == 1 else 'have'} a 95 % interval that excludes 0."
    text += f" Better than the reference: {listed(better)}." if better else ""
    text += f" Worse than the reference: {listed(worse)}." if worse else ""
    undecided = len(effects) - len(clear)
    return text + (
        f" The other {undecided} are undecided." if undecided > 1 else " The other is undecided." * undecided
    )


def _equal_budget(analysis: Analysis) -> str:
    """Gains that remain, vanish or appear once both cells have sampled the same number of tokens."""
    budget = next((found for found in analysis.costs.budgets if found.name == SPENT), None)
    if budget is None:
        return ""
    then = {(pair.cell, pair.reference): pair.gain for pair in budget.pairs}
    pairs = [(e, then[e.cell.id, e.reference.id]) for e in analysis.effects if (e.cell.id, e.reference.id) in then]
    clear = [(effect, gain) for effect, gain in pairs if effect.gain.excludes_zero]
    lost = [_named(e, analysis, gain) for e, gain in clear if not gain.excludes_zero or gain.mean * e.gain.mean < 0]
    new = [_named(e, analysis, gain) for e, gain in pairs if gain.excludes_zero and not e.gain.excludes_zero]
    text = f"At equal {SPENT} ({budget.budget:,.0f} a run)"
    said = []
    if clear and not lost:
        said.append(f"{text} {_of('it', 'both', 'all', len(clear))} still {_do(len(clear))}.")
    elif len(lost) == len(clear) > 0:
        said.append(f"{text} {_of('it no longer', 'neither', 'none of these', len(clear))} does: {listed(lost)}.")
    elif clear:
        kept = len(clear) - len(lost)
        said.append(f"{text} {kept} of these {len(clear)} still {_do(kept)}, but not {listed(lost)}.")
    if new:
        said.append(f"{'There' if clear else text} {listed(new)} {'has' if len(new) == 1 else 'have'} one too.")
    return " ".join(said)


def _of(one: str, two: str, more: str, n: int) -> str:
    return {1: one, 2: two}.get(n, f"{more} {n}")


def _do(n: int) -> str:
    return "does" if n == 1 else "do"


def _factors(analysis: Analysis) -> str:
    """Main effects and interactions whose interval excludes 0."""
    if not analysis.factors:
        return ""
    clear = [_effect(effect, effect.gain, analysis) for effect in analysis.factors if effect.gain.excludes_zero]
    pooled = [_effect(effect, effect.pooled, analysis) for effect in analysis.factors if effect.pooled.excludes_zero]
    crossed = any(" × " in effect.name for effect in analysis.factors)
    kinds = f"main effects{' and interactions' * crossed}"
    text = f"On {analysis.metric_name}, of {len(analysis.factors)} {kinds}, each over all cells,"
    text += f" {len(clear) or 'none'} {'has' if len(clear) < 2 else 'have'} a 95 % interval that excludes 0"
    text += f": {listed(clear)}." if clear else "."
    if len(pooled) != len(clear):
        text += f" With the error pooled over the design, {len(pooled) or 'none'} {_do(len(pooled) or 1)}"
        text += f": {listed(pooled)}." if pooled else "."
    return text


def _effect(effect: FactorEffect, value: Interval, analysis: Analysis) -> str:
    unit = " points" if analysis.percent else ""
    return f"{effect.name} ({interval(value, percent=analysis.percent, signed=True)}{unit})"


def _named(effect: Effect, analysis: Analysis, gain: Interval | None = None) -> str:
    unit = " points" if analysis.percent else ""
    text = interval(gain or effect.gain, percent=analysis.percent, signed=True)
    return f"{effect.cell.label} vs {effect.reference.label} ({text}{unit})"


def _paper(analysis: Analysis) -> str:
    if analysis.paper is None:
        return ""
    counts = Counter(effect.verdict for effect in analysis.effects)
    order = ("same direction", "opposite", "undecided")
    said = [f"{counts[verdict]} {verdict}" for verdict in order if counts[verdict]]
    without = counts["no counterpart"]
    rest = f"; {count(without, 'comparison')} {'has' if without == 1 else 'have'} no counterpart there" * bool(without)
    return f"Beside the paper's gains: {listed(said)}{rest}." if said else ""


def _start(analysis: Analysis) -> str:
    if not analysis.start.n:
        return ""
    above = [summary.cell.label for summary in analysis.summaries if summary.over_start.above_zero]
    below = [summary.cell.label for summary in analysis.summaries if not summary.over_start.above_zero]
    total = len(analysis.summaries)
    if all(summary.over_start.low is None for summary in analysis.summaries):
        return ""
    if not above:
        return "No cell ends clearly above the warm start, so differences between cells say little about learning."
    if len(above) == total:
        return "Every cell ends clearly above the warm start."
    text = f"{len(above)} of {total} cells {'ends' if len(above) == 1 else 'end'} clearly above the warm start"
    return f"{text}: {listed(above)}." if len(above) <= len(below) else f"{text}, all but {listed(below)}."


def _caution(analysis: Analysis) -> str:
    n = analysis.fewest_seeds
    if not n:
        return ""
    intervals = f"The intervals are not widened for the number of {'comparisons' if analysis.effects else 'effects'}."
    if n == 1:
        return "Read this as a smoke test: one seed cannot tell an effect from luck."
    if smallest_p(n) > 0.05:
        few = f"Read this as suggestive: some comparisons rest on {count(n, 'paired seed')}"
        few = few if analysis.effects else f"Read this as suggestive: it rests on {count(n, 'seed')}"
        return f"{few}, where a permutation p cannot fall below {smallest_p(n):g}. {intervals}"
    if not analysis.effects:
        return intervals
    small = sum(effect.p is not None and effect.p <= 0.05 for effect in analysis.effects)
    return f"After Holm's correction {small} of {len(analysis.effects)} permutation p are at or below 0.05. {intervals}"


def caption(analysis: Analysis) -> str:
    """Caption of the main table: how means, gains, intervals and p are computed, and the limits of few seeds."""
    if not analysis.effects:
        return (
            f"Mean over seeds with a 95 % interval: Student's t, from {BOOTSTRAP_FROM} seeds on the studentised "
            "bootstrap, not cut at the metric's bounds; one seed has none (—). The design compares no two cells alone."
        )
    text = (
        "Mean over seeds with a 95 % interval. A gain is the mean of the per-seed differences, so paired; positive is "
        f"better. Intervals are Student's t (of a row's own mean, from {BOOTSTRAP_FROM} seeds on, the studentised "
        "bootstrap), not cut at the metric's bounds and not widened for the number of rows; one seed has none (—). p "
        f"is the sign-flip permutation test on the paired differences, exact up to {EXACT_UP_TO} seeds, Holm-corrected "
        f"over {count(len(analysis.effects), 'comparison')}."
    )
    if any(effect.gain.width is not None and effect.gain.width < 1e-9 for effect in analysis.effects):
        text += " An interval without width means that the seeds happen to agree, not that the gain is certain."
    return text + _too_few(analysis)


def _too_few(analysis: Analysis) -> str:
    """Sentence on the smallest p that the numbers of seeds allow."""
    counts = sorted({effect.gain.n for effect in analysis.effects if effect.gain.n})
    if not counts:
        return ""
    floors = [f"2/2^{n} = {smallest_p(n):g} with {count(n, 'paired seed')}" for n in counts]
    text = f" Before the correction, the p of a comparison cannot go below {listed(floors)}"
    if smallest_p(counts[-1]) > 0.05:
        return f"{text}: too few seeds for any p to reach 0.05, whatever the effect."
    if smallest_p(counts[0]) * len(analysis.effects) > 0.05:
        return f"{text}: too few seeds for every corrected p to be able to reach 0.05, whatever the effect."
    return text + "."
