"""Pairs of a reference answer and another, and whether they are the same answer: by kind, judged by hand.

Each kind has forms of the same answer for several values, and answers that are near but not the same.
"""

from collections.abc import Iterator

Pair = tuple[str, str, str, bool]
"""Kind, reference, answer, whether it is the same."""


def forms(kind: str, reference: str, same: str, other: str) -> Iterator[Pair]:
    """Answers that are the same as the reference, and others, each list separated by ` | `."""
    for texts, truth in ((same, True), (other, False)):
        for text in texts.split(" | ") if texts else ():
            yield kind, reference, text, truth


def integers() -> Iterator[Pair]:
    for n in (0, 7, 42, 113, 2024):
        yield from forms(
            "integer", str(n), f"{n} | {n}.0 | +{n} | 0{n} | ${n}$ | x = {n}", f"{n + 1} | {n}.5 | {n}1 | n"
        )
    for n in (3, 18, 250):
        yield from forms("minus", f"-{n}", f"-{n} | −{n} | - {n} | $-{n}$ | –{n}", f"{n} | -{n + 1} | --{n + 1}")


def fractions() -> Iterator[Pair]:
    for top, bottom, decimal, twice in ((1, 2, "0.5", "2/4"), (3, 4, "0.75", "6/8"), (7, 5, "1.4", "14/10")):
        same = f"{top}/{bottom} | \\frac{{{top}}}{{{bottom}}} | \\dfrac{{{top}}}{{{bottom}}} | {decimal} | {twice}"
        same += f" | \\frac{top}{bottom} | \\tfrac{{{top}}}{{{bottom}}}"
        yield from forms("fraction", f"\\frac{{{top}}}{{{bottom}}}", same, f"{bottom}/{top} | {top} | -{top}/{bottom}")
    yield from forms("fraction", "\\frac{1}{3}", "1/3 | \\frac{2}{6}", "0.3 | 0.33 | 3")
    yield from forms("mixed number", "\\frac{7}{2}", "3\\frac{1}{2} | 3.5", "3\\frac{1}{3} | \\frac{31}{2}")


def numbers_in_dress() -> Iterator[Pair]:
    for plain, separated in (("1234", "1,234"), ("25000", "25,000"), ("1234567", "1,234,567")):
        latex = separated.replace(",", "{,}")
        thin, spaced = separated.replace(",", "\\,"), separated.replace(",", " ")
        same = f"{separated} | {latex} | {thin} | {spaced} | {separated.replace(',', ',!').replace('!', chr(92) + '!')}"
        yield from forms("thousands", plain, same, f"{plain}0 | {plain[:-3]} | {plain[:-3]}.{plain[-3:]}")
        yield from forms("thousands", separated, f"{plain} | {separated}.00", f"{plain[:-3]} | {plain}1")
    for n in (5, 50, 12):
        yield from forms("percent", f"{n}", f"{n}% | {n}\\%", f"{n + 1}% | {n}0\\%")
        yield from forms("percent", f"{n}\\%", f"{n}% | {n}\\% | {n / 100}", f"{n + 1}\\% | {n / 10}")
        yield from forms(
            "currency", f"{n}", f"\\${n} | ${n}.00 | {n} dollars | \\${n}.00", f"\\${n + 1} | {n} cents or {n + 1}"
        )
        units = f"{n} cm | {n}\\text{{ cm}} | {n} \\mathrm{{cm}} | {n}~\\text{{cm}} | {n} apples | {n}\\text{{ cm}}^2"
        yield from forms("units", f"{n}", units, f"{n}x | {n} million | {n + 1} cm | {n}\\pi")
        yield from forms("units", f"{n}^\\circ", f"{n} | {n}° | {n}^{{\\circ}} | {n} degrees", f"{n + 1}^\\circ")
    yield from forms(
        "scientific", "1200", "1.2e3 | 1.2 \\times 10^3 | 1.2 \\cdot 10^{3}", "1.2e4 | 1.2 \\times 10^{-3}"
    )
    yield from forms("full width", "26", "２６", "２７")


