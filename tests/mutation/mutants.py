"""Every small change of a source file that some test has to notice: cosmic-ray's operators, and a few for tensors."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import parso
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import MutationVisitor
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator

BINARY = ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Pow_Mul", "BitAnd_BitOr", "BitOr_BitAnd")
COMPARISON = (
    *("Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt"),
    *("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is"),
)
UNARY = ("Delete_Invert", "Delete_Not")
OTHERS = (
    *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("RemoveDecorator", "ZeroIterationForLoop"),
)
"""One wrong sign, neighbour and opposite each; cosmic-ray has more replacements of the same place, killed alike."""

SWAPS = {
    **{"min": "max", "amin": "amax", "minimum": "maximum", "any": "all", "sum": "mean", "ceil": "int"},
    **{"max": "min", "amax": "amin", "maximum": "minimum", "all": "any", "mean": "sum", "zeros": "ones"},
    **{"zeros_like": "ones_like", "ones_like": "zeros_like", "ones": "zeros", "inf": "-inf", "sigmoid": "tanh"},
    **{"expm1": "exp", "in": "not in", "|=": "&=", "range": "reversed"},
}
"""Names, and the two symbols that cosmic-ray leaves alone, against their closest relatives."""


class SwapName(Operator):
    """`clamp(min=…)` for `clamp(max=…)`, `any` for `all`, and so on."""

    def mutation_positions(self, node):
        if getattr(node, "value", None) in SWAPS and node.parent.type != "comp_for" and node.parent.type != "for_stmt":
            yield node.start_pos, node.end_pos

    def mutate(self, node, index):
        node.value = SWAPS[node.value]
        return node

    @classmethod
    def examples(cls):
        return ()


class DropCall(Operator):
    """`x` for `x.clamp(…)`, `x.masked_fill(…)`, `x.detach()`: one clamp, mask or conversion less."""

    def mutation_positions(self, node):
        return [(node.children[at].start_pos, node.children[at + 1].end_pos) for at in self._calls(node)]

    def mutate(self, node, index):
        at = list(self._calls(node))[index]
        node.children[at : at + 2] = []
        return node

    @staticmethod
    def _calls(node) -> Iterator[int]:
        if node.type not in ("atom_expr", "power") or node.children[0].get_code().strip() == "super":
            return
        codes = [child.get_code().strip() for child in node.children]
        for at in range(1, len(codes) - 1):
            if codes[at].startswith(".") and codes[at + 1].startswith("(") and codes[:at] != ["torch"]:
                yield at

    @classmethod
    def examples(cls):
        return ()


class DropArgument(Operator):
    """`x.sum()` for `x.sum(-1)`, `z(x, shift=…)` without `shift`: one axis, bound or choice less."""

    def mutation_positions(self, node):
        if node.type == "arglist" and node.parent.type == "trailer":
            return [(child.start_pos, child.end_pos) for child in node.children[2::2]]
        return []

    def mutate(self, node, index):
        at = 2 + 2 * index
        node.children[at - 1 : at + 1] = []
        return node

    @classmethod
    def examples(cls):
        return ()


class OtherNumber(Operator):
    """Twice a fraction; one more and one less than a whole number; another axis than the last."""

    def mutation_positions(self, node):
        return [(node.start_pos, node.end_pos) for _ in self._others(node)]

    def mutate(self, node, index):
        node.value = self._others(node)[index]
        return node

    @staticmethod
    def _others(node) -> list[str]:
        if not isinstance(node, parso.python.tree.Number):
            return []
        value, kind = float(node.value), float if set(node.value) & {".", "e"} else int
        if value != int(value):
            return [repr(2 * value)]
        last_axis = value == 1 and node.parent.type == "factor"
        setting = node.parent.type == "annassign"
        return [repr(kind(value + 1))] if last_axis or setting else [repr(kind(value + 1)), f"({kind(value - 1)!r})"]

    @classmethod
    def examples(cls):
        return ()


class DropMinus(Operator):
    """`x` for `-x`, but for the last axis, which is also the axis 1 of a matrix."""

    def mutation_positions(self, node):
        codes = [child.get_code().strip() for child in node.children] if node.type == "factor" else []
        if codes and codes[0] == "-" and codes[1] != "1":
            yield node.start_pos, node.end_pos

    def mutate(self, node, index):
        node.children[0].value = ""
        return node

    @classmethod
    def examples(cls):
        return ()


class OtherString(Operator):
    """Another word for the name of a quantity or of a choice."""

    def mutation_positions(self, node):
        if node.type == "string" and node.parent.type not in ("simple_stmt", "expr_stmt"):
            yield node.start_pos, node.end_pos

    def mutate(self, node, index):
        node.value = '"another"'
        return node

    @classmethod
    def examples(cls):
        return ()


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change of one file."""

    file: str
    """Below the repository's root."""
    line: int
    operator: str
    before: str
    """The changed line as it is."""
    after: str
    """The line with the change."""
    source: str
    """The whole file with the change."""


