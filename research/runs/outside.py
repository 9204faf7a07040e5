"""Code and data that a run reads from outside the package: their content belongs to the run, as its recipe does."""

import ast
import json
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

from research.errors import UserError
from research.recipe import Recipe
from research.tracking import replace_text

OUTSIDE = "outside.json"
"""The file of a run's folder that keeps the hashes."""
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_WORDS = ("class_path", "function")
"""Keys whose value is an import path."""


def outside(recipe: Recipe) -> dict[str, str]:
    """File → twelve hexadecimal digits of its content.

    Files are the modules of the classes and functions that the recipe names, with the modules that these import from
    the same folder, and the data files that it names. Installed packages are not among them: their versions are kept.
    """
    found: dict[Path, None] = {}
    for key, text in _texts(recipe.config):
        if key in _WORDS and not text.startswith("research."):
            for path in _modules(text):
                found.setdefault(path)
        elif key == "path" and Path(text).expanduser().exists():
            for path in _files(Path(text).expanduser()):
                found.setdefault(path)
    return {str(path): _digest(path) for path in found}


def changed(recipe: Recipe, folder: Path) -> list[str]:
    """The files whose content is not what the run in a folder began with; empty for a run from before this was kept."""
    path = folder / OUTSIDE
    if not path.exists():
        return []
    before, now = json.loads(path.read_text()), outside(recipe)
    return sorted(Path(name).name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def keep(recipe: Recipe, folder: Path) -> None:
    """Write the hashes into the folder of a run that begins."""
    replace_text(folder / OUTSIDE, json.dumps(outside(recipe), indent=2))


def refuse_changed(recipe: Recipe, folder: Path) -> None:
    """Refuse to continue a run with other code or data than it began with.

    Raises: UserError that names the files.
    """
    if names := changed(recipe, folder):
        raise UserError(
            f"{', '.join(names)} changed since the run in {folder} began: give another folder with --run.folder, or "
            "delete that one"
        )


def _texts(node: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a config, with the key that it stands under."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _texts(value, str(name))
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value, key)
    elif isinstance(node, str):
        yield key, node


def _modules(import_path: str) -> list[Path]:
    """The file of the module that an import path begins with, and those that it imports from its folder."""
    parts = import_path.split(".")
    for root in map(Path, (Path.cwd(), *sys.path)):
        for end in range(len(parts), 0, -1):
            path = root.joinpath(*parts[:end]).with_suffix(".py")
            if path.is_file():
                return [] if str(path.resolve()).startswith(_INSTALLED) else _with_neighbours(path.resolve(), root)
    return []


def _with_neighbours(path: Path, root: Path) -> list[Path]:
    found, left = [], [path]
    while left:
        file = left.pop()
        if file in found:
            continue
        found.append(file)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
            for name in names:
                for folder in (root, file.parent):
                    near = folder.joinpath(*name.split(".")).with_suffix(".py").resolve()
                    if near.is_file() and not str(near).startswith(_INSTALLED):
                        left.append(near)
    return found


def _files(path: Path) -> list[Path]:
    """A data file, or the files of a data folder; a folder with a model is known by the policy that it gives."""
    if path.is_file():
        return [path.resolve()]
    return [] if (path / "config.json").exists() else sorted(one.resolve() for one in path.rglob("*") if one.is_file())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        hashed = sha256()
        while block := file.read(1 << 20):
            hashed.update(block)
    return hashed.hexdigest()[:12]
