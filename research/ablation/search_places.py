"""The places of a study's search: combinations of levels, and the values found at each."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from research.ablation.designs import Cell, design_cells
from research.ablation.nodes import Config, Nodes, at, compose, covers
from research.ablation.search_spec import SearchSpec
from research.ablation.spec import StudySpec
from research.errors import UserError
from research.recipe import Recipe, parse
from research.yaml_file import read_yaml

FOUND = "search.yaml"
"""Name of the file in a results folder with the values found; later commands read it and do not search again."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A combination of levels with a search of its own."""

    id: str
    """Position and name; also the name of the folder of its trials."""
    levels: Mapping[str, str]
    """Factor of `at` → level."""
    recipe: Recipe
    """The recipe of its trials, with every parameter at its lower end."""
    own: Mapping[str, object]
    """Parameter → the recipe's own node there."""

    @property
    def words(self) -> str:
        """The combination in words."""
        return ", ".join(f"{factor.replace('_', ' ')} {level}" for factor, level in self.levels.items()) or "all cells"


def places(spec: StudySpec, search: SearchSpec, overrides: Nodes | None = None) -> list[Place]:
    """The places of the study's search, each with the recipe of its trials; both ends of every range are checked.

    Args:
        spec: the study.
        search: its search.
        overrides: nodes replaced from the command line.

    Raises: UserError if a searched path is not in the config, is replaced from the command line, or cannot take the
        ends of its range, or if a seed of the search is one of the study's.
    """
    what = f"{spec.path}: search"
    if shared := sorted(set(spec.seeds) & set(search.seeds)):
        raise UserError(f"{what} uses seed {shared[0]}, which is reported too: give the search seeds of its own")
    for one in search.parameters.values():
        if given := [path for path in overrides or {} if covers(path, one.path) or covers(one.path, path)]:
            raise UserError(f"{given[0]} is searched by this study: leave it out of the command, or out of search")
    budget = {"run.steps": search.steps} if search.steps else {}
    found = []
    for index, levels in enumerate(_levels(spec, search)):
        config = spec.config(levels, search.seeds[0], overrides)
        ends = [{name: getattr(one, end) for name, one in search.parameters.items()} for end in ("low", "high")]
        low, _ = (_parsed(what, compose(config, {**search.nodes(end), **budget}, what), end) for end in ends)
        low.config["run"]["save_policy"] = False
        own = {name: at(config, one.path) for name, one in search.parameters.items()}
        slug = re.sub(r"[^a-z0-9]+", "_", "_".join([*levels, *levels.values()]).lower()).strip("_")
        found.append(Place(id=f"{index}-{slug or 'all'}", levels=levels, recipe=low, own=own))
    return found


def _levels(spec: StudySpec, search: SearchSpec) -> list[dict[str, str]]:
    """The combinations of the levels of `at` that the design's cells have."""
    cells, _ = design_cells(spec.design, spec.factors, spec.baseline, spec.labels, spec.options)
    there = dict.fromkeys(search.where(cell.levels, spec.factors) for cell in cells)
    return [dict(zip(search.at, levels, strict=True)) for levels in there]


def _parsed(what: str, config: Config, values: Mapping[str, float]) -> Recipe:
    try:
        return parse(dict(config))
    except UserError as error:
        raise UserError(f"{what} cannot try {_values(values)}: {error}") from error


def with_found(
    spec: StudySpec, cells: Sequence[Cell], searched: Sequence[Place], folder: Path
) -> tuple[StudySpec, Sequence[Cell]]:
    """The study and its cells with the values in its results folder; unchanged, before the search was made.

    Args:
        spec: the study.
        cells: its design's.
        searched: the places of its search.
        folder: its results folder.

    Raises: UserError if the values were found by another search than the study's.
    """
    path = folder / FOUND
    if spec.search is None or not path.exists():
        return spec, cells
    content = read_yaml(path)
    declared = {key: content.get(key) for key in spec.search.record}
    if declared != spec.search.record or {id_: one["config"] for id_, one in content["found"].items()} != {
        place.id: place.recipe.digest for place in searched
    }:
        raise UserError(
            f"{path} comes from another search, or other settings: delete it to continue the search if only trials has "
            "changed, or else give another folder with --output"
        )
    found = {tuple(one["levels"].values()): one["values"] for one in content["found"].values()}
    if not spec.search.at:
        return replace(spec, found=found), cells
    labels = {cell.id: _values(found[spec.search.where(cell.levels, spec.factors)]) for cell in cells}
    return replace(spec, found=found), [replace(cell, label=f"{cell.label} ({labels[cell.id]})") for cell in cells]


def search_lines(spec: StudySpec) -> list[str]:
    """The search of a study and the values found, in lines for the terminal; empty without a search."""
    if (search := spec.search) is None:
        return []
    combinations, seeds = _levels(spec, search), len(search.seeds)
    lines = []
    for name, one in search.parameters.items():
        kind = " on a logarithmic scale" * one.log + ", whole numbers" * one.integer
        lines.append(f"searches {name} ({one.path}) in [{one.low:g}, {one.high:g}]{kind}")
    of = f"at {len(combinations)} combinations of {', '.join(search.at)}" if search.at else "once for all cells"
    lines.append(
        f"{of}: {search.trials} trials × {seeds} {'seed' if seeds == 1 else 'seeds'}, "
        f"{len(combinations) * search.trials * seeds} runs"
        + (f" of {search.steps} steps" if search.steps else "")
        + ("; a trial below the median of the earlier ones is ended" if search.pruner == "median" else "")
    )
    for levels, values in spec.found.items():
        lines.append(f"found for {', '.join(levels) or 'all cells'}: {_values(values)}")
    return lines


def guarantee(spec: StudySpec) -> list[str]:
    """The sentence about the search among a study's guarantees; empty before the search, or without one."""
    if spec.search is None or not spec.found:
        return []
    paths = ", ".join(one.path for one in spec.search.parameters.values())
    seeds = ", ".join(map(str, spec.search.seeds))
    shared = "cells of equal " + ", ".join(spec.search.at) if spec.search.at else "all cells"
    return [
        f"{paths}: as found on {'seed' if len(spec.search.seeds) == 1 else 'seeds'} {seeds}, which no run of the study "
        f"has; the same in {shared}, and in the base recipe that the baseline is checked against."
    ]


def _values(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in values.items())
