"""The study file: base recipe, factors, levels, design, seeds, metric; all of it checked before anything runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from research.ablation.designs import OPTIONS
from research.ablation.nodes import Nodes, compose, covers
from research.ablation.scale import Scale, read_scale
from research.ablation.search_spec import SearchSpec, read_search
from research.ablation.seeds import check_seeds
from research.errors import UserError
from research.recipe_file import read_recipe
from research.shipped import shipped_file
from research.yaml_file import read_yaml

METHODS = "methods"
"""The design whose one factor has whole recipes as its levels."""


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """One ablation study, as its file says it."""

    name: str
    """The file's stem; names the results folder."""
    path: str
    """The study file."""
    question: str
    """The study's question."""
    base: str
    """The recipe that every cell starts from, relative to the study file; in a comparison of methods, the first one."""
    design: str
    """Name of the rule that combines levels into cells: see `research.ablation.designs`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the design, such as a fraction's `generators`; in the file they stand beside `design`."""
    seeds: list[int]
    """Replications: every cell is run at every seed."""
    metric: Mapping[str, Any]
    """`name` of the metric, `direction`: maximize or minimize, and perhaps the `threshold` that steps count up to."""
    factors: Mapping[str, Mapping[str, Nodes | str]]
    """Factor → level → nodes, or, in a comparison of methods, a recipe file; the first level is the baseline."""
    hold: Nodes = field(default_factory=dict)
    """Nodes replaced in every cell, for what the base recipe has and the study is not about."""
    baseline: str = "base"
    """Label of the cell with every factor at its first level."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Factor → what a report calls its change; a factor without one is called by its name."""
    paper: str | list[str] | None = None
    """The papers' tables, relative to the study file, `file` or `file#model/metric`; the first stands beside ours."""
    scale: str = ""
    """Model, data and budget, in words, for the report."""
    overlay: Scale | None = None
    """The scale that the study is laid out at; None for the study file's own."""
    search: SearchSpec | None = None
    """Numbers that are searched before the cells are run; None for no search."""
    found: Mapping[tuple[str, ...], Mapping[str, float]] = field(default_factory=dict)
    """Levels of the factors that the search is made at → parameter → what was found; empty before that."""
    left_out: Sequence[str] = ()
    """Levels that the scale cannot have, each with the reason."""

    @property
    def papers(self) -> list[str]:
        """The papers' tables, however many."""
        return [self.paper] if isinstance(self.paper, str) else self.paper or []

    @property
    def base_config(self) -> dict[str, Any]:
        """The base recipe with `hold` and the scale's nodes in place.

        Raises: UserError if the recipe cannot be read or lacks a held path.
        """
        return self._held(self.base)

    def _held(self, recipe: str) -> dict[str, Any]:
        config = compose(read_recipe([self.resolved(recipe)]), self.hold, "hold")
        return compose(config, self.overlay.nodes, self.overlay.path) if self.overlay else config

    def resolved(self, relative: str) -> Path:
        """A path written in the study file, from here; in a copy of a study elsewhere, the file of the package."""
        name, mark, choice = relative.partition("#")
        path = (Path(self.path).parent / name).resolve()
        there = path if path.exists() else shipped_file(name) or path
        return Path(f"{there}{mark}{choice}")

    def config(self, levels: Mapping[str, str], seed: int, overlays: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One run's config: what is held, the nodes of each factor's level, the scale, what is found, its seed."""
        config = self.base_config
        for factor, level in levels.items():
            nodes, what = self.factors[factor][level], f"factor {factor}, level {level}"
            config = self._held(nodes) if isinstance(nodes, str) else compose(config, nodes, what)
        if self.overlay:
            config = self.overlay.adapt(config)
        if self.search and (found := self.found.get(self.search.where(levels, self.factors))):
            config = compose(config, self.search.nodes(found), "search")
        config = compose(config, overlays or {}, "override")
        config["model"]["seed"] = seed
        return config


_KEYS = {
    "question",
    "base",
    "design",
    "seeds",
    "metric",
    "factors",
    "hold",
    "baseline",
    "labels",
    "paper",
    "scale",
    "search",
}
_KEYS |= set(OPTIONS)
_REQUIRED = ("question", "base", "design", "seeds", "metric", "factors")


def read_study(path: Path) -> StudySpec:
    """A checked study file.

    Raises: UserError, one sentence, if a key is unknown or missing, a factor has fewer than two levels, a level's name
        is not text, the levels of a factor touch different paths, or two factors touch one path.
    """
    content = {key: value for key, value in read_yaml(path).items() if value is not None}
    if content.get("design") == METHODS:
        content["base"] = _first_method(path, content)
    if unknown := sorted(str(key) for key in content if key not in _KEYS):
        raise UserError(f"{path}: no key is called {unknown[0]}; a study has {', '.join(sorted(_KEYS))}")
    if missing := [key for key in _REQUIRED if key not in content]:
        raise UserError(f"{path}: {missing[0]} is missing")
    check_seeds(f"{path}: seeds", content["seeds"])
    _check_metric(path, content["metric"])
    if content["design"] != METHODS:
        _check_factors(path, content["factors"])
    for key in ("hold", "labels"):
        if not isinstance(content.get(key, {}), dict):
            raise UserError(f"{path}: {key} holds keys, each with its value")
    if unknown := sorted(set(content.get("labels", {})) - set(content["factors"])):
        raise UserError(f"{path}: labels names {unknown[0]}, which is not a factor")
    if "search" in content:
        content["search"] = read_search(f"{path}: search", content["search"], content["factors"])
    options = {key: content.pop(key) for key in OPTIONS if key in content}
    return StudySpec(name=path.stem, path=str(path), options=options, **content)


def at_scale(spec: StudySpec, path: Path) -> StudySpec:
    """The study at another scale, in a results folder of its own.

    Args:
        spec: a study at its own scale.
        path: the scale's file.

    Raises: UserError if the file is wrong, or the study cannot do without what the scale lacks.
    """
    scale = read_scale(path)
    if scale.seeds is not None:
        check_seeds(f"{path}: seeds", scale.seeds)
    factors, left_out = {}, []
    for factor, levels in spec.factors.items():
        levels = {**levels, **_replaced(path, factor, levels, scale.factors.get(factor, {}))}
        lost = {}
        for level, nodes in levels.items():
            there = read_recipe([spec.resolved(nodes)]) if isinstance(nodes, str) else nodes
            if (reason := scale.lacking(there)) is not None:
                lost[level] = reason
        factors[factor] = {level: nodes for level, nodes in levels.items() if level not in lost}
        if len(factors[factor]) < 2:
            raise UserError(f"{path}: {factor} has fewer than two levels here; {'; '.join(lost.values())}")
        left_out += [f"{factor} = {level} is left out, for its {reason}" for level, reason in lost.items()]
    first = next(iter(next(iter(factors.values())).values()))
    return replace(
        spec,
        name=f"{spec.name}-{path.stem}",
        base=first if spec.design == METHODS else spec.base,
        seeds=list(scale.seeds) if scale.seeds is not None else spec.seeds,
        factors=factors,
        scale=scale.words or spec.scale,
        overlay=scale,
        left_out=left_out,
    )


def _replaced(
    path: Path, factor: str, levels: Mapping[str, Nodes | str], over: Mapping[str, Nodes]
) -> Mapping[str, Nodes]:
    """A scale's own nodes for levels that the study has."""
    for level, nodes in over.items():
        known = levels.get(level)
        if not isinstance(known, Mapping) or set(known) != set(nodes):
            raise UserError(f"{path}: factor {factor}, level {level} is not a level of the study with the same paths")
    return over


def _check_metric(path: Path, metric: object) -> None:
    if (
        not isinstance(metric, dict)
        or set(metric) - {"threshold"} != {"name", "direction"}
        or metric["direction"] not in ("maximize", "minimize")
    ):
        raise UserError(f"{path}: metric is {{name: …, direction: maximize or minimize}}, got {metric}")
    if type(metric.get("threshold", 0.0)) not in (int, float):
        raise UserError(f"{path}: the metric's threshold is a number, got {metric['threshold']}")


def _first_method(path: Path, content: Mapping[str, Any]) -> str:
    """The first recipe of a comparison of methods."""
    factors = content.get("factors")
    levels = next(iter(factors.values())) if isinstance(factors, dict) and len(factors) == 1 else None
    if "base" in content or not isinstance(levels, dict) or len(levels) < 2:
        raise UserError(
            f"{path}: a comparison of {METHODS} has no base and one factor, whose two or more levels are recipes"
        )
    if wrong := [level for level, recipe in levels.items() if not isinstance(recipe, str)]:
        raise UserError(f"{path}: level {wrong[0]} is not the path of a recipe")
    return next(iter(levels.values()))


def _check_factors(path: Path, factors: object) -> None:
    if not isinstance(factors, dict) or not factors:
        raise UserError(f"{path}: factors maps each factor to its levels")
    touched = {factor: _paths_of(f"{path}: factor {factor}", levels) for factor, levels in factors.items()}
    for (one, left), (other, right) in combinations(touched.items(), 2):
        if shared := [max(a, b, key=len) for a in left for b in right if _overlap(a, b)]:
            raise UserError(
                f"{path}: factors {one} and {other} both touch {shared[0]}, so their effects could not be told apart"
            )


def _overlap(one: str, other: str) -> bool:
    return covers(one, other) or covers(other, one)


def _paths_of(what: str, levels: object) -> set[str]:
    """The config paths that a factor's levels touch, the same in each of them."""
    if not isinstance(levels, dict) or len(levels) < 2:
        raise UserError(f"{what} has fewer than two levels")
    for level, nodes in levels.items():
        if not isinstance(level, str):
            raise UserError(
                f"{what} has a level {level!r}, which YAML does not read as text: give it a descriptive name"
            )
        if not isinstance(nodes, dict) or not nodes:
            raise UserError(f"{what}, level {level} replaces nothing: give it config paths and nodes")
    first, *rest = levels
    if different := [level for level in rest if set(levels[level]) != set(levels[first])]:
        raise UserError(
            f"{what}: level {different[0]} touches other paths than level {first}; each must say all of them"
        )
    return set(levels[first])
