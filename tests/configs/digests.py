"""The digest of every recipe, as it was when the file of digests was last written.

    python tests/configs/digests.py        # writes tests/data/digests.yaml anew

A digest stands for all that is trained. Where one changes, the runs of before do not continue, and the changelog says
why under Numerics.
"""

from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "tests" / "data" / "digests.yaml"
RECIPES = sorted([*(ROOT / "experiments").glob("*.yaml"), *(ROOT / "experiments" / "models").glob("*.yaml")])


@cache
def recorded() -> dict[str, str]:
    """Path below the repository to digest."""
    return yaml.safe_load(RECORDED.read_text())


def main() -> None:
    """Parse every recipe and write the file."""
    from research.recipe import parse
    from research.recipe_file import read_recipe

    digests = {str(path.relative_to(ROOT)): parse(read_recipe([path])).digest for path in RECIPES}
    RECORDED.write_text(yaml.safe_dump(digests))


if __name__ == "__main__":
    main()
