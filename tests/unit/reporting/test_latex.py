"""The LaTeX tables of studies that this test makes up: what LaTeX would misread, and whether it compiles."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from test_report import METRIC, PAPER, study, write_csv, write_study

from research.reporting.analysis.analysis import analyse
from research.reporting.document import Table
from research.reporting.pages.exports import write_tables
from research.reporting.pages.latex import PACKAGES, Float, escaped, latex
from research.reporting.pages.typeset import floats

PDFLATEX = shutil.which("pdflatex")
NAME = "~5 % & a_b #1 $x^2$ {y} \\z <0.001 | ε = 10⁻⁶ × 2 “ü” ★"
"""A label of everything that LaTeX would read as its own or has no letter for."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A ladder with a lost run, a label of special letters and a long one, beside a paper's table."""
    spec = study([0, 1, 2], PAPER)
    spec["cells"][1]["label"] = NAME
    spec["cells"][2]["label"] = "+ a label of mixed_outcomes, keep_truncated and so many words that no line holds it"
    return write_study(tmp_path / "study", spec=spec, lost=(("2-aggregation", 1),))


def grid(tmp_path: Path) -> Path:
    """Two factors at eight seeds, so that p are printed."""
    levels = [(clip, mean) for clip in ("symmetric", "higher") for mean in ("sequence", "token_mean")]
    cells = [{"id": f"{c}-{m}", "label": f"{c} {m}", "levels": {"clip": c, "aggregation": m}} for c, m in levels]
    pairs = [{"cell": cell["id"], "reference": cells[0]["id"]} for cell in cells[1:]]
    spec = study(list(range(8)), None, design="factorial", cells=cells, comparisons=pairs)
    made = write_study(tmp_path / "grid", spec=spec)
    rows = [
        {"run": f"{cell['id']}-s{s}", "cell": cell["id"], "seed": s, "status": "complete", METRIC: 0.2 + k / 9 + s / 99}
        for k, cell in enumerate(cells)
        for s in range(8)
    ]
    write_csv(made / "runs.csv", rows)
    return made


def text_of(folder: Path, name: str) -> str:
    write_tables(analyse(folder), folder / "tables")
    return (folder / "tables" / f"{name}.tex").read_text()


def test_every_letter_is_printed_as_it_is_read() -> None:
    assert escaped("<0.001 | >") == "$<$0.001 $|$ $>$"  # else ¡0.001 — ¿
    assert escaped("−1 × 10⁶ ε") == r"$-$1 $\times$ 10\textsuperscript{6} $\epsilon$"
    assert escaped(r"\z {y} x^2 ~5") == r"\textbackslash{}z \{y\} x\textasciicircum{}2 \textasciitilde{}5"
    assert escaped("[b](#c) `d`") == "b d"
    assert escaped(NAME).isascii()


def test_a_table_stands_alone(folder: Path) -> None:
    text = text_of(folder, "main")
    assert "% Needs \\usepackage{booktabs,tabularx}." in text
    assert text.count(r"\caption{") == text.count(r"\label{tab:made-up-main}") == 1
    for said in ("avg@8", "mean over", "Yu et al. 2025, Table 1 (arXiv:2503.14476)", "Student's t", "Holm-corrected"):
        assert said in text
    assert "only signs compare" in text
    assert "Without result, and in no number: 2-aggregation-s1." in text
    assert "a made-up model of no parameters" in text.lower()
    assert "commit 0123abc, with uncommitted changes" in text
    assert text.isascii()


def test_rows_are_as_wide_as_the_head(folder: Path) -> None:
    for name, shown in floats(analyse(folder)).items():
        assert {len(row) for row in shown.table.rows} == {len(shown.table.head)}, name
        assert not shown.spans or sum(width for _, width in shown.spans) == len(shown.table.head)


def test_what_a_gain_is_taken_against_is_a_number_where_it_differs(folder: Path) -> None:
    rows = floats(analyse(folder))["main"].table.rows
    assert [row[0][:4] for row in rows] == ["Warm", "(1) ", "(2) ", "(3) ", "… (3"]
    place = floats(analyse(folder))["main"].table.head.index("vs")
    assert [row[place] for row in rows] == ["—", "—", "(1)", "(2)", "(1)"]


def test_a_p_that_no_effect_could_make_small_is_left_out(folder: Path, tmp_path: Path) -> None:
    assert "No p is given: too few seeds" in text_of(folder, "main")
    assert "p\n(Holm)" not in floats(analyse(folder))["main"].table.head
    main = floats(analyse(grid(tmp_path)))["main"]
    assert "p\n(Holm)" in main.table.head
    assert main.caption.startswith("Is this a test? avg@8 at the last step, mean over 8 seeds")


def test_rows_of_the_paper_with_another_name_are_named(folder: Path) -> None:
    notes = " ".join(floats(analyse(folder))["main"].notes)
    assert "Naive GRPO beside the paper's + Overlong Filtering" in notes


def test_costs_leave_out_what_nobody_spent_and_say_the_runs(folder: Path) -> None:
    shown = floats(analyse(folder))["costs"]
    assert shown.table.head == ("Row", "Runs", "Tokens\nsampled", "Groups\ndropped", "Seconds")
    assert "_" not in "".join(row[0] for row in shown.table.rows[2:])


@pytest.mark.process
@pytest.mark.skipif(PDFLATEX is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("width", ["345pt", "397pt"])
def test_it_compiles_without_a_line_too_long(folder: Path, tmp_path: Path, width: str) -> None:
    """At the widths of LaTeX's article and of the machine-learning conferences' single column."""
    files = []
    for made in (folder, grid(tmp_path)):
        write_tables(analyse(made), made / "tables")
        files += sorted((made / "tables").glob("*.tex"))
    assert [file.stem for file in files] == ["costs", "main", "effects", "main"]
    inputs = "\n".join(rf"\input{{{file}}}" for file in files)
    packages = "".join(rf"\usepackage{{{name}}}" for name in PACKAGES)
    source = rf"\documentclass{{article}}{packages}\textwidth={width}\begin{{document}}{inputs}\end{{document}}"
    (tmp_path / "all.tex").write_text(source)
    command = [str(PDFLATEX), "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    log = (tmp_path / "all.log").read_text(errors="replace")
    assert not re.findall(r"Overfull \\hbox.*|Missing character.*", log)


def test_a_bracket_at_the_start_of_a_line_is_no_argument_of_the_one_above() -> None:
    table = Table(head=("Row", "n\n[95 %]"), rows=(("[x]", "1"),))
    text = latex(Float(table=table, caption="", label="t"))
    assert "\n{[}x] & 1" in text
    assert r"n\\{}[95 \%]" in text
