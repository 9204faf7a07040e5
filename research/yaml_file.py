"""YAML files that hold one mapping: recipes, studies, tables of papers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from research.errors import UserError


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises: UserError if the file is missing, unreadable, not YAML, or not a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no mapping of keys to values")
    return content


def required(node: Mapping[str, Any], key: str, path: Path) -> Any:
    """The value of a key that must be there.

    Args:
        node: a mapping of the file.
        key: what it must have.
        path: the file, for the message.

    Raises: UserError if it is not.
    """
    if not isinstance(node, Mapping) or key not in node:
        raise UserError(f"{path} lacks the key '{key}'")
    return node[key]
