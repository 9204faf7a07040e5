"""A report before it is Markdown or HTML: sections of text, tables and figures, written once for both."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from research.reporting.numbers import NONE


class Linked(str):
    """Text that leads to an anchor of its document; for all else a plain string.

    Args:
        text: what is read.
        target: the anchor, without `#`.

    Example:
        >>> Linked("48.1", "cell-base").target
        'cell-base'
    """

    target: str

    def __new__(cls, text: str, target: str) -> "Linked":
        linked = super().__new__(cls, text)
        linked.target = target
        return linked


def anchor(*names: str) -> str:
    """Names as one anchor.

    Example:
        >>> anchor("cell", "LCPO, exact")
        'cell-LCPO-exact'
    """
    return "-".join(re.sub(r"[^A-Za-z0-9_.]+", "-", name).strip("-") for name in names)


def title_anchor(title: str) -> str:
    """The anchor that Markdown's renderers give a heading.

    Example:
        >>> title_anchor("Beside a paper, Table 1")
        'beside-a-paper-table-1'
    """
    return re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A heading and rows of text, each of inline Markdown."""

    LEFT: ClassVar[frozenset[str]] = frozenset(
        {"Against", "Verdict", "Status", "The paper's rows", "Our row", "Direction"}
    )
    """Columns of words; the first column is always one, the others hold numbers."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    anchors: tuple[str, ...] = ()
    """One a row, or none."""
    groups: tuple[str, ...] = ()
    """One a row, or none: rows that follow one another with the same anchor can be led to together."""
    words: bool = False
    """All columns hold words."""

    @property
    def left(self) -> tuple[bool, ...]:
        """Per column, whether it is set to the left."""
        return tuple(self.words or position == 0 or name in self.LEFT for position, name in enumerate(self.head))

    def grouped(self) -> Iterator[tuple[str, list[tuple[str, tuple[str, ...]]]]]:
        """The rows by group: the group's anchor, and its rows, each behind its own; an anchor that is none is empty."""
        anchors = self.anchors or ("",) * len(self.rows)
        groups = self.groups or ("",) * len(self.rows)
        found: list[tuple[str, list[tuple[str, tuple[str, ...]]]]] = []
        for group, own, row in zip(groups, anchors, self.rows, strict=True):
            if not found or found[-1][0] != group:
                found.append((group, []))
            found[-1][1].append((own, row))
        yield from found

    def markdown(self) -> str:
        """The table in Markdown: words to the left, numbers to the right, anchors before the first column."""
        lines = [_line(self.head), "|" + "".join(":--|" if left else "--:|" for left in self.left)]
        for group, rows in self.grouped():
            for position, (own, row) in enumerate(rows):
                ids = [group] * (position == 0) + [own]
                lines.append(_line(row, "".join(f'<a id="{one}"></a>' for one in ids if one)))
        return "\n".join(lines)


def _line(cells: tuple[str, ...], before: str = "") -> str:
    first, *rest = (_cell(cell) for cell in cells)
    return "| " + " | ".join([before + first, *rest]) + " |"


def _cell(cell: str) -> str:
    text = cell.replace("|", "\\|")
    return f"[{text}](#{cell.target})" if isinstance(cell, Linked) and cell not in ("", NONE) else text


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawing: an SVG file beside the report, and the same as an element of a page that stands alone."""

    file: Path
    """Relative to the report."""
    svg: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and what stands below it: Markdown text, tables and figures."""

    title: str
    blocks: tuple[str | Table | Figure, ...]

    @property
    def anchor(self) -> str:
        """Target of links to the section: the anchor that Markdown renderers give its heading."""
        return title_anchor(self.title)


@dataclass(frozen=True, kw_only=True)
class Document:
    """A title, what stands before the first section, and the sections."""

    title: str
    lead: tuple[str, ...]
    sections: tuple[Section, ...]

    def markdown(self) -> str:
        """The document as Markdown."""
        parts = [f"# {self.title}", *self.lead]
        for section in self.sections:
            parts += [f"## {section.title}", *(_block(block) for block in section.blocks)]
        return "\n\n".join(parts) + "\n"


def _block(block: str | Table | Figure) -> str:
    if isinstance(block, Table):
        return block.markdown()
    return f"![{block.caption}]({block.file.as_posix()})" if isinstance(block, Figure) else block
