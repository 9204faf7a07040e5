"""The slots of a recipe, and the classes that may stand in each, read from the constructors' type hints.

A recipe's sections are the arguments of three classes. Where an argument's type is a class that others derive from, the
recipe chooses one of those: a slot. Everything is read from the source, so nothing heavy is imported.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from research.source_files import Module
from research.sources import Declaration, Sources, sources

ROOTS: Mapping[str, str] = {
    "model": "research.training.module.RLModule",
    "data": "research.prompts.PromptData",
    "run": "research.training.settings.RunSettings",
}
"""Section of a recipe → the class whose arguments it holds."""
_LISTS = frozenset({"list", "List", "Sequence", "tuple", "Tuple", "Iterable"})


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A class that others derive from, and where a recipe chooses one of those."""

    base: Declaration
    """Base class of everything that may stand there."""
    paths: tuple[str, ...]
    """The config paths, without `init_args`, the shortest first."""
    choices: tuple[Declaration, ...]
    """The classes below the base without subclasses of their own, by name."""

    @property
    def stage(self) -> str:
        """The folder below `research` that holds the base."""
        return self.base.module.name.split(".")[1]

    @property
    def name(self) -> str:
        """The stage and the base's name."""
        return f"{self.stage}.{self.base.name}"


@dataclass(frozen=True, kw_only=True)
class Hint:
    """Keys and class names that an annotation allows in a config."""

    classes: tuple[Declaration, ...] = ()
    """The classes of the package that may stand there, each itself or one below it."""
    items: "Hint | None" = None
    """What may stand in a list; None if no list may stand there."""
    otherwise: bool = False
    """Whether something else than these may stand there, null left out."""


@lru_cache(maxsize=4096)
def hint(annotation: ast.expr | None, module: Module, of: Sources) -> Hint:
    """Hint of an annotation, written in a module."""
    match annotation:
        case ast.Constant(value=None):
            return Hint()
        case ast.Constant(value=str(text)):
            return hint(ast.parse(text, mode="eval").body, module, of)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _either(hint(left, module, of), hint(right, module, of))
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return hint(inner, module, of)
        case ast.Subscript(value=ast.Name(id=name), slice=inner) if name in _LISTS:
            kinds = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            kinds = [kind for kind in kinds if not (isinstance(kind, ast.Constant) and kind.value is ...)]
            items = Hint()
            for kind in kinds:
                items = _either(items, hint(kind, module, of))
            return Hint(items=items)
        case ast.Name() | ast.Attribute():
            cls = of.resolve(module, annotation)
            return Hint(otherwise=True) if cls is None else Hint(classes=(cls,))
        case _:
            return Hint(otherwise=True)


def allows_null(annotation: ast.expr | None) -> bool:
    """Whether null may stand where the annotation does."""
    match annotation:
        case ast.Constant(value=str(text)):
            return allows_null(ast.parse(text, mode="eval").body)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return allows_null(left) or allows_null(right)
        case ast.Constant(value=value):
            return value is None
        case None | ast.Subscript(value=ast.Name(id="Optional")) | ast.Name(id="Any"):
            return True
        case _:
            return False


def _either(one: Hint, other: Hint) -> Hint:
    items = one.items or other.items
    if one.items and other.items:
        items = _either(one.items, other.items)
    return Hint(classes=(*one.classes, *other.classes), items=items, otherwise=one.otherwise or other.otherwise)


def roots(of: Sources) -> dict[str, Declaration]:
    """Section → the class whose arguments it holds."""
    found = {section: of.named(path) for section, path in ROOTS.items()}
    return {section: cls for section, cls in found.items() if cls is not None}


def own_folder() -> Path | None:
    """The current folder, whose modules may hold a user's own components; None if it is gone."""
    try:
        return Path.cwd()
    except OSError:
        return None


@lru_cache(maxsize=4)
def slots_of(of: Sources) -> tuple[Slot, ...]:
    """Every slot that a recipe has, in the order in which the type hints come to them."""
    paths: dict[Declaration, dict[str, None]] = {}
    for section, cls in roots(of).items():
        for base, path in _walk(cls, section, of, frozenset()):
            paths.setdefault(base, {})[path] = None
    return tuple(
        Slot(base=base, paths=tuple(sorted(where, key=len)), choices=tuple(choices(base, of)))
        for base, where in paths.items()
    )


def slots() -> tuple[Slot, ...]:
    """Every slot, with what the package and the current folder have for it."""
    return slots_of(sources(own_folder()))


def choices(base: Declaration, of: Sources) -> list[Declaration]:
    """The classes below one, those without subclasses of their own, by name."""
    return sorted((cls for cls in of.below(base) if not of.below(cls)), key=lambda cls: cls.name)


def _walk(cls: Declaration, path: str, of: Sources, above: frozenset[Declaration]) -> Iterator[tuple[Declaration, str]]:
    """Each slot at or below the arguments of a class, with its config path; no class within itself."""
    for parameter in cls.parameters or ():
        where = f"{path}.{parameter.name}"
        allowed: Hint | None = hint(parameter.annotation, parameter.module, of)
        while allowed is not None:
            for found in allowed.classes:
                below = choices(found, of)
                if below:
                    yield found, where
                for inner in below or [found]:
                    if inner not in above:
                        yield from _walk(inner, where, of, above | {inner})
            allowed = allowed.items


def component_classes() -> set[str]:
    """The names of everything that may stand in a slot."""
    return {cls.name for slot in slots() for cls in slot.choices}


def component_names(path: str) -> list[str]:
    """The classes that may stand at a config path, by name."""
    leaf = path.rpartition(".")[2]
    there = [slot for slot in slots() if any(p.rpartition(".")[2] == leaf for p in slot.paths)]
    return sorted({cls.name for slot in there or slots() for cls in slot.choices})


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name that is most like a misspelt one, in whatever case; None if none is like it."""
    by_lower = {one.lower(): one for one in known}
    near = get_close_matches(name.lower(), list(by_lower), n=1)
    return by_lower[near[0]] if near else None


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """The end of a sentence about a misspelt name: the one that it is like, or all there are."""
    near = nearest(name, known)
    return f"did you mean {near}?" if near else f"there are: {', '.join(known) or 'none'}."


def one_sentence(error: object) -> str:
    """A parser's message on one line; for a misspelt class name, with the names there are."""
    text = " ".join(str(error).split())
    misspelt = re.search(r'key "([\w.]+)".*Expected a dot import path string: (\S+)', text)
    if misspelt is None:
        return text
    key, name = misspelt.groups()
    return f"{key}: nothing is called {name}; {did_you_mean(name, component_names(key))}"
