"""A drawing as a small SVG: each style written once, rounded coordinates, no group without a purpose."""

import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import escape
from itertools import groupby
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from matplotlib.figure import Figure

from research.reporting.figures.style import GRID, INK

DECIMALS = 1
"""Decimals of a coordinate in points."""
MARKER_DECIMALS = 2
"""Decimals inside a marker."""
MARKER_REACH = 12.0
"""A path that is defined once and used at several places is a marker if no coordinate in points is larger."""
ROOT = "font-family:DejaVu Sans,Verdana,sans-serif;stroke-linejoin:round"
"""Style of the whole drawing. Verdana is as wide as DejaVu Sans, with which the layout is measured."""
BACKGROUND = "#ffffff"
"""Background of a file, which may be shown on a page of any colour."""
THEMED = {INK: "currentColor", GRID: "var(--line)"}
"""Colour of a drawing to the one that the report's page sets, for light and for dark screens."""
GEOMETRY = ("x", "y", "width", "height", "transform")
"""Attributes that are kept, with rounded numbers."""
NUMBER = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?")
SEGMENT = re.compile(r"([MLQCz])([^MLQCz]*)")


def small_svg(figure: Figure, prefix: str) -> str:
    """The figure as an SVG element without a background.

    Args:
        figure: a figure without images and without mathematical text.
        prefix: begins every id and class, so that they differ from those of the page's other figures.

    Returns: the element, in lines; equal figures give equal text, since neither date nor Matplotlib's ids are in it.

    Raises: NotImplementedError if the figure holds an element that is not written here.
    """
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True)
    root = ElementTree.fromstring(text.getvalue())
    drawing = _Drawing(prefix=prefix)
    shapes = drawing.shapes(root)
    lines = {name for style, name in drawing.classes.items() if "fill:none" in style and "opacity" not in style}
    rules = "".join(f".{name}{{{style}}}" for style, name in drawing.classes.items())
    markers = (f'<path id="{name}" d="{path}"/>' for path, name in drawing.markers.items())
    size = " ".join(f'{name}="{root.attrib[name]}"' for name in ("width", "height", "viewBox"))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} style="{ROOT}">',
            f"<style>{rules}</style>",
            *("<defs>", *markers, *drawing.areas, "</defs>"),
            *_written(shapes, lines),
            *_written(drawing.texts, lines),
            "</svg>",
        ]
    )


def as_file(svg: str) -> str:
    """The drawing as the text of a file, with a background."""
    return svg.replace("<style>", f'<rect width="100%" height="100%" fill="{BACKGROUND}"/>\n<style>', 1) + "\n"


def in_page(svg: str) -> str:
    """The drawing in the colours of the page that it stands in."""
    for colour, themed in THEMED.items():
        svg = svg.replace(colour, themed)
    return svg


class _Shape(NamedTuple):
    """An element that is drawn."""

    tag: str
    place: str
    """Path, or attributes that say what is drawn and where."""
    name: str
    """Class in the style sheet."""
    clip: str
    """Id of the area that it is clipped to; empty for none."""
    text: str = ""

    def written(self, name: str = "") -> str:
        """The element, with the class unless its group has it."""
        place = f' d="{self.place}"' if self.tag == "path" else self.place
        start = f"<{self.tag}{place}" + (f' class="{name}"' if name else "")
        return f"{start}>{self.text}</{self.tag}>" if self.text else f"{start}/>"


