"""Search for the answer in a completion, and for the number in it. All searches are linear, and most are bounded."""

import re
from collections import deque
from fractions import Fraction

BOX = "\\boxed"
"""The marker that stands for the content of a LaTeX box."""
MOST_CHARACTERS = 20_000
"""Most characters of a box, and of the end of a text that is searched for its last number."""
MOST_DIGITS = 400
"""Most digits of a number, and the largest exponent of ten, that are read."""

_TAG = re.compile(r"<([A-Za-z_][\w-]*)>")
_NUMBER = re.compile(r"[-+]?(?:\d[\d,]*(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?")
_WRITTEN_NUMBER = re.compile(rf"{_NUMBER.pattern}(?:/\d+)?")
_FRACTION = re.compile(r"\s*([-+]?)\s*\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}\s*")
_SHORT_FRACTION = re.compile(r"\s*([-+]?)\s*\\[dt]?frac\s*(\d)\s*(\d)\s*")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+")
_THOUSANDS_IN_LATEX = re.compile(r"(?<=\d)(?:\{,\}|,\\!|\\,)\s*(?=\d{3})")
_FOLDED = {
    **{wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)},
    **dict.fromkeys(map(ord, "−–﹣"), ord("-")),
    **dict.fromkeys(map(ord, "\u00a0\u202f\u2009\u3000"), ord(" ")),
}
"""Full-width characters, minus signs and spaces, each as its ASCII one."""
_TIMES_TEN = re.compile(r"\s*(?:\\times|\\cdot|×)\s*10\s*\^\s*\{?\s*(-?\d{1,4})\s*\}?")
_UNITS = re.compile(
    r"\\(?:text|mathrm|mbox)\s*\{[^{}]*\}(?:\^\s*\{?[23]\}?)?|\\[,;!: ]|~|\^\s*\{?\s*\\circ\s*\}?|\\%|\\\$|[%$°£€¥]"
)
_NO_UNIT = re.compile(
    r"(?:[^mgshlLJNWVKCF]|pi|sqrt|squared|cubed|half|halves|thirds?|fourths?|fifths?|sixths?|eighths?|ninths?|tenths?"
    r"|hundred(?:th)?s?|thousand(?:th)?s?|million(?:th)?s?|billions?|trillions?|dozens?|scores?|times|over|plus|minus)"
    r"(?![^\W\d_])"
)
"""Words behind a number that are no unit, since they make it another number: a variable, π, a multiple, a part."""
_LETTERS = re.compile(r"[^\W\d_]+(?:[ /.-]+[^\W\d_]+)*(?:\^?\{?[23²³]\}?)?\.?")


def answer_after(marker: str, text: str) -> str | None:
    r"""The text behind the last `marker`, stripped; None if there is no marker.

    Behind `\boxed` it is the content of the braces, behind an opening tag the text before its closing tag.

    Example:
        >>> answer_after("#", "1+2=3;#3"), answer_after("<answer>", "<answer> 3 </answer> ok")
        ('3', '3')
        >>> answer_after("\\boxed", r"so $\boxed{\frac{1}{2}}$.")
        '\\frac{1}{2}'
    """
    if marker == BOX:
        return boxed(text)
    _, found, answer = text.rpartition(marker)
    if not found:
        return None
    tag = _TAG.fullmatch(marker)
    return (answer.partition(f"</{tag[1]}>")[0] if tag else answer).strip()


def boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{…}` or `\fbox{…}`, braces balanced; None unless closed within 20,000 characters.

    Example:
        >>> boxed(r"\boxed{1} or \boxed {\{2\}}")
        '\\{2\\}'
    """
    starts = [match.end() for match in re.finditer(r"\\(?:boxed|fbox)\s*\{", text)]
    return _balanced(text, starts[-1]) if starts else None


def _balanced(text: str, start: int) -> str | None:
    depth = 1
    for brace in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start, start + MOST_CHARACTERS):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return text[start : brace.start()].strip()
    return None


def folded_widths(text: str) -> str:
    """The text with ASCII characters for full-width ones, typographic minuses and spaces.

    Example:
        >>> folded_widths("－２６"), folded_widths("−3")
        ('-26', '-3')
    """
    return text.translate(_FOLDED)


def plain(text: str) -> str:
    """The text as `folded_widths` has it, without the math delimiters around it."""
    folded = folded_widths(text).strip()
    for left, right in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**")):
        if len(folded) > len(left) + len(right) and folded.startswith(left) and folded.endswith(right):
            folded = folded[len(left) : -len(right)].strip()
    return folded


def number(text: str) -> Fraction | None:
    r"""The integer, decimal or fraction that the text writes; signs of currency, percent and units are ignored.

    The right side of an equation is read. Commas are thousands separators, at every third digit or not at all. A
    number of more than `MOST_DIGITS` digits is not read.

    Example:
        >>> number("$1,234.50"), number(r"-\frac{3}{4}"), number("3 / 4"), number("12 apples"), number("1,2")
        (Fraction(2469, 2), Fraction(-3, 4), Fraction(3, 4), Fraction(12, 1), None)
    """
    text = _TIMES_TEN.sub(r"e\1", plain(text)) if len(text) < 4 * MOST_DIGITS else ""
    fraction = _FRACTION.fullmatch(text) or _SHORT_FRACTION.fullmatch(text)
    if fraction:
        return _ratio(fraction[1] + fraction[2].strip(), fraction[3].strip())
    bare = _without_units(text.rpartition("=")[2])
    top, slash, bottom = bare.partition("/")
    return _ratio(top.strip(), bottom.strip()) if slash else decimal(bare)


def _without_units(text: str) -> str:
    bare = _UNITS.sub(" ", with_commas(text)).strip().rstrip(".。").strip()
    match = _NUMBER.match(bare)
    unit = bare[match.end() :].strip() if match else ""
    if match and _LETTERS.fullmatch(unit) and not _NO_UNIT.match(unit):
        return match[0]
    return re.sub(r"^([-+])\s+", r"\1", bare)


def with_commas(text: str) -> str:
    r"""The text with a comma wherever LaTeX has another thousands separator.

    Example:
        >>> with_commas(r"10{,}000 and 1\,234")
        '10,000 and 1,234'
    """
    return _THOUSANDS_IN_LATEX.sub(",", text)


def _ratio(top: str, bottom: str) -> Fraction | None:
    above, below = decimal(top), decimal(bottom)
    return None if above is None or not below else above / below


def decimal(text: str) -> Fraction | None:
    """The number in decimal notation, with thousands separators or without; None if it is none or has too many digits.

    Example:
        >>> decimal("1,000.5"), decimal("1,00"), decimal("1e999999999")
        (Fraction(2001, 2), None, None)
    """
    if not _NUMBER.fullmatch(text) or len(text) > MOST_DIGITS:
        return None
    mantissa, _, exponent = text.lower().partition("e")
    whole = mantissa.lstrip("+-").partition(".")[0]
    if "," in whole and not _THOUSANDS.fullmatch(whole):
        return None
    if exponent and (len(exponent) > 5 or abs(int(exponent)) > MOST_DIGITS):
        return None
    return Fraction(text.replace(",", ""))


def last_number(text: str) -> str | None:
    """The last number in the text, or the last fraction, as it is written there.

    Example:
        >>> last_number("16 - 3 = 13, so she makes $26.00 a day."), last_number("That is 3/4.")
        ('26.00', '3/4')
    """
    last = deque(_WRITTEN_NUMBER.finditer(plain(text[-MOST_CHARACTERS:])), maxlen=1)
    return last[0][0].rstrip(",.") if last else None
