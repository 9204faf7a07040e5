"""Files of Python, read without running them: which names a module has, and where it has them from."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path


@dataclass(frozen=True, kw_only=True, eq=False)
class Module:
    """One file of Python."""

    name: str
    """As an import statement writes it."""
    path: Path
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        """Whether the file is a package's `__init__`."""
        return self.path.name == "__init__.py"

    @cached_property
    def names(self) -> dict[str, "ast.ClassDef | tuple[str, str] | None"]:
        """Top-level name → its class, the module and name that it is imported from, or None for anything else."""
        found: dict[str, ast.ClassDef | tuple[str, str] | None] = {}
        for statement in _top_level(self.tree.body):
            match statement:
                case ast.ClassDef(name=name):
                    found[name] = statement
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    found[name] = None
                case ast.ImportFrom():
                    origin = self._origin(statement)
                    found |= {alias.asname or alias.name: (origin, alias.name) for alias in statement.names}
                case ast.Import():
                    for alias in statement.names:
                        first = alias.name.partition(".")[0]
                        found[alias.asname or first] = (alias.name if alias.asname else first, "")
                case ast.Assign(targets=targets):
                    found |= {target.id: None for target in targets if isinstance(target, ast.Name)}
                case ast.AnnAssign(target=ast.Name(id=name)):
                    found[name] = None
                case _:
                    pass
        return found

    def _origin(self, statement: ast.ImportFrom) -> str:
        if not statement.level:
            return statement.module or ""
        parts = self.name.split(".")
        base = parts[: len(parts) - statement.level + self.is_package]
        return ".".join([*base, *([statement.module] if statement.module else [])])


@cache
def read_module(name: str, path: Path) -> Module | None:
    """A file of Python as a module of this name; None if it cannot be read or parsed."""
    try:
        return Module(name=name, path=path, tree=ast.parse(source_text(path)))
    except (SyntaxError, ValueError):
        return None


def source_text(path: Path) -> str:
    """A file's text; nothing if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def module_name(path: Path, root: Path) -> str:
    """The name under which a file is imported, where `root` is searched for modules."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files_about(folder: Path, word: str) -> list[Path]:
    """The modules in a folder that mention a word; none in a folder that cannot be read."""
    try:
        return [p for p in sorted(folder.glob("*.py")) if p.stem.isidentifier() and word in source_text(p)]
    except OSError:
        return []


def _top_level(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, with those under `if` and `try`."""
    for statement in body:
        if isinstance(statement, ast.If):
            yield from _top_level([*statement.body, *statement.orelse])
        elif isinstance(statement, ast.Try):
            yield from _top_level([*statement.body, *(s for h in statement.handlers for s in h.body)])
        else:
            yield statement
