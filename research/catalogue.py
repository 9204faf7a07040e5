"""The catalogue of components: what may stand in each slot of a recipe, read from its own declaration.

Nothing is registered by hand: defining a class below a slot's, in the package or in a file of the current folder, is
what puts it here, in the output of `research components` and, for the package's, in the index of `research/README.md`.
Only the source is read; a class is imported when it is asked for.
"""

import ast
import re
from dataclasses import dataclass
from doctest import DocTestParser
from importlib import import_module
from pathlib import Path
from typing import Any

from research.errors import UserError
from research.slots import Slot, did_you_mean, own_folder, slots_of
from research.sources import Declaration, sources

STAGES = ("rollouts", "rewards", "credit", "objective")
"""The stages whose components are equations, in the order of the flow."""
_EQUATION = "research.component.Component"
"""A slot whose class is directly below this one holds equations."""

_SECTION = re.compile(r"^([A-Z][a-z]+):(.*)$")
_SENTENCE = re.compile(r".*?[.](?= [A-Z]|$)")
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


@dataclass(frozen=True, kw_only=True)
class FieldEntry:
    """One setting of a component."""

    name: str
    type: str
    """The annotation as it is written in the source."""
    default: str | None
    """The default's `repr`; None if a recipe must give the value."""
    doc: str
    """The string under the field, on one line."""

    @property
    def written(self) -> str:
        """The name, with the default if there is one."""
        return self.name if self.default is None else f"{self.name}={self.default}"


@dataclass(frozen=True, kw_only=True)
class ComponentEntry:
    """One component as its class declares it."""

    declaration: Declaration
    place: Slot
    """The slot that it may stand in."""
    class_path: str
    """Import path in a recipe: the stage package if it exports the class, else its module."""
    own: bool
    """True for a component from a file of the current folder."""
    summary: str
    """The docstring's first paragraph."""
    equation: tuple[str, ...]
    """The docstring's indented lines before its sections."""
    source: str
    """The paper or repository that the equation is from."""
    example_text: str
    """Text of the docstring under `Example:`."""
    fields: tuple[FieldEntry, ...]

    @property
    def name(self) -> str:
        """The class's name, as a recipe writes it after the package."""
        return self.declaration.name

    @property
    def sentence(self) -> str:
        """The first sentence of the summary."""
        found = _SENTENCE.match(self.summary)
        return self.summary if found is None else found[0]

    @property
    def stage(self) -> str:
        """The folder below `research` that holds the slot."""
        return self.place.stage

    @property
    def slot(self) -> str:
        """The slot, as stage and abstract class."""
        return self.place.name

    @property
    def is_equation(self) -> bool:
        """True if the slot's components are equations on quantities, which share one contract."""
        return any(base.path == _EQUATION for base in self.place.base.bases)

    @property
    def file(self) -> str:
        """The path of the class's file, with forward slashes: below the folder `research`, or the current one."""
        path = self.declaration.module.path
        return path.name if self.own else path.relative_to(Path(__file__).parent).as_posix()

    @property
    def arxiv(self) -> tuple[str, ...]:
        """The arXiv numbers that the source cites."""
        return tuple(_ARXIV.findall(self.source))

    @property
    def examples(self) -> tuple[str, ...]:
        """The code of the docstring's doctest, one statement each."""
        return tuple(example.source for example in DocTestParser().get_examples(self.example_text))

    @property
    def cls(self) -> Any:
        """The class, imported now."""
        return getattr(import_module(self.declaration.module.name), self.name)

    @property
    def slot_cls(self) -> Any:
        """The slot's abstract class, imported now."""
        return getattr(import_module(self.place.base.module.name), self.place.base.name)

    def example(self) -> Any:
        """The component as the docstring's example constructs it.

        Raises: LookupError if no statement of the example constructs the component.
        """
        scope: dict[str, Any] = {**vars(import_module(self.declaration.module.name))}
        for statement in self.examples:
            for node in ast.walk(ast.parse(statement)):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == self.name:
                    return eval(ast.unparse(node), scope)
            exec(statement, scope)
        raise LookupError(f"{self.class_path}: no statement under Example: constructs {self.name}")


