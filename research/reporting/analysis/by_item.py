"""A study item by item: the last evaluations of its runs as tables of seeds by items, and what their pairs show."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from research.reporting.analysis.results import Results
from research.statistics import (
    Interval,
    VarianceSplit,
    binomial_variance,
    crossed_interval,
    holm,
    improvement,
    iqm_gain,
    iqm_interval,
    sign_flip_p,
    variance_split,
)

ACCURACY = "evaluation/avg_at_k"
"""The metric whose items are recorded."""


@dataclass(frozen=True, kw_only=True)
class CellItems:
    """One cell, over its seeds and items."""

    cell: str
    items: int
    completions: int
    """Of each item."""
    iqm: Interval
    """Interquartile mean over seeds and items."""
    variance: VarianceSplit | None
    """Of the accuracy of one item at one seed; None with fewer than two seeds, items or completions."""


@dataclass(frozen=True, kw_only=True)
class PairItems:
    """One comparison, paired by seed and by item; gains are positive where the cell is better."""

    cell: str
    reference: str
    seeds: int
    items: int
    gain: Interval
    """For new seeds on these items: what the main table prints."""
    anew: Interval
    """For new seeds and new items."""
    iqm: Interval
    """Gain in interquartile mean, for new seeds on these items."""
    improvement: Interval
    """Probability of improvement, for new seeds on these items."""
    p_items: float
    """Sign flips by item: whether these very runs differ on new items; Holm-corrected over the comparisons."""
    variance: VarianceSplit | None
    """Of the gain on one item at one seed."""


@dataclass(frozen=True, kw_only=True)
class ByItem:
    """All that a study's items show."""

    cells: tuple[CellItems, ...]
    pairs: tuple[PairItems, ...]


def by_item(results: Results, gains: Sequence[tuple[str, str, Interval]]) -> ByItem | None:
    """Work out what the items show.

    Args:
        results: the study.
        gains: cell, reference and paired gain of every comparison.

    Returns: None if the study's metric is not avg@k, or its items are not recorded.
    """
    if results.study.metric != ACCURACY or results.items.empty:
        return None
    tables = {cell.id: rates(results, cell.id) for cell in results.study.cells}
    k = int(results.items["k"].to_numpy().min())
    cells = tuple(_cell(name, table, k) for name, table in tables.items() if table.size)
    found = [_pair(one, other, tables[one], tables[other], gain, k) for one, other, gain in gains]
    pairs = [pair for pair in found if pair is not None]
    corrected = holm([pair.p_items for pair in pairs])
    return ByItem(cells=cells, pairs=tuple(replace(pair, p_items=p) for pair, p in zip(pairs, corrected, strict=True)))


def rates(results: Results, cell: str) -> pd.DataFrame:
    """Share of right completions at the last evaluation of the cell's complete runs: a row a seed, a column an item.

    Items that not every run was asked are left out.
    """
    owners = results.complete.loc[results.complete["cell"] == cell, ["run", "seed"]]
    rows = results.items.merge(owners, on="run")
    rows = rows[(rows["step"] == rows.groupby("run")["step"].transform("max")) & (rows["step"] > 0)]
    rows = rows.assign(rate=rows["right"] / rows["k"])
    return rows.pivot_table(index="seed", columns="prompt", values="rate").dropna(axis="columns")


def _cell(cell: str, table: pd.DataFrame, k: int) -> CellItems:
    values = table.to_numpy(dtype=float)
    return CellItems(
        cell=cell,
        items=values.shape[1],
        completions=k,
        iqm=iqm_interval(values),
        variance=variance_split(values, binomial_variance(values, k)),
    )


def _pair(
    cell: str, reference: str, one: pd.DataFrame, other: pd.DataFrame, gain: Interval, k: int
) -> PairItems | None:
    seeds, prompts = one.index.intersection(other.index), one.columns.intersection(other.columns)
    if seeds.empty or prompts.empty:
        return None
    x, y = (table.loc[seeds, prompts].to_numpy(dtype=float) for table in (one, other))
    return PairItems(
        cell=cell,
        reference=reference,
        seeds=len(seeds),
        items=len(prompts),
        gain=gain,
        anew=crossed_interval(x - y),
        iqm=iqm_gain(x, y),
        improvement=improvement(x, y),
        p_items=sign_flip_p((x - y).mean(0).tolist()),
        variance=variance_split(x - y, binomial_variance(x, k) + binomial_variance(y, k)),
    )
