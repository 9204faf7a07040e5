"""Classes as their source declares them: names, bases, fields and docstrings, read without importing anything."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from research.source_files import Module, files_about, module_name, read_module, source_text

_PACKAGE = Path(__file__).parent
_NO_PLAIN_BASES = frozenset({"ABC", "Generic", "Protocol", "object"})
"""Bases outside the package that add no parameter."""

_HEAD = re.compile(r"^class (\w+)(?:\(([^)]*)\))?:", re.MULTILINE)
_WORD = re.compile(r"\w+")
_LONGEST_CHAIN = 20
"""Of imports from one module to the next; a longer one is a circle."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One argument of a class: a dataclass's field, or a constructor's keyword."""

    name: str
    annotation: ast.expr | None
    """As it is written."""
    module: Module
    """Where the annotation's names are known."""
    default: str | None
    """As Python prints it; None if it must be given."""
    doc: str
    """The string under the field, or what the docstring says under `Args:`, on one line."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Declaration:
    """One class as its source declares it."""

    module: Module
    node: ast.ClassDef
    sources: "Sources" = field(repr=False)

    @property
    def name(self) -> str:
        """The class's name."""
        return self.node.name

    @property
    def path(self) -> str:
        """The import path of the module that declares it, and its name."""
        return f"{self.module.name}.{self.name}"

    @property
    def doc(self) -> str:
        """The docstring."""
        return ast.get_docstring(self.node) or ""

    @cached_property
    def ancestors(self) -> tuple["Declaration", ...]:
        """The class and all that it derives from, as far as their source is known, nearest first."""
        above = [one for base in self.bases for one in base.ancestors]
        return (self, *(one for k, one in enumerate(above) if one not in above[k + 1 :]))

    @cached_property
    def bases(self) -> tuple["Declaration", ...]:
        """The bases whose source is known, in order."""
        known = (self.sources.resolve(self.module, base) for base in self.node.bases)
        return tuple(base for base in known if base is not None and base is not self)

    @property
    def is_dataclass(self) -> bool:
        """Whether its constructor is made from its fields."""
        return any(_called(decorator).rpartition(".")[2] == "dataclass" for decorator in self.node.decorator_list)

    @property
    def is_abstract(self) -> bool:
        """Whether it says itself that a class below must complete it."""
        declared = any(ast.unparse(base).rpartition(".")[2] == "ABC" for base in self.node.bases)
        methods = (s for s in self.node.body if isinstance(s, ast.FunctionDef))
        return declared or any("abstractmethod" in ast.unparse(d) for m in methods for d in m.decorator_list)

    @cached_property
    def parameters(self) -> tuple[Parameter, ...] | None:
        """What its constructor takes, in order; None if the source does not tell."""
        for cls in self.ancestors:
            if cls.is_dataclass:
                return tuple(cls._fields())
            for statement in cls.node.body:
                if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
                    return cls._arguments(statement.args)
            if any(_called(b).rpartition(".")[2] not in _NO_PLAIN_BASES for b in cls._foreign()):
                return None
        return ()

    def _foreign(self) -> Iterator[ast.expr]:
        return (base for base in self.node.bases if self.sources.resolve(self.module, base) is None)

    def _fields(self) -> Iterator[Parameter]:
        """The fields of the dataclass and of those that it derives from, as its constructor takes them."""
        found: dict[str, Parameter] = {}
        for cls in reversed(self.ancestors):
            if cls.is_dataclass:
                found |= {parameter.name: parameter for parameter in cls._own_fields()}
        yield from found.values()

    def _own_fields(self) -> Iterator[Parameter]:
        for node, following in zip(self.node.body, [*self.node.body[1:], None], strict=True):
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                continue
            if _called(node.annotation).rpartition(".")[2] in ("ClassVar", "KW_ONLY") or _not_in_constructor(node):
                continue
            said = following.value if isinstance(following, ast.Expr) else None
            yield Parameter(
                name=node.target.id,
                annotation=node.annotation,
                module=self.module,
                default=_default(node.value),
                doc=_one_line(said.value if isinstance(said, ast.Constant) and isinstance(said.value, str) else ""),
            )

    def _arguments(self, arguments: ast.arguments) -> tuple[Parameter, ...] | None:
        if arguments.kwarg or arguments.vararg:
            return None
        positional = [*arguments.posonlyargs, *arguments.args][1:]
        defaults = [*[None] * (len(positional) - len(arguments.defaults)), *arguments.defaults]
        pairs = [
            *zip(positional, defaults, strict=True),
            *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
        ]
        docs = argument_docs(self.doc)
        return tuple(
            Parameter(
                name=argument.arg,
                annotation=argument.annotation,
                module=self.module,
                default=_default(default),
                doc=docs.get(argument.arg, ""),
            )
            for argument, default in pairs
        )


