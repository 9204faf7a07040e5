"""Checks of a study's configs: cells differ only where their levels say so, and the baseline is the base recipe."""

from collections.abc import Mapping, Sequence
from itertools import combinations

from research.ablation.designs import Cell
from research.ablation.nodes import Nodes, covers, differences
from research.ablation.spec import StudySpec
from research.errors import UserError
from research.recipe import Recipe


def check_single_changes(spec: StudySpec, cells: Sequence[Cell], recipes: Mapping[str, Recipe]) -> list[str]:
    """Check that the resolved configs of two cells differ only at the nodes of the factors in which the cells differ.

    Args:
        spec: the study; its factors name the nodes.
        cells: the design's; every pair is checked.
        recipes: cell id → its resolved recipe.

    Returns: the result in sentences. One names each two levels that resolve to the same config, since any difference
        between them is noise.

    Raises: UserError that names the first other path.
    """
    same: list[str] = []
    for reference, cell in combinations(cells, 2):
        moved = [factor for factor in spec.factors if cell.levels[factor] != reference.levels[factor]]
        named = {factor: list(_nodes(spec, factor, cell.levels[factor])) for factor in moved}
        paths = differences(recipes[reference.id].config, recipes[cell.id].config)
        found = spec.search.paths(moved) if spec.search else []
        for path in paths:
            if not any(covers(name, path) for names in [*named.values(), found] for name in names):
                raise UserError(
                    f"cells {reference.id} and {cell.id} also differ at {path}, which none of their factors names: "
                    "hold it, or name it in the levels of a factor"
                )
        for factor, names in named.items():
            if not any(covers(name, path) for name in names for path in paths):
                levels = sorted((reference.levels[factor], cell.levels[factor]), key=list(spec.factors[factor]).index)
                same.append(f"The levels {' and '.join(levels)} of {factor} are one config: their difference is noise.")
    pairs = len(cells) * (len(cells) - 1) // 2
    of = f"all {pairs} pairs of cells differ" if pairs > 1 else "the two cells differ"
    changes = "each of which changes something" if not same else "each of which changes something, but for those below"
    return [
        f"The resolved configs of {of} exactly at the nodes of the factors that differ, {changes}.",
        *dict.fromkeys(same),
    ]


def _nodes(spec: StudySpec, factor: str, level: str) -> Nodes:
    nodes = spec.factors[factor][level]
    assert isinstance(nodes, Mapping), "a level of whole recipes names no nodes"
    return nodes


def check_baseline(base: Recipe, baseline: Recipe) -> str:
    """Check that the config with every factor at its first level is the base recipe with the held nodes.

    Args:
        base: the base recipe with the held nodes.
        baseline: the cell with every factor at its first level.

    Returns: the result in a sentence.

    Raises: UserError that names the first path at which they differ.
    """
    if moved := differences(base.config, baseline.config):
        raise UserError(f"the first levels change {moved[0]} of the base recipe: write their value under hold too")
    return f"With every factor at its first level a cell is the base recipe with what is held (config {base.digest})."
