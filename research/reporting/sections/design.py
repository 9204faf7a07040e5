"""Section on the design: its aliases, the checks that it passed, the values that a search found."""

from collections.abc import Mapping

from research.ablation.folder.study_file import Study
from research.reporting.document import Section

KEYS = {
    "aliases": "What the fraction confounds:",
    "guarantees": "Checked before the study ran:",
    "search": "Found by a search inside the design:",
}
"""Key of study.yaml to what introduces it."""


def design_section(study: Study) -> Section | None:
    """The section on what study.yaml records of the design beyond its cells; None if there is nothing."""
    blocks = [f"{text}\n\n{_bullets(node)}" for key, text in KEYS.items() if (node := getattr(study, key))]
    return Section(title="Design", blocks=tuple(blocks)) if blocks else None


def _bullets(node: object, depth: int = 0) -> str:
    """Nested mappings and lists as nested bullets; what is empty is said to be none."""
    indent = "  " * depth + "- "
    if isinstance(node, Mapping):
        return "\n".join(_entry(indent, _words(str(key)), value, depth) for key, value in node.items())
    if isinstance(node, list | tuple):
        return "\n".join(
            f"{indent}{row}" if (row := _row(value)) else _entry(indent, "", value, depth) for value in node
        )
    return f"{indent}{node}"


def _entry(indent: str, name: str, value: object, depth: int) -> str:
    if value in ({}, [], None):
        return f"{indent}{name}: none"
    if isinstance(value, Mapping | list):
        return f"{indent}{name}\n{_bullets(value, depth + 1)}" if name else _bullets(value, depth)
    return f"{indent}{name}: {value}" if name else f"{indent}{value}"


def _row(node: object) -> str:
    """A mapping of plain values on one line; nothing for anything else."""
    if not isinstance(node, Mapping) or any(isinstance(value, Mapping | list) for value in node.values()):
        return ""
    return ", ".join(f"{_words(str(key))} {_number(value)}" for key, value in node.items())


def _number(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value


def _words(key: str) -> str:
    return key.replace("_", " ")
