"""The figures of a report: the final metric, the effects, and the drawing of all."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure as Drawing

from research.reporting.analysis import Analysis
from research.reporting.curves import draw_compute, draw_curves, draw_panels
from research.reporting.document import Figure
from research.reporting.style import COLOURS, DPI, STYLE, inline_svg, legend, looks, metric_scale, start_line

CAPTIONS = {
    "final": "The metric at the last step: mean, 95 % interval and every seed.",
    "effects": "Paired gain of every comparison: mean, 95 % interval and every seed.",
    "curves": "Learning curves of the metric over steps.",
    "compute": "Learning curves of the metric over tokens processed, sampled and trained ones.",
    "panels": "What else moved during training.",
}


def draw_all(analysis: Analysis, folder: Path) -> dict[str, Figure]:
    """Draw every figure that the study has data for.

    Args:
        analysis: the study.
        folder: where the PNG files go; made if missing.

    Returns: name to figure, in the order of `CAPTIONS`; a figure without data is left out.
    """
    drawers: dict[str, Callable[[Analysis], Drawing | None]] = {
        "final": draw_final,
        "effects": draw_effects,
        "curves": draw_curves,
        "compute": draw_compute,
        "panels": draw_panels,
    }
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for name, draw in drawers.items():
        path = folder / f"{name}.png"
        path.unlink(missing_ok=True)
        with rc_context({**STYLE, "svg.hashsalt": name}):
            drawing = draw(analysis)
            if drawing is not None:
                drawing.savefig(path, dpi=DPI)
                drawing.set_layout_engine("none")  # it is laid out; the same again would take as long
                file = Path(folder.name) / path.name
                drawn[name] = Figure(file=file, svg=inline_svg(drawing, name), caption=CAPTIONS[name])
    return drawn


def draw_final(analysis: Analysis) -> Drawing | None:
    """The metric at the last step: mean, 95 % interval and every seed, per cell."""
    scale, unit = metric_scale(analysis)
    shown = [summary for summary in analysis.summaries if summary.metric.n]
    if not shown:
        return None
    figure = Drawing(figsize=(9, 1.5 + 0.55 * len(shown)))
    ax = figure.subplots()
    for y, summary in enumerate(shown):
        colour = looks(analysis)[summary.cell.id][0]
        metric, values = summary.metric, scale * np.array(list(summary.values.values()))
        if metric.low is not None and metric.high is not None:
            ax.plot([scale * metric.low, scale * metric.high], [y, y], color=colour, linewidth=2.5)
        ax.scatter(values, np.full(len(values), y + 0.22), s=20, color=colour, alpha=0.6, linewidth=0)
        ax.scatter([scale * metric.mean], [y], s=75, color=colour, zorder=3)
    start_line(ax.axvline, analysis, scale=scale)
    ax.set_yticks(range(len(shown)), [f"{s.cell.label}  (n={s.metric.n})" for s in shown])
    ax.set_ylim(len(shown) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel(analysis.metric_name + unit)
    ax.set_title("Mean and 95 % interval; small dots are the seeds", loc="left")
    legend(figure, ax)
    return figure


def draw_effects(analysis: Analysis) -> Drawing | None:
    """The paired gain of every comparison with its interval, and the paper's gain beside it in its own setting."""
    scale, _ = metric_scale(analysis)
    effects = [effect for effect in analysis.effects if effect.gain.n]
    if not effects:
        return None
    figure = Drawing(figsize=(9, 1.7 + 0.6 * len(effects)))
    ax = figure.subplots()
    theirs = [(effect.paper_gain, y - 0.22) for y, effect in enumerate(effects) if effect.paper_gain is not None]
    for y, effect in enumerate(effects):
        gain = effect.gain
        if gain.low is not None and gain.high is not None:
            ax.plot([scale * gain.low, scale * gain.high], [y, y], color=COLOURS[0], linewidth=2.5)
        seeds = scale * np.array(effect.gains)
        ax.scatter(seeds, np.full(len(seeds), y + 0.22), s=20, color=COLOURS[0], alpha=0.6, linewidth=0)
    means = [scale * effect.gain.mean for effect in effects]
    ax.scatter(means, range(len(means)), s=75, zorder=3, color=COLOURS[0], label="Ours: mean and 95 % interval")
    if theirs and analysis.percent and analysis.paper and analysis.paper.unit == "%":
        edge = {"facecolor": "none", "edgecolor": COLOURS[3], "linewidth": 1.6}
        ax.scatter(*zip(*theirs, strict=True), s=60, marker="D", label="Paper: other model, data, budget", **edge)
    ax.axvline(0, color="#555555", linewidth=1.3)
    ax.set_yticks(range(len(effects)), [f"{e.cell.label}\nvs {e.reference.label}  (n={e.gain.n})" for e in effects])
    ax.set_ylim(len(effects) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel(
        f"Gain in {analysis.metric_name}{', percentage points' if analysis.percent else ''} (right is better)"
    )
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure
