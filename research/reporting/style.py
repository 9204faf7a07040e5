"""How figures look: colours that the colour-blind tell apart, fonts that stay readable at the width of a README."""

from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from research.reporting.analysis import Analysis

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#8A7B00")
"""Okabe and Ito's palette for the colour-blind, its yellow darkened to be seen on white."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DPI = 150
ENTRY_INCHES = 0.26
"""Height of a legend's entry."""
STYLE: dict[Any, Any] = {
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


LINES = ("-", "--", ":", "-.")


def looks(analysis: Analysis) -> dict[str, tuple[str, str, str]]:
    """Cell id to colour, marker and line; where a colour comes again, the other two are others."""
    n = len(COLOURS)
    return {
        summary.cell.id: (COLOURS[k % n], MARKERS[(k + k // n) % len(MARKERS)], LINES[k // n % len(LINES)])
        for k, summary in enumerate(analysis.summaries)
    }


def metric_scale(analysis: Analysis) -> tuple[float, str]:
    """The factor and the unit by which the study's metric is drawn."""
    return (100.0, ", %") if analysis.percent else (1.0, "")


def legend(figure: Figure, ax: Axes, *, inside_up_to: int = 4) -> None:
    """Inside the axes for few entries, beside them for more; the figure grows where these do not fit."""
    handles, labels = ax.get_legend_handles_labels()
    if len(labels) > inside_up_to:
        figure.set_figheight(max(figure.get_figheight(), ENTRY_INCHES * (len(labels) + 2)))
        figure.legend(handles, labels, loc="outside right center")
    elif labels:
        ax.legend(handles, labels, loc="best")


def start_line(draw: Callable[..., object], analysis: Analysis, *, scale: float) -> None:
    """The warm start's metric as a dashed line, by `axhline` or `axvline`."""
    if analysis.start.n:
        draw(scale * analysis.start.mean, color="#555555", linestyle=(0, (4, 3)), linewidth=1.3, label="Warm start")
