"""docs/folders.md explains every column of the committed tables."""

import csv
import re

import pytest
from conftest import EXPERIMENTS

ROOT = EXPERIMENTS.parent
PAGE = (ROOT / "docs" / "folders.md").read_text()
KEYS = ("run", "cell", "seed", "status")
EXPLAINED = re.findall(r"`([^`]+)`", PAGE)
FAMILIES = tuple(name.removesuffix("…") for name in EXPLAINED if name.endswith("…") and "/" in name)


def explained(column: str) -> bool:
    """Named in full, or by its family (`time/…`)."""
    return column in EXPLAINED or column.startswith(FAMILIES)


@pytest.mark.parametrize("table", ["runs.csv", "curves.csv"])
def test_every_column_is_explained(table: str) -> None:
    with (ROOT / "results" / "dapo_ladder" / table).open() as file:
        columns = next(csv.reader(file))
    measured = [column for column in columns if "/" in column]
    assert len(measured) > 40
    assert [column for column in measured if not explained(column)] == []
