"""Designs: combine the levels of the factors into cells, and choose the cells that are compared."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise, product
from typing import ClassVar

from research.ablation.fractions import best_generators, best_of_resolution, fraction, read_generators
from research.errors import UserError

Factors = Mapping[str, Mapping[str, object]]
Words = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination of levels; it is run at every seed."""

    id: str
    """Position and name, unique in the study."""
    label: str
    """Its name in the report."""
    levels: Mapping[str, str]
    """Factor → level, for every factor."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two cells whose difference is reported: `cell` minus `reference`."""

    cell: str
    reference: str


Cells = tuple[list[Cell], list[Comparison]]


@dataclass(frozen=True, kw_only=True)
class Design(ABC):
    """Combines levels into cells. Its fields are its keys in a study file, which hold any YAML value until checked."""

    name: ClassVar[str]
    two_levels: ClassVar[bool] = True
    """True if every factor must have exactly two levels."""

    @abstractmethod
    def __call__(self, factors: Factors, baseline: str, words: Words) -> Cells:
        """The cells, and the comparisons between them.

        Args:
            factors: factor → levels, the first of which is the baseline.
            baseline: label of the cell with every factor at its baseline.
            words: factor → name of its change.

        Raises: UserError if a field has a value that it cannot have.
        """


def design_cells(
    design: str,
    factors: Factors,
    baseline: str,
    labels: Mapping[str, str] | None = None,
    options: Mapping[str, object] | None = None,
) -> Cells:
    """The cells of a design, and the comparisons between them.

    Args:
        design: `ladder` (factors changed one after the other and kept), `add_one_in` (one changed at a time),
            `leave_one_out` (all changed but one), `factorial` (every combination), `fractional` (a regular part of
            them) or `methods` (the levels of the one factor, which are whole recipes, against the first).
        factors: factor → levels, the first of which is the baseline; two each, but for a factorial and methods.
        baseline: label of the cell with every factor at its baseline.
        labels: factor → name of its change; a factor without one is called by its own name.
        options: the design's fields, such as a fraction's `generators`.

    Raises: UserError if the design is unknown, a factor has more levels than it can use, or an option is not its own.
    """
    if design not in DESIGNS:
        raise UserError(f"no design is called {design!r}; there are {', '.join(DESIGNS)}")
    kind, options = DESIGNS[design], options or {}
    known = [field.name for field in fields(kind)]
    if foreign := [option for option in options if option not in known]:
        raise UserError(f"a {design} takes no {foreign[0]}" + (f"; it takes {', '.join(known)}" if known else ""))
    if kind.two_levels:
        for factor, levels in factors.items():
            if len(levels) != 2:
                raise UserError(
                    f"a {design} needs factors of two levels, {factor} has {len(levels)}; use the factorial design"
                )
    words = {factor: (labels or {}).get(factor, factor.replace("_", " ")) for factor in factors}
    return kind(**options)(factors, baseline, words)


def _cell(index: int, label: str, levels: Mapping[str, str]) -> Cell:
    slug = re.sub(r"[^a-z0-9]+", "_", label.lower().replace("− ", "without ")).strip("_")
    return Cell(id=f"{index}-{slug}", label=label, levels=dict(levels))


def _ends(factors: Factors) -> tuple[dict[str, str], dict[str, str]]:
    return {f: next(iter(levels)) for f, levels in factors.items()}, {
        f: list(levels)[-1] for f, levels in factors.items()
    }


def _against_first(cells: Sequence[Cell]) -> list[Comparison]:
    return [Comparison(cell=cell.id, reference=cells[0].id) for cell in cells[1:]]


def _each_against_the_one_before(cells: Sequence[Cell]) -> list[Comparison]:
    return [Comparison(cell=cell.id, reference=before.id) for before, cell in pairwise(cells)]


def _only(levels: Mapping[str, str], factors: Sequence[str]) -> dict[str, str]:
    return {factor: levels[factor] for factor in factors}


def _of(cells: Sequence[Cell], levels: Mapping[str, str]) -> Cell:
    return next(cell for cell in cells if cell.levels == levels)


def _combination(index: int, levels: Mapping[str, str], base: Mapping[str, str], baseline: str, words: Words) -> Cell:
    moved = [f"{words[factor]} {level}" for factor, level in levels.items() if level != base[factor]]
    return _cell(index, ", ".join(moved) or baseline, levels)


