"""Recipe files: YAML read, overlays laid over it, words of the command line laid over that."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from research.errors import UserError
from research.shipped import shipped_file
from research.yaml_file import read_yaml


def overlay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the mappings of `over` laid on top, key by key; a component, or what is no mapping, is replaced."""
    merged = deepcopy(dict(base))
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping) and "class_path" not in value
        merged[key] = overlay(merged[key], value) if both else deepcopy(value)
    return merged


def read_recipe(paths: Sequence[Path]) -> dict[str, Any]:
    """The first file, a recipe, with the others laid over it: hardware overlays.

    `after: {recipe: FILE, run: …}` becomes that file's whole recipe, with this `run` section in the place of its own.

    Raises: UserError if a file cannot be read, or `after` holds anything else.
    """
    config: dict[str, Any] = {}
    for path in paths:
        config = overlay(config, read_yaml(path))
    if (after := config.get("after")) is not None and "recipe" in after:
        if set(after) != {"recipe", "run"}:
            raise UserError(f"{paths[0]}: after is {{recipe: FILE, run: the section for it}}, got {', '.join(after)}")
        config["after"] = {**read_recipe([_before(paths[0], after["recipe"])]), "run": after["run"]}
    return config


def _before(path: Path, name: str) -> Path:
    """The recipe that another one comes after: beside it, or the package's."""
    beside = path.parent / name
    return beside if beside.exists() else shipped_file(name) or beside


def override(config: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """A config with command-line words such as `--model.seed=3` or `--run.steps 20` laid over it, values read as YAML.

    Raises: UserError if a word is not of this form.
    """
    changed, rest = deepcopy(dict(config)), list(words)
    while rest:
        name, equals, text = rest.pop(0).partition("=")
        if not name.startswith("--") or "." not in name or not (equals or rest):
            raise UserError(f"cannot read {name!r}: an override is --section.key=value, for instance --model.seed=3")
        *parents, leaf = name.removeprefix("--").split(".")
        node = changed
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise UserError(f"{name}: {parent} holds a value, not keys")
        value = text if equals else rest.pop(0)
        try:
            node[leaf] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(f"{name}: {value!r} is not a YAML value") from error
    return changed
