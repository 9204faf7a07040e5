"""The import order of the ablation's modules, as its docstring draws it; read from the source, lazy ones too."""

import ast
from pathlib import Path

import research.ablation as ablation

FOLDER = Path(ablation.__file__ or "").parent


def lines() -> dict[str, int]:
    """Module or folder → its line of the drawing, from above."""
    drawn = [line.strip() for line in (ablation.__doc__ or "").splitlines() if line.startswith("    ")]
    names = [line.split("  ")[0].split(", ") for line in drawn]
    return {name.strip("/"): number for number, line in enumerate(names) for name in line}


def imports() -> set[tuple[str, str]]:
    """(importing, imported) modules or folders directly below the package, a folder's own imports left out."""
    found = set()
    for path in FOLDER.rglob("*.py"):
        own = path.relative_to(FOLDER).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("research.ablation."):
                found.add((own, (node.module or "").split(".")[2]))
    return {(own, other) for own, other in found if own != other}


def test_every_module_is_drawn():
    there = {path.relative_to(FOLDER).parts[0].removesuffix(".py") for path in FOLDER.rglob("*.py")}
    assert set(lines()) == there - {"__init__"}


def test_no_import_runs_against_the_order():
    order = lines()
    assert [(own, other) for own, other in imports() if order[own] > order[other]] == []


def test_no_import_runs_in_a_circle():
    left = imports()
    while ends := {own for own, _ in left} - {other for _, other in left}:
        left = {(own, other) for own, other in left if own not in ends}
    assert left == set()
