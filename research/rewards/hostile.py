"""Answers that would cost too much to compute with, found by one look at their text."""

import re

MOST_NESTED = 100
"""Most brackets of one kind that may be open at once on a line."""
MOST_DIGITS = 1000
"""Most digits of a number."""

_BRACKETS = re.compile(r"[()\[\]{}\n]")
_POWER = r"\s*(?:\*\*|\^)\s*(?:[({]\s*)*"
_TOWER = re.compile(rf"(?<![\d.])\d[\d.]*(?:{_POWER}\d[\d.]*){{3}}")
_HUGE = re.compile(rf"{_POWER}[-+]?\d{{6}}|\d{{5}}\s*!(?!=)")
_DIGITS = re.compile(rf"\d{{{MOST_DIGITS + 1}}}")


def refusal(text: str) -> str | None:
    """The reason to keep a text from a computer algebra system: `nesting`, `tower` or `digits`; None if it is safe.

    A `tower` is three powers of numbers in a row, an exponent of six digits, or the factorial of a five-digit number.

    Example:
        >>> refusal("9**9**9**9"), refusal("(" * 200), refusal("7" * 2000), refusal("2^{10} - (1, 2]")
        ('tower', 'nesting', 'digits', None)
        >>> refusal("2^{999999}"), refusal("99999!")
        ('tower', 'tower')
    """
    if deepest(text) > MOST_NESTED:
        return "nesting"
    if _DIGITS.search(text):
        return "digits"
    return "tower" if _TOWER.search(text) or _HUGE.search(text) else None


def deepest(text: str) -> int:
    r"""The most brackets of one kind that are open at once on a line of the text.

    Example:
        >>> deepest("((1) + [2, 3) +\n ({4})")
        2
    """
    most, opened = 0, {"(": 0, "[": 0, "{": 0}
    closes = {")": "(", "]": "[", "}": "{"}
    for bracket in _BRACKETS.findall(text):
        if bracket in opened:
            opened[bracket] += 1
            most = max(most, opened[bracket])
        elif bracket in closes:
            opened[closes[bracket]] = max(0, opened[closes[bracket]] - 1)
        else:
            opened = dict.fromkeys(opened, 0)
    return most