@dataclass(frozen=True, kw_only=True)
class _Drawing:
    """Content of Matplotlib's SVG of a figure, sorted by where it is written."""

    prefix: str
    classes: dict[str, str] = field(default_factory=dict)
    """Style to class."""
    ids: dict[str, str] = field(default_factory=dict)
    """Matplotlib's id to the short one."""
    markers: dict[str, str] = field(default_factory=dict)
    """Path of a marker to its id. Its style is that of the element that uses it."""
    areas: list[str] = field(default_factory=list)
    """Areas that shapes are clipped to."""
    texts: list[_Shape] = field(default_factory=list)
    """Texts, which are drawn last."""

    def shapes(self, parent: Element, clip: str = "") -> list[_Shape]:
        """All shapes in an element, in order."""
        found: list[_Shape] = []
        for element in parent:
            tag, inside = _tag(element), self._clip(element) or clip
            if tag == "defs":
                self._define(element)
            elif tag == "g":
                found += self.shapes(element, inside)
            elif tag == "path":
                style, path = _style(element), short_path(element.attrib["d"], DECIMALS)
                if path and (style["fill"] != "none" or "stroke" in style):
                    found.append(_Shape("path", path, self._class(style), inside))
            elif tag in ("use", "rect"):
                found.append(_Shape(tag, self._place(element), self._class(_style(element)), inside))
            elif tag == "text" and element.text:
                text = escape(element.text, quote=False)
                self.texts.append(_Shape("text", self._place(element), self._class(_style(element)), inside, text))
            elif tag != "metadata":
                raise NotImplementedError(
                    f"A figure holds <{tag}>, which research/reporting/figures/svg.py cannot write."
                )
        return found

    def _define(self, definitions: Element) -> None:
        """Keeps markers, equal ones once, and areas."""
        for element in definitions:
            if _tag(element) == "path":
                path = element.attrib["d"]
                large = any(abs(float(number)) > MARKER_REACH for number in NUMBER.findall(path))
                path = short_path(path, DECIMALS if large else MARKER_DECIMALS)
                self.ids[element.attrib["id"]] = self.markers.setdefault(path, self._id(element.attrib["id"]))
            elif _tag(element) == "clipPath":
                area = "".join(shape.written() for shape in self.shapes(element))
                self.areas.append(f'<clipPath id="{self._id(element.attrib["id"])}">{area}</clipPath>')

    def _clip(self, element: Element) -> str:
        target = re.fullmatch(r"url\(#(.*)\)", element.attrib.get("clip-path", ""))
        return self._id(target[1]) if target else ""

    def _class(self, style: dict[str, str]) -> str:
        rule = ";".join(f"{name}:{value}" for name, value in style.items())
        return self.classes.setdefault(rule, f"{self.prefix}{len(self.classes)}") if rule else ""

    def _place(self, element: Element) -> str:
        """Target, position, size and rotation, as they stand in a tag."""
        found = element.attrib
        target = next((f' href="#{self._id(value[1:])}"' for name, value in found.items() if name.endswith("href")), "")
        place = (name for name in GEOMETRY if name in found and not found[name].startswith("rotate(-0 "))
        return target + "".join(f' {name}="{_rounded(found[name])}"' for name in place)

    def _id(self, name: str) -> str:
        return self.ids.setdefault(name, f"{self.prefix}-{len(self.ids)}")


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _style(element: Element) -> dict[str, str]:
    """The element's style without its font, which is that of the whole drawing."""
    pairs = (pair.partition(":") for pair in element.attrib.get("style", "").split(";") if pair.strip())
    return {name.strip(): value.strip() for name, _, value in pairs if name.strip() != "font-family"}


def _written(shapes: Iterable[_Shape], lines: set[str]) -> Iterator[str]:
    """The shapes in order; neighbours that are clipped alike are in one group, as are those of one class.

    Args:
        shapes: what is written.
        lines: classes of opaque lines, of which neighbours can be one path.
    """
    for clip, clipped in groupby(shapes, key=lambda shape: shape.clip):
        inner: list[str] = []
        for name, run in groupby(clipped, key=lambda shape: shape.name):
            alike = list(run)
            if name in lines and all(shape.tag == "path" for shape in alike):
                alike = [alike[0]._replace(place="".join(shape.place for shape in alike))]
            if len(alike) == 1:
                inner.append(alike[0].written(name))
            else:
                inner += [f'<g class="{name}">', *(shape.written() for shape in alike), "</g>"]
        yield from [f'<g clip-path="url(#{clip})">', *inner, "</g>"] if clip else inner


def short_path(path: str, decimals: int) -> str:
    """A path with rounded coordinates, each relative to the point before.

    The absolute coordinates are rounded, so that errors do not add up. A segment that rounds to nothing is left out.

    Args:
        path: absolute moves, lines and curves: the commands M, L, Q, C and z.
        decimals: of the coordinates.

    Returns: the path; empty if nothing is left to draw.

    Example:
        >>> short_path("M 10.04 20 L 15.26 20 L 15.27 20 L 15.26 18.5 z", 1)
        'M10 20l5.3 0 0-1.5z'
    """
    scale = 10**decimals
    here, last, parts, drawn = (0, 0), "", [], False
    for command, numbers in SEGMENT.findall(path):
        flat = [round(float(number) * scale) for number in NUMBER.findall(numbers)]
        points = list(zip(flat[::2], flat[1::2], strict=True))
        relative = command in "LQC"
        if relative and set(points) == {here}:
            continue
        x, y = here if relative else (0, 0)
        text = _row(value / scale for point in points for value in (point[0] - x, point[1] - y))
        if relative and command == last:
            parts.append(text if text.startswith("-") else f" {text}")
        else:
            parts.append(f"{command.lower() if relative else command}{text}")
        here, last, drawn = (points or [here])[-1], command, drawn or relative
    return "".join(parts) if drawn else ""


def _row(numbers: Iterable[float]) -> str:
    """Numbers one after the other, without a space before a minus sign.

    Example:
        >>> _row([1.0, -0.5, 0.25])
        '1-.5 .25'
    """
    texts = (re.sub(r"^(-?)0\.", r"\1.", f"{number:.9g}") for number in numbers)
    return "".join(text if text.startswith("-") else f" {text}" for text in texts).lstrip()


def _rounded(text: str) -> str:
    """A text with its numbers rounded."""
    return NUMBER.sub(lambda found: f"{round(float(found[0]), DECIMALS):.9g}", text)
