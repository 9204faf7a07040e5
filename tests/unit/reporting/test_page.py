"""The HTML page of a study that this test makes up, its links, its figures and the tables beside it."""

import csv
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_report import MADE_UP, METRIC, study, write_csv, write_study

from research.ablation.folder.study_file import Study
from research.reporting import write_report
from research.reporting.analysis.analysis import analyse
from research.reporting.document import Document, Linked, Section, Table, title_anchor
from research.reporting.figures.curves import draw_curves
from research.reporting.figures.tradeoffs import draw_interactions
from research.reporting.pages.exports import plain
from research.reporting.pages.report import report_page
from research.reporting.sections.design import design_section
from research.reporting.sections.tables import main_table

VOID = {"meta", "br", "hr", "img", "link", "input"}
HOSTILE = '<script>alert("1")</script> & a_b'


class Page(HTMLParser):
    """Reads a page and fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.cells: list[tuple[str, bool]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        if tag not in VOID:
            self.open.append(tag)
        if "id" in named:
            self.ids.append(named["id"])
        if tag == "a":
            self.links.append(named["href"])
            if self.cells and "td" in self.open:
                self.cells[-1] = (self.cells[-1][0], True)
        elif tag != "use":  # of an SVG, within itself
            self.loaded += [named[name] for name in ("src", "href", "xlink:href", "data") if name in named]
        if tag == "td":
            self.cells.append(("", False))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open:
            self.cells[-1] = (self.cells[-1][0] + data, self.cells[-1][1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with a lost run and a label that HTML and LaTeX would read as their own."""
    spec: dict[str, Any] = study([0, 1, 2], "experiments/papers/dapo_table1.yaml")
    spec["cells"][1]["label"] = HOSTILE
    made = write_study(tmp_path_factory.mktemp("study") / "study", spec=spec, lost=(("2-aggregation", 1),))
    write_report(made, tracking="https://mlflow.example.org/")
    return made


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text())


class TestPage:
    def test_ids_are_unique_and_every_link_leads_somewhere(self, page: Page) -> None:
        assert len(page.ids) == len(set(page.ids))
        inner = [link[1:] for link in page.links if link.startswith("#")]
        assert len(inner) > 30
        assert set(inner) <= set(page.ids)

    def test_every_link_of_the_markdown_leads_somewhere(self, folder: Path) -> None:
        text = (folder / "report.md").read_text()
        ids = set(re.findall(r'<a id="([^"]+)"></a>', text))
        ids |= {title_anchor(title) for title in re.findall(r"^## (.+)$", text, re.MULTILINE)}
        inner = re.findall(r"\]\(#([^)]*)\)", text)
        assert len(inner) > 30
        assert set(inner) <= ids
        for file in re.findall(r"\]\((figures/[^)]*)\)", text):
            assert (folder / file).is_file()

    def test_a_heading_keeps_its_unit_on_one_line(self, folder: Path) -> None:
        heads = re.findall(r"<th[^>]*>([^<]*)</th>", (folder / "report.html").read_text())
        assert any("[95\u00a0%]" in head for head in heads)
        assert not any(" %" in head for head in heads)

    def test_figures_have_their_own_width(self, folder: Path) -> None:
        text = (folder / "report.html").read_text()
        assert not re.search(r"figure svg \{[^}]*(?<!max-)width: 100%", text)

    def test_links_outward_are_sources_and_the_runs_of_the_server(self, page: Page) -> None:
        outward = {link for link in page.links if not link.startswith("#")}
        runs = {link for link in outward if link.startswith("https://mlflow.example.org/#/runs/id")}
        assert len(runs) == 3
        assert all(link.startswith("https://arxiv.org/abs/") for link in outward - runs)

    def test_nothing_is_loaded(self, folder: Path, page: Page) -> None:
        assert page.loaded == []
        text = (folder / "report.html").read_text()
        assert "@import" not in text
        assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))

    def test_numbers_with_intervals_lead_to_their_runs(self, page: Page) -> None:
        numbers = [(text, linked) for text, linked in page.cells if re.match(r"[+−]?\d[\d.]* \[", text)]
        assert len(numbers) >= 10
        assert all(linked for _, linked in numbers)

    def test_what_the_study_says_is_escaped(self, folder: Path) -> None:
        text = (folder / "report.html").read_text()
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert" in text

    def test_figures_are_drawings_in_the_colours_of_the_page(self, folder: Path) -> None:
        text = (folder / "report.html").read_text()
        assert text.count("<svg ") == len(list((folder / "figures").glob("*.svg")))
        assert "currentColor" in text
        assert len(text) < 1_000_000

    def test_a_missing_run_is_a_row_and_a_gap(self, folder: Path) -> None:
        report = (folder / "report.md").read_text()
        assert '<a id="run-2-aggregation-s1"></a>2-aggregation-s1 | 1 | missing | — | — |' in report
        gains = next(line for line in report.splitlines() if 'id="gain-2-aggregation-0-base"' in line)
        assert gains.count("—") == 1

    def test_the_same_files_give_the_same_page(self, folder: Path) -> None:
        before = (folder / "report.html").read_text()
        write_report(folder, tracking="https://mlflow.example.org/")
        assert (folder / "report.html").read_text() == before