def catalogue(folder: Path | None = None) -> list[ComponentEntry]:
    """Every component of every slot, in the order of a recipe's sections, then by name.

    Args:
        folder: whose files may hold components too; None for the package's alone.
    """
    of = sources(folder)
    return [
        _entry(slot, cls, own=of.is_own(cls), packages=_packages(cls, slot))
        for slot in slots_of(of)
        for cls in slot.choices
    ]


def discover() -> list[ComponentEntry]:
    """The package's components that are equations, in the order of the flow, then by slot and name."""
    found = [entry for entry in catalogue() if entry.is_equation]
    return sorted(found, key=lambda entry: (STAGES.index(entry.stage), entry.place.base.name, entry.name))


def slots() -> list[Any]:
    """The abstract class of every slot that holds equations, in the order of the flow, then by name."""
    return list(dict.fromkeys(entry.slot_cls for entry in discover()))


def find(name: str) -> list[ComponentEntry]:
    """The components of this name or class path, in the package or the current folder.

    Raises: UserError if there is none.
    """
    entries = catalogue(own_folder())
    found = [entry for entry in entries if name in (entry.name, entry.class_path)]
    if not found:
        known = sorted({entry.name for entry in entries})
        raise UserError(f"no component is called {name}; {did_you_mean(name.rpartition('.')[2], known)}")
    return found


def index_rows() -> list[str]:
    """The rows of the index in `research/README.md`, in Markdown: component, slot, equation, file, source."""
    return [
        f"| `{entry.name}` | `{entry.slot}` | {_code(entry.equation)} | [{entry.file}]({entry.file}) "
        f"| {_linked(entry.source)} |"
        for entry in discover()
    ]


def other_rows() -> list[str]:
    """The rows of the second index, of components that are no equations: component, where, what it does, file."""
    return [
        f"| `{entry.name}` | `{entry.place.paths[0]}` | {_cell(entry.sentence)} | [{entry.file}]({entry.file}) |"
        for entry in catalogue()
        if not entry.is_equation
    ]


def _packages(cls: Declaration, slot: Slot) -> list[str]:
    """Import paths of a class, the shortest first: the slot's stage, the class's own, its module."""
    stages = dict.fromkeys((slot.base.module.name, cls.module.name))
    return [*(".".join(name.split(".")[:2]) for name in stages if "." in name), cls.module.name]


def _entry(slot: Slot, cls: Declaration, *, own: bool, packages: list[str]) -> ComponentEntry:
    named = (f"{package}.{cls.name}" for package in packages)
    head, sections = _sections(cls.doc)
    paragraphs = "\n".join(line for line in head if not line.startswith("    ")).split("\n\n")
    return ComponentEntry(
        declaration=cls,
        place=slot,
        class_path=next(path for path in named if cls.sources.named(path) is cls),
        own=own,
        summary=_one_line(paragraphs[0]),
        equation=tuple(line.strip() for line in head if line.startswith("    ")),
        source=_one_line(sections.get("Source", "")),
        example_text=sections.get("Example", ""),
        fields=tuple(
            FieldEntry(
                name=parameter.name,
                type="" if parameter.annotation is None else ast.unparse(parameter.annotation),
                default=parameter.default,
                doc=parameter.doc,
            )
            for parameter in cls.parameters or ()
        ),
    )


def _sections(docstring: str) -> tuple[list[str], dict[str, str]]:
    """The lines before the first section (`Args:`, `Returns:`, …), and each section's text by its name."""
    head: list[str] = []
    sections: dict[str, list[str]] = {}
    current = head
    for line in docstring.splitlines():
        if match := _SECTION.match(line):
            current = sections.setdefault(match[1], [])
            line = match[2]
        current.append(line)
    return head, {name: "\n".join(lines) for name, lines in sections.items()}


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _code(lines: tuple[str, ...]) -> str:
    return _cell("<br>".join(f"`{_one_line(line)}`" for line in lines))


def _linked(source: str) -> str:
    return _cell(_ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", source))
