"""From a study's tables to what a report says: a summary per cell and an effect per comparison."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import nan
from pathlib import Path

import numpy as np

from research.ablation.designs import Cell
from research.reporting.analysis.by_item import ByItem, by_item
from research.reporting.analysis.costs import Costs, costs
from research.reporting.analysis.factorial import FACTORIALS, FactorEffect, factor_effects
from research.reporting.analysis.learning import START, Learning, learning, warm_start
from research.reporting.analysis.results import Results, read_results
from research.reporting.numbers import metric_name
from research.reporting.paper_tables.paper import Counterparts, Paper, PaperRow, match, open_paper
from research.statistics import (
    Interval,
    Verdict,
    detectable_gain,
    gain_interval,
    holm,
    mean_interval,
    paired_gains,
    sign_flip_p,
    smallest_p,
    verdict,
)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One cell: its metric, its gain over the warm start, and the paper's row beside it."""

    cell: Cell
    values: Mapping[int, float]
    """Seed to metric, complete runs only."""
    metric: Interval
    over_start: Interval
    """Paired by seed; positive is better."""
    paper: PaperRow | None


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One comparison: the gain of a cell over its reference, paired by seed."""

    cell: Cell
    reference: Cell
    gains: tuple[float, ...]
    """One per shared seed; positive is better."""
    gain: Interval
    p: float | None
    """Sign-flip p, Holm-corrected over the study's comparisons; None without shared seeds."""
    least_p: float | None
    """The smallest that this p could be with these numbers of seeds and comparisons, whatever the effects."""
    detectable: float
    """Gain that a paired t test of as many seeds finds with 80 % power, if gains vary as here; NaN below two seeds."""
    paper_rows: tuple[PaperRow, PaperRow] | None
    paper_gain: float | None
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """All that the tables, figures and sentences of a report are made from."""

    results: Results
    papers: tuple[Paper, ...]
    starts: Mapping[int, float]
    """Seed to the warm start's metric, as the first cell that has one measured it."""
    start: Interval
    """The same over seeds."""
    summaries: tuple[Summary, ...]
    effects: tuple[Effect, ...]
    items: ByItem | None
    """None if the metric's items are not recorded."""
    learning: Learning | None
    """None if the metric was evaluated once a run."""
    costs: Costs
    percent: bool
    """The metric lies in [0, 1], so that it is printed in percent and its gains in percentage points."""

    @property
    def paper(self) -> Paper | None:
        """The paper that stands beside the main table: the study's first that prints numbers."""
        return _numbered(self.papers)

    def summary(self, cell_id: str) -> Summary:
        """The summary of the cell with this id."""
        return next(summary for summary in self.summaries if summary.cell.id == cell_id)

    @cached_property
    def factors(self) -> tuple[FactorEffect, ...]:
        """Main effects and interactions of a factorial or a fraction of one; none for another design."""
        study = self.results.study
        if study.design not in FACTORIALS:
            return ()
        values = {summary.cell.id: summary.values for summary in self.summaries}
        return factor_effects(study.cells, values, direction=study.direction)

    @property
    def metric_name(self) -> str:
        """The study's metric by its short name."""
        completions = self.results.study.protocol.get("completions_per_prompt")
        return metric_name(self.results.study.metric, completions if isinstance(completions, int) else None)

    @property
    def fewest_seeds(self) -> int:
        """The smallest number of paired seeds behind an effect; without effects, behind a cell; 0 if none has any."""
        counts = [effect.gain.n for effect in self.effects] or [summary.metric.n for summary in self.summaries]
        return min((n for n in counts if n > 0), default=0)


def analyse(folder: Path) -> Analysis:
    """Read a study's folder and work out every number of its report.

    Args:
        folder: the study's results.

    Returns: the analysis.

    Raises: UserError if the folder, the study or its paper cannot be read.
    """
    results = read_results(folder)
    study = results.study
    papers = tuple(open_paper(name, folder) for name in study.papers)
    paper = _numbered(papers)
    beside = match(paper, study.cells, study.comparisons, study.baseline) if paper else None
    starts = warm_start(results)
    summaries = tuple(_summary(results, cell, starts, beside) for cell in study.cells)
    effects = _corrected([_effect(results, pair, paper, beside) for pair in study.comparisons])
    values = [*starts.values(), *(value for summary in summaries for value in summary.values.values())]
    return Analysis(
        results=results,
        papers=papers,
        starts=starts,
        start=mean_interval(list(starts.values())),
        summaries=summaries,
        effects=effects,
        items=by_item(results, [(effect.cell.id, effect.reference.id, effect.gain) for effect in effects]),
        learning=learning(results),
        costs=costs(results),
        percent=bool(values) and all(0 <= value <= 1 for value in values),
    )


def _numbered(papers: tuple[Paper, ...]) -> Paper | None:
    return next((paper for paper in papers if any(row.value is not None for row in paper.rows)), None)


def _summary(results: Results, cell: Cell, start: dict[int, float], beside: Counterparts | None) -> Summary:
    study = results.study
    values = results.by_seed(cell.id, study.metric)
    own_start = start | results.by_seed(cell.id, START + study.metric)
    return Summary(
        cell=cell,
        values=values,
        metric=mean_interval(list(values.values())),
        over_start=gain_interval(paired_gains(values, own_start, direction=study.direction)),
        paper=beside.rows.get(cell.id) if beside else None,
    )


def _effect(results: Results, pair: tuple[str, str], paper: Paper | None, beside: Counterparts | None) -> Effect:
    study = results.study
    cell, reference = (results.by_seed(cell_id, study.metric) for cell_id in pair)
    gains = paired_gains(cell, reference, direction=study.direction)
    gain = gain_interval(gains)
    rows = beside.pairs.get(pair) if beside else None
    paper_gain = paper.gain(*rows) if paper and rows else None
    return Effect(
        cell=study.cell(pair[0]),
        reference=study.cell(pair[1]),
        gains=tuple(gains),
        gain=gain,
        p=sign_flip_p(gains) if gains else None,
        least_p=smallest_p(len(gains)) if gains else None,
        detectable=detectable_gain(float(np.std(gains, ddof=1)), len(gains)) if len(gains) > 1 else nan,
        paper_rows=rows,
        paper_gain=paper_gain,
        verdict=verdict(gain, paper_gain),
    )


def _corrected(effects: list[Effect]) -> tuple[Effect, ...]:
    """The effects with their p corrected together, as one family.

    Holm's correction never falls when a p rises, so the corrected p of the smallest p are the smallest corrected p.
    """
    corrected = iter(holm([effect.p for effect in effects if effect.p is not None]))
    least = iter(holm([effect.least_p for effect in effects if effect.least_p is not None]))
    return tuple(
        effect if effect.p is None else replace(effect, p=next(corrected), least_p=next(least)) for effect in effects
    )
