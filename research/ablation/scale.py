"""Scales: the same study with another model, other data and another budget, from a file of its own.

A study file describes a study at the built-in scale. A scale file changes the config of each of its cells: it replaces
nodes, and sets arguments of a component wherever that component stands.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from research.ablation.nodes import Config, Nodes, at, compose, has
from research.errors import UserError
from research.recipe_file import read_recipe
from research.schema import SECTIONS
from research.slots import component_classes
from research.yaml_file import read_yaml


class Changes(TypedDict, total=False):
    """Changes of a component."""

    class_path: str
    """Another class in its place."""
    init_args: Mapping[str, object]
    """Arguments laid over its own; null drops one."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The changes that a scale makes to the config of every cell."""

    path: str
    """The scale's file."""
    words: str = ""
    """Model, data and budget, for the report."""
    seeds: Sequence[int] | None = None
    """Seeds in place of the study's; None keeps those."""
    nodes: Nodes = field(default_factory=dict)
    """Nodes replaced in every cell before its levels are laid over it."""
    factors: Mapping[str, Mapping[str, Nodes]] = field(default_factory=dict)
    """Factor → level → nodes in place of the study's, if it has the factor."""
    where: Nodes = field(default_factory=dict)
    """Nodes replaced after the levels, in the configs that have them and not null."""
    components: Mapping[str, Changes] = field(default_factory=dict)
    """Class → changes of every such component, after the levels."""
    lacks: Mapping[str, str] = field(default_factory=dict)
    """Class, or path of a node that is not null → the reason why this scale cannot have it."""

    def adapt(self, config: Config) -> dict[str, Any]:
        """The composed config with the changes of `components` and `where`."""
        adapted = _adapted(config, self.components)
        there = {path: node for path, node in self.where.items() if has(adapted, path)}
        return compose(adapted, there, self.path)

    def lacking(self, node: Config) -> str | None:
        """The first part of a config, or of a level's nodes, that this scale cannot have, with the reason; or None."""
        names = set(_class_names(node))
        for lack, reason in self.lacks.items():
            if lack in names or node.get(lack) is not None or (has(node, lack) and at(node, lack) is not None):
                return f"{lack}: {reason}"
        return None


_KEYS = ("scale", "seeds", "recipe", "take", "hold", "factors", "where", "components", "lacks")


def read_scale(path: Path) -> Scale:
    """The scale in a file, checked.

    Keys of the file: `scale` (words), `seeds`, `recipe` and `take` (a recipe, relative to the file, and the paths taken
    from it), `hold` (path → node, laid over the taken ones), `factors`, `where`, `components` and `lacks`.

    Raises: UserError if a key, a taken path or a component is unknown.
    """
    content = {key: value for key, value in read_yaml(path).items() if value is not None}
    if unknown := sorted(str(key) for key in content if key not in _KEYS):
        raise UserError(f"{path}: no key is called {unknown[0]}; a scale has {', '.join(_KEYS)}")
    for key in ("hold", "factors", "where", "components", "lacks"):
        if not isinstance(content.get(key, {}), dict):
            raise UserError(f"{path}: {key} holds keys, each with its value")
    taken = content.get("take", [])
    if not isinstance(taken, list) or bool(taken) != ("recipe" in content):
        raise UserError(f"{path}: take is a list of paths that are taken from recipe; give both, or neither")
    for name in [
        *content.get("components", {}),
        *(one for one in content.get("lacks", {}) if "." not in one and one not in SECTIONS),
    ]:
        if name not in component_classes():
            raise UserError(f"{path}: no component is called {name}")
    source = read_recipe([(path.parent / content["recipe"]).resolve()]) if taken else {}
    if lost := [one for one in taken if not has(source, one)]:
        raise UserError(f"{path}: {content['recipe']} has no {lost[0]}")
    return Scale(
        path=str(path),
        words=content.get("scale", ""),
        seeds=content.get("seeds"),
        nodes={**{one: at(source, one) for one in taken}, **content.get("hold", {})},
        **{key: content[key] for key in ("factors", "where", "components", "lacks") if key in content},
    )


def _adapted(node: object, components: Mapping[str, Changes]) -> Any:
    if isinstance(node, Mapping):
        changed = {key: _adapted(value, components) for key, value in node.items()}
        if (over := components.get(_name(node))) is not None:
            arguments = {**(changed.get("init_args") or {}), **over.get("init_args", {})}
            changed["class_path"] = over.get("class_path", changed["class_path"])
            changed["init_args"] = {key: deepcopy(value) for key, value in arguments.items() if value is not None}
        return changed
    return [_adapted(one, components) for one in node] if isinstance(node, list) else node


def _class_names(node: object) -> Iterator[str]:
    if isinstance(node, Mapping):
        yield _name(node)
        for value in node.values():
            yield from _class_names(value)
    elif isinstance(node, list):
        for value in node:
            yield from _class_names(value)


def _name(node: Config) -> str:
    return str(node.get("class_path", "")).rpartition(".")[2]
