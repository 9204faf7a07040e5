"""Arithmetic that a model wrote: exact, bounded, nothing else."""

from fractions import Fraction

import pytest

from research.calculator import MOST_CHARACTERS, CalculationError, evaluate, numbers_in, written


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("[1 + 2] × 3", 9),
        ("2 - 3 - 4", -5),
        ("2 − 3", -1),
        ("-2 ** 2", -4),
        ("2 ^ 3 ^ 2", 512),
        ("2 ^ -3", Fraction(1, 8)),
        ("1/3 + 1/6", Fraction(1, 2)),
        ("7 // 2", 3),
        ("-7 // 2", -4),
        ("7 % 3", 1),
        ("0.1 + 0.2", Fraction(3, 10)),
        ("0.12345678901234567890123", Fraction("0.12345678901234567890123")),
        ("1e3", 1000),
        ("0 ** 0", 1),
        ("0 ** 5", 0),
        ("(-1) ** 1000000000001", -1),
        ("1 ** 10**30", 1),
        ("+ + 3", 3),
        ("(1 +\n 2)", 3),
    ],
)
def test_value(expression: str, value: int | Fraction):
    assert evaluate(expression) == value


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("9**9**9**9", "too large"),
        ("10 ** 10 ** 10", "too large"),
        ("2 ** 5000", "the power is too large"),
        ("2 ** (1/2)", "integer"),
        ("1/0", "division by zero"),
        ("1 // 0", "division by zero"),
        ("5 % 0", "division by zero"),
        ("0 ** -1", "division by zero"),
        ("1e999", "too large"),
        ("(2**4000) * (2**4000)", "too large"),
        ("__import__('os').system('true')", "only numbers"),
        ("abs(1)", "only numbers"),
        ("x + 1", "only numbers"),
        ("1 < 2", "only numbers"),
        ("1 if 1 else 2", "only numbers"),
        ("'a' * 9", "only numbers"),
        ("True + 1", "only numbers"),
        ("2j", "only numbers"),
        ("1 | 2", "only numbers"),
        ("1, 2", "only numbers"),
        ("x := 3", "not an arithmetic"),
        ("1 +", "not an arithmetic"),
        ("", "not an arithmetic"),
        ("1\x002", "not an arithmetic"),
        ("٣ + 1", "not an arithmetic"),
        ("(" * 250, "not an arithmetic"),
        ("-" * 255 + "1", ""),
        ("1+" * 200 + "1", "longer than"),
        ("9" * (MOST_CHARACTERS + 1), "longer than"),
    ],
    ids=lambda text: text[:20].replace("\x00", "NUL"),
)
def test_anything_else_is_refused_in_a_few_words(expression: str, reason: str):
    if not reason:
        assert evaluate(expression) == -1
        return
    with pytest.raises(CalculationError, match=reason):
        evaluate(expression)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(12), "12"),
        (Fraction(-27, 2), "-13.5"),
        (Fraction(1, 3), "0.33333333333333333333"),
        (Fraction(100), "100"),
        (Fraction(1, 10**30), "1E-30"),
    ],
)
def test_written(value: Fraction, text: str):
    assert written(value) == text


def test_numbers():
    assert numbers_in("-3 * (10 + 4) - 3") == [3, 3, 4, 10]
