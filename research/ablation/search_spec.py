"""The search that a study file declares.

Each cell takes the values found at its own levels of some factors, so that every setting is compared at its own best
values. The search has seeds of its own, so that no reported run was used to find a value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from math import isfinite

from research.ablation.nodes import Nodes, covers
from research.ablation.seeds import check_seeds
from research.errors import UserError

COLUMNS = ("combination", "number", "value", "state")
"""Columns of a trial beside its parameters."""
PRUNERS = ("median", "none")
Factors = Mapping[str, Mapping[str, object]]
"""Factor → level → nodes."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A number of the config that is searched."""

    path: str
    """Its path in the config."""
    low: float
    high: float
    log: bool = False
    """True to search the range on a logarithmic scale."""
    integer: bool = False
    """True to try only whole numbers."""

    def holds(self, value: object) -> bool:
        """True for a number in the range."""
        return isinstance(value, (int, float)) and not isinstance(value, bool) and self.low <= value <= self.high


@dataclass(frozen=True, kw_only=True)
class SearchSpec:
    """The search that a study file declares."""

    parameters: Mapping[str, Parameter]
    """Name → the number that is searched."""
    seeds: list[int]
    """Seeds of every trial's runs; none of them is a seed of the study."""
    trials: int = 8
    """Trials at each place; the first one has the recipe's own values, if they are in range."""
    at: Sequence[str] = ()
    """Factors; each combination of their levels is a place, with the other factors at their baselines."""
    pruner: str = "median"
    """`median` ends a trial whose best evaluation is below the median of earlier trials; `none` ends no trial."""
    steps: int | None = None
    """Steps of a trial; None for as many as the study's runs have."""

    def where(self, levels: Mapping[str, str], factors: Factors) -> tuple[str, ...]:
        """A cell's levels of the factors of `at`; a factor without a level is at its baseline."""
        return tuple(levels.get(factor, next(iter(factors[factor]))) for factor in self.at)

    def nodes(self, values: Mapping[str, float]) -> Nodes:
        """Config path → value, from parameter → value."""
        return {self.parameters[name].path: value for name, value in values.items()}

    def paths(self, moved: Sequence[str]) -> Sequence[str]:
        """The searched paths at which two cells may differ, given the factors in which they differ."""
        return [one.path for one in self.parameters.values()] if set(moved) & set(self.at) else []

    @property
    def record(self) -> dict[str, object]:
        """The declaration as plain data."""
        return {**asdict(self), "at": list(self.at)}


def read_search(what: str, content: object, factors: Factors) -> SearchSpec:
    """The `search` of a study file, checked.

    Args:
        what: begins the sentence of an error.
        content: the node in the file.
        factors: the study's.

    Raises: UserError if a key is unknown or missing, or a value is out of range.
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


def _check_settings(what: str, content: Mapping[str, object], factors: Factors) -> None:
    where = content.get("at", [])
    if not isinstance(where, list) or len({*map(str, where)} & {*factors}) != len(where):
        raise UserError(f"{what}: at is a list of different factors ({', '.join(factors)}), got {where}")
    for key in ("trials", "steps"):
        count = content.get(key, 1)
        if type(count) is not int or count < 1:
            raise UserError(f"{what}: {key} is a whole number of at least 1, got {count}")
    if content.get("pruner", "median") not in PRUNERS:
        raise UserError(f"{what}: pruner is {' or '.join(PRUNERS)}, got {content['pruner']}")


def _check_apart(what: str, name: str, parameter: Parameter, factors: Factors) -> None:
    """Refuse a number that a factor sets too, and a name that another column of the table has."""
    if name in COLUMNS or name in factors:
        raise UserError(f"{what}: {name} is a column of its own in the search's table: give another name")
    for factor, levels in factors.items():
        touched = [path for nodes in levels.values() if isinstance(nodes, Mapping) for path in nodes]
        if any(covers(parameter.path, path) for path in touched):
            raise UserError(f"{what}: {name} and factor {factor} both set {parameter.path}: let one of them do it")


def _parameter(what: str, node: object) -> Parameter:
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
        raise UserError(f"{what}: low and high of an integer are whole numbers, got {one.low} and {one.high}")
    number = int if one.integer else float
    return replace(one, low=number(one.low), high=number(one.high))
