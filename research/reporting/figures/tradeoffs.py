"""Gains over what they cost, and the metric at pairs of factor levels."""

from itertools import combinations
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from research.ablation.fractions import aliases_of
from research.reporting.analysis.analysis import Analysis, Effect
from research.reporting.analysis.columns import SPENT
from research.reporting.figures.style import COLOURS, FAINT, INK, LINES, MARKERS, legend_below, looks, metric_scale
from research.statistics import Interval, mean_interval


def draw_costs(analysis: Analysis) -> Figure | None:
    """The gain of each comparison over the cost of its cell, relative to the cost of its reference."""
    scale, _ = metric_scale(analysis)
    effects = [effect for effect in analysis.effects if effect.gain.n]
    shown = {column.name: column.title for column in SPENT if any(_ratio(analysis, e, column.name).n for e in effects)}
    if not shown:
        return None
    figure = Figure(figsize=(3.4 * len(shown), 3.6))
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False).flatten()
    several = len({effect.reference.id for effect in effects}) > 1
    for ax, (column, name) in zip(axes, shown.items(), strict=True):
        ax.axhline(0, color=INK, linewidth=1)
        ax.axvline(1, color=FAINT, linewidth=1, linestyle="--")
        drawn: set[str] = set()
        for effect in effects:
            ratio, gain = _ratio(analysis, effect, column), effect.gain
            if not ratio.n:
                continue
            colour, marker, _ = looks(analysis)[effect.cell.id]
            if gain.low is not None and gain.high is not None:
                ends = [scale * gain.low, scale * gain.high]
                ax.plot([ratio.mean] * 2, ends, color=colour, linewidth=1.2, alpha=0.6)
            face = "none" if effect.cell.id in drawn else colour
            drawn.add(effect.cell.id)
            label = f"{effect.cell.label} vs {effect.reference.label}" if several else effect.cell.label
            place = ([ratio.mean], [scale * gain.mean])
            ax.scatter(*place, s=60, marker=marker, facecolor=face, edgecolor=colour, zorder=3, label=label)
        ax.set_title(name, loc="left")
        ax.set_xlabel("× the reference's")
        ax.xaxis.set_major_locator(MaxNLocator(nbins=4))
    axes[0].set_ylabel(f"Gain in {analysis.metric_name}{', points' if analysis.percent else ''}")
    handles, labels = axes[0].get_legend_handles_labels()
    legend_below(figure, handles, labels)
    return figure


def _ratio(analysis: Analysis, effect: Effect, column: str) -> Interval:
    """The cell's cost relative to its reference's, over the seeds that both have."""
    spent, base = (analysis.results.by_seed(cell.id, column) for cell in (effect.cell, effect.reference))
    return mean_interval([spent[seed] / base[seed] for seed in spent if base.get(seed)])


def draw_interactions(analysis: Analysis) -> Figure | None:
    """The mean metric at each pair of two factors' levels; lines that are not parallel show an interaction.

    A mean is over the cells with both levels, at the seeds that all these cells have; its 95 % interval is over seeds.
    In a fractional design, an interaction may be aliased with other effects: the panel's title is then the sum of
    effects that its lines show.
    """
    study = analysis.results.study
    levels = {f: list(dict.fromkeys(cell.levels[f] for cell in study.cells)) for f in study.cells[0].levels}
    pairs = list(combinations(levels, 2))
    if study.design not in ("factorial", "fractional") or not pairs:
        return None
    scale, unit = metric_scale(analysis)
    columns = min(4, len(pairs))
    rows = -(-len(pairs) // columns)
    figure = Figure(figsize=(max(5.0, 3.4 * columns), 0.4 + 3.9 * rows))
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).flatten()
    aliases = aliases_of(cell.levels for cell in study.cells) if study.design == "fractional" else None
    for ax, (one, other) in zip(axes, pairs, strict=False):
        if aliases and not aliases.clear(pair := frozenset((one, other))):
            ax.set_title(fill(f"shows {aliases.named(pair)}".replace("_", " "), 36), loc="left", fontsize=10)
        for position, level in enumerate(levels[other]):
            means = [_mean(analysis, {one: at, other: level}) for at in levels[one]]
            x = np.arange(len(means)) + 0.06 * (position - (len(levels[other]) - 1) / 2)
            look = {"color": COLOURS[position % len(COLOURS)], "linestyle": LINES[position % len(LINES)]}
            halves = [0.0 if m.low is None or m.high is None else scale * (m.high - m.low) / 2 for m in means]
            marker, label = MARKERS[position % len(MARKERS)], level.replace("_", " ")
            ax.errorbar(x, [scale * m.mean for m in means], halves, capsize=3, marker=marker, label=label, **look)
        ax.set_xticks(range(len(levels[one])), [level.replace("_", " ") for level in levels[one]], fontsize=10)
        ax.margins(x=0.25)
        ax.set_xlabel(one.replace("_", " "))
        ax.legend(  # below, where no interval can run through it
            title=other.replace("_", " "),
            loc="upper center",
            bbox_to_anchor=(0.5, -0.2),
            ncols=len(levels[other]),
            fontsize=9,
            title_fontsize=9,
        )
    for ax in axes[len(pairs) :]:
        ax.set_visible(False)
    for ax in axes[::columns]:
        ax.set_ylabel(analysis.metric_name + unit)
    return figure


def _mean(analysis: Analysis, chosen: dict[str, str]) -> Interval:
    """The metric over the cells with the chosen levels: factor to level."""
    cells = [summary.values for summary in analysis.summaries if chosen.items() <= dict(summary.cell.levels).items()]
    seeds = set.intersection(*(set(values) for values in cells)) if cells else set()
    return mean_interval([float(np.mean([values[seed] for values in cells])) for seed in sorted(seeds)])
