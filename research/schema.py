"""A config checked against the constructors' source: misspelt and missing keys, misspelt classes.

It takes milliseconds, where importing the constructors takes seconds, so a misspelt word is refused at once. It refuses
nothing that the parser accepts; types and ranges are for the parser to judge.
"""

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from research.errors import UserError
from research.slots import Hint, allows_null, choices, did_you_mean, hint, nearest, own_folder, roots
from research.sources import Declaration, Parameter, Sources, sources

SECTIONS = frozenset({"model", "data", "trainer", "run", "after"})
_GIVEN = frozenset({"data.seed"})
"""What the parser fills in from elsewhere in the recipe."""
_OF_A_CLASS = ("class_path", "init_args", "dict_kwargs")


def check(config: Mapping[str, Any]) -> None:
    """Refuse a config with a word that no constructor knows, or without one that a constructor needs.

    Args:
        config: nested mappings, as a recipe file has them.

    Raises: UserError with one sentence about the first mistake.
    """
    fault = next(_faults(config), None)
    if fault is not None:
        raise UserError(fault)


def _faults(config: Mapping[str, Any]) -> Iterator[str]:
    of = sources(own_folder())
    for section in config:
        if section not in SECTIONS:
            near = nearest(str(section), sorted(SECTIONS))
            meant = f"; did you mean {near}? A" if near else ": a"
            yield f"no section is called {section}{meant} recipe has {', '.join(sorted(SECTIONS))}"
    for section, cls in roots(of).items():
        node = config.get(section)
        if node is None:
            yield f"{section} is missing: a recipe has the sections model, data, trainer and run"
        else:
            yield from _in_arguments(node, cls, section, of)
    yield from _unknown(config.get("trainer"), _trainer_arguments(), "trainer")
    if isinstance(config.get("after"), Mapping):
        yield from (f"after: {fault}" for fault in _faults(config["after"]))


def _unknown(node: Any, known: Sequence[str], path: str) -> Iterator[str]:
    """A sentence for every key of a mapping that is not known; what the parser splits or drops is left to it."""
    for key, value in node.items() if isinstance(node, Mapping) and known else ():
        if key not in known and _is_plain(key) and value != {}:
            yield f"{path} has no key {key}; {did_you_mean(str(key), known)}"


def _is_plain(key: Any) -> bool:
    return "." not in str(key) and not str(key).endswith("+")


def _is_given(node: Mapping[str, Any], parameter: Parameter, path: str) -> bool:
    """Whether an argument has a value, or needs none."""
    if parameter.default is not None or f"{path}.{parameter.name}" in _GIVEN:
        return True
    return node.get(parameter.name) is not None or allows_null(parameter.annotation)


def _in_arguments(node: Any, cls: Declaration, path: str, of: Sources) -> Iterator[str]:
    """The faults of the mapping that holds a class's arguments."""
    parameters = cls.parameters
    if parameters is None or not isinstance(node, Mapping):
        return
    yield from _unknown(node, [parameter.name for parameter in parameters], path)
    for parameter in parameters:
        if parameter.name in node:
            allowed = hint(parameter.annotation, parameter.module, of)
            yield from _in_value(node[parameter.name], allowed, f"{path}.{parameter.name}", of)
    if all(_is_plain(key) for key in node):
        for parameter in parameters:
            if not _is_given(node, parameter, path):
                yield f"{path}.{parameter.name} is missing{_offered(parameter, of)}"


def _offered(parameter: Parameter, of: Sources) -> str:
    """What may stand where something is missing: the end of a sentence."""
    allowed = hint(parameter.annotation, parameter.module, of)
    inner = allowed.items or allowed
    names = [cls.name for base in inner.classes for cls in choices(base, of)]
    return f": there are {', '.join(names)}" if names else ""