def algebra() -> Iterator[Pair]:
    yield from forms(
        "radical",
        "3\\sqrt{13}",
        "\\sqrt{117} | 3\\sqrt{13} | 3 \\sqrt {13} | \\sqrt{13}\\cdot 3",
        "3\\sqrt{12} | 3 | 13",
    )
    yield from forms("radical", "\\frac{\\sqrt{2}}{2}", "\\frac{1}{\\sqrt{2}} | \\sqrt{1/2}", "\\sqrt{2} | 0.7")
    yield from forms("π", "\\frac{\\pi}{2}", "\\pi/2 | 0.5\\pi | \\frac{1}{2}\\pi", "\\pi | 1.57 | \\frac{2}{\\pi}")
    yield from forms("complex", "6 - 5i", "6-5i | -5i + 6", "6 + 5i | 5 - 6i | 6")
    yield from forms("polynomial", "x^2 - 1", "(x-1)(x+1) | -1 + x^2 | x^{2}-1", "x^2 + 1 | x^2 - x | x - 1")
    yield from forms("polynomial", "p - q", "p-q | -q + p | -(q-p)", "q - p | p + q | p")
    yield from forms("equation", "x = 5", "5 | x=5", "x=6 | 6")
    yield from forms("equation", "y = 2x + 3", "y=2x+3 | y = 3 + 2x | 2x + 3", "y = 2x - 3 | y = 3x + 2")
    yield from forms("base", "52_8", "52_8 | 52_{8}", "53_8 | 25_8 | 52_9 | 52")


def collections() -> Iterator[Pair]:
    yield from forms("interval", "[0, 1)", "[0,1) | \\left[0, 1\\right)", "(0,1) | [0,1] | (0,1] | [0,2)")
    yield from forms(
        "interval", "(-\\infty, 2]", "(-\\infty,2] | x \\le 2 | x \\leq 2", "(-\\infty,2) | (-2, 2] | x < 2"
    )
    yield from forms("interval", "(2, 5) \\cup (5, \\infty)", "(2,5)\\cup(5,\\infty)", "(2,5) | (2,\\infty)")
    yield from forms("tuple", "(3, 4)", "(3,4) | \\left( 3, 4 \\right)", "(4,3) | (3,4,5) | [3,4] | \\{3, 4\\}")
    yield from forms("tuple", "\\left( 3, \\frac{\\pi}{2} \\right)", "(3, \\pi/2)", "(3, \\pi) | (\\pi/2, 3)")
    yield from forms("set", "\\{1, 2, 3\\}", "\\{3, 2, 1\\} | \\{1,2,3\\}", "\\{1, 2\\} | \\{1,2,3,4\\}")
    yield from forms("list", "1,-2", "-2,1 | 1, -2 | 1 and -2", "1,2 | -1,2 | 1")
    yield from forms("plus-minus", "\\pm 3", "\\pm3 | 3, -3 | \\{-3, 3\\}", "3 | -3 | \\pm 4")
    matrix = "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}"
    yield from forms(
        "matrix",
        matrix,
        "\\begin{pmatrix}1\\\\2\\end{pmatrix} | \\begin{bmatrix} 1 \\\\ 2 \\end{bmatrix}",
        "\\begin{pmatrix} 2 \\\\ 1 \\end{pmatrix} | (2, 1)",
    )
    yield from forms(
        "words",
        "\\text{Evelyn}",
        "Evelyn | \\text{Evelyn} | \\text{evelyn}",
        "\\text{Eve} | Evelyn or Bob | \\text{Bob}",
    )
    yield from forms("words", "\\text{(C)}", "C | (C) | \\text{C}", "\\text{(B)} | B | CD")


PAIRS: list[Pair] = [*integers(), *fractions(), *numbers_in_dress(), *algebra(), *collections()]
