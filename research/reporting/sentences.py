"""The sentences of a report: what was found, and what its numbers can and cannot show."""

from collections import Counter

from research.reporting.analysis import Analysis, Effect
from research.reporting.numbers import count, interval, listed
from research.reporting.statistics import BOOTSTRAP_FROM, EXACT_UP_TO, smallest_p


def findings(analysis: Analysis) -> str:
    """Say what the intervals show and what they leave open, in words that claim no more than they do.

    Args:
        analysis: the study.

    Returns: one paragraph.
    """
    if not any(summary.metric.n for summary in analysis.summaries):
        return "No run is complete, so nothing can be said yet."
    sentences = [_effects(analysis), _factors(analysis), _paper(analysis), _start(analysis), _caution(analysis)]
    return " ".join(sentence for sentence in sentences if sentence)


def _effects(analysis: Analysis) -> str:
    effects = [effect for effect in analysis.effects if effect.gain.n]
    if not analysis.effects:
        return ""
    if not effects:
        return "No comparison has a seed that both of its cells completed."
    clear = [effect for effect in effects if effect.gain.excludes_zero]
    better = [_named(effect, analysis) for effect in clear if effect.gain.mean > 0]
    worse = [_named(effect, analysis) for effect in clear if effect.gain.mean < 0]
    scope = f"On {analysis.metric_name}, of {count(len(effects), 'comparison')}"
    if not clear:
        return f"{scope} none has a 95 % interval that excludes 0: at this number of seeds no effect is established."
    text = f"{scope} {len(clear)} {'has' if len(clear) == 1 else 'have'} a 95 % interval that excludes 0."
    text += f" Better than the reference: {listed(better)}." if better else ""
    text += f" Worse than the reference: {listed(worse)}." if worse else ""
    undecided = len(effects) - len(clear)
    return text + (
        f" The other {undecided} are undecided." if undecided > 1 else " The other is undecided." * undecided
    )


def _factors(analysis: Analysis) -> str:
    """What the effects of a factorial's factors show, each over all cells."""
    if not analysis.factors:
        return ""
    unit = " points" if analysis.percent else ""
    clear = [
        f"{effect.name} ({interval(effect.gain, percent=analysis.percent, signed=True)}{unit})"
        for effect in analysis.factors
        if effect.gain.excludes_zero
    ]
    text = f"Of {len(analysis.factors)} main effects and interactions, each over all cells,"
    if not clear:
        return f"{text} none has a 95 % interval that excludes 0."
    return f"{text} {len(clear)} {'has' if len(clear) == 1 else 'have'} one that excludes 0: {listed(clear)}."


def _named(effect: Effect, analysis: Analysis) -> str:
    unit = " points" if analysis.percent else ""
    gain = interval(effect.gain, percent=analysis.percent, signed=True)
    return f"{effect.cell.label} vs {effect.reference.label} ({gain}{unit})"


def _paper(analysis: Analysis) -> str:
    if analysis.paper is None:
        return ""
    counts = Counter(effect.verdict for effect in analysis.effects)
    order = ("same direction", "opposite", "undecided", "no counterpart")
    said = [f"{counts[verdict]} {verdict}" for verdict in order if counts[verdict]]
    return f"Beside the paper's gains: {listed(said)}." if said else ""


def _start(analysis: Analysis) -> str:
    if not analysis.start.n:
        return ""
    above = [summary.cell.label for summary in analysis.summaries if summary.over_start.above_zero]
    total = len(analysis.summaries)
    if not above:
        return "No cell ends clearly above the warm start, so differences between cells say little about learning."
    if len(above) == total:
        return "Every cell ends clearly above the warm start."
    return f"{len(above)} of {total} cells end clearly above the warm start: {listed(above)}."


def _caution(analysis: Analysis) -> str:
    n = analysis.fewest_seeds
    if not n:
        return ""
    intervals = "The intervals are not widened for the number of comparisons."
    if smallest_p(n) > 0.05:
        few = f"the comparisons rest on as few as {count(n, 'paired seed')}"
        floor = f"the permutation p of such a one cannot fall below {smallest_p(n):g}"
        return f"Read this as suggestive: {few}, and {floor}. {intervals}"
    small = sum(effect.p is not None and effect.p <= 0.05 for effect in analysis.effects)
    return f"After Holm's correction {small} of {len(analysis.effects)} permutation p are at or below 0.05. {intervals}"


def caption(analysis: Analysis) -> str:
    """How the main table's numbers are made, and what too few seeds cannot show."""
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
    """What the numbers of seeds leave of the permutation test."""
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
