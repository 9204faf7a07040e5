"""Costs of a gain: gain per token and per minute, and the metric at equal tokens."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from research.reporting.analysis.columns import SPENT
from research.reporting.analysis.learning import START, evaluations, of_run
from research.reporting.analysis.results import Results
from research.statistics import (
    Interval,
    gain_interval,
    holm,
    mean_interval,
    paired_gains,
    sign_flip_p,
    smallest_p,
)

BUDGETS: Mapping[str, tuple[str, ...]] = {
    "tokens sampled": ("cost/tokens_sampled",),
    "tokens trained": ("cost/tokens_trained",),
    "tokens sampled and trained": ("cost/tokens_sampled", "cost/tokens_trained"),
}
"""Budget → running totals of curves.csv whose sum it is."""


@dataclass(frozen=True, kw_only=True)
class CellCost:
    """One cell: a cost, and the gain over the warm start that a unit of it buys."""

    cell: str
    column: str
    spent: Interval
    """In the unit of the column."""
    per_unit: Interval
    """Gain over the warm start per unit of the cost, seed by seed; empty where nothing was spent."""


@dataclass(frozen=True, kw_only=True)
class PairCost:
    """One comparison, paired by seed: how much more the cell costs, and what it gains per unit."""

    cell: str
    reference: str
    column: str
    extra: Interval
    """Cost over the reference's, less 1."""
    per_unit: Interval
    """Gain over the warm start per unit, less the reference's."""


@dataclass(frozen=True, kw_only=True)
class EqualBudget:
    """Every cell at the largest budget that all runs reached, read off the curves by straight lines."""

    name: str
    """Of `BUDGETS`."""
    budget: float
    cells: Mapping[str, Interval]
    """Cell to metric at the budget; cells that spend nothing of it are left out."""
    steps: Mapping[str, float]
    """Cell to the mean step at which the budget is spent."""
    pairs: tuple["PairBudget", ...]


@dataclass(frozen=True, kw_only=True)
class PairBudget:
    """One comparison at an equal budget, paired by seed; positive is better."""

    cell: str
    reference: str
    gain: Interval
    p: float
    """Sign-flip p, Holm-corrected over the comparisons at this budget."""
    least_p: float
    """The smallest that this p could be with these numbers of seeds and comparisons."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """All that a study says about cost."""

    cells: tuple[CellCost, ...]
    pairs: tuple[PairCost, ...]
    budgets: tuple[EqualBudget, ...]


def costs(results: Results) -> Costs:
    """Work out what gains cost; parts that were not recorded are empty."""
    study = results.study
    columns = {one.name: one.unit for one in SPENT if one.name in results.runs}
    spent = {(c.id, column): results.by_seed(c.id, column) for c in study.cells for column in columns}
    worth = {(cell, column): _per_unit(results, cell, column, columns[column]) for cell, column in spent}
    return Costs(
        cells=tuple(
            CellCost(
                cell=cell,
                column=column,
                spent=mean_interval(list(values.values())),
                per_unit=mean_interval(list(worth[cell, column].values())),
            )
            for (cell, column), values in spent.items()
            if values
        ),
        pairs=tuple(
            PairCost(
                cell=cell,
                reference=reference,
                column=column,
                extra=_extra(spent[cell, column], spent[reference, column]),
                per_unit=gain_interval(
                    paired_gains(worth[cell, column], worth[reference, column], direction="maximize")
                ),
            )
            for cell, reference in study.comparisons
            for column in columns
        ),
        budgets=tuple(found for name in BUDGETS if (found := equal_budget(results, name)) is not None),
    )


def _per_unit(results: Results, cell: str, column: str, unit: float) -> dict[int, float]:
    """Seed → gain over the warm start per unit of the cost."""
    study = results.study
    sign = 1.0 if study.direction == "maximize" else -1.0
    last, start = results.by_seed(cell, study.metric), results.by_seed(cell, START + study.metric)
    spent = results.by_seed(cell, column)
    seeds = last.keys() & start.keys() & spent.keys()
    return {s: sign * (last[s] - start[s]) * unit / spent[s] for s in sorted(seeds) if spent[s] > 0}


def _extra(cell: Mapping[int, float], reference: Mapping[int, float]) -> Interval:
    return mean_interval([cell[s] / reference[s] - 1 for s in sorted(cell.keys() & reference.keys()) if reference[s]])


def equal_budget(results: Results, name: str) -> EqualBudget | None:
    """Compare the cells at the largest total of a cost that all runs reached.

    Args:
        results: the study.
        name: a budget of `BUDGETS`.

    Returns: None if its totals or the curves are not recorded, a total falls, or fewer than two cells spend any of it.
    """
    columns = list(BUDGETS[name])
    if not set(columns) <= set(results.curves):
        return None
    owners = results.complete.set_index("run")
    paths: dict[str, tuple[pd.Series, pd.Series]] = {}
    for run, curve in evaluations(results).items():
        later = of_run(results, run)[columns].dropna().astype(float).sum(axis=1).loc[1:]
        total = pd.Series([0.0, *later], index=[0, *later.index])
        if not total.is_monotonic_increasing:
            return None
        shared = curve.index.intersection(total.index)
        if total.iloc[-1] > 0 and len(shared) > 1:
            paths[run] = (total, curve.loc[shared])
    cells = {run: str(owners.at[run, "cell"]) for run in paths}
    if len(set(cells.values())) < 2:
        return None
    budget = min(float(total.loc[curve.index[-1]]) for total, curve in paths.values())
    values: dict[str, dict[int, float]] = {}
    steps: dict[str, list[float]] = {}
    for run, (total, curve) in paths.items():
        at = float(np.interp(budget, total.loc[curve.index], curve))
        values.setdefault(cells[run], {})[int(str(owners.at[run, "seed"]))] = at
        steps.setdefault(cells[run], []).append(float(np.interp(budget, total, total.index.to_numpy(dtype=float))))
    return EqualBudget(
        name=name,
        budget=budget,
        cells={cell: mean_interval(list(found.values())) for cell, found in values.items()},
        steps={cell: float(np.mean(found)) for cell, found in steps.items()},
        pairs=_pairs(results, values),
    )


def _pairs(results: Results, values: Mapping[str, Mapping[int, float]]) -> tuple[PairBudget, ...]:
    found = []
    for cell, reference in results.study.comparisons:
        pair = values.get(cell, {}), values.get(reference, {})
        if gains := paired_gains(*pair, direction=results.study.direction):
            found.append((cell, reference, gains))
    corrected = holm([sign_flip_p(gains) for *_, gains in found])
    least = holm([smallest_p(len(gains)) for *_, gains in found])
    return tuple(
        PairBudget(cell=cell, reference=reference, gain=gain_interval(gains), p=corrected[i], least_p=least[i])
        for i, (cell, reference, gains) in enumerate(found)
    )
