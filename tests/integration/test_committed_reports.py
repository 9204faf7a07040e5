"""The reports in results/ are what the package makes of the tables beside them, byte for byte."""

import os
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from matplotlib.image import imread

from research.reporting import write_report

pytestmark = pytest.mark.process
RESULTS = Path(__file__).parents[2] / "results"
STUDIES = sorted(path.parent for path in RESULTS.glob("*/study.yaml"))
LONG_AGO = 0


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


MOVED = 2e-4
"""Share of pixels that may differ by more than a tenth. One point of a curve, moved by a fiftieth of its range, is four
times as many, and so is another FreeType than the one in matplotlib's wheel, which moves every letter."""


def same(one: Path, other: Path) -> bool:
    """Byte for byte; a bitmap pixel for pixel, since what compresses it changes too."""
    if one.suffix != ".png" or one.read_bytes() == other.read_bytes():
        return one.read_bytes() == other.read_bytes()
    drawn, again = imread(one), imread(other)
    return drawn.shape == again.shape and float(np.mean(np.abs(drawn - again).max(-1) > 0.1)) < MOVED


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_is_made_again(study: Path, tmp_path: Path) -> None:
    folder = tmp_path / study.name
    copytree(study, folder, ignore=lambda where, names: {"cells", "search"} if Path(where) == study else set())
    for path in files(folder):
        os.utime(folder / path, (LONG_AGO, LONG_AGO))
    write_report(folder)
    written = {path for path in files(folder) if (folder / path).stat().st_mtime > LONG_AGO}
    assert {Path("report.md"), Path("report.html")} < written
    made = {path for path in files(folder) if path.parts[0] in ("tables", "figures")}
    assert made <= written, "committed, and no longer made: delete them"
    assert written <= files(study), "made, and not committed"
    differing = sorted(str(path) for path in written if not same(study / path, folder / path))
    assert not differing, f"research report results/{study.name} makes them anew; say in CHANGELOG.md what changes"


def test_there_are_some() -> None:
    assert STUDIES
