r"""A table as a LaTeX float: caption, label, a tabular of the line's width, and notes below."""

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
"""Characters that are commands in LaTeX, and how to print them."""
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
"""Characters that LaTeX's default encoding lacks, and how to print them. It would print < as ¡."""
PACKAGES = ("booktabs", "tabularx")
"""LaTeX packages that a written table needs."""


@dataclass(frozen=True, kw_only=True)
class Float:
    """A table with the caption and the notes that make it complete in any text."""

    table: Table
    """Its first column takes the width that the others leave. Headings may hold line breaks."""
    caption: str
    label: str
    notes: tuple[str, ...] = ()
    """Sentences below the table."""
    spans: tuple[tuple[str, int], ...] = ()
    """Headings over the column heads: title, which may be empty, and number of columns. They cover all columns."""
    origin: tuple[str, ...] = ()
    """Comment lines at the top of the file."""


def escaped(text: str) -> str:
    r"""LaTeX that prints the text; Markdown's marks for code and links are removed.

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

    Returns: a table environment of the line's width, in which LaTeX's commands are escaped. Lines of 5.5 inches or more
        hold it without overfull boxes.

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
        *_tabular(shown.table, shown.spans),
        *([r"\par\vspace{3pt}", rf"\parbox{{\linewidth}}{{\raggedright {notes}}}"] if notes else []),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _tabular(table: Table, spans: tuple[tuple[str, int], ...]) -> list[str]:
    """The table itself, with rules above, below and under its heads."""
    columns = "".join("l" if left else "r" for left in table.left[1:])
    return [
        rf"\begin{{tabularx}}{{\linewidth}}{{@{{}}>{{\raggedright\arraybackslash}}X{columns}@{{}}}}",
        r"\toprule",
        *_spanning(spans),
        _row([_head(name, left=left) for name, left in zip(table.head, table.left, strict=True)]),
        r"\midrule",
        *(_row([escaped(cell) for cell in row]) for row in table.rows),
        r"\bottomrule",
        r"\end{tabularx}",
    ]


def _row(cells: list[str]) -> str:
    """A line of the tabular. LaTeX would read a bracket at its start as an argument of the line above."""
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
    """The headings over the column heads, each with a rule below."""
    if not spans:
        return []
    cells, rules, first = [], "", 1
    for title, width in spans:
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{escaped(title)}}}")
        rules += rf"\cmidrule(lr){{{first}-{first + width - 1}}}" if title else ""
        first += width
    return [_row(cells), rules]
