"""A figure as a small SVG: the same drawing, in fewer bytes, and the same bytes each time."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure
from test_report import write_study

from research.reporting import write_report
from research.reporting.figures.style import INK, STYLE
from research.reporting.figures.svg import as_file, in_page, short_path, small_svg

COMMAND = re.compile(r"([MLQClqcz])([^MLQClqcz]*)")


def drawn(*, label: str = "a < b & c") -> Figure:
    """Two axes with lines, markers, bands, texts and a legend."""
    with rc_context(STYLE):
        figure = Figure(figsize=(6, 3))
        for ax in figure.subplots(1, 2):
            ax.fill_between([0, 1, 2], [0, 1, 0.5], [1, 2, 1.7], color="#0072B2", alpha=0.15, linewidth=0)
            ax.plot([0, 1, 2], [0.4, 1.5, 1.1], color=INK, marker="o", label=label)
            ax.scatter([0.5, 1.5], [1.0, 1.2], color="#E69F00")
            ax.set_ylabel("$ of a run, $")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center")
    return figure


@pytest.fixture(scope="module")
def svg() -> str:
    with rc_context(STYLE):
        return small_svg(drawn(), "q")


def corners(path: str) -> list[tuple[float, float]]:
    """Every point that a path names, in absolute coordinates."""
    found, here = [], (0.0, 0.0)
    for command, text in COMMAND.findall(path):
        numbers = [float(number) for number in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", text)]
        size = {"M": 2, "L": 2, "l": 2, "Q": 4, "q": 4, "C": 6, "c": 6}.get(command, 2)
        for start in range(0, len(numbers), size):
            x, y = here if command.islower() else (0.0, 0.0)
            points = [(x + a, y + b) for a, b in zip(*[iter(numbers[start : start + size])] * 2, strict=True)]
            found += points
            here = points[-1]
    return found


class TestPath:
    def test_points_stay_where_they_are(self) -> None:
        points = [(k * 3.337, 50 + 40 * (-1) ** k / (k + 1)) for k in range(200)]
        path = " ".join(f"{'L' if k else 'M'} {x:.6f} {y:.6f}" for k, (x, y) in enumerate(points))
        short = corners(short_path(path, 1))
        assert len(short) == len(points)
        # half of the last decimal, and the rounding of 200 sums of floats
        assert all(abs(a - c) < 0.0501 and abs(b - d) < 0.0501 for (a, b), (c, d) in zip(points, short, strict=True))

    def test_curves_and_closed_parts(self) -> None:
        assert short_path("M 1 2 C 2 2 3 3 3 4 z M 5 5 Q 6 6 7 5", 1) == "M1 2c1 0 2 1 2 2zM5 5q1 1 2 0"
        assert short_path("M 0 0 C 2 2 3 3 3 4 L 5 4", 1) == "M0 0c2 2 3 3 3 4l2 0"

    def test_what_rounds_to_a_point_is_empty(self) -> None:
        assert short_path("M 1 1 L 1.01 1.02", 1) == ""


class TestSvg:
    def test_the_same_figure_gives_the_same_text(self, svg: str) -> None:
        with rc_context(STYLE):
            assert small_svg(drawn(), "q") == svg

    def test_texts_are_texts_and_escaped(self, svg: str) -> None:
        texts = [element.text for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]
        assert "a < b & c" in texts
        assert texts.count("$ of a run, $") == 2

    def test_every_name_is_defined_once(self, svg: str) -> None:
        ids = re.findall(r' id="([^"]*)"', svg)
        used = set(re.findall(r"url\(#([^)]*)\)", svg)) | set(re.findall(r'href="#([^"]*)"', svg))
        assert len(ids) == len(set(ids))
        assert used == set(ids)
        classes = set(re.findall(r' class="([^"]*)"', svg))
        assert classes <= set(re.findall(r"\.(q\d+)\{", svg))
        assert all(name.startswith("q") for name in ids)

    def test_equal_markers_are_defined_once(self, svg: str) -> None:
        paths = re.findall(r'<path id="[^"]*" d="([^"]*)"', svg)
        assert len(paths) == 3  # the one of lines and dots, and two bands

    def test_a_file_has_a_background_and_a_page_its_own_colours(self, svg: str) -> None:
        ElementTree.fromstring(as_file(svg))
        assert as_file(svg).count('fill="#ffffff"') == 1
        assert INK in as_file(svg)
        assert INK not in in_page(svg)
        assert "#ffffff" not in in_page(svg)

    def test_an_image_is_refused(self) -> None:
        with rc_context(STYLE):
            figure = Figure()
            figure.subplots().imshow([[0, 1], [1, 0]])
            with pytest.raises(NotImplementedError, match="<image>"):
                small_svg(figure, "q")


def test_no_drawing_is_left_of_earlier_ones(tmp_path: Path) -> None:
    made = write_study(tmp_path / "study", paper=None)
    (made / "figures").mkdir()
    for name in ("curves.png", "interactions.svg", "mine.png"):
        (made / "figures" / name).write_text("earlier")
    write_report(made)
    kept = {path.name for path in (made / "figures").iterdir()}
    assert "curves.svg" in kept
    assert not kept & {"curves.png", "interactions.svg"}
    assert "mine.png" in kept
