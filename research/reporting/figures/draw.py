"""All figures of a report, drawn as SVG: each as a file, and for the report's page."""

from collections.abc import Callable
from pathlib import Path
from string import ascii_lowercase

from matplotlib import rc_context
from matplotlib.figure import Figure as Drawing

from research.reporting.analysis.analysis import Analysis
from research.reporting.document import Figure
from research.reporting.figures.curves import draw_compute, draw_curves
from research.reporting.figures.forest import draw_effects, draw_factors, draw_final
from research.reporting.figures.panels import draw_panels
from research.reporting.figures.style import STYLE
from research.reporting.figures.svg import as_file, in_page, small_svg
from research.reporting.figures.tradeoffs import draw_costs, draw_interactions

DRAWN: dict[str, tuple[Callable[[Analysis], Drawing | None], str]] = {
    "final": (draw_final, "The metric at the last step: mean, 95 % interval, and every seed as a small dot."),
    "effects": (draw_effects, "Paired gain of every comparison: mean, 95 % interval, and every seed as a small dot."),
    "curves": (draw_curves, "Learning curves: the metric over steps, with its 95 % t interval over seeds."),
    "compute": (draw_compute, "Learning curves: the metric over tokens sampled."),
    "factors": (
        draw_factors,
        "Main effects and the interactions that the design tells apart, with 95 % intervals.",
    ),
    "interactions": (draw_interactions, "The metric at every pair of levels, with 95 % intervals over seeds."),
    "panels": (draw_panels, "What else moved during training; mean over seeds."),
    "costs": (draw_costs, "What every gain costs, in units of what the reference cost; bars are 95 % intervals."),
}
"""Name to the function that draws the figure, and its caption."""


def draw_all(analysis: Analysis, folder: Path) -> dict[str, Figure]:
    """Draw all figures that the study has data for.

    Args:
        analysis: the study.
        folder: where the SVG files go; made if missing. Earlier drawings in it are removed.

    Returns: name to figure, in the order of `DRAWN`; a figure without data is left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = {}
    for letter, (name, (draw, caption)) in zip(ascii_lowercase, DRAWN.items(), strict=False):
        for earlier in folder.glob(f"{name}.*"):
            earlier.unlink()
        with rc_context(STYLE):
            drawing = draw(analysis)
            if drawing is None:
                continue
            svg = small_svg(drawing, letter)
        path = folder / f"{name}.svg"
        path.write_text(as_file(svg), encoding="utf-8")
        figures[name] = Figure(file=Path(folder.name) / path.name, svg=in_page(svg), caption=caption)
    return figures