def _in_value(value: Any, allowed: Hint, path: str, of: Sources) -> Iterator[str]:
    """The faults of one argument's value."""
    if isinstance(value, list):
        for item in value if allowed.items is not None else ():
            yield from _in_value(item, allowed.items or Hint(), path, of)
    elif not allowed.otherwise and len(allowed.classes) == 1:
        (cls,) = allowed.classes
        if isinstance(value, str) and of.below(cls):
            yield from _in_component({"class_path": value}, cls, path, of)
        elif isinstance(value, Mapping) and of.below(cls):
            yield from _in_component(value, cls, path, of)
        elif isinstance(value, Mapping) and cls.is_dataclass and "class_path" not in value:
            yield from _in_arguments(value, cls, path, of)


def _in_component(node: Mapping[str, Any], base: Declaration, path: str, of: Sources) -> Iterator[str]:
    """The faults of the node in a slot: its own keys, its class's name, and the arguments if the name is right."""
    name = node.get("class_path")
    if not all(_is_plain(key) for key in node) or not isinstance(name, str | None):
        return
    found = None if name is None else _named(name, base, of)
    settings = () if found is None else tuple(parameter.name for parameter in found.parameters or ())
    for key in node:
        if key in settings and node[key] != {}:
            yield f"{path} has no key {key}: write init_args: {{{key}: …}}"
    yield from _unknown(node, _OF_A_CLASS, path)
    if found is not None:
        yield from _in_arguments(node.get("init_args") or {}, found, f"{path}.init_args", of)
    elif name is not None:
        yield from _in_name(name, base, path, of)
    elif base.is_abstract:
        yield f"{path}.class_path is missing: there are {', '.join(cls.name for cls in choices(base, of))}"


def _in_name(name: str, base: Declaration, path: str, of: Sources) -> Iterator[str]:
    """The faults of a component's name, of which no class is known."""
    last, known = name.rpartition(".")[2], [cls.name for cls in choices(base, of)]
    if _is_misspelt(name, base, of):
        yield f"{path}: nothing is called {name}; {did_you_mean(last, known)}"
    elif "." not in name and name not in _imported(base):
        own = [cls.path for cls in of.below(base) if cls.name == name]
        meant = f"is written {own[0]}" if own else f"does not belong here; there are: {', '.join(known)}."
        yield f"{path}: {name} {meant}"


def _named(name: str, base: Declaration, of: Sources) -> Declaration | None:
    """The class that a recipe calls by this name, if it may stand where the base may.

    The last word is enough for a class of the package.
    """
    if "." in name:
        found = of.named(name)
        return found if found is not None and base in found.ancestors else None
    below = [cls for cls in (base, *of.below(base)) if cls.name == name and not of.is_own(cls)]
    return below[0] if len(below) == 1 else None


def _is_misspelt(name: str, base: Declaration, of: Sources) -> bool:
    """Whether the parser can find no such class, whatever is imported."""
    module, dot, last = name.rpartition(".")
    if dot:
        ours = module in of.files or name.startswith("research.")
        return ours and not of.has(module, last)
    return name not in of.class_names | _imported(base)


def _imported(base: Declaration) -> set[str]:
    """The names of the classes below one in this process, wherever they were declared."""
    module = sys.modules.get(base.module.name)
    cls = getattr(module, base.name, None)
    waiting, names = [cls] if isinstance(cls, type) else [], set()
    while waiting:
        below = waiting.pop().__subclasses__()
        names |= {one.__name__ for one in below}
        waiting += below
    return names


@cache
def _trainer_arguments() -> list[str]:
    """The arguments of Lightning's Trainer, from its source; none if that is not where it is expected."""
    spec = find_spec("lightning")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    for folder in folders:
        try:
            tree = ast.parse((Path(folder) / "pytorch" / "trainer" / "trainer.py").read_text(encoding="utf-8"))
        except (OSError, SyntaxError):
            continue
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name == "Trainer":
                (made,) = [s for s in node.body if isinstance(s, ast.FunctionDef) and s.name == "__init__"]
                return [argument.arg for argument in [*made.args.args[1:], *made.args.kwonlyargs]]
    return []
