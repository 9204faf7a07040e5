"""Every relative link of the documentation leads to a file, and every anchor to a heading."""

import re
from pathlib import Path

import pytest
from conftest import EXPERIMENTS

ROOT = EXPERIMENTS.parent
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "benchmarks/*.md", "tests/*.md", "research/**/*.md", "results/*/README.md")
    for path in ROOT.glob(pattern)
)


def anchors(page: Path) -> set[str]:
    """The anchors that a Markdown renderer gives to a page's headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{target} does not exist"
        if anchor and file.suffix == ".md" and "results" not in file.parts:
            assert anchor in anchors(file), f"{target} has no such heading"
