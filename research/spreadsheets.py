"""Text in tables for spreadsheets, which run a cell that begins like a formula."""

from collections.abc import Mapping
from typing import Any

_FORMULA = ("=", "@", "\t", "\r")
"""Beginnings of a text that a spreadsheet may run."""
_SIGNS = ("+", "-")
"""Beginnings of a number, of a label such as "+ clip-higher", and of a formula if a mark of `_CALLS` follows."""
_CALLS = frozenset("(|!")


def as_text(value: Any) -> Any:
    """The value of a cell; a text that a spreadsheet would run as a formula begins with an apostrophe.

    Example:
        >>> as_text("=1+1"), as_text("+ clip-higher"), as_text("-cmd|' /C calc'!A0"), as_text(-1.5)
        ("'=1+1", '+ clip-higher', "'-cmd|' /C calc'!A0", -1.5)
    """
    if not isinstance(value, str):
        return value
    start = value.lstrip(" \n")
    runs = start.startswith(_FORMULA) or (start.startswith(_SIGNS) and not _CALLS.isdisjoint(start))
    return f"'{value}" if runs else value


def as_texts(row: Mapping[str, Any]) -> dict[str, Any]:
    """A table's row, with both its columns and its cells as `as_text` gives them."""
    return {as_text(column): as_text(value) for column, value in row.items()}
