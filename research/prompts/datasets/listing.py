"""The table of public datasets that `research datasets` prints."""

from rich.table import Table

from research.prompts.datasets.catalogue import DATASETS


def dataset_table() -> Table:
    """Name, place, splits with their sizes, template, verifier, licence and source of each dataset."""
    table = Table(title="datasets", show_lines=True)
    for heading in ("name", "on the hub", "splits", "template", "answers are", "licence", "source"):
        table.add_column(heading, overflow="fold")
    table.columns[0].min_width = max(map(len, DATASETS))
    for entry in DATASETS.values():
        table.add_row(
            entry.name,
            entry.hub + (f"\nconfig {entry.config}" if entry.config else ""),
            "\n".join(f"{split} {rows:,}" for split, rows in entry.splits.items()),
            entry.template,
            entry.verifier,
            entry.licence,
            entry.source,
        )
    return table