@dataclass(frozen=True, kw_only=True)
class Ladder(Design):
    """Factors changed one after the other, each change kept; or all of them changed, and changed back one by one."""

    name = "ladder"

    order: object = None
    """A list of all the factors, in the order in which they are changed; None for the study file's."""
    direction: object = "up"
    """`up`, `down` (from all changes to none, in the same order) or `both` (the two ladders meet at their ends)."""

    def __call__(self, factors: Factors, baseline: str, words: Words) -> Cells:
        order = list(factors) if self.order is None else self.order
        if not isinstance(order, list) or sorted(map(str, order)) != sorted(factors):
            raise UserError(f"order is a list of every factor once ({', '.join(factors)}), got {order}")
        if self.direction not in ("up", "down", "both"):
            raise UserError(f"the direction of a ladder is up, down or both, got {self.direction}")
        base, changed = _ends(factors)
        up = [(f"+ {words[factor]}", {**base, **_only(changed, order[:k])}) for k, factor in enumerate(order, start=1)]
        down = [
            (f"− {words[factor]}", {**changed, **_only(base, order[:k])}) for k, factor in enumerate(order, start=1)
        ]
        bottom, top = (baseline, base), ("all changes", changed)
        rungs = {"up": [bottom, *up], "down": [top, *down[:-1], bottom], "both": [bottom, *up, *down[:-1]]}[
            self.direction
        ]
        cells = [_cell(index, label, levels) for index, (label, levels) in enumerate(rungs)]
        steps = _each_against_the_one_before(cells)
        if self.direction == "both" and len(order) > 1:
            steps += _each_against_the_one_before([cells[-1], cells[0]])
        whole = [Comparison(cell=_of(cells, changed).id, reference=_of(cells, base).id)] if len(order) > 1 else []
        return cells, steps + whole


@dataclass(frozen=True, kw_only=True)
class AddOneIn(Design):
    """Each factor changed alone."""

    name = "add_one_in"

    def __call__(self, factors: Factors, baseline: str, words: Words) -> Cells:
        levels, changed = _ends(factors)
        cells = [_cell(0, baseline, levels)]
        for index, factor in enumerate(factors, start=1):
            cells.append(_cell(index, f"+ {words[factor]} only", {**levels, factor: changed[factor]}))
        return cells, _against_first(cells)


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut(Design):
    """All factors changed, and all but each."""

    name = "leave_one_out"

    def __call__(self, factors: Factors, baseline: str, words: Words) -> Cells:
        levels, changed = _ends(factors)
        cells = [_cell(0, "all changes", changed)]
        for index, factor in enumerate(factors, start=1):
            cells.append(_cell(index, f"without {words[factor]}", {**changed, factor: levels[factor]}))
        return cells, _against_first(cells)


@dataclass(frozen=True, kw_only=True)
class Factorial(Design):
    """Every combination of levels."""

    name = "factorial"
    two_levels = False

    def __call__(self, factors: Factors, baseline: str, words: Words) -> Cells:
        base, _ = _ends(factors)
        choices = [dict(zip(factors, choice, strict=True)) for choice in product(*factors.values())]
        cells = [_combination(index, levels, base, baseline, words) for index, levels in enumerate(choices)]
        return cells, _against_first(cells)


@dataclass(frozen=True, kw_only=True)
class Fractional(Design):
    """A regular fraction of the two-level factorial that contains the cell of all baselines.

    Two of its cells differ in several factors, so there are no comparisons of pairs: effects are contrasts over all
    cells. Give exactly one of the three fields.
    """

    name = "fractional"

    generators: object = None
    """A list of texts such as `e = a * b * c * d`, in factors' names: the level of e follows from the others'."""
    resolution: object = None
    """A whole number, at least 3: the smallest fraction of at least this resolution."""
    runs: object = None
    """The best fraction of this number of cells, a power of 2."""

    def __call__(self, factors: Factors, baseline: str, words: Words) -> Cells:
        base, changed = _ends(factors)
        coded = fraction(list(factors), self._generators(list(factors)))
        cells = []
        for index, levels in enumerate(coded):
            chosen = {factor: changed[factor] if level else base[factor] for factor, level in levels.items()}
            cells.append(_combination(index, chosen, base, baseline, words))
        return cells, []

    def _generators(self, factors: Sequence[str]) -> Mapping[str, frozenset[str]]:
        given = [option for option in ("generators", "resolution", "runs") if getattr(self, option) is not None]
        if len(given) != 1:
            raise UserError(
                f"a fractional design takes one of generators, resolution and runs, got {', '.join(given) or 'none'}"
            )
        if self.generators is not None:
            if not isinstance(self.generators, list) or not self.generators:
                raise UserError("generators is a list such as [c = a * b], in factors' names")
            return read_generators(self.generators, factors)
        number = self.resolution if self.runs is None else self.runs
        if type(number) is not int or number < 3:
            raise UserError(f"{given[0]} is a whole number of at least 3, got {number}")
        return (best_of_resolution if self.runs is None else best_generators)(factors, number)


@dataclass(frozen=True, kw_only=True)
class Methods(Design):
    """The levels of one factor, whole recipes, against the first or each against the one before it."""

    name = "methods"
    two_levels = False

    against: object = "first"
    """The method that each one is compared with: the `first`, or the `previous` one if their order is a claim."""

    def __call__(self, factors: Factors, baseline: str, words: Words) -> Cells:
        if self.against not in ("first", "previous"):
            raise UserError(f"methods are compared against the first or the previous, got {self.against}")
        ((factor, levels),) = factors.items()
        cells = [_cell(index, level, {factor: level}) for index, level in enumerate(levels)]
        return cells, (_against_first if self.against == "first" else _each_against_the_one_before)(cells)


DESIGNS: Mapping[str, type[Design]] = {
    kind.name: kind for kind in (Ladder, AddOneIn, LeaveOneOut, Factorial, Fractional, Methods)
}
"""Design's name → its class."""
OPTIONS: Sequence[str] = tuple(dict.fromkeys(field.name for kind in DESIGNS.values() for field in fields(kind)))
"""Every key that some design takes from a study file."""