def test_without_a_server_runs_lead_nowhere_else(tmp_path: Path) -> None:
    made = write_study(tmp_path / "study", paper=None)
    write_report(made, tracking="sqlite:///somewhere.db")
    page = Page((made / "report.html").read_text())
    assert all(link.startswith(("#", "https://arxiv.org/")) for link in page.links)
    assert "Paper" not in (made / "report.html").read_text().split("<main>")[1].split("</table>")[0]


def test_what_a_design_confounds_is_said(tmp_path: Path) -> None:
    record = tmp_path / "study.yaml"
    notes = {"aliases": {"resolution": 3, "defining_relation": ["I = ABC"], "clear_interactions": []}}
    record.write_text(yaml.safe_dump(study([0], None, **notes), sort_keys=False))
    section = design_section(Study.from_yaml(record))
    assert section is not None
    text = str(section.blocks[0])
    assert text.endswith("- resolution: 3\n- defining relation\n  - I = ABC\n- clear interactions: none")
    record.write_text(yaml.safe_dump(study([0], None)))
    assert design_section(Study.from_yaml(record)) is None


class TestDocument:
    TABLE = Table(
        head=("Row", "Gain"),
        rows=(("a|b", Linked("+1.0 [0.5, 1.5]", "run-a")), ("c", Linked("—", "run-c"))),
        anchors=("row-a", "row-c"),
        groups=("both", "both"),
    )

    def test_markdown_has_anchors_and_links_where_there_are_numbers(self) -> None:
        assert self.TABLE.markdown().splitlines()[2:] == [
            '| <a id="both"></a><a id="row-a"></a>a\\|b | [+1.0 [0.5, 1.5]](#run-a) |',
            '| <a id="row-c"></a>c | — |',
        ]

    def test_html_says_the_same(self) -> None:
        document = Document(title="t", lead=(), sections=(Section(title="A b", blocks=(self.TABLE, "*x* <i>")),))
        text = report_page(document)
        assert '<h2 id="a-b">A b</h2>' in text
        assert '<tr id="row-a"><td class="left">a|b</td><td><a href="#run-a">+1.0 [0.5, 1.5]</a></td></tr>' in text
        assert '<tbody id="both">' in text
        assert "<em>x</em> &lt;i&gt;" in text


