"""Main effects and two-way interactions of a factorial design, full or a regular fraction of it, paired by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod

from research.ablation.designs import Cell
from research.ablation.fractions import aliases_of
from research.reporting.statistics import Direction, Interval, holm, mean_interval, sign_flip_p


@dataclass(frozen=True, kw_only=True)
class FactorEffect:
    """The effect of one level against its factor's first level, or how two such effects depend on each other."""

    name: str
    gain: Interval
    """Positive is better."""
    p: float
    """Sign-flip p, Holm-corrected over all the effects of the design."""


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
        gains = _contrast(cells, values, {f: (levels[f][0], level) for f, level in terms}, direction)
        if gains:
            found.append((name + (aliases.sum_of(effect) if aliases else ""), gains))
    corrected = holm([sign_flip_p(gains) for _, gains in found])
    named = zip(found, corrected, strict=True)
    return tuple(FactorEffect(name=name, gain=mean_interval(gains), p=p) for (name, gains), p in named)


def _contrast(
    cells: Sequence[Cell],
    values: Mapping[str, Mapping[int, float]],
    terms: Mapping[str, tuple[str, str]],
    direction: Direction,
) -> list[float]:
    """One contrast per seed that has all the cells with the terms' levels."""
    chosen = [cell for cell in cells if all(cell.levels[f] in ends for f, ends in terms.items())]
    seeds = sorted(set.intersection(*(set(values[cell.id]) for cell in chosen)))
    scale = (2.0 if direction == "maximize" else -2.0) / len(chosen)
    signs = [prod(1 if cell.levels[f] == second else -1 for f, (_, second) in terms.items()) for cell in chosen]
    return [scale * sum(x * values[c.id][seed] for x, c in zip(signs, chosen, strict=True)) for seed in seeds]
