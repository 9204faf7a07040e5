"""A report as one HTML page that stands alone; its numbers link to their runs."""

from markdown_it import MarkdownIt
from markupsafe import Markup

from research.reporting.document import Document, Figure, Linked, Table
from research.reporting.numbers import NONE
from research.reporting.pages.render import render

_MARKDOWN = MarkdownIt("commonmark", {"html": False}).disable("image")


def report_page(document: Document) -> str:
    """The report as an HTML page.

    Args:
        document: the report.

    Returns: the HTML text, in which the document's text is escaped and which loads nothing from elsewhere.
    """
    return render(
        "report.html.j2",
        title=document.title,
        lead=[_text(text) for text in document.lead],
        sections=[
            {
                "title": section.title,
                "anchor": section.anchor,
                "blocks": [_block(block) for block in section.blocks],
            }
            for section in document.sections
        ],
    )


def _text(text: str) -> Markup:
    return Markup(_MARKDOWN.render(text))


def _block(block: str | Table | Figure) -> dict[str, object]:
    if isinstance(block, Table):
        return {"kind": "table", **_table(block)}
    if isinstance(block, Figure):
        return {"kind": "figure", "svg": Markup(block.svg), "caption": block.caption}
    return {"kind": "text", "text": _text(block)}


def _table(table: Table) -> dict[str, object]:
    return {
        "head": list(zip(map(_unbroken, table.head), table.left, strict=True)),
        "groups": [
            {
                "anchor": group,
                "rows": [(own, list(zip(map(_cell, row), table.left, strict=True))) for own, row in rows],
            }
            for group, rows in table.grouped()
        ],
        "words": table.words,
    }


def _unbroken(head: str) -> str:
    """A heading in which no line breaks between a number and its percent sign."""
    return head.replace(" %", "\u00a0%")


def _cell(cell: str) -> Markup:
    text = Markup(_MARKDOWN.renderInline(cell))
    if isinstance(cell, Linked) and cell not in ("", NONE):
        return Markup('<a href="#{}">{}</a>').format(cell.target, text)
    return text