class Sources:
    """The classes of the package, and of the files in a folder beside it.

    Args:
        folder: whose Python files are read as modules too; None for none.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._modules: dict[str, Module | None] = {}
        self._declared: dict[ast.ClassDef, Declaration] = {}
        self._below: dict[Declaration, list[Declaration]] = {}
        self.files = {module_name(path, _PACKAGE.parent): path for path in sorted(_PACKAGE.rglob("*.py"))}
        self.own = (
            [] if folder is None else [p.stem for p in files_about(folder, _PACKAGE.name) if p.stem not in self.files]
        )
        """The names of the folder's modules."""
        self.files |= {name: folder / f"{name}.py" for name in self.own if folder is not None}

    def module(self, name: str) -> Module | None:
        """A module by its name; None if there is none, or it cannot be read."""
        if name not in self._modules:
            self._modules[name] = read_module(name, self.files[name]) if name in self.files else None
        return self._modules[name]

    @cached_property
    def _heads(self) -> dict[str, list[tuple[str, str]]]:
        """Class name → each module that declares such a class, and the bases' text; found without parsing."""
        heads: dict[str, list[tuple[str, str]]] = {}
        for name, path in self.files.items():
            for cls, bases in _HEAD.findall(source_text(path)):
                heads.setdefault(cls, []).append((name, bases))
        return heads

    @property
    def class_names(self) -> frozenset[str]:
        """The name of every class at the top level of a module."""
        return frozenset(self._heads)

    def _classes(self, module: Module) -> list[Declaration]:
        return [self._declare(module, node) for node in module.names.values() if isinstance(node, ast.ClassDef)]

    def _declare(self, module: Module, node: ast.ClassDef) -> Declaration:
        return self._declared.setdefault(node, Declaration(module=module, node=node, sources=self))

    @cached_property
    def _deriving(self) -> dict[str, list[str]]:
        """Name of a base → the modules with a class that derives from one of this name."""
        found: dict[str, dict[str, None]] = {}
        for heads in self._heads.values():
            for module, bases in heads:
                for base in _WORD.findall(bases):
                    found.setdefault(base, {})[module] = None
        return {base: [*modules, *(own for own in self.own if own not in modules)] for base, modules in found.items()}

    def is_own(self, cls: Declaration) -> bool:
        """Whether a class is from the folder, not from the package."""
        return cls.module.name in self.own

    def below(self, cls: Declaration) -> list[Declaration]:
        """The classes that derive from one, directly or not; in the package, under the base's own name."""
        if cls not in self._below:
            found: dict[Declaration, None] = {}
            modules = [self.module(name) for name in self._deriving.get(cls.name, self.own)]
            for one in (one for module in modules if module is not None for one in self._classes(module)):
                if cls in one.bases:
                    found |= dict.fromkeys([one, *self.below(one)])
            self._below[cls] = list(found)
        return self._below[cls]

    def named(self, path: str) -> Declaration | None:
        """The class at an import path, which may be that of a package that exports it."""
        module, _, name = path.rpartition(".")
        return self._found(module, name)

    def resolve(self, module: Module, expression: ast.expr) -> Declaration | None:
        """The class that an expression names in a module; None for anything else."""
        match expression:
            case ast.Constant(value=str(text)):
                return self.resolve(module, ast.parse(text, mode="eval").body)
            case ast.Subscript(value=value):
                return self.resolve(module, value)
            case ast.Name(id=name):
                return self._found(module.name, name)
            case ast.Attribute():
                first, _, rest = ast.unparse(expression).partition(".")
                known = module.names.get(first)
                if isinstance(known, tuple):
                    return self.named(".".join(part for part in (*known, rest) if part))
        return None

    def has(self, module: str, name: str) -> bool:
        """Whether a module holds the name, whatever it is, or is a package with a module of that name."""
        read = self.module(module)
        return (read is not None and name in read.names) or f"{module}.{name}" in self.files

    def _found(self, module: str, name: str, imports: int = 0) -> Declaration | None:
        read = self.module(module)
        known = read.names.get(name) if read is not None else None
        if isinstance(known, tuple):
            return self._found(*known, imports + 1) if known[1] and imports < _LONGEST_CHAIN else None
        return None if read is None or known is None else self._declare(read, known)


@lru_cache(maxsize=4)
def sources(folder: Path | None = None) -> Sources:
    """The package's source with that of a folder, read once."""
    return Sources(folder)


def argument_docs(docstring: str) -> dict[str, str]:
    """Argument → what a docstring says of it under `Args:`, on one line."""
    docs: dict[str, str] = {}
    inside, last = False, ""
    for line in docstring.splitlines():
        if line and not line.startswith(" "):
            inside = line == "Args:"
        elif inside and line.strip():
            name, colon, text = line.strip().partition(": ")
            if colon and name.isidentifier() and not line.startswith("     "):
                docs[name], last = text, name
            elif last:
                docs[last] += f" {line.strip()}"
    return docs


def _called(node: ast.expr) -> str:
    """The dotted name in front of a call's or a subscript's brackets."""
    while isinstance(node, ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return ast.unparse(node)


def _not_in_constructor(node: ast.AnnAssign) -> bool:
    call = node.value
    return isinstance(call, ast.Call) and any(k.arg == "init" and not _literal(k.value, True) for k in call.keywords)


def _default(node: ast.expr | None) -> str | None:
    """A default as Python prints it; None for none."""
    if node is None:
        return None
    if isinstance(node, ast.Call) and _called(node).rpartition(".")[2] == "field":
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if "default" in given:
            return _default(given["default"])
        factory = given.get("default_factory")
        empty = {"list": "[]", "dict": "{}", "tuple": "()", "set": "set()"}
        return None if factory is None else empty.get(ast.unparse(factory), f"{ast.unparse(factory)}()")
    value = _literal(node, _UNKNOWN)
    return ast.unparse(node) if value is _UNKNOWN else repr(value)


_UNKNOWN = object()


def _literal(node: ast.expr, otherwise: object) -> object:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return otherwise


def _one_line(text: str) -> str:
    return " ".join(text.split())
