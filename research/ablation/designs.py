"""Designs: how the levels of the factors are combined into cells, and which cells are compared."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

from research.errors import UserError

Factors = Mapping[str, Mapping[str, object]]
Words = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination of levels; it is run at every seed."""

    id: str
    """Position and name, unique in the study."""
    label: str
    """What the report calls it."""
    levels: Mapping[str, str]
    """Factor → level, every factor named."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two cells whose difference the study is about: `cell` minus `reference`."""

    cell: str
    reference: str


def design_cells(
    design: str, factors: Factors, baseline: str, labels: Mapping[str, str] | None = None
) -> tuple[list[Cell], list[Comparison]]:
    """The cells of a design and the comparisons that it allows.

    Args:
        design: `ladder` (factors changed one after the other and kept), `add_one_in` (one changed at a time),
            `leave_one_out` (all changed but one), `factorial` (every combination) or `methods` (the levels of the one
            factor, which are whole recipes, against the first).
        factors: factor → levels, the first of which is the baseline; two each, but for a factorial and methods.
        baseline: label of the cell with every factor at its baseline.
        labels: factor → what its change is called; its name, where there is none.

    Raises: UserError if the design is unknown, or a factor has more levels than it can use.
    """
    if design not in DESIGNS:
        raise UserError(f"no design is called {design!r}; there are {', '.join(DESIGNS)}")
    if design not in ("factorial", "methods"):
        for factor, levels in factors.items():
            if len(levels) != 2:
                raise UserError(
                    f"a {design} needs factors of two levels, {factor} has {len(levels)}; use the factorial design"
                )
    words = {factor: (labels or {}).get(factor, factor.replace("_", " ")) for factor in factors}
    return DESIGNS[design](factors, baseline, words)


def _cell(index: int, label: str, levels: Mapping[str, str]) -> Cell:
    slug = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")
    return Cell(id=f"{index}-{slug}", label=label, levels=dict(levels))


def _ends(factors: Factors) -> tuple[dict[str, str], dict[str, str]]:
    return {f: next(iter(levels)) for f, levels in factors.items()}, {
        f: list(levels)[-1] for f, levels in factors.items()
    }


def _ladder(factors: Factors, baseline: str, words: Words) -> tuple[list[Cell], list[Comparison]]:
    levels, changed = _ends(factors)
    cells = [_cell(0, baseline, levels)]
    for index, factor in enumerate(factors, start=1):
        levels = {**levels, factor: changed[factor]}
        cells.append(_cell(index, f"+ {words[factor]}", levels))
    steps = [Comparison(cell=cells[k].id, reference=cells[k - 1].id) for k in range(1, len(cells))]
    whole = [Comparison(cell=cells[-1].id, reference=cells[0].id)] if len(cells) > 2 else []
    return cells, steps + whole


def _add_one_in(factors: Factors, baseline: str, words: Words) -> tuple[list[Cell], list[Comparison]]:
    levels, changed = _ends(factors)
    cells = [_cell(0, baseline, levels)]
    for index, factor in enumerate(factors, start=1):
        cells.append(_cell(index, f"+ {words[factor]} only", {**levels, factor: changed[factor]}))
    return cells, [Comparison(cell=cell.id, reference=cells[0].id) for cell in cells[1:]]


def _leave_one_out(factors: Factors, baseline: str, words: Words) -> tuple[list[Cell], list[Comparison]]:
    levels, changed = _ends(factors)
    cells = [_cell(0, "all changes", changed)]
    for index, factor in enumerate(factors, start=1):
        cells.append(_cell(index, f"without {words[factor]}", {**changed, factor: levels[factor]}))
    return cells, [Comparison(cell=cell.id, reference=cells[0].id) for cell in cells[1:]]


def _factorial(factors: Factors, baseline: str, words: Words) -> tuple[list[Cell], list[Comparison]]:
    base, _ = _ends(factors)
    cells = []
    for index, choice in enumerate(product(*factors.values())):
        levels = dict(zip(factors, choice, strict=True))
        moved = [f"{words[factor]} {level}" for factor, level in levels.items() if level != base[factor]]
        cells.append(_cell(index, ", ".join(moved) or baseline, levels))
    return cells, [Comparison(cell=cell.id, reference=cells[0].id) for cell in cells[1:]]


def _methods(factors: Factors, baseline: str, words: Words) -> tuple[list[Cell], list[Comparison]]:
    ((factor, levels),) = factors.items()
    cells = [_cell(index, level, {factor: level}) for index, level in enumerate(levels)]
    return cells, [Comparison(cell=cell.id, reference=cells[0].id) for cell in cells[1:]]


DESIGNS: Mapping[str, Callable[[Factors, str, Words], tuple[list[Cell], list[Comparison]]]] = {
    "ladder": _ladder,
    "add_one_in": _add_one_in,
    "leave_one_out": _leave_one_out,
    "factorial": _factorial,
    "methods": _methods,
}
"""Design's name → cells and comparisons."""
