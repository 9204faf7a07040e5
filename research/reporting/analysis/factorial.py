"""Main effects and two-way interactions of a factorial design, full or a regular fraction of it, paired by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import nan, prod, sqrt

import numpy as np
from scipy import stats

from research.ablation.designs import Cell
from research.ablation.fractions import aliases_of
from research.statistics import (
    Direction,
    Interval,
    gain_interval,
    holm,
    mean_squares,
    sign_flip_p,
    smallest_p,
)

FACTORIALS = ("factorial", "fractional")
"""Designs whose effects are contrasts over all cells."""


@dataclass(frozen=True, kw_only=True)
class FactorEffect:
    """The effect of one level against its factor's first level, or how two such effects depend on each other."""

    name: str
    gain: Interval
    """Positive is better."""
    p: float
    """Sign-flip p, Holm-corrected over all the effects of the design."""
    least_p: float
    """The smallest that this p could be with these numbers of seeds and effects."""
    pooled: Interval
    """The effect over the seeds that completed every cell, its error pooled over the design: see `pooled_effects`."""
    pooled_p: float | None
    """Of the pooled effect by Student's t, Holm-corrected; None if fewer than two seeds completed every cell."""


def factor_effects(
    cells: Sequence[Cell], values: Mapping[str, Mapping[int, float]], *, direction: Direction
) -> tuple[FactorEffect, ...]:
    """Every main effect, and every two-way interaction that the design can tell from the others.

        effect(b)      = 2/|C| Σ_{c∈C} x_b(c) m_c,           x_b(c) = 1 at level b, −1 at the factor's first level
        effect(b × d)  = 2/|C| Σ_{c∈C} x_b(c) x_d(c) m_c,    half of how much d's level changes the effect of b

    C holds the cells whose levels are b, d or their factors' first ones. Each seed gives one effect; only seeds with
    all the cells of C count. In a fraction the same contrast estimates a sum: a main effect is named with the main
    effects and two-way interactions that it is aliased with, and an interaction is left out unless it is clear of them.

    Args:
        cells: the design's cells; all combinations of at least two factors' levels, each once, or a regular fraction
            of two levels.
        values: cell id to seed to metric.
        direction: which way is better.

    Returns: main effects, then interactions; empty if the cells are neither, and without the effects that no seed has
        all cells for.

    Source: Box, Hunter and Hunter 2005, Statistics for Experimenters, §5.
    """
    levels = {f: list(dict.fromkeys(cell.levels[f] for cell in cells if f in cell.levels)) for f in cells[0].levels}
    distinct = {tuple(sorted(cell.levels.items())) for cell in cells}
    whole = len(distinct) == len(cells) == prod(len(names) for names in levels.values())
    aliases = None if whole else aliases_of(cell.levels for cell in cells)
    if len(levels) < 2 or not (whole or aliases):
        return ()
    changes = [(factor, level) for factor, names in levels.items() for level in names[1:]]
    pairs = [(one, other) for one, other in combinations(changes, 2) if one[0] != other[0]]
    found = []
    for terms in [*((change,) for change in changes), *pairs]:
        effect, name = frozenset(f for f, _ in terms), " × ".join(f"{f} = {level}" for f, level in terms)
        if aliases and len(terms) == 2 and not aliases.clear(effect):
            continue
        contrast = _contrast(cells, {f: (levels[f][0], level) for f, level in terms}, direction)
        if gains := _gains(contrast, values):
            found.append((name + (aliases.sum_of(effect) if aliases else ""), gains, contrast))
    p, least = (holm([test(gains) for _, gains, _ in found]) for test in (sign_flip_p, lambda g: smallest_p(len(g))))
    pooled = pooled_effects(cells, values, [contrast for *_, contrast in found])
    pooled_p = iter(holm([one for _, one in pooled if one is not None]))
    return tuple(
        FactorEffect(
            name=name,
            gain=gain_interval(gains),
            p=p[i],
            least_p=least[i],
            pooled=pooled[i][0],
            pooled_p=None if pooled[i][1] is None else next(pooled_p),
        )
        for i, (name, gains, _) in enumerate(found)
    )


def pooled_effects(
    cells: Sequence[Cell], values: Mapping[str, Mapping[int, float]], contrasts: Sequence[Mapping[str, float]]
) -> list[tuple[Interval, float | None]]:
    """Effects with one error for all of them: that of the regression on cells with the seeds as blocks.

        m_{c,s} = μ_c + β_s + ε_{c,s}
        effect  = Σ_c w_c μ̂_c ± t · √( MS_ε Σ_c w_c² / S ),   (C − 1)(S − 1) degrees of freedom

    More degrees of freedom than the effect's own S − 1, at the price of an assumption: that runs scatter alike in every
    cell, and effects as little over seeds as that scatter explains.

    Args:
        cells: the design's cells.
        values: cell id to seed to metric.
        contrasts: cell id to weight w, one mapping an effect.

    Returns: interval and uncorrected p of every effect, over the seeds that completed every cell; no interval and None
        with fewer than two.

    Source: Box, Hunter and Hunter 2005, Statistics for Experimenters, §4 (randomized blocks).
    """
    seeds = sorted(set.intersection(*(set(values[cell.id]) for cell in cells)))
    table = np.array([[values[cell.id][seed] for cell in cells] for seed in seeds]).reshape(len(seeds), len(cells))
    found: list[tuple[Interval, float | None]] = []
    for contrast in contrasts:
        weights = np.array([contrast.get(cell.id, 0.0) for cell in cells])
        n, freedom = len(seeds), (len(seeds) - 1) * (len(cells) - 1)
        mean = float(table.mean(0) @ weights) if n else nan
        if n < 2:
            found.append((Interval(mean=mean, low=None, high=None, n=n), None))
            continue
        error = sqrt(mean_squares(table)[2] * float(weights @ weights) / n)
        half = float(stats.t.ppf(0.975, freedom)) * error
        p = float(2 * stats.t.sf(abs(mean) / error, freedom)) if error else float(mean == 0)
        found.append((Interval(mean=mean, low=mean - half, high=mean + half, n=n), p))
    return found


def _contrast(cells: Sequence[Cell], terms: Mapping[str, tuple[str, str]], direction: Direction) -> dict[str, float]:
    """Cell id to weight, of the cells with the terms' levels."""
    chosen = [cell for cell in cells if all(cell.levels[f] in ends for f, ends in terms.items())]
    scale = (2.0 if direction == "maximize" else -2.0) / len(chosen)
    return {
        cell.id: scale * prod(1 if cell.levels[f] == second else -1 for f, (_, second) in terms.items())
        for cell in chosen
    }


def _gains(contrast: Mapping[str, float], values: Mapping[str, Mapping[int, float]]) -> list[float]:
    """The effect at every seed that has all the cells of the contrast."""
    seeds = sorted(set.intersection(*(set(values[cell]) for cell in contrast)))
    return [sum(weight * values[cell][seed] for cell, weight in contrast.items()) for seed in seeds]
