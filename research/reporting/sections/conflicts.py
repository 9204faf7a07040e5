"""The section on what sources disagree about, as far as it concerns the study."""

from pathlib import Path

from research.ablation.folder.study_file import Study
from research.errors import UserError
from research.reporting.document import Section, Table
from research.reporting.paper_tables.conflicts import FILE, concerning, read_conflicts
from research.reporting.paper_tables.paper import find_file
from research.reporting.sections.papers import linked_sources


def conflicts_section(study: Study, folder: Path) -> Section | None:
    """The table of the conflicts that concern the study; None if none does, or if there is no file of them."""
    try:
        path = find_file(FILE, folder)
    except UserError:
        return None
    found = concerning(read_conflicts(path), study)
    if not found:
        return None
    rows = tuple(
        (c.about, c.mark, linked_sources(c.says), linked_sources(c.against), linked_sources(c.here) or "—")
        for c in found
    )
    table = Table(head=("About", "Kind", "A source says", "Against it, or open", "Here"), rows=rows, words=True)
    note = (
        "*Conflict*: two sources differ. *Unconfirmed*: no source that was read says it. *Analysis*: a source's own "
        "numbers or statements do not fit together."
    )
    return Section(title="Known conflicts in the sources", blocks=(table, note))
