"""A numeric search inside a design: what a study file declares, where it is made, and the values it has found.

Each cell takes the values that were found at its own levels of some factors, so that a setting is compared at its best
and not at another setting's. The search has seeds of its own: what is found on them is reported on others.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from research.ablation.designs import Cell, design_cells
from research.ablation.nodes import Nodes, at, compose, covers
from research.ablation.seeds import check_seeds
from research.errors import UserError
from research.recipe import Recipe, parse
from research.recipe_file import read_yaml

if TYPE_CHECKING:
    from research.ablation.spec import StudySpec

FOUND = "search.yaml"
"""The file in a results folder that keeps what was found; later commands read it and search no more."""
COLUMNS = ("combination", "number", "value", "state")
"""What a trial has beside its parameters."""
PRUNERS = ("median", "none")


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A number of the config that is searched."""

    path: str
    """Where it stands in the config."""
    low: float
    high: float
    log: bool = False
    """Whether the range is searched on a logarithmic scale."""
    integer: bool = False
    """Whether only whole numbers are tried."""


@dataclass(frozen=True, kw_only=True)
class SearchSpec:
    """The search that a study file declares."""

    parameters: Mapping[str, Parameter]
    """Name → what is searched."""
    seeds: list[int]
    """Every trial is run at each; none of them is a seed of the study."""
    trials: int = 8
    """Trials at each combination; the first has the recipe's own values, if they are in range."""
    at: Sequence[str] = ()
    """Factors: one search at each combination of their levels, the others at their baselines; none for one search."""
    pruner: str = "median"
    """`median` ends a trial whose best evaluation is below the median of the earlier trials'; `none` ends none."""
    steps: int | None = None
    """Steps of a trial; None for the study's."""

    def where(self, levels: Mapping[str, str], factors: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
        """The levels of `at` that a cell has; a factor that is not named is at its baseline."""
        return tuple(levels.get(factor, next(iter(factors[factor]))) for factor in self.at)

    def nodes(self, values: Mapping[str, float]) -> Nodes:
        """Config path → value, from parameter → value."""
        return {self.parameters[name].path: value for name, value in values.items()}

    def paths(self, moved: Sequence[str]) -> Sequence[str]:
        """The paths at which cells may differ because of the search, if these factors differ between them."""
        return [one.path for one in self.parameters.values()] if set(moved) & set(self.at) else []

    @property
    def record(self) -> dict[str, Any]:
        """What is declared, as plain data."""
        return {**asdict(self), "at": list(self.at)}


@dataclass(frozen=True, kw_only=True)
class Place:
    """One combination of levels at which a search is made."""

    id: str
    """Position and name; names the folder of its trials."""
    levels: Mapping[str, str]
    """Factor of `at` → level."""
    recipe: Recipe
    """What a trial runs, with every parameter at its lower end."""
    own: Mapping[str, Any]
    """Parameter → what the recipe itself has there."""

    @property
    def words(self) -> str:
        """The combination in words."""
        return ", ".join(f"{factor.replace('_', ' ')} {level}" for factor, level in self.levels.items()) or "all cells"


def read_search(what: str, content: Any, factors: Mapping[str, Mapping[str, Any]]) -> SearchSpec:
    """The checked `search` of a study file.

    Args:
        what: begins the message of an error.
        content: what the file says.
        factors: the study's.

    Raises: UserError, one sentence, if a key is unknown or missing, or a value cannot be.
    """
    known = [field.name for field in fields(SearchSpec)]
    if not isinstance(content, dict) or not isinstance(content.get("parameters"), dict) or not content["parameters"]:
        raise UserError(f"{what} holds parameters (name: {{path, low, high}}) and seeds, got {content}")
    content = {key: value for key, value in content.items() if value is not None}
    if unknown := [key for key in content if key not in known]:
        raise UserError(f"{what} has no key {unknown[0]}; it takes {', '.join(known)}")
    if "seeds" not in content:
        raise UserError(f"{what}: seeds is missing: give seeds that the study does not report")
    check_seeds(f"{what}: seeds", content["seeds"])
    _check_settings(what, content, factors)
    parameters = {name: _parameter(f"{what}: {name}", node) for name, node in content["parameters"].items()}
    for name, parameter in parameters.items():
        _check_apart(what, name, parameter, factors)
    return SearchSpec(**{**content, "parameters": parameters})


def _check_settings(what: str, content: Mapping[str, Any], factors: Mapping[str, Any]) -> None:
    where = content.get("at", [])
    if not isinstance(where, list) or len({*map(str, where)} & {*factors}) != len(where):
        raise UserError(f"{what}: at is a list of different factors ({', '.join(factors)}), got {where}")
    for key in ("trials", "steps"):
        if key in content and (type(content[key]) is not int or content[key] < 1):
            raise UserError(f"{what}: {key} is a whole number of at least 1, got {content[key]}")
    if content.get("pruner", "median") not in PRUNERS:
        raise UserError(f"{what}: pruner is {' or '.join(PRUNERS)}, got {content['pruner']}")


def _check_apart(what: str, name: str, parameter: Parameter, factors: Mapping[str, Mapping[str, Any]]) -> None:
    """A searched number is no factor's, and its name no column's."""
    if name in COLUMNS or name in factors:
        raise UserError(f"{what}: {name} is a column of its own in the search's table: give another name")
    for factor, levels in factors.items():
        touched = [path for nodes in levels.values() if isinstance(nodes, Mapping) for path in nodes]
        if any(covers(parameter.path, path) for path in touched):
            raise UserError(f"{what}: {name} and factor {factor} both set {parameter.path}: let one of them do it")


def _parameter(what: str, node: Any) -> Parameter:
    known = [field.name for field in fields(Parameter)]
    if not isinstance(node, dict) or not {"path", "low", "high"} <= set(node) <= set(known):
        raise UserError(f"{what} is {{path, low, high}}, and log and integer if they are true, got {node}")
    for key in ("low", "high"):
        if type(node[key]) not in (int, float) or not isfinite(node[key]):
            raise UserError(f"{what}: {key} is a number, got {node[key]!r}")
    if any(type(node.get(key, False)) is not bool for key in ("log", "integer")):
        raise UserError(f"{what}: log and integer are true or false, got {node}")
    one = Parameter(**node)
    if one.low >= one.high:
        raise UserError(f"{what}: low is below high, got {one.low} and {one.high}")
    if one.log and one.low <= 0:
        raise UserError(f"{what}: a logarithmic range begins above 0, got {one.low}")
    if one.integer and not (float(one.low).is_integer() and float(one.high).is_integer()):
        raise UserError(f"{what}: whole numbers lie between whole numbers, got {one.low} and {one.high}")
    number = int if one.integer else float
    return replace(one, low=number(one.low), high=number(one.high))


def places(spec: "StudySpec", search: SearchSpec, overrides: Mapping[str, Any] | None = None) -> list[Place]:
    """Where the study searches, each with the recipe of its trials; both ends of every range are parsed.

    Raises: UserError if a searched path is not in the config, is replaced from the command line, or cannot take the
        ends of its range, or if the study reports a seed that is searched on.
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


def _levels(spec: "StudySpec", search: SearchSpec) -> list[dict[str, str]]:
    """The combinations of the levels of `at` that the design's cells have."""
    cells, _ = design_cells(spec.design, spec.factors, spec.baseline, spec.labels, spec.options)
    there = dict.fromkeys(search.where(cell.levels, spec.factors) for cell in cells)
    return [dict(zip(search.at, levels, strict=True)) for levels in there]


def _parsed(what: str, config: Mapping[str, Any], values: Mapping[str, float]) -> Recipe:
    try:
        return parse(dict(config))
    except UserError as error:
        raise UserError(f"{what} cannot try {_values(values)}: {error}") from error


def with_found(
    spec: "StudySpec", cells: Sequence[Cell], searched: Sequence[Place], folder: Path
) -> tuple["StudySpec", Sequence[Cell]]:
    """The study and its cells with the values that its results folder keeps; as they are, before there are any.

    Raises: UserError if the values were found by a search that this one is not.
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
            f"{path} was found by another search, or with other settings: delete it to search on if only trials has "
            "changed, or else give another folder with --output"
        )
    found = {tuple(one["levels"].values()): one["values"] for one in content["found"].values()}
    if not spec.search.at:
        return replace(spec, found=found), cells
    labels = {cell.id: _values(found[spec.search.where(cell.levels, spec.factors)]) for cell in cells}
    return replace(spec, found=found), [replace(cell, label=f"{cell.label} ({labels[cell.id]})") for cell in cells]


def search_lines(spec: "StudySpec") -> list[str]:
    """What a study searches and has found, a line each; none if it does not search."""
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


def guarantee(spec: "StudySpec") -> list[str]:
    """What a study says of its search among what it proves; nothing before the search, or without one."""
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
