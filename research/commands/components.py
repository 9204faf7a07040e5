"""Output of `research components`: a line for each component, or one component whole."""

from collections.abc import Iterator, Sequence
from typing import Any

from research.catalogue import ComponentEntry


def component_table(entries: Sequence[ComponentEntry]) -> Any:
    """For each slot, its config path and a table of its components: name, what each does, settings with defaults."""
    from rich.console import Group
    from rich.text import Text

    slots = list(dict.fromkeys(entry.place for entry in entries))
    wide = max(len(entry.name) for entry in entries)
    parts: list[Any] = []
    for slot in slots:
        parts.append(Text.assemble((slot.paths[0], "bold"), f"   {slot.name}"))
        parts.append(_slot_table([entry for entry in entries if entry.place is slot], wide))
    return Group(*parts)


def _slot_table(entries: Sequence[ComponentEntry], wide: int) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, expand=True, padding=(0, 2, 0, 2))
    table.add_column(width=wide)
    table.add_column(ratio=3)
    table.add_column(ratio=2)
    for entry in entries:
        said = f"{entry.sentence} (from {entry.file})" if entry.own else entry.sentence
        table.add_row(*map(Text, (entry.name, said, ", ".join(field.written for field in entry.fields))))
    return table


def component_page(entry: ComponentEntry) -> str:
    """One component as a recipe writes it, with all that its declaration says."""
    return "\n".join(_lines(entry))


def _lines(entry: ComponentEntry) -> Iterator[str]:
    yield f"{entry.class_path}"
    yield f"  {entry.summary}"
    yield from ("", *(f"      {line}" for line in entry.equation)) if entry.equation else ()
    yield ""
    yield f"  slot     {', '.join(entry.place.paths)}"
    yield f"  file     {entry.file if entry.own else f'research/{entry.file}'}"
    yield from [f"  source   {entry.source}"] if entry.source else []
    yield ""
    yield "  settings" if entry.fields else "  no settings"
    for field in entry.fields:
        given = "must be given" if field.default is None else f"default {field.default}"
        yield f"    {field.name}: {field.type}   {given}"
        yield from [f"        {field.doc}"] if field.doc else []
    if entry.example_text.strip():
        yield from ("", "  example", *(f"    {line.strip()}" for line in entry.example_text.strip().splitlines()))
    yield ""
    yield "  in a recipe"
    yield from (f"    {line}" for line in _recipe_lines(entry))


def _recipe_lines(entry: ComponentEntry) -> Iterator[str]:
    yield f"class_path: {entry.class_path}"
    if required := [field.name for field in entry.fields if field.default is None]:
        yield f"init_args: {{{', '.join(f'{name}: …' for name in required)}}}"
