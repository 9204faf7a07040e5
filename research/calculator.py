"""Safe evaluation of arithmetic that a language model wrote: exact, and in bounded time.

An expression has at most `MOST_CHARACTERS` characters, so that reading it cannot recurse far; every value in between
has at most `MOST_BITS` bits, so that no operation takes long. Nothing is looked up, called or assigned.
"""

import ast
import operator
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction

MOST_CHARACTERS = 256
"""Most characters of an expression."""
MOST_BITS = 4096
"""Most bits of a value's numerator, and of its denominator."""
MOST_DIGITS = 20
"""Significant digits of a result that is not an integer."""

_WRITTEN = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "[": "(", "]": ")", "{": "(", "}": ")"})
_BINARY: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: lambda a, b: Fraction(a // b),
    ast.Mod: operator.mod,
}


class CalculationError(ValueError):
    """An expression without a value; the message says why, in a few words that a model may be shown."""


def evaluate(expression: str) -> Fraction:
    """The exact value of an expression of numbers, `+ - * / // % ** ^`, and brackets.

    `^` is a power. `×`, `÷` and typographic minuses are read; commas are not, since they may separate numbers.

    Raises: CalculationError if it is anything else, if it is too long, or if a value on the way is too large.

    Example:
        >>> evaluate("2 × (3 + 4) - 1/2"), evaluate("2^-3")
        (Fraction(27, 2), Fraction(1, 8))
        >>> evaluate("9**9**9**9")
        Traceback (most recent call last):
        research.calculator.CalculationError: the power is too large
    """
    text, tree = _parsed(expression)
    return _value(tree, text)


def written(value: Fraction) -> str:
    """The value in decimal notation, rounded to 20 significant digits.

    Example:
        >>> written(Fraction(27, 2)), written(Fraction(-8)), written(Fraction(1, 3))
        ('13.5', '-8', '0.33333333333333333333')
    """
    if value.denominator == 1:
        return str(value.numerator)
    with localcontext() as context:
        context.prec = MOST_DIGITS
        rounded = Decimal(value.numerator) / Decimal(value.denominator)
    return f"{rounded.normalize():f}" if -MOST_DIGITS <= rounded.adjusted() <= MOST_DIGITS else f"{rounded:E}"


def numbers_in(expression: str) -> list[Fraction]:
    """The numbers that an expression is made of, smallest first; a sign is not part of a number.

    Raises: CalculationError if it is no expression.

    Example:
        >>> numbers_in("-3 * (10 + 4)")
        [Fraction(3, 1), Fraction(4, 1), Fraction(10, 1)]
    """
    text, tree = _parsed(expression)
    return sorted(_number(node, text) for node in ast.walk(tree) if isinstance(node, ast.Constant))


def _parsed(expression: str) -> tuple[str, ast.expr]:
    """The expression on one line of ASCII characters, and its tree.

    Raises: CalculationError if it is too long or no expression.
    """
    if len(expression) > MOST_CHARACTERS:
        raise CalculationError(f"the expression is longer than {MOST_CHARACTERS} characters")
    text = " ".join(expression.translate(_WRITTEN).replace("^", "**").split())
    if not text.isascii():
        raise CalculationError("not an arithmetic expression")
    try:
        return text, ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CalculationError("not an arithmetic expression") from error


def _value(node: ast.expr, text: str) -> Fraction:
    if isinstance(node, ast.Constant):
        return _number(node, text)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
        inner = _value(node.operand, text)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.BinOp):
        return _bounded(_binary(node.op, _value(node.left, text), _value(node.right, text)))
    raise CalculationError("only numbers, + - * / // % ** and brackets are arithmetic")


def _number(node: ast.Constant, text: str) -> Fraction:
    if type(node.value) is int:
        return _bounded(Fraction(node.value))
    if type(node.value) is float:
        if abs(node.value) > 1e300 or 0 < abs(node.value) < 1e-300:
            raise CalculationError("the number is too large or too small")
        return Fraction(text[node.col_offset : node.end_col_offset])
    raise CalculationError("only numbers, + - * / // % ** and brackets are arithmetic")


def _binary(kind: ast.operator, left: Fraction, right: Fraction) -> Fraction:
    if isinstance(kind, ast.Pow):
        return _power(left, right)
    if type(kind) not in _BINARY:
        raise CalculationError("only numbers, + - * / // % ** and brackets are arithmetic")
    try:
        return _BINARY[type(kind)](left, right)
    except ZeroDivisionError:
        raise CalculationError("division by zero") from None


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise CalculationError("an exponent is an integer")
    if base == 0 and exponent < 0:
        raise CalculationError("division by zero")
    if base in (-1, 0, 1):
        return base ** (2 - int(exponent % 2)) if exponent else Fraction(1)
    if max(abs(base.numerator), base.denominator).bit_length() * abs(exponent) > MOST_BITS:
        raise CalculationError("the power is too large")
    return Fraction(base ** int(exponent))


def _bounded(value: Fraction) -> Fraction:
    if max(abs(value.numerator), value.denominator).bit_length() > MOST_BITS:
        raise CalculationError("a value on the way is too large")
    return value
