"""The catalogue of components: every concrete one of every slot, read from its own declaration.

A slot is an abstract class directly below `research.component.Component`; a component is a dataclass directly below
a slot. Nothing is registered by hand: defining the class in a stage package is what puts it here, in the output of
`research components` and in the index of `research/README.md`.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from doctest import DocTestParser
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from typing import Any

from rich.table import Table

from research.component import Component

STAGES = ("rollouts", "rewards", "credit", "objective")
"""The stages that have slots, in the order of the flow; each package imports its own components."""

_SECTION = re.compile(r"^([A-Z][a-z]+):(.*)$")
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


@dataclass(frozen=True, kw_only=True)
class ComponentEntry:
    """One component as its class declares it."""

    cls: type[Component]
    slot_cls: type[Component]
    """The slot's abstract class."""
    summary: str
    """The docstring's first sentence."""
    equation: tuple[str, ...]
    """The docstring's indented lines before its sections."""
    source: str
    """The paper or repository that the equation is from."""
    examples: tuple[str, ...]
    """The code of the docstring's doctest, one statement each."""
    fields: tuple[FieldEntry, ...]

    @property
    def name(self) -> str:
        """The class's name, as a recipe writes it after the package."""
        return self.cls.__name__

    @property
    def stage(self) -> str:
        """The folder below `research` that holds the slot."""
        return self.slot_cls.__module__.split(".")[1]

    @property
    def slot(self) -> str:
        """The slot, as stage and abstract class."""
        return f"{self.stage}.{self.slot_cls.__name__}"

    @property
    def class_path(self) -> str:
        """What a recipe writes as `class_path`: the stage package if it exports the class, else its module."""
        package = import_module(f"research.{self.stage}")
        module = package.__name__ if getattr(package, self.name, None) is self.cls else self.cls.__module__
        return f"{module}.{self.name}"

    @property
    def file(self) -> str:
        """The path of the class's file below the folder `research`, with forward slashes."""
        return Path(*self.cls.__module__.split(".")[1:]).with_suffix(".py").as_posix()

    @property
    def arxiv(self) -> tuple[str, ...]:
        """The arXiv numbers that the source cites."""
        return tuple(_ARXIV.findall(self.source))

    def example(self) -> Component:
        """The component as the docstring's example constructs it.

        Raises: LookupError if no statement of the example constructs the component.
        """
        scope: dict[str, Any] = {**vars(import_module(self.cls.__module__))}
        for statement in self.examples:
            for node in ast.walk(ast.parse(statement)):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == self.name:
                    return eval(ast.unparse(node), scope)
            exec(statement, scope)
        raise LookupError(f"{self.class_path}: no statement under Example: constructs {self.name}")


def slots() -> list[type[Component]]:
    """The abstract class of every slot, in the order of the flow, then by name."""
    for stage in STAGES:
        import_module(f"research.{stage}")
    found = [cls for cls in Component.__subclasses__() if cls.__module__.startswith("research.")]
    return sorted(found, key=lambda cls: (STAGES.index(cls.__module__.split(".")[1]), cls.__name__))


def discover() -> list[ComponentEntry]:
    """Every concrete component of every slot, in the order of the flow, then by slot and name."""
    return [
        _entry(slot, cls)
        for slot in slots()
        for cls in sorted(_below(slot), key=lambda cls: cls.__name__)
        if is_dataclass(cls) and cls.__module__.startswith("research.")
    ]


def component_table() -> Table:
    """The table that `research components` prints: slot, component, equation, settings and source."""
    table = Table(title="components", show_lines=True)
    for heading in ("slot", "component", "equation", "settings", "source"):
        table.add_column(heading, overflow="fold")
    table.columns[1].min_width = max(len(entry.class_path) for entry in discover())
    for entry in discover():
        settings = (f"{f.name}: {f.type} = {f.default}" if f.default else f"{f.name}: {f.type}" for f in entry.fields)
        cells = (
            entry.slot,
            f"{entry.class_path}\n{entry.summary}",
            "\n".join(entry.equation),
            "\n".join(settings),
            entry.source,
        )
        table.add_row(*(cell.replace("[", r"\[") for cell in cells))
    return table


def index_rows() -> list[str]:
    """The rows of the index in `research/README.md`, in Markdown: component, slot, equation, file, source."""
    return [
        f"| `{entry.name}` | `{entry.slot}` | {_code(entry.equation)} | [{entry.file}]({entry.file}) "
        f"| {_linked(entry.source)} |"
        for entry in discover()
    ]


def _below(cls: type[Component]) -> Iterator[type[Component]]:
    for child in cls.__subclasses__():
        yield child
        yield from _below(child)


def _entry(slot: type[Component], cls: type[Component]) -> ComponentEntry:
    head, sections = _sections(inspect.getdoc(cls) or "")
    paragraphs = "\n".join(line for line in head if not line.startswith("    ")).split("\n\n")
    return ComponentEntry(
        cls=cls,
        slot_cls=slot,
        summary=_one_line(paragraphs[0]),
        equation=tuple(line.strip() for line in head if line.startswith("    ")),
        source=_one_line(sections.get("Source", "")),
        examples=tuple(example.source for example in DocTestParser().get_examples(sections.get("Example", ""))),
        fields=tuple(_field_entries(cls)),
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


def _field_entries(cls: type) -> Iterator[FieldEntry]:
    for declaring in reversed(cls.__mro__):  # shared settings first, as dataclasses order their fields
        if is_dataclass(declaring) and "__dataclass_fields__" in vars(declaring):
            yield from _own_field_entries(declaring)


def _own_field_entries(cls: type) -> Iterator[FieldEntry]:
    body = ast.parse(dedent(inspect.getsource(cls))).body[0].body  # pyright: ignore[reportAttributeAccessIssue]
    declared = {f.name: f for f in fields(cls)}
    for node, following in zip(body, [*body[1:], None], strict=True):
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id in declared):
            continue
        doc = (
            following.value.value
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            else ""
        )
        field = declared[node.target.id]
        if field.default is not MISSING:
            default = repr(field.default)
        else:
            default = None if field.default_factory is MISSING else repr(field.default_factory())
        yield FieldEntry(name=field.name, type=ast.unparse(node.annotation), default=default, doc=_one_line(str(doc)))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _code(lines: tuple[str, ...]) -> str:
    return "<br>".join(f"`{_one_line(line)}`" for line in lines).replace("|", r"\|")


def _linked(source: str) -> str:
    return _ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", source).replace("|", r"\|")
