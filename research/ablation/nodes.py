"""Config paths such as `model.objective.kl`, and the nodes at them: values, lists or whole mappings."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from research.errors import UserError

Config = Mapping[str, object]
"""A config as nested mappings."""
Nodes = Mapping[str, object]
"""Config path → the whole node there."""


def at(config: Config, path: str) -> Any:
    """The node at a path.

    Raises: KeyError or TypeError if there is none.
    """
    return _below(config, path.split("."))


def has(config: Config, path: str) -> bool:
    """True if a config has the path, even with null there."""
    *parents, leaf = path.split(".")
    try:
        return leaf in _below(config, parents)
    except (KeyError, TypeError):
        return False


def compose(config: Config, nodes: Nodes, what: str) -> dict[str, Any]:
    """A config with whole nodes replaced; nothing is merged.

    Args:
        config: nested mappings; untouched.
        nodes: path → node.
        what: source of the nodes, for the error sentence.

    Raises: UserError if the config has no such path.
    """
    composed = deepcopy(dict(config))
    for path, node in nodes.items():
        if not has(composed, path):
            raise UserError(f"{what}: the base recipe has no {path}")
        *parents, leaf = path.split(".")
        _below(composed, parents)[leaf] = deepcopy(node)
    return composed


def _below(config: Config, keys: Sequence[str]) -> Any:
    node: Any = config
    for key in keys:
        node = node[key]
    return node


def differences(one: object, other: object, path: str = "") -> list[str]:
    """The dotted paths at which two configs differ; a list is compared as a whole.

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
    """True if a path is the named one or lies below it.

    Example:
        >>> covers("model.clip", "model.clip.eps"), covers("model.clip", "model.clip_range")
        (True, False)
    """
    return f"{path}.".startswith(f"{named}.")
