"""What every study proves of itself: a comparison changes what it names, and no change changes nothing."""

import tempfile
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from research.ablation.designs import Cell
from research.ablation.nodes import covers, differences
from research.ablation.spec import StudySpec
from research.config import Recipe
from research.errors import UserError
from research.fit import fit
from research.tracking import merged_steps, replace_text

STEPS = 2
"""Steps of the run that is made twice."""


def check_single_changes(spec: StudySpec, cells: Sequence[Cell], recipes: Mapping[str, Recipe]) -> list[str]:
    """Every pair of cells differs, in its resolved configs, at the nodes of the factors that differ and nowhere else.

    Args:
        spec: the study; its factors name the nodes.
        cells: the design's.
        recipes: cell id → its resolved recipe.

    Returns: what holds, in sentences. Two levels that resolve to one config are named: their difference is noise.

    Raises: UserError naming the first path that no factor accounts for.
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
                    f"cells {reference.id} and {cell.id} also differ at {path}, which none of their factors names"
                )
        for factor, names in named.items():
            if not any(covers(name, path) for name in names for path in paths):
                levels = sorted((reference.levels[factor], cell.levels[factor]), key=list(spec.factors[factor]).index)
                same.append(f"The levels {' and '.join(levels)} of {factor} are one config: their difference is noise.")
    pairs = len(cells) * (len(cells) - 1) // 2
    changes = "each of which changes something" if not same else "each of which changes something, but for those below"
    return [
        f"The resolved configs of all {pairs} pairs of cells differ exactly at the nodes of the factors that differ, "
        f"{changes}.",
        *dict.fromkeys(same),
    ]


def _nodes(spec: StudySpec, factor: str, level: str) -> Mapping[str, Any]:
    nodes = spec.factors[factor][level]
    assert isinstance(nodes, Mapping), "a level of whole recipes names no nodes"
    return nodes


def check_baseline(base: Recipe, baseline: Recipe) -> str:
    """The config with every factor at its first level is the base recipe with what is held, node for node.

    Returns: that it is, in a sentence.

    Raises: UserError naming where the first levels leave the base recipe.
    """
    if moved := differences(base.config, baseline.config):
        raise UserError(f"the first levels change {moved[0]} of the base recipe: hold what they say, so that none does")
    return f"With every factor at its first level a cell is the base recipe with what is held (config {base.digest})."


def null_of(folder: Path, base: Recipe, baseline: Recipe) -> str:
    """What `check_null` says, found once for each results folder and kept there."""
    path = folder / "cells" / f"null-{base.digest}.txt"
    if not path.exists():
        replace_text(path, check_null(base, baseline))
    return path.read_text()


def check_null(base: Recipe, baseline: Recipe, *, steps: int = STEPS) -> str:
    """Run the base recipe and the baseline cell for a few steps each, and compare what they measured, bit for bit.

    Args:
        base: the base recipe with what is held, at the study's first seed.
        baseline: the cell with every factor at its first level, at that seed.
        steps: steps of each run.

    Returns: what was seen, in a sentence. Off the CPU nothing is run, as kernels there need not repeat themselves.
    """
    if base.config["trainer"]["accelerator"] != "cpu":
        return "The baseline was not run twice: off the CPU a run need not repeat itself bit for bit."
    with tempfile.TemporaryDirectory() as folder:
        configs = [_short(recipe.config, steps) for recipe in (base, baseline)]
        one, other = (_measure(Recipe(config=config), Path(folder) / str(k)) for k, config in enumerate(configs))
    if moved := sorted({key for step in one.keys() | other.keys() for key in _unequal(one.get(step), other.get(step))}):
        return f"The baseline cell does not reproduce the base recipe over {steps} steps: {', '.join(moved)} differ."
    count = len({key for metrics in one.values() for key in metrics})
    return (
        f"Over {steps} steps the baseline cell and the base recipe, run apart at one seed, gave the same {count} "
        "metrics bit for bit."
    )


def _short(config: Mapping[str, Any], steps: int) -> dict[str, Any]:
    run = {**config["run"], "steps": steps, "tokens": None, "seconds": None, "save_policy": False}
    short = {**config, "run": {**run, "evaluate_every": steps, "checkpoint_every": steps}}
    return {**short, "after": _short(config["after"], steps)} if config.get("after") else short


def _measure(recipe: Recipe, folder: Path) -> dict[int, dict[str, float]]:
    """Every metric of a run but its times and its memory, by step."""
    fit(recipe, folder)
    return {
        step: {key: value for key, value in metrics.items() if not key.startswith(("time/", "memory/"))}
        for step, metrics in merged_steps(folder).items()
    }


def _unequal(one: Mapping[str, float] | None, other: Mapping[str, float] | None) -> list[str]:
    one, other = one or {}, other or {}
    return [key for key in one.keys() | other.keys() if repr(one.get(key)) != repr(other.get(key))]
