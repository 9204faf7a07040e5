"""Config paths such as `model.objective.kl`, and the whole nodes that stand there."""

from collections.abc import Mapping
from copy import deepcopy
from functools import reduce
from typing import Any

from research.errors import UserError

Nodes = Mapping[str, Any]
"""Config path → the whole node that stands there."""


def at(config: Mapping[str, Any], path: str) -> Any:
    """The node at a path.

    Raises: KeyError or TypeError if there is none.
    """
    return reduce(lambda node, key: node[key], path.split("."), config)


def has(config: Mapping[str, Any], path: str) -> bool:
    """Whether a config has the path, whatever stands there."""
    *parents, leaf = path.split(".")
    try:
        return leaf in reduce(lambda node, key: node[key], parents, config)
    except (KeyError, TypeError):
        return False


def compose(config: Mapping[str, Any], nodes: Nodes, what: str) -> dict[str, Any]:
    """A config with whole nodes replaced; nothing is merged.

    Args:
        config: nested mappings; untouched.
        nodes: path → node.
        what: names the source of the nodes in the error.

    Raises: UserError if the config has no such path.
    """
    composed = deepcopy(dict(config))
    for path, node in nodes.items():
        if not has(composed, path):
            raise UserError(f"{what}: the base recipe has no {path}")
        *parents, leaf = path.split(".")
        reduce(lambda inner, key: inner[key], parents, composed)[leaf] = deepcopy(node)
    return composed


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """The dotted paths at which two configs differ; lists are compared whole.

    Example:
        >>> differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4})
        ['a.c', 'd']
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = [*one, *(key for key in other if key not in one)]
        below = [differences(one.get(key), other.get(key), f"{path}.{key}" if path else str(key)) for key in keys]
        return [found for paths in below for found in paths]
    return [] if one == other else [path]


def covers(named: str, path: str) -> bool:
    """Whether a path is the named one or lies below it.

    Example:
        >>> covers("model.clip", "model.clip.eps"), covers("model.clip", "model.clip_range")
        (True, False)
    """
    return f"{path}.".startswith(f"{named}.")
