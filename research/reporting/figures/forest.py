"""Forest plots, a row each with mean, 95 % interval and seeds: of cells, of comparisons, and of factors."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from research.reporting.analysis.analysis import Analysis
from research.reporting.figures.style import COLOURS, INK, legend, looks, metric_scale, start_line, wrapped
from research.statistics import Interval

LINE_INCHES = 0.17
"""Height that each further line of a row's name adds."""


def _row(ax: Axes, y: int, value: Interval, seeds: Sequence[float], *, scale: float, colour: str) -> None:
    """Draws a row: a dot at the mean, a bar over the interval, and small dots below it for the seeds."""
    if value.low is not None and value.high is not None:
        ax.plot([scale * value.low, scale * value.high], [y, y], color=colour, linewidth=2.5)
    if len(seeds):
        ax.scatter(scale * np.asarray(seeds), np.full(len(seeds), y + 0.24), s=18, color=colour, alpha=0.6, linewidth=0)
    ax.scatter([scale * value.mean], [y], s=70, color=colour, zorder=3)


def _rows(figure: Figure, ax: Axes, names: Sequence[str]) -> None:
    """Names the rows, long names on several lines; the figure grows by the height of these."""
    names = [wrapped(name) for name in names]
    tallest = max(name.count("\n") + 1 for name in names)
    figure.set_figheight(figure.get_figheight() + max(0, tallest - 2) * LINE_INCHES * len(names))
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")


def draw_final(analysis: Analysis) -> Figure | None:
    """The metric of each cell at the last step."""
    scale, unit = metric_scale(analysis)
    shown = [summary for summary in analysis.summaries if summary.metric.n]
    if not shown:
        return None
    figure = Figure(figsize=(9, 1.4 + 0.5 * len(shown)))
    ax = figure.subplots()
    for y, summary in enumerate(shown):
        colour = looks(analysis)[summary.cell.id][0]
        _row(ax, y, summary.metric, list(summary.values.values()), scale=scale, colour=colour)
    start_line(ax.axvline, analysis, scale=scale)
    _rows(figure, ax, [f"{summary.cell.label} (n={summary.metric.n})" for summary in shown])
    ax.set_xlabel(analysis.metric_name + unit)
    legend(figure, ax)
    return figure


def draw_effects(analysis: Analysis) -> Figure | None:
    """The paired gain of each comparison, and above it the paper's gain if both are in percentage points."""
    scale, _ = metric_scale(analysis)
    effects = [effect for effect in analysis.effects if effect.gain.n]
    if not effects:
        return None
    figure = Figure(figsize=(9, 1.6 + 0.55 * len(effects)))
    ax = figure.subplots()
    for y, effect in enumerate(effects):
        _row(ax, y, effect.gain, effect.gains, scale=scale, colour=looks(analysis)[effect.cell.id][0])
    theirs = [(effect.paper_gain, y - 0.24) for y, effect in enumerate(effects) if effect.paper_gain is not None]
    if theirs and analysis.percent and analysis.paper and analysis.paper.unit == "%":
        edge = {"facecolor": "none", "edgecolor": INK, "linewidth": 1.4}
        label = f"The paper's gain ({analysis.paper.metric}): other model, data, budget"
        ax.scatter(*zip(*theirs, strict=True), s=50, marker="D", label=label, **edge)
        figure.legend(*ax.get_legend_handles_labels(), loc="outside upper left")
    ax.axvline(0, color=INK, linewidth=1)
    _rows(figure, ax, [f"{e.cell.label}\nvs {e.reference.label} (n={e.gain.n})" for e in effects])
    ax.set_xlabel(_gain_label(analysis))
    return figure


def draw_factors(analysis: Analysis) -> Figure | None:
    """Main effects, and interactions that the design can tell apart; None unless the design is factorial."""
    effects = analysis.factors
    if not effects:
        return None
    scale, _ = metric_scale(analysis)
    figure = Figure(figsize=(9, 1.2 + 0.5 * len(effects)))
    ax = figure.subplots()
    for y, effect in enumerate(effects):
        _row(ax, y, effect.gain, (), scale=scale, colour=COLOURS[1 if " × " in effect.name else 0])
    ax.axvline(0, color=INK, linewidth=1)
    names = [effect.name.replace("_", " ").replace(" × ", "\n× ", 1) for effect in effects]
    _rows(figure, ax, [f"{name} (n={effect.gain.n})" for name, effect in zip(names, effects, strict=True)])
    ax.set_xlabel(_gain_label(analysis))
    return figure


def _gain_label(analysis: Analysis) -> str:
    """Name of an axis of gains, which are positive where the cell is better, whatever the metric's direction."""
    return f"Gain in {analysis.metric_name}{', points' if analysis.percent else ''} (right is better)"
