"""Style of the figures: colours that colour-blind readers can tell apart, and type that is large enough in a README."""

from collections.abc import Callable, Sequence
from textwrap import fill
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from research.reporting.analysis.analysis import Analysis

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#1b1b1b", "#8A7B00")
"""Okabe and Ito's palette for colour-blind readers, with a darker yellow that is visible on white."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
ENTRY_INCHES = 0.26
"""Height of one entry of a legend."""
LINES = ("-", "--", ":", "-.")
INK = "#1b1b1b"
"""Colour of text, of axes and of one cell. In a page it becomes the page's colour of text."""
GRID = "#e6e6e6"
FAINT = "#7a7a7a"
"""Colour of what cells are compared with; a grey that is visible on black and on white."""
STYLE: dict[Any, Any] = {
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.06,
}


def looks(analysis: Analysis) -> dict[str, tuple[str, str, str]]:
    """Cell id to colour, marker and line style; cells of one colour differ in the other two."""
    n = len(COLOURS)
    return {
        summary.cell.id: (COLOURS[k % n], MARKERS[(k + k // n) % len(MARKERS)], LINES[k // n % len(LINES)])
        for k, summary in enumerate(analysis.summaries)
    }


def metric_scale(analysis: Analysis) -> tuple[float, str]:
    """The factor that the study's metric is multiplied by in a figure, and the unit for the axis."""
    return (100.0, ", %") if analysis.percent else (1.0, "")


def wrapped(label: str, width: int = 34) -> str:
    """A label broken into lines: a cell of a factorial design is named after all its levels."""
    return "\n".join(fill(line, width) for line in label.splitlines())


def legend(figure: Figure, ax: Axes, *, below_up_to: int = 4) -> None:
    """Adds the legend: below the axes if it has few entries, else beside them. The figure grows to hold it."""
    handles, labels = ax.get_legend_handles_labels()
    labels = [wrapped(label, 40) for label in labels]
    if len(labels) > below_up_to:
        lines = sum(label.count("\n") + 1 for label in labels)
        figure.set_figheight(max(figure.get_figheight(), ENTRY_INCHES * (lines + 2)))
        figure.legend(handles, labels, loc="outside right center")
    elif labels:
        legend_below(figure, handles, labels)


def legend_below(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Adds a legend below all axes, in as many columns as fit. The figure grows by its height."""
    entry = 0.6 + 0.1 * max(len(label) for label in labels)
    columns = max(1, min(len(labels), int(figure.get_figwidth() / entry)))
    figure.set_figheight(figure.get_figheight() + ENTRY_INCHES * -(-len(labels) // columns))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def start_line(draw: Callable[..., object], analysis: Analysis, *, scale: float) -> None:
    """Draws the warm start's metric as a dashed line.

    Args:
        draw: `axhline` or `axvline` of the axes.
        analysis: the study; nothing is drawn if it has no metric of the warm start.
        scale: the factor of `metric_scale`.
    """
    if analysis.start.n:
        draw(scale * analysis.start.mean, color=FAINT, linestyle=(0, (4, 3)), linewidth=1.3, label="Warm start")