def mutants(root: Path, file: str) -> list[Mutant]:
    """Every mutant of the file, each once, in the order of lines."""
    source = (root / file).read_text()
    lines, skipped, found = source.splitlines(), _not_code(source), {}
    for name, make in _operators().items():
        positions = [position for node in ast_nodes(get_ast(source)) for position in make().mutation_positions(node)]
        for occurrence, (start, _) in enumerate(positions):
            keyword_only = lines[start[0] - 1][start[1] :].startswith("*,")
            if keyword_only or any(low <= start < high for low, high in skipped):
                continue
            text = MutationVisitor.mutate_code(source, make(), occurrence)
            if text is None or text in (source, *found) or not _compiles(text):
                continue
            changed = text.splitlines()
            after = changed[start[0] - 1].strip() if len(changed) == len(lines) else "(removed)"
            found[text] = Mutant(
                file=file, line=start[0], operator=name, before=lines[start[0] - 1].strip(), after=after, source=text
            )
    return sorted(found.values(), key=lambda mutant: mutant.line)


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _operators() -> dict[str, Callable[[], Operator]]:
    names = [
        *(f"ReplaceBinaryOperator_{name}" for name in BINARY),
        *(f"ReplaceComparisonOperator_{name}" for name in COMPARISON),
        *(f"ReplaceUnaryOperator_{name}" for name in UNARY),
        *OTHERS,
    ]
    own = (SwapName, DropCall, DropArgument, OtherNumber, DropMinus, OtherString)
    return {name: get_operator(f"core/{name}") for name in names} | {operator.__name__: operator for operator in own}


def _not_code(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where there are annotations, imports, messages, documentation and declarations; in characters, as parso counts.

    That a component is frozen and keyword-only is one test of the contract, which holds for all of them.
    """
    tree, spans = ast.parse(source), []
    for node in ast.walk(tree):
        exported = isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
        documented = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if exported or documented or isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom):
            spans.append(node)
        elif isinstance(node, ast.ClassDef):
            spans += node.decorator_list
        elif isinstance(node, ast.FunctionDef):
            spans += [a.annotation for a in (*node.args.args, *node.args.kwonlyargs) if a.annotation]
            spans += [node.returns] if node.returns else []
        elif isinstance(node, ast.AnnAssign):
            spans.append(node.annotation)
    rows = source.splitlines()

    def place(line: int, offset: int) -> tuple[int, int]:
        return line, len(rows[line - 1].encode()[:offset].decode())

    places = [(place(n.lineno, n.col_offset), place(n.end_lineno or 0, n.end_col_offset or 0)) for n in spans]
    decorators = [d for n in ast.walk(tree) if isinstance(n, ast.ClassDef) for d in n.decorator_list]
    return places + [((d.lineno, d.col_offset - 1), (d.lineno, d.col_offset)) for d in decorators]
