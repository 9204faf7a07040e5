r"""A table as a LaTeX float: caption, label, a tabular as wide as the line, and notes below it."""

import re
import unicodedata
from dataclasses import dataclass

from research.reporting.document import Table

_COMMANDS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}
"""What LaTeX would read as a command."""
_ENCODED = {
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    "−": "$-$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "±": r"$\pm$",
    "→": r"$\to$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "Σ": r"$\Sigma$",
    "√": r"$\surd$",
    "—": "---",
    "…": r"\ldots{}",
    "†": r"\textsuperscript{$\dagger$}",
    "§": r"\S{}",
    "“": "``",
    "”": "''",
    "’": "'",
    "\u00a0": "~",
    **{letter: rf"\textsuperscript{{{digit}}}" for digit, letter in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    "⁻": r"\textsuperscript{$-$}",
    **{
        letter: f"$\\{name}$"
        for name, letter in {
            "alpha": "α",
            "beta": "β",
            "gamma": "γ",
            "delta": "δ",
            "epsilon": "ε",
            "theta": "θ",
            "lambda": "λ",
            "mu": "μ",
            "pi": "π",
            "rho": "ρ",
            "sigma": "σ",
            "tau": "τ",
        }.items()
    },
}
"""What has no letter in LaTeX's default encoding, which prints < as an exclamation mark upside down."""
PACKAGES = ("booktabs", "tabularx")
"""All that a written table needs."""


@dataclass(frozen=True, kw_only=True)
class Float:
    """A table and what a reader must know of it, so that it can stand in a text with nothing added."""

    table: Table
    """Its first column takes the width that the others leave; a heading may hold line breaks."""
    caption: str
    label: str
    notes: tuple[str, ...] = ()
    """Sentences below the table."""
    spans: tuple[tuple[str, int], ...] = ()
    """Headings over the columns: a title, or none, and how many columns it spans; all columns, or no headings."""
    origin: tuple[str, ...] = ()
    """Lines of comment at the top of the file."""


def escaped(text: str) -> str:
    r"""Text that LaTeX prints as it is read; Markdown's marks for code and links are left out.

    Example:
        >>> escaped("a_b < 5 %")
        'a\\_b $<$ 5 \\%'
    """
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", str(text)).replace("`", "")
    return "".join(_letter(letter) for letter in plain)


def _letter(letter: str) -> str:
    known = _COMMANDS.get(letter) or _ENCODED.get(letter)
    if known or letter.isascii():
        return known or letter
    simple = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return simple or f"[U+{ord(letter):04X}]"


def latex(shown: Float) -> str:
    r"""The float in LaTeX, for booktabs and tabularx.

    Args:
        shown: the table, its caption and its notes, in plain text.

    Returns: a table environment that is as wide as the line, at 5.5 inches or more without a line too long; what LaTeX
        would read as a command is escaped.

    Example:
        >>> print(latex(Float(table=Table(head=("Row", "Gain, %"), rows=(("a_b", "−1.0"),)), caption="C.", label="t")))
        % Needs \usepackage{booktabs,tabularx}.
        \begin{table}[tbp]
        \centering
        \caption{C.}
        \label{tab:t}
        \vspace{4pt}
        \footnotesize
        \setlength{\tabcolsep}{3pt}
        \begin{tabularx}{\linewidth}{@{}>{\raggedright\arraybackslash}Xr@{}}
        \toprule
        Row & Gain, \% \\
        \midrule
        a\_b & $-$1.0 \\
        \bottomrule
        \end{tabularx}
        \end{table}
        <BLANKLINE>
    """
    table = shown.table
    columns = "".join("l" if left else "r" for left in table.left[1:])
    notes = " ".join(escaped(note) for note in shown.notes)
    lines = [
        *(f"% {line}" for line in shown.origin),
        rf"% Needs \usepackage{{{','.join(PACKAGES)}}}.",
        r"\begin{table}[tbp]",
        r"\centering",
        rf"\caption{{{escaped(shown.caption)}}}",
        rf"\label{{tab:{shown.label}}}",
        r"\vspace{4pt}",
        r"\footnotesize",
        r"\setlength{\tabcolsep}{3pt}",
        rf"\begin{{tabularx}}{{\linewidth}}{{@{{}}>{{\raggedright\arraybackslash}}X{columns}@{{}}}}",
        r"\toprule",
        *_spanning(shown.spans),
        _row([_head(name, left=left) for name, left in zip(table.head, table.left, strict=True)]),
        r"\midrule",
        *(_row([escaped(cell) for cell in row]) for row in table.rows),
        r"\bottomrule",
        r"\end{tabularx}",
        *([r"\par\vspace{3pt}", rf"\parbox{{\linewidth}}{{\raggedright {notes}}}"] if notes else []),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    """One line; a bracket at its start would be an argument of the line above."""
    text = " & ".join(cells)
    start, rest = ("{[}", text[1:]) if text.startswith("[") else ("", text)
    return f"{start}{rest} \\\\"


def _head(name: str, *, left: bool) -> str:
    lines = [escaped(line) for line in name.split("\n")]
    if len(lines) == 1:
        return lines[0]
    stacked, side = r"\\{}".join(lines), "l" if left else "r"
    return rf"\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{stacked}\end{{tabular}}"


def _spanning(spans: tuple[tuple[str, int], ...]) -> list[str]:
    """The headings over the columns, each with a rule below."""
    if not spans:
        return []
    cells, rules, first = [], "", 1
    for title, width in spans:
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{escaped(title)}}}")
        rules += rf"\cmidrule(lr){{{first}-{first + width - 1}}}" if title else ""
        first += width
    return [_row(cells), rules]