class TestTables:
    def test_csv_holds_plain_numbers(self, folder: Path) -> None:
        with (folder / "tables" / "main.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["cell"] for row in rows] == ["0-base", "1-clip", "2-aggregation"]
        assert float(rows[0]["metric_mean"]) == pytest.approx(sum(MADE_UP["0-base", s] for s in range(3)) / 3)
        assert [float(row["metric_seeds"]) for row in rows] == [3, 3, 2]
        assert float(rows[1]["paper"]) == 38
        with (folder / "tables" / "effects.csv").open() as file:
            effects = list(csv.DictReader(file))
        assert float(effects[0]["gain_mean"]) == pytest.approx(0.17 / 3)
        assert effects[0]["verdict"] == "same direction"
        with (folder / "tables" / "costs.csv").open() as file:
            assert float(next(csv.DictReader(file))["time/seconds"]) == 61.25

    def test_the_table_for_another_text_has_no_links(self, folder: Path) -> None:
        table = main_table(analyse(folder))
        assert "](#" in table.markdown()
        assert "](#" not in plain(table).markdown()
        assert (folder / "tables" / "main.md").read_text() == plain(table).markdown() + "\n"


class TestFigures:
    @staticmethod
    def many(tmp_path: Path, n: int, **spec: Any) -> Path:
        cells = [{"id": f"c{i}", "label": f"method {i}", "levels": {"method": str(i)}} for i in range(n)]
        made = write_study(tmp_path / "study", spec=study([0, 1], None, cells=cells, comparisons=[], **spec))
        runs = [(f"c{i}-s{s}", f"c{i}", s) for i in range(n) for s in (0, 1)]
        rows = [{"run": r, "cell": c, "seed": s, "status": "complete", METRIC: 0.3 + s / 10} for r, c, s in runs]
        write_csv(made / "runs.csv", rows)
        points = [{"run": r, "step": t, METRIC: 0.2 + t * s / 50} for r, _, s in runs for t in (1, 2)]
        write_csv(made / "curves.csv", points)
        return made

    def test_few_cells_share_a_panel_and_many_have_their_own(self, tmp_path: Path) -> None:
        few = draw_curves(analyse(self.many(tmp_path / "few", 3)))
        many = draw_curves(analyse(self.many(tmp_path / "many", 5)))
        assert few is not None
        assert many is not None
        assert len(few.axes) == 1
        titles = [ax.get_title(loc="left") for ax in many.axes if ax.get_visible()]
        assert titles == [f"method {i}" for i in range(5)]

    def test_a_fractions_panels_say_which_sum_they_show(self, tmp_path: Path) -> None:
        half = [("l", "s", "y"), ("l", "t", "x"), ("h", "s", "x"), ("h", "t", "y")]
        cells = [{"id": "".join(c), "label": "", "levels": dict(zip("abc", c, strict=True))} for c in half]
        made = write_study(tmp_path / "study", spec=study([0], None, design="fractional", cells=cells, comparisons=[]))
        write_csv(
            made / "runs.csv",
            [{"run": "".join(c), "cell": "".join(c), "seed": 0, "status": "complete", METRIC: 0.2} for c in half],
        )
        drawing = draw_interactions(analyse(made))
        assert drawing is not None
        titles = [ax.get_title(loc="left") for ax in drawing.axes if ax.get_visible()]
        assert titles == ["shows a × b − c", "shows a × c − b", "shows b × c − a"]

    def test_interactions_are_the_means_at_every_pair_of_levels(self, tmp_path: Path) -> None:
        cells = [{"id": f"{a}{b}", "label": a + b, "levels": {"clip": a, "aggregation": b}} for a in "lh" for b in "st"]
        made = write_study(tmp_path / "study", spec=study([0], None, design="factorial", cells=cells, comparisons=[]))
        values = dict(zip((cell["id"] for cell in cells), (0.1, 0.2, 0.4, 0.9), strict=True))
        rows = [
            {"run": i, "cell": i, "seed": 0, "status": "complete", METRIC: v, "clip": i[0]} for i, v in values.items()
        ]
        write_csv(made / "runs.csv", rows)
        drawing = draw_interactions(analyse(made))
        assert drawing is not None
        lines = {c.get_label(): c.lines[0].get_ydata() for c in drawing.axes[0].containers}  # pyright: ignore
        assert lines["s"] == pytest.approx([10, 40])
        assert lines["t"] == pytest.approx([20, 90])
